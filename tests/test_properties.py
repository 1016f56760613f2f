"""Properties that hold for any user input and any model output."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from mglib.chat.answer import what_to_ask
from mglib.chat.conversation import certain
from mglib.curation.repair import repair, sentences
from mglib.curation.select import dropped
from mglib.data.journal import append, read_log
from mglib.data.pictures import typed_path
from mglib.evals import vqa
from mglib.evals.pope import parse
from mglib.metrics import read_rows
from mglib.model.decoding import until_end

often = settings(max_examples=200, deadline=None, derandomize=True, database=None)
texts = some.text(some.characters(codec="utf-8"))
any_texts = some.text(some.characters())  # lone surrogates too
PIECES = ("Yes", "No", "no.", "there", "is", "not", "a", "dog", "1.", "U.S.", "Dr.", "Assistant:", "###", "I")
said = texts | some.lists(some.sampled_from([*PIECES, "\u2028", "\u200b"])).map(" ".join)
SPACES = ("\u00a0", "  ", "\n", "\t", "\u2009", "\u3000", "\u200b ")
ENDS = ("###", "</s>")


@pytest.fixture(scope="module")
def file():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "log.jsonl"


@often
@given(some.lists(some.dictionaries(any_texts, any_texts | some.integers() | some.none())))
def test_a_log_gives_back_what_was_written(file, entries):
    file.unlink(missing_ok=True)
    append(file, entries)
    assert read_log(file) == entries


@often
@given(some.binary())
def test_any_bytes_in_place_of_a_log_are_read_or_named(file, content):
    file.write_bytes(content)
    try:
        assert all(isinstance(entry, dict) for entry in read_log(file))
    except ValueError as error:
        assert f"{file}, line" in str(error)


@often
@given(said)
def test_what_is_certain_of_an_answer_stays(text):
    whole = until_end(text, *ENDS)
    assert not any(end in whole for end in ENDS)
    shown = ""
    for length in range(len(text) + 1):
        now = certain(text[:length], ENDS)
        assert now.startswith(shown)
        shown = now
    assert "Assistant:" in text or "\ufffd" in text or whole.startswith(shown)


@often
@given(said)
def test_pope_reads_yes_no_or_neither_whatever_stands_around(text):
    assert parse(text) in (True, False, None)
    assert parse(f"Yes, {text}") is True and parse(f"No, {text}") is False


@often
@given(said)
def test_an_answer_is_compared_without_what_nobody_sees(text):
    assert vqa.normalise(f"\u200b{text}\ufeff") == vqa.normalise(text)
    assert vqa.head(text) in text
    assert vqa.exact(text, text) == 1


@often
@given(
    some.lists(some.sampled_from(["I", "'m", "sorry", "unable to", "see", "a dog"])),
    some.sampled_from(SPACES),
)
def test_a_refusal_is_one_however_it_is_spaced(parts, space):
    assert dropped(space.join(parts)) == dropped(" ".join(parts))


values = texts | some.none() | some.booleans() | some.integers() | some.lists(texts | some.integers())
lines = some.dictionaries(some.sampled_from(["image", "question", "answer", "id"]), values)


@often
@given(lines)
@example({"image": "~nobody-of-this-name/a.jpg"})
@example({"image": "data:image/jpeg;base64," + "a" * 5_000})
def test_a_line_is_asked_or_told_with_its_number(file, line):
    file.write_text(json.dumps(line) + "\n")
    try:
        (found,) = what_to_ask(file, "what")
    except ValueError as error:
        assert f"{file}, line 1" in str(error)
    else:
        assert found["image"] and isinstance(found["question"], str) and "answer" not in found


@often
@given(said)
def test_sentences_hold_all_words_in_order(text):
    assert "".join(" ".join(sentences(text)).split()) in "".join(text.split()) or set(",;:/+-") & set(text)
    assert repair(repair(text)) == repair(text)


@often
@given(texts)
def test_a_typed_path_is_a_path_or_told(text):
    try:
        assert isinstance(typed_path(text), Path)
    except ValueError as error:
        assert "download" in str(error)


@often
@given(some.lists(texts.filter(lambda text: text.isprintable()), min_size=1))
def test_a_table_is_read_with_and_without_its_mark(file, cells):
    rows = "".join('"' + cell.replace('"', '""') + '"\n' for cell in cells)
    file.write_text("name\n" + rows, encoding="utf-8")
    plain = read_rows(file)
    file.write_text("\ufeffname\n" + rows, encoding="utf-8")
    assert read_rows(file) == plain
