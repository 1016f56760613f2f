"""What notebook 01 measures of BLIP-2 mini."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tidy import values

from mglib.config import EvalConfig
from mglib.experiments import encoder
from mglib.mentions import Vocabulary
from mglib.metrics import Estimate
from mglib.profiles import MINI


@pytest.fixture
def study():
    words = Vocabulary({"dog": ("dog", "dogs"), "boat": ("boat",), "cat": ("cat",)})
    profile = SimpleNamespace(evaluation=EvalConfig(batch_size=4))
    blip2 = SimpleNamespace(
        model=None, representation=None, language=SimpleNamespace(tokenizer=None), card={"pictures": 7}
    )
    pretraining = SimpleNamespace(max_text=8)
    return SimpleNamespace(
        vocabulary=lambda: words, profile=profile, has_blip2=True, blip2=blip2, pretraining=pretraining
    )


def test_named_objects_are_compared_split_by_split(study):
    splits = {"test": SimpleNamespace(objects=(frozenset({"dog", "cat"}), frozenset({"boat"})))}
    found = values(encoder.named(study, {"test": ["a dog", "dogs, dog, a cat"]}, splits))
    assert found["blip2.mention_precision.test"] == 1 / 3 and found["blip2.twice.test"] == 1 / 2
    assert found["blip2.mention_recall.test"] == pytest.approx(1 / 3)
    assert found["blip2.chair_i.test"] == pytest.approx(3 / 4)


def test_retrieval_has_chance_in_the_next_row(study, monkeypatch):
    one = Estimate(0.5, 0.4, 0.6, 8)
    recall = dict.fromkeys(encoder.MEASURES, one)
    monkeypatch.setattr(encoder, "retrieval_recall", lambda *given, **how: recall)
    splits = {"test": SimpleNamespace(references=[("a", "b")] * 8)}
    found = values(encoder.retrieval(study, {"test": None}, splits))
    assert found == {
        "qformer.retrieval_i2t_r1.test": 0.5,
        "qformer.retrieval_t2i_r1.test": 0.5,
        "qformer.retrieval_i2t_r1.test.chance": 0.125,
        "qformer.retrieval_t2i_r1.test.chance": 0.125,
    }


def test_a_release_without_texts_of_its_own_has_no_such_numbers(study):
    study.has_blip2 = False
    assert encoder.captions(study, {}) == {} and encoder.shares({}) is None
    for found in (
        encoder.retrieval(study, {}, {}),
        encoder.named(study, {}, {}),
        encoder.blip2_size(study),
        encoder.world_size(study, {}),
    ):
        assert found["value"].isna().all() and found["note"].str.startswith("not applicable: ").all()


def test_a_reader_sees_words_for_what_the_worlds_card_says(study):
    noise = dict.fromkeys(("none", "clipped", "mismatched", "shouting", "long"), 0.2)
    web = {"captions": 8, "named": 0.5, "relations": 0.1, "words": 6.0, "noise": noise}
    train = {**web, "pictures": 8, "kinds_a_picture": 2.0, "sources": {"laion": web}}
    card = {"splits": {"train": train}}
    table = encoder.shares(card)
    assert list(table) == list(encoder.SHARES.values())
    assert table["split"].tolist() == ["train", "train, laion"] and table["cut short, share"][0] == 0.2
    assert values(encoder.world_size(study, card)) == {"world.pictures": 8, "world.named": 0.5}


def test_sizes_are_those_of_the_parts_and_of_the_trainings(model):
    whole = model()
    found = encoder.sizes({"mini": MINI}, {"mini": whole})["mini"]
    assert found["vision tokens, N"] == "65" and found["queries, Q"] == "16"
    assert found["width of the language model, D_l"] == "48"
    projection = whole.projection
    trained = projection.in_features * projection.out_features + projection.out_features
    assert found["parameters: projection, the only one trained"] == f"{trained:,}"
    assert values(encoder.trained_parameters(whole)) == {"model.trained_parameters": trained}
    assert found["stage 1: pairs read"] == f"{MINI.stage1.steps * MINI.stage1.batch_size:,}"


def test_captions_come_from_the_model_for_every_split(study, monkeypatch):
    asked = []

    def answers(model, shown, template, question, decoding, *, what, batch_size):
        asked.append((list(shown), template.name, decoding.sample))
        return ["a dog"] * len(shown)

    monkeypatch.setattr("mglib.evals.generate.answers", answers)
    found = encoder.captions(study, {"val": [1, 2], "test": [3]})
    assert found == {"val": ["a dog"] * 2, "test": ["a dog"]}
    assert asked == [([1, 2], "keywords", False), ([3], "keywords", False)]


def test_attention_is_counted_in_boxes_against_their_area(monkeypatch):
    """One picture of 4 x 4 pixels and 2 x 2 patches, its left half in a box; one query looks there alone."""
    picture = SimpleNamespace(id=7, objects=(((0.0, 0.0, 2.0, 4.0), None),))
    monkeypatch.setattr(encoder, "read_pictures", lambda folder: [picture])
    monkeypatch.setattr(encoder, "picture_places", lambda folder: {7: 0})
    looked = torch.tensor([[[0.5, 0.25, 0.0, 0.25, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2], [0.5, 0, 0.5, 0, 0]]])
    monkeypatch.setattr(encoder, "looks", lambda study, qformer, tokens, rows: looked)
    study = SimpleNamespace(world=Path("world"), world_config=SimpleNamespace(size=4))
    found = values(encoder.in_boxes(study, None, [None]))
    assert found == {
        "qformer.mass.in_boxes": pytest.approx(0.5),
        "qformer.area.in_boxes": 0.5,
        "qformer.mass_minus_area.in_boxes": pytest.approx(0, abs=1e-6),
        "qformer.queries.in_boxes": pytest.approx(1 / 3),
    }
