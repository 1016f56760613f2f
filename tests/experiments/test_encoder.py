"""What notebook 01 measures of BLIP-2 mini."""

from types import SimpleNamespace

import pytest

from mglib.config import EvalConfig
from mglib.evals.retrieval import chance
from mglib.experiments import encoder
from mglib.mentions import Vocabulary
from mglib.metrics import Estimate


@pytest.fixture
def study():
    words = Vocabulary({"dog": ("dog", "dogs"), "boat": ("boat",), "cat": ("cat",)})
    return SimpleNamespace(
        vocabulary=lambda: words, profile=SimpleNamespace(evaluation=EvalConfig(batch_size=4))
    )


def test_an_object_said_twice_is_counted_once_a_caption(study):
    said = ["a dog and a dog in a boat", "a dog in a boat", "dogs, dog, dog", "the sea"]
    assert encoder.twice(study, said).value == pytest.approx(2 / 4)


def test_named_objects_are_compared_split_by_split(study):
    splits = {"val": SimpleNamespace(objects=(frozenset({"dog", "cat"}), frozenset({"boat"})))}
    found = encoder.named(study, {"val": ["a dog", "a cat"]}, splits)["val"]
    assert found["mention_precision"].value == 1 / 2 and found["mention_recall"].value == pytest.approx(1 / 3)


def test_the_table_of_retrieval_stands_beside_chance():
    one = Estimate(0.5, 0.4, 0.6, 8)
    references = [("a", "b")] * 8
    table = encoder.retrieval_table({"val": {"retrieval_i2t_r1": one}}, chance(references))
    assert table.to_dict("records") == [
        {
            "split": "val",
            "task": "picture to text, R@1",
            "share found": 0.5,
            "95 % interval from": 0.4,
            "to": 0.6,
            "pictures": 8,
            "share found by chance": 0.125,
        }
    ]


def test_a_reader_sees_words_for_what_the_worlds_card_says():
    noise = dict.fromkeys(("none", "clipped", "mismatched", "shouting", "long"), 0.2)
    web = {"captions": 8, "named": 0.5, "relations": 0.1, "words": 6.0, "noise": noise}
    train = {**web, "kinds_a_picture": 2.0, "sources": {"laion": web}}
    table = encoder.shares({"splits": {"train": train}})
    assert list(table) == list(encoder.SHARES.values())
    assert table["split"].tolist() == ["train", "train, laion"] and table["cut short, share"][0] == 0.2


def test_captions_come_from_the_model_for_every_split(study, model, monkeypatch):
    asked = []

    def answers(model, shown, template, question, decoding, *, what, batch_size):
        asked.append((list(shown), template.name, decoding.sample, what, batch_size))
        return ["a dog"] * len(shown)

    monkeypatch.setattr(encoder.generate, "answers", answers)
    blip2 = SimpleNamespace(model=None)
    assert encoder.captions(study, blip2, {"val": [1, 2], "test": [3]}) == {
        "val": ["a dog"] * 2,
        "test": ["a dog"],
    }
    assert [one[:3] for one in asked] == [([1, 2], "keywords", False), ([3], "keywords", False)]
