"""A critic's feedback: what is held out, what the critic is tested on, and what is reported of each model."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tidy import values
from tiny_parts import tiny_study
from tiny_texts import DOG, WORDS, split_of

from mglib.config import EvalConfig, PreferenceConfig
from mglib.experiments import preferences
from mglib.experiments.dpo import Preference
from mglib.experiments.preferences import Feedback
from mglib.model.prompts import VICUNA
from mglib.study.models import PromptedModel

PAIRS = [
    Preference(0, "A dog.", "A cat.", 0.3),
    Preference(1, "A boat.", "Two birds!", 0.2),
    Preference(2, "A red bus.", "An apple.", 0.1),
    Preference(3, "Three birds.", "A dog.", 0.4),
]


def judge(tokens, texts):
    """Score each text's one sentence by whether it names its picture."""
    return [[float(token in text)] if text else [] for token, text in zip(tokens, texts, strict=True)]


def feedback(start, shown, every=2):
    return Feedback(
        start=start,
        judge=judge,
        shown=shown,
        seen=["dog", "boat", "bus", "bird"],
        pairs=PAIRS,
        hold_out=every,
    )


def test_each_so_many_th_picture_is_held_out():
    found = feedback(None, [], every=3)
    assert [pair.place for pair in found.held] == [0, 3]
    assert [pair.place for pair in found.learnt] == [1, 2]


def test_the_critic_is_right_where_the_own_reference_scores_higher(monkeypatch):
    monkeypatch.setattr(preferences, "critic", lambda study: judge)
    texts = (("a dog", "another"), ("a cat", "another"), ("nothing", "a bus"))
    val = split_of("val", [""] * 3, references=texts)
    base = SimpleNamespace(splits={"val": val}, tokens={"val": ["dog", "cat", "bus"]})
    found = preferences.critic_right(SimpleNamespace(seed=0), base)
    assert values(found) == {"conjecture.right.critic": pytest.approx(2 / 3)} and found["n"][0] == 3


def test_the_sides_are_read_at_equally_many_mentions(monkeypatch):
    monkeypatch.setattr(preferences, "pool_truths", lambda study, base: [DOG] * 4)
    pairs = [Preference(3, "A dog.", "A cat, a bus.", 0.1), Preference(1, "A dog, a dog.", "A dog.", 0.1)]
    found = preferences.of_sides(
        SimpleNamespace(nameable=lambda: WORDS), None, replace(feedback(None, []), pairs=pairs)
    )
    # The bus is cut off, since the chosen answer has only one mention.
    assert dict(zip(found["system"], found["value"], strict=True)) == {
        "chosen": 0,
        "rejected": 0.5,
        "chosen_less_rejected": -0.5,
    }


class Says:
    """Stands in for a model that gives these answers."""

    def __init__(self, *texts):
        self.texts = list(texts)

    def answers(self, queries, text, decoding, *, batch_size, what):
        return self.texts


def test_models_are_compared_at_matched_mentions(monkeypatch):
    monkeypatch.setattr(preferences, "truths", lambda study, base, name: [DOG] * 3)
    profile = SimpleNamespace(preference=PreferenceConfig(train=None, tested=2), evaluation=EvalConfig())
    study = SimpleNamespace(profile=profile, nameable=lambda: WORDS)
    base = SimpleNamespace(splits={"test_seen": range(3)}, queries={"test_seen": [1, 2, 3]})
    models = {"start": Says("a cat and a bus", "a dog"), "dpo": Says("a dog", "a dog")}
    found, said = preferences.hallucination(study, base, models, "test_seen")
    assert said["dpo"] == ["a dog", "a dog"]
    numbers = values(found)
    assert numbers["conjecture.chair_i.start"] == 0.5
    assert numbers["conjecture.chair_i_whole.start"] == pytest.approx(2 / 3)
    assert numbers["conjecture.chair_i_change.dpo"] == -0.5
    assert "conjecture.chair_i_change.start" not in numbers
    assert found["note"][0].startswith("first 2 of test_seen") and found["note"][0].endswith("mentions, 2")


@pytest.fixture
def study(tmp_path, monkeypatch, vision_config, train_config):
    """Return a study whose trainings go to a temporary folder and take two steps."""
    train = train_config(steps=2, batch_size=2, max_answer=40, weight_decay=0.0)
    config = PreferenceConfig(train=train, rates=(1e-3, 1e-2), max_new_tokens=6)
    changes = {"preference": config, "stage2": train, "evaluation": EvalConfig(batch_size=8)}
    return tiny_study(tmp_path, monkeypatch, vision_config, **changes)


def test_all_are_trained_from_one_start_and_measured_on_held_out_pictures(study, model, random):
    start = PromptedModel(model=model(), template=VICUNA)
    known = feedback(start, list(torch.randn(4, 3, 32, generator=random)))
    tried = preferences.rates(study, known)
    assert tried["lr"].tolist() == [1e-3, 1e-2] and tried["n"].tolist() == [2, 2]
    assert tried["steps"].tolist() == [2, 2] and tried["loss"].notna().all()
    models, runs = preferences.train(study, known)
    assert list(models) == ["start", "dpo", "dpo_random", "chosen"]
    assert list(models) == list(preferences.NAMES)
    assert list(runs) == ["dpo", "dpo_random", "chosen"] and models["start"] is start
    weights = [one.model.projection.weight for one in models.values()]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])
    found = preferences.held_out(study, known, models)
    numbers = values(found)
    assert len(numbers) == 4 * len(models) - 2 and "conjecture.drift.start" not in numbers
    orders = [numbers[f"conjecture.pair_order.{name}"] for name in runs]
    losses = [numbers[f"conjecture.pair_loss.{name}"] for name in runs]
    assert all(
        0 <= order <= 1 and (order == 0) <= (loss >= 0.6931)
        for order, loss in zip(orders, losses, strict=True)
    )
    assert numbers["conjecture.pair_loss.start"] == pytest.approx(0.6931, abs=1e-3)


def test_imitation_takes_the_optimiser_of_stage_2_with_its_rate(study, monkeypatch):
    known = feedback(SimpleNamespace(question=str), list(torch.zeros(4, 3, 32)))
    stage2 = replace(study.profile.stage2, lr=7e-3, min_lr=7e-4, muon=True)
    study = replace(study, profile=replace(study.profile, stage2=stage2))
    taken = {}
    monkeypatch.setattr(preferences, "train_stage2", lambda *given, **how: taken.update(how))
    preferences.imitate(study, known, study.profile.preference.train)
    config = taken["config"]
    assert (config.lr, config.min_lr, config.muon) == (7e-3, 7e-4, True)
    assert config.steps == study.profile.preference.train.steps


def test_the_pool_shows_what_its_scenes_hold(monkeypatch, tmp_path):
    items = [SimpleNamespace(name="dog"), SimpleNamespace(name="cats")]
    scene = SimpleNamespace(objects=items, props=(), writing=(), setting="park")
    monkeypatch.setattr(preferences, "read_scenes", lambda path: [scene])
    study = SimpleNamespace(scenes=lambda name: tmp_path, nameable=lambda: WORDS)
    base = SimpleNamespace(splits={"pool": split_of("pool", ["a bus"])})
    (truth,) = preferences.pool_truths(study, base)
    assert {"dog", "cat"} <= truth.sayable and "bus" not in truth.sayable
    assert len(truth.objects) == 2
