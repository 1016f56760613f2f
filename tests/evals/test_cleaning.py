"""Answers as other programs write them, with what a reader takes for the answer (labelled/cleaned.jsonl)."""

from pathlib import Path

import pandas
import pytest

from mglib.evals.cleaning import clean, spoken
from mglib.paths import read_jsonl

ROWS = pandas.DataFrame(read_jsonl(Path(__file__).parent / "labelled" / "cleaned.jsonl"))
ASKED = "Is there a cat in the image?"


@pytest.mark.parametrize("form", ROWS["form"].unique())
def test_the_answer_is_what_a_reader_takes_for_it(form):
    rows = ROWS[ROWS["form"] == form]
    assert {text: clean(text, [ASKED]) for text in rows["text"]} == dict(rows[["text", "answer"]].values)


def test_what_was_cleaned_is_clean():
    assert len(ROWS) >= 80
    assert [clean(text, [ASKED]) for text in ROWS["answer"]] == [text.strip() for text in ROWS["answer"]]


def test_the_official_readings_keep_how_an_answer_is_written():
    assert spoken("USER: Is it red? ASSISTANT: **No**</s>") == "**No**"
