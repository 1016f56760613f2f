"""Low-rank updates: they and the projection learn, and the model that they start from does not change."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_parts import SHORT, tiny_study
from tiny_questions import choice, graph

from mglib.config import LoRAConfig
from mglib.evals.vqa import Exam
from mglib.experiments import lora
from mglib.experiments.exams import ExamPrompt
from mglib.model.prompts import VICUNA
from mglib.training.checkpoint import trainable
from mglib.weights.tensors import save_weights

CONFIG = LoRAConfig(rank=2, train=SHORT)
ASKED = [
    (0, "what is it", "a cat"),
    (1, "what is it", "a red bus"),
    (2, "how many dogs are in the park", "two"),
    (3, "is it old", "one"),
]


@pytest.fixture
def queries(random):
    return list(torch.randn(4, 3, 32, generator=random))


@pytest.fixture
def batch(model, queries):
    rows = [(queries[picture], question, answer) for picture, question, answer in ASKED]
    return lora.answering(model(), VICUNA, "{}", 12)(rows)


def losses(model, batch):
    with torch.no_grad():
        return model(batch)["loss"].item()


def test_projection_and_updates_drawn_from_the_seed_are_trained_and_the_rest_is_shared(model):
    tiny = model()
    other, same, next_seed = (lora.with_lora(tiny, CONFIG, seed=seed) for seed in (0, 0, 1))
    updates = {name: weight for name, weight in trainable(other).items() if ".lora_" in name}
    assert set(trainable(other)) - set(updates) == {"projection.weight", "projection.bias"}
    assert {name.split(".")[-4] for name in updates} == {"q_proj", "v_proj"}
    assert len(updates) == 2 * 2 * 2  # two layers, two targets, A and B
    drawn = next(name for name in updates if "lora_A" in name)
    assert torch.equal(updates[drawn], trainable(same)[drawn])
    assert not torch.equal(updates[drawn], trainable(next_seed)[drawn])
    own = {weight.data_ptr() for weight in tiny.language.parameters()}
    frozen = [weight for weight in other.language.parameters() if not weight.requires_grad]
    assert frozen and {weight.data_ptr() for weight in frozen} <= own


def test_it_starts_as_the_model_that_it_is_made_from_which_does_not_change(model, batch, descend):
    tiny = model()
    before, names = losses(tiny, batch), set(dict(tiny.named_parameters()))
    other = lora.with_lora(tiny, CONFIG, seed=0)
    assert losses(other, batch) == before
    found = descend(other, batch, 30)
    assert found[-1] < 0.5 * found[0]
    assert losses(tiny, batch) == before and set(dict(tiny.named_parameters())) == names


def test_learning_makes_the_answers_likelier_and_is_loaded_when_done(
    model, queries, batch, tmp_path, monkeypatch, vision_config
):
    study = tiny_study(tmp_path, monkeypatch, vision_config, train=replace(SHORT, steps=30))
    tiny = model()
    state = tmp_path / "start.safetensors"
    save_weights(state, dict(tiny.projection.named_parameters()), {})
    base = SimpleNamespace(model=tiny, queries={"train": queries}, trained=SimpleNamespace(state=state))
    prompt = ExamPrompt(VICUNA, "{}")
    models, log = lora.learn(study, base, ASKED, prompt)
    assert models["base"] is tiny and losses(models["lora"], batch) < 0.7 * losses(tiny, batch)
    assert trainable(models["lora"]) == {}
    again, same = lora.learn(study, base, ASKED, prompt)
    assert same == log and losses(again["lora"], batch) == losses(models["lora"], batch)
    without = replace(study, profile=replace(study.profile, lora=None))
    assert lora.learn(without, base, ASKED, prompt) == ({"base": tiny}, [])


def test_lessons_are_as_many_of_each_set_with_their_right_answers():
    exam = Exam(
        choice=tuple(
            (n, choice(n, question=f"q{n}", choices=("w", f"r{n}"), correct_choice_idx=1)) for n in range(3)
        ),
        graph=tuple((n, graph(n, f"a{n}", question=f"g{n}")) for n in range(9)),
    )
    found = lora.lessons(exam, seed=0)
    assert found[:3] == [(n, f"q{n}", f"r{n}") for n in range(3)]
    assert len(found) == 6 and all(asked == (n, f"g{n}", f"a{n}") for asked in found[3:] for n in asked[:1])
    assert found == lora.lessons(exam, seed=0)
