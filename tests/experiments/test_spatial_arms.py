"""The arms of the spatial conjecture: what is compared, and which number it becomes."""

from types import SimpleNamespace

import pytest

from mglib.config import EvalConfig
from mglib.evals import chair
from mglib.evals.chair import Truth
from mglib.evals.choices import Scores
from mglib.evals.mentions import Vocabulary
from mglib.experiments import spatial_arms
from mglib.experiments.spatial_arms import Cost, Outcome
from mglib.experiments.spatial_captions import Lesson
from mglib.metrics import Counts

WORDS = Vocabulary({name: [name] for name in ("dog", "cat")})


def test_only_pictures_with_another_text_are_listed():
    texts = {"control": ("a dog", "a cat"), "treatment": ("a dog", "the cat on the left")}
    table = spatial_arms.changed(Lesson(rows=(7, 3), texts=texts, tokens={}))
    assert table.to_dict("records") == [
        {"picture": 3, "control": "a cat", "treatment": "the cat on the left"}
    ]


@pytest.fixture
def tested():
    def scores(*values):
        return Scores(values, tuple(range(len(values))))

    each = {"stage1": scores(0, 1), "control": scores(0, 0), "treatment": scores(1, 0)}
    return Outcome(split="test_seen", scores={("question", "in_front"): each, ("order", "in_front"): each})


def test_the_arms_are_compared_question_by_question(tested):
    found = {name: one.value for name, one in tested.estimates().items()}
    assert found["in_front.treatment"] == 0.5 and found["in_front.control"] == 0
    assert found["in_front.difference"] == found["order.in_front.difference"] == 0.5
    assert set(found) == set(tested.notes()) and len(found) == 8


def test_every_test_says_over_how_many_it_is(tested):
    notes = tested.notes()
    assert notes["order.in_front.stage1"].startswith("2 on test_seen, phrasings absent from training")
    assert notes["in_front.difference"] == "treatment less control, paired"
    assert list(tested.by_test()) == ["question, in front or behind", "order, in front or behind"]
    assert list(tested.by_test()["order, in front or behind"]) == ["stage1", "control", "treatment"]


def test_the_cost_is_the_treatments_less_the_controls():
    def counted(wrong, loss):
        mentions = Counts([wrong, 0], [2, 2])
        return {
            "chair_i": mentions,
            "object_recall": mentions,
            "mentions": mentions,
            "loss": Counts([loss], [2]),
        }

    counts = {"control": counted(0, 2.0), "treatment": counted(2, 6.0)}
    cost = Cost(split="test_seen", counted=counts)
    found = {name: one.value for name, one in cost.estimates().items()}
    assert found["chair_i.difference"] == 0.5 and found["loss.difference"] == 2
    assert set(found) == set(cost.notes())
    assert cost.notes()["loss.control"] == "web captions of val, per token"
    assert cost.notes()["chair_i.difference"] == "treatment less control, captions of test_seen, greedy"
    assert list(cost.by_arm()["control"]) == ["chair_i", "object_recall", "mentions", "loss"]


def test_the_arms_caption_the_described_pictures_and_tell_vals_captions(monkeypatch):
    monkeypatch.setattr("mglib.evals.generate.answers", lambda *given, **rest: ["a dog and a cat"])
    monkeypatch.setattr("mglib.evals.generate.losses", lambda *given, **rest: ([3.0], [rest["max_answer"]]))
    spatial = SimpleNamespace(train=SimpleNamespace(max_answer=6))
    study = SimpleNamespace(profile=SimpleNamespace(evaluation=EvalConfig(), spatial=spatial))
    val = SimpleNamespace(captions=("a bus",))
    base = SimpleNamespace(splits={"val": val}, queries={"val": [None]})
    dog = Truth((frozenset({"dog"}),), frozenset({"dog"}))
    told = SimpleNamespace(
        split=SimpleNamespace(name="test_seen"),
        queries=[None],
        truths=[reading.truth for reading in chair.read([""], [dog], WORDS)],
        words=WORDS,
    )
    arms = {name: SimpleNamespace(model=None) for name in ("control", "treatment")}
    cost = spatial_arms.cost(study, base, arms, told)
    found = {name: one.value for name, one in cost.estimates().items()}
    assert cost.split == "test_seen" and found["chair_i.control"] == 0.5
    assert found["loss.treatment"] == 0.5 and found["chair_i.difference"] == 0
