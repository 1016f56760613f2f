"""Low-rank updates: they and the projection learn, and the model that they start from does not notice."""

from dataclasses import replace

import pytest
import torch
from tiny_parts import SHORT, tiny_study

from mglib.config import LoRAConfig
from mglib.data.questions import ChoiceQuestion, GraphQuestion, QuestionTypes
from mglib.evals.vqa import Exam
from mglib.experiments import lora
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
    rows = [(queries[place], question, answer) for place, question, answer in ASKED]
    return lora.answering(model(), VICUNA, "{}", 12)(rows)


def losses(model, batch):
    with torch.no_grad():
        return model(batch)["loss"].item()


def test_at_first_the_model_is_the_same(model, batch):
    tiny = model()
    assert losses(lora.with_lora(tiny, CONFIG, seed=0), batch) == losses(tiny, batch)


def test_projection_and_updates_are_trained_and_nothing_else(model):
    names = set(trainable(lora.with_lora(model(), CONFIG, seed=0)))
    updates = {name for name in names if ".lora_" in name}
    assert names - updates == {"projection.weight", "projection.bias"}
    assert {name.split(".")[-4] for name in updates} == {"q_proj", "v_proj"}
    assert len(updates) == 2 * 2 * 2  # two layers, two targets, A and B


def test_the_frozen_weights_are_shared_and_not_copied(model):
    tiny = model()
    other = lora.with_lora(tiny, CONFIG, seed=0)
    own = {weight.data_ptr() for weight in tiny.language.parameters()}
    frozen = [weight for weight in other.language.parameters() if not weight.requires_grad]
    assert frozen and {weight.data_ptr() for weight in frozen} <= own
    assert other.language.tokenizer is tiny.language.tokenizer


def test_the_model_it_starts_from_does_not_change(model, batch, descend):
    tiny = model()
    before, names = losses(tiny, batch), set(dict(tiny.named_parameters()))
    other = lora.with_lora(tiny, CONFIG, seed=0)
    found = descend(other, batch, 30)
    assert found[-1] < 0.5 * found[0]
    assert losses(tiny, batch) == before and set(dict(tiny.named_parameters())) == names


def test_updates_are_drawn_from_the_seed(model):
    drawn = [
        next(
            weight
            for name, weight in trainable(lora.with_lora(model(), CONFIG, seed=seed)).items()
            if "lora_A" in name
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_learning_makes_the_answers_likelier_and_is_loaded_when_done(
    model, queries, batch, tmp_path, monkeypatch, vision_config
):
    study = tiny_study(tmp_path, monkeypatch, vision_config, train=replace(SHORT, steps=30))
    tiny = model()
    state = tmp_path / "start.safetensors"
    save_weights(state, dict(tiny.projection.named_parameters()), {})
    ways = {"template": VICUNA, "prompt": "{}"}
    taught, trained = lora.learn(study, tiny, state, queries, ASKED, **ways)
    assert losses(taught, batch) < 0.7 * losses(tiny, batch)
    assert trainable(taught) == {}
    again, same = lora.learn(study, tiny, state, queries, ASKED, **ways)
    assert same == trained and losses(again, batch) == losses(taught, batch)


TYPES = QuestionTypes("query", "obj", "objThisC")


def test_lessons_are_as_many_of_each_set_with_their_right_answers():
    choice = tuple(
        (
            place,
            ChoiceQuestion(
                split="train",
                image_id=place,
                question_id=str(place),
                question=f"q{place}",
                choices=("w", f"r{place}"),
                correct_choice_idx=1,
                direct_answers=(f"r{place}",),
            ),
        )
        for place in range(3)
    )
    graph = tuple(
        (
            place,
            GraphQuestion(image_id="1", question=f"g{place}", answer=f"a{place}", types=TYPES),
        )
        for place in range(9)
    )
    found = lora.lessons(Exam(choice=choice, graph=graph), seed=0)
    assert found[:3] == [(place, f"q{place}", f"r{place}") for place in range(3)]
    assert len(found) == 6 and all(asked == (p, f"g{p}", f"a{p}") for asked in found[3:] for p in asked[:1])
    assert found == lora.lessons(Exam(choice=choice, graph=graph), seed=0)
