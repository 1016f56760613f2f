"""The failure detector: each kind by an example, its independence, and its agreement with the labels."""

import ast
import csv
import json
from dataclasses import asdict

import pytest
from tiny_texts import split_of

from mglib.evals import failures
from mglib.evals.failures import Detector, Truth, kappa, kind
from mglib.mentions import Vocabulary
from mglib.paths import ROOT
from mglib.world.scene import Item, Scene

OBJECTS = {"dog": ["dog", "dogs"], "cat": ["cat", "cats"], "bus": ["bus", "buses"], "cake": ["cake", "cakes"]}
TRUTH = Truth(frozenset({"dog", "cat"}), frozenset({"park", "grass", "sky"}))


@pytest.fixture
def detector() -> Detector:
    return Detector(Vocabulary(OBJECTS))


def test_a_text_that_the_limit_cut_is_whole_if_one_sentence_is(detector):
    two, one = "A dog sits on the grass. A cat is on", "A dog sits on the grass near a cat on"
    assert detector.failures(two, TRUTH, poem=False, cut=True) == set()
    assert detector.failures(two, TRUTH, poem=False) == {"fragment"}
    assert detector.failures(one, TRUTH, poem=False, cut=True) == {"fragment"}


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("I’m sorry, I can’t help with that.", True),
        ("I am unable to see the image.", True),
        ("As an AI language model, I cannot describe this picture.", True),
        ("I cannot provide a detailed description.", True),
        ("I can't help but smile at this dog.", False),
        ("The man is unable to see the dog behind him.", False),
        ("A dog that I cannot see clearly sits on the grass.", False),
    ],
)
def test_a_refusal_is_a_failure_also_where_nothing_is_annotated(detector, text, failed):
    unknown = Truth(frozenset({"dog"}), None)
    assert detector.failures(text, unknown, poem=False) == ({"off-topic"} if failed else set())
    assert ("off-topic" in detector.failures(text, TRUTH, poem=False)) >= failed


def test_cut_is_told_by_the_number_of_tokens(tokenizer):
    length = len(tokenizer("a red bus", add_special_tokens=False)["input_ids"])
    assert failures.cut("a red bus", tokenizer, length)
    assert not failures.cut("a red bus", tokenizer, length + 2)


def test_the_first_kind_names_an_answer():
    assert kind(set()) == "success"
    assert kind({"fragment", "repetition", "off-topic"}) == "repetition"
    assert kind({"fragment", "off-topic"}) == "off-topic"
    assert kind({"no-verse", "off-topic"}) == "off-topic" and kind({"no-verse"}) == "no-verse"


def test_truths_hold_objects_setting_and_props(tmp_path):
    scene = Scene(1, 200, "park", props=(Item("cloud", (0, 0, 9, 9), 1.0),))
    (tmp_path / "scenes.jsonl").write_text(json.dumps(asdict(scene)) + "\n")
    split = split_of("val", ["x"], objects=(frozenset({"dog"}),))
    (truth,) = failures.truths(split, tmp_path / "scenes.jsonl")
    assert truth.objects == {"dog"} and {"park", "grass", "clouds", "sky"} <= truth.scenery


def test_every_setting_and_prop_of_the_world_has_its_words():
    with (failures.FOLDER / "scenery.csv").open(encoding="utf-8", newline="") as file:
        known = {row["name"]: row["forms"] for row in csv.DictReader(file)}
    for name in ("settings", "props"):
        with (ROOT / "data" / "world" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            assert all(known[row["name"]] for row in csv.DictReader(file))


# Worked out by hand: both judges agree on 4 of 6, chance is (3 * 3 + 3 * 3) / 36 = 1 / 2.
def test_kappa_is_agreement_beyond_chance():
    estimate = kappa([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0])
    assert estimate.value == pytest.approx((4 / 6 - 1 / 2) / (1 / 2))
    assert estimate.low <= estimate.value <= estimate.high and estimate.n == 6
    assert kappa([1, 0] * 20, [1, 0] * 20).value == 1 and kappa([1, 0] * 20, [0, 1] * 20).value == -1


def test_kappa_of_one_verdict_is_refused():
    with pytest.raises(ValueError, match="one and the same"):
        kappa([1, 1], [1, 1])


def test_a_labelled_answer_is_judged_as_any_other(detector):
    row = {"question": failures.DESCRIBE, "objects": "dog|cat", "scenery": "park", "cut": "no"}
    for text, found in {
        "A dog in the park.": "success",
        "A bus and a cake.": "off-topic",
        "A dog, a bus and a cake.": "off-topic",  # half of what it names is there, and half is too little
        "A dog in the park is on the grass on": "fragment",
    }.items():
        assert failures.verdict(detector, {**row, "text": text}) == found
    poem = {**row, "question": failures.POEM, "text": "Oh dog in the park,\nthe grass is dark"}
    assert failures.verdict(detector, poem) == "success"
    assert failures.verdict(detector, {**poem, "text": poem["text"].replace("\n", " ")}) == "no-verse"
    assert failures.failed(["success", "no-verse"]) == [False, True]


def test_the_labels_are_complete_and_apart():
    rows = failures.read_labels()
    assert list(rows["split"].value_counts()) >= [200, 96] and rows["id"].is_unique
    for pass_ in ("first", "second", "label"):
        assert set(rows[pass_]) <= {*failures.KINDS, "success"}
    same = rows["first"] == rows["second"]
    assert (rows["label"] == rows["first"])[same].all() and 0 < same.mean() < 1
    assert set(rows["question"]) == {failures.DESCRIBE, failures.POEM}


def test_the_detector_shares_no_code_with_curation():
    tree = ast.parse((ROOT / "mglib" / "evals" / "failures.py").read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    forbidden = ("repair", "curat", "rewrite", "review", "describe")
    assert not [name for name in imported if any(word in name for word in forbidden)]
