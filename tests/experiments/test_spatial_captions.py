"""The spatial conjecture: equal tokens, the same pictures, phrasings that no test has, arms that train."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tidy import values
from tiny_parts import tiny_study
from tiny_world import SMALL

from mglib.config import EvalConfig
from mglib.data.splits import web_split
from mglib.evals import chair, spatial
from mglib.evals.chair import Truth
from mglib.evals.choices import Losses
from mglib.evals.vqa import picture_places
from mglib.experiments import space, spatial_captions
from mglib.experiments.space import Answered
from mglib.experiments.spatial_captions import ArmsData
from mglib.mentions import Vocabulary
from mglib.model import prompts
from mglib.paths import read_jsonl
from mglib.weights.tensors import hash_tensors, save_weights


@pytest.fixture(scope="module")
def phrases(world):
    return spatial_captions.spatial_phrases(world / "train")


@pytest.fixture
def config(train_config):
    return train_config(steps=10, batch_size=5, max_answer=20)


@pytest.fixture
def taught(world, phrases, tokenizer, config):
    return spatial_captions.arm_texts(web_split(world / "train").captions, phrases, tokenizer, config, seed=0)


def test_every_phrase_says_where_something_is_and_belongs_to_its_picture(world, phrases):
    places = picture_places(world / "train")
    scenes = {places[scene["image_id"]]: scene for scene in read_jsonl(world / "train" / "scenes.jsonl")}
    assert phrases
    for place, said in phrases.items():
        things = [item["name"] for item in scenes[place]["objects"]]
        for phrase in said:
            assert spatial_captions.WHERE.search(phrase) and '"' not in phrase
            assert any(thing in phrase for thing in things), (phrase, things)


def form(text):
    """Return a pattern that finds a phrasing about any objects."""
    return re.compile(re.sub(r"\\{(a|b|many)\\}", ".+", re.escape(text)))


def test_no_training_text_has_the_phrasings_of_the_tests(world, phrases):
    asked = [spatial.NEAREST, spatial.COUNT, *(way.question for way in spatial.WAYS.values())]
    forms = [form(text) for text in (*asked, *(order for order, _ in spatial_captions.ORDERS.values()))]
    told = [", ".join(said) for said in phrases.values()] + list(web_split(world / "train").captions)
    assert not [text for text in told if any(one.search(text) for one in forms)]
    assert form(spatial_captions.ORDERS["in_front"][0]).search("from near to far: the dog, the cat")


def test_both_arms_have_the_same_pictures_and_as_many_answer_tokens(world, phrases, tokenizer, taught):
    captions = web_split(world / "train").captions
    assert len(taught.rows) == len(set(taught.rows)) == 50
    assert taught.texts["control"] == tuple(captions[row] for row in taught.rows)
    assert abs(taught.tokens["control"] - taught.tokens["treatment"]) <= 20
    for texts, total in zip(taught.texts.values(), taught.tokens.values(), strict=True):
        batch = prompts.training_batch(
            tokenizer, prompts.CAPTION, [prompts.IMAGE] * 50, texts, queries=3, max_answer=20
        )
        assert int((batch["labels"] != prompts.IGNORE).sum()) == total


def test_half_of_the_pictures_say_where_things_are_instead(phrases, taught):
    pairs = zip(taught.rows, taught.texts["control"], taught.texts["treatment"], strict=True)
    changed = [(row, text) for row, control, text in pairs if text != control]
    assert len(changed) == min(25, sum(row in phrases for row in taught.rows))
    for row, text in changed:
        assert set(text.split(", ")) <= set(phrases[row])


def test_another_seed_draws_other_pictures(world, phrases, tokenizer, config, taught):
    captions = web_split(world / "train").captions
    assert spatial_captions.arm_texts(captions, phrases, tokenizer, config, seed=0) == taught
    assert spatial_captions.arm_texts(captions, phrases, tokenizer, config, seed=1).rows != taught.rows


def test_an_arm_learns_leaves_stage_1_as_it_was_and_is_loaded_again(
    tmp_path, monkeypatch, vision_config, model, captions, config, random
):
    config = replace(config, steps=30, batch_size=4, muon=True)
    study = tiny_study(tmp_path, monkeypatch, vision_config, spatial=config)
    start, state = model(), tmp_path / "stage1.safetensors"
    save_weights(state, dict(start.projection.named_parameters()), {})
    before = hash_tensors(start.projection.state_dict())
    queries = list(torch.randn(8, 3, 32, generator=random))
    arm, trained = spatial_captions.arm(study, "control", start, state, queries, captions)
    assert trained.log[-1]["loss"] < 0.9 * trained.log[0]["loss"]
    assert hash_tensors(start.projection.state_dict()) == before != hash_tensors(arm.projection.state_dict())
    again, same = spatial_captions.arm(study, "control", start, state, queries, captions)
    first, second = (hash_tensors(one.projection.state_dict()) for one in (arm, again))
    assert same == trained and first == second


@pytest.fixture(scope="module")
def stated(world):
    return spatial_captions.statements(world / "train")


def test_the_right_order_is_the_scene_graphs(world, stated):
    places = picture_places(world / "train")
    scenes = {places[scene["image_id"]]: scene for scene in read_jsonl(world / "train" / "scenes.jsonl")}
    predicates = {"left_right": "left of", "above_below": "above", "in_front": "in front of"}
    assert {probe.relation for probe in stated} == set(spatial_captions.ORDERS)
    for probe in stated:
        first, second = re.findall(r"the ([^,]+)", probe.options[probe.right].split(": ")[1])
        link = {"subject": first, "predicate": predicates[probe.relation], "object": second}
        assert link in scenes[probe.picture]["relations"]


def test_orders_have_the_same_words_and_stand_first_as_often(stated):
    for probe in stated:
        one, other = (sorted(re.findall(r"\w+", option)) for option in probe.options)
        assert one == other and probe.options[0] != probe.options[1]
    assert 0.25 < sum(probe.right for probe in stated) / len(stated) < 0.75


def test_statements_are_scored_as_captions(model, stated, random):
    queries = list(torch.randn(SMALL.train, 3, 32, generator=random))
    some = stated[:5]
    losses = spatial_captions.caption_losses(model(), queries, some, batch_size=2)
    assert len(losses) == 5 and all(len(loss.sums) == 2 for loss in losses)
    assert sum(len(scores.values) for scores in spatial.accuracy(losses, some).values()) == 5


# --- The study's arms ---


def test_only_pictures_with_another_text_are_listed():
    texts = {"control": ("a dog", "a cat"), "treatment": ("a dog", "the cat on the left")}
    table = spatial_captions.changed(ArmsData(rows=(7, 3), texts=texts, tokens={}))
    assert table.to_dict("records") == [
        {"picture": 3, "control": "a cat", "treatment": "the cat on the left"}
    ]


def test_the_arms_are_compared_question_by_question(monkeypatch):
    def probe(right):
        return spatial.Probe(picture=right, text="?", options=("a", "b"), right=right, relation="in_front")

    def said(*chosen):
        return [Losses((float(one != 0), float(one != 1)), (1, 1)) for one in chosen]

    probes = [probe(0), probe(1)]
    chosen = {"control": said(1, 0), "treatment": said(0, 0)}
    monkeypatch.setattr(space, "losses", lambda study, one, queries, asked, what: chosen[what])
    monkeypatch.setattr(spatial_captions, "statements", lambda folder: probes)
    monkeypatch.setattr(spatial_captions, "caption_losses", lambda model, *rest, **how: said(0, 1))
    study = SimpleNamespace(profile=SimpleNamespace(evaluation=EvalConfig()), world=Path("world"))
    models = dict.fromkeys(("stage1", "control", "treatment"), SimpleNamespace(model=None))
    known = Answered(split="test_seen", probes=probes, losses={"stage1": said(0, 1)})
    found = spatial_captions.tested(study, SimpleNamespace(queries={"test_seen": []}), models, known)
    assert values(found) == {
        "conjecture.spatial.question.in_front.stage1": 1,
        "conjecture.spatial.question.in_front.control": 0,
        "conjecture.spatial.question.in_front.treatment": 0.5,
        "conjecture.spatial.question.in_front.difference": 0.5,
        "conjecture.spatial.order.in_front.stage1": 1,
        "conjecture.spatial.order.in_front.control": 1,
        "conjecture.spatial.order.in_front.treatment": 1,
        "conjecture.spatial.order.in_front.difference": 0,
    }
    assert found["note"][0].startswith("2 on test_seen, phrasings absent from training")
    assert found["note"][3] == "treatment minus control, paired"


def test_the_objective_has_moved_where_texts_beat_their_opposites(monkeypatch):
    """The treatment finds every spatial text likelier than its opposite, the control one of two."""
    texts = {
        "control": ("a dog", "a cat", "a bus"),
        "treatment": ("a dog", "the cat on the left", "a bus behind it, above a car"),
    }
    asked = {}

    def losses(name, queries, probes, batch_size):
        asked[name] = probes
        return [Losses((float(place * (name == "control")), 0.5), (1, 1)) for place in range(len(probes))]

    monkeypatch.setattr(spatial_captions, "caption_losses", losses)
    study = SimpleNamespace(profile=SimpleNamespace(evaluation=EvalConfig()))
    models = {name: SimpleNamespace(model=name) for name in texts}
    data = ArmsData(rows=(7, 3, 5), texts=texts, tokens={})
    found = spatial_captions.learnt(study, SimpleNamespace(queries={"train": []}), models, data)
    assert [(one.picture, one.options) for one in asked["control"]] == [
        (3, ("the cat on the left", "the cat on the right")),
        (5, ("a bus behind it, above a car", "a bus in front of it, below a car")),
    ]
    assert values(found) == {
        "conjecture.spatial.learnt.control": 0.5,
        "conjecture.spatial.learnt.treatment": 1,
        "conjecture.spatial.learnt.difference": 0.5,
    }


def test_the_cost_is_the_treatments_minus_the_controls(monkeypatch):
    said = {"control": "a dog", "treatment": "a dog and a cat"}
    monkeypatch.setattr("mglib.evals.generate.answers", lambda *given, what, **rest: [said[what]])
    monkeypatch.setattr("mglib.evals.generate.losses", lambda *given, **rest: ([3.0], [rest["max_answer"]]))
    trained = SimpleNamespace(max_answer=6)
    study = SimpleNamespace(profile=SimpleNamespace(evaluation=EvalConfig(), spatial=trained))
    base = SimpleNamespace(splits={"val": SimpleNamespace(captions=("a bus",))}, queries={"val": [None]})
    dog, words = (
        Truth((frozenset({"dog"}),), frozenset({"dog"})),
        Vocabulary({"dog": ["dog"], "cat": ["cat"]}),
    )
    split = SimpleNamespace(name="test_seen")
    readings = chair.read([""], [dog], words)
    described = SimpleNamespace(split=split, queries=[None], readings=readings, words=words)
    arms = {name: SimpleNamespace(model=None) for name in said}
    found = spatial_captions.cost(study, base, arms, described)
    by = values(found)
    assert (
        by["conjecture.spatial.chair_i.control"] == 0 and by["conjecture.spatial.chair_i.difference"] == 0.5
    )
    assert by["conjecture.spatial.loss.treatment"] == 0.5 and by["conjecture.spatial.loss.difference"] == 0
    notes = values(found, "note")
    assert notes["conjecture.spatial.loss.control"] == "web captions of val, per token"
    difference = notes["conjecture.spatial.chair_i.difference"]
    assert difference == "treatment minus control, captions of test_seen, greedy"
