"""Texts with what each reading makes of them, labelled by hand (labelled/readings.jsonl)."""

from pathlib import Path

import pandas
import pytest

from mglib.evals import chair, chair_official, coverage, failures, pope, vqa
from mglib.mentions import Vocabulary
from mglib.paths import read_jsonl

ROWS = pandas.DataFrame(read_jsonl(Path(__file__).parent / "labelled" / "readings.jsonl"))
TRUTH = failures.Truth(frozenset({"dog", "cat"}), frozenset({"park", "grass", "sky"}))
DETECTOR = failures.Detector(Vocabulary({name: [name, f"{name}s"] for name in ("dog", "cat", "bus", "cake")}))
READINGS = {
    "mentions": chair.vocabulary().mentions,
    "mentions, official": chair_official.OfficialVocabulary.study().mentions,
    "singular, official": chair_official.singular,
    "normalised": vqa.normalise,
    "head": vqa.head,
    "facts": lambda text: sorted(":".join(fact) for fact in coverage.parse(text)),
    "relations": lambda text: sorted(
        ":".join(fact[1:]) for fact in coverage.parse(text) if fact[0] == "relation"
    ),
    "failures of a description": lambda text: sorted(DETECTOR.failures(text, TRUTH, poem=False)),
    "failures of a poem": lambda text: sorted(DETECTOR.failures(text, TRUTH, poem=True)),
    "phrase": pope.phrase,
}


@pytest.mark.parametrize("reading", READINGS)
def test_each_text_is_read_as_it_is_labelled(reading):
    rows = ROWS[ROWS["reading"] == reading]
    assert {text: READINGS[reading](text) for text in rows["text"]} == dict(rows[["text", "means"]].values)


def test_every_row_has_its_reading():
    assert set(ROWS["reading"]) == set(READINGS) and len(ROWS) >= 190
