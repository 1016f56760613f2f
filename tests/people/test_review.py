"""The human pass: verdicts, undo, resuming, and the panel as a browser drives it."""

import json

import pytest

from mglib.config import WellFormed
from mglib.curation.describe import Description
from mglib.curation.select import Verdict, curate
from mglib.curation.verdicts import verdicts
from mglib.data.journal import read_log
from mglib.people.review import Review, Reviewer

TEXTS = [("1", "A dog sits."), ("2", "A cat runs."), ("3", "A bus waits.")]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "review" / "log.jsonl"


def test_texts_come_one_after_the_other(log):
    review = Review(TEXTS, log)
    assert review.current == TEXTS[0] and review.done == 0 and verdicts(log) is None
    review.accept()
    review.reject()
    assert review.current == TEXTS[2] and review.done == 2
    review.accept(" A red bus waits. ")
    assert review.current is None
    assert verdicts(log) == {
        "1": Verdict("A dog sits.", True, "A dog sits."),
        "2": Verdict("A cat runs.", False, "A cat runs."),
        "3": Verdict("A bus waits.", True, "A red bus waits."),
    }


def test_the_log_is_only_ever_added_to(log):
    review, before = Review(TEXTS, log), b""
    for act in (review.accept, review.reject, review.undo, review.accept, review.undo, review.undo):
        act()
        after = log.read_bytes()
        assert after.startswith(before) and after.count(b"\n") == before.count(b"\n") + 1
        before = after
    assert review.current == TEXTS[0] and verdicts(log) is None
    assert json.loads(before.splitlines()[2]) == {"undo": "2"}
    review.undo()  # there is nothing left to take back
    assert log.read_bytes() == before


def test_undo_brings_an_earlier_verdict_on_the_same_picture_back(log):
    Review(TEXTS[:1], log).accept()
    changed = Review([("1", "A wolf sits.")], log)
    assert changed.current == ("1", "A wolf sits.")  # the verdict was on another text
    changed.reject()
    assert verdicts(log)["1"].keep is False
    changed.undo()
    assert verdicts(log)["1"] == Verdict("A dog sits.", True, "A dog sits.")


def test_a_review_goes_on_where_it_stopped(log):
    first = Review(TEXTS, log)
    first.accept("A big dog sits.")
    second = Review(TEXTS, log)
    assert second.current == TEXTS[1] and second.done == 1
    second.undo()
    assert Review(TEXTS, log).current == TEXTS[0]


def test_a_torn_last_line_is_told_and_shown_again(log, capsys):
    review = Review(TEXTS, log)
    review.accept()
    review.accept()
    log.write_bytes(log.read_bytes()[:-5])
    again = Review(TEXTS, log)
    assert again.current == TEXTS[1] and "torn" in capsys.readouterr().out
    again.reject()
    assert [entry["keep"] for entry in read_log(log)] == [True, False]


def test_an_empty_text_and_a_finished_review_are_refused(log):
    review = Review(TEXTS[:1], log)
    with pytest.raises(ValueError, match="empty"):
        review.accept("  ")
    review.accept()
    with pytest.raises(ValueError, match="Every text has a verdict"):
        review.reject()
    assert len(read_log(log)) == 1


def test_verdicts_come_back_into_the_curation_and_can_be_changed(log):
    texts = [f"A {thing} stands in front of a house. Some grass grows there too." for thing in ("dog", "cat")]
    described = [Description(str(n), (text,), (9,), 0) for n, text in enumerate(texts)]
    well_formed = WellFormed(min_words=5)
    review = Review.of(curate(described, texts, well_formed=well_formed), log)
    review.accept("A dog.")
    review.reject()
    result = curate(described, texts, well_formed=well_formed, verdicts=verdicts(log))
    assert [one.text for one in result.kept] == ["A dog."]
    again = Review.of(result, log)
    assert again.done == 2  # the texts as they were shown, not as they were edited
    again.undo()
    assert again.current == ("1", texts[1])


@pytest.fixture
def panel(log):
    return Reviewer(Review(TEXTS, log), lambda image_id: f"picture {image_id}".encode())


def press(panel, key):
    panel.keys.set_state({"value": panel.keys.value + key})  # what the browser sends


def test_the_panel_shows_picture_text_and_progress(panel):
    assert bytes(panel.image.value) == b"picture 1" and panel.text.value == "A dog sits."
    assert panel.status.value == "0 of 3" and panel.progress.max == 3
    panel.buttons["a"].click()
    assert bytes(panel.image.value) == b"picture 2" and panel.text.value == "A cat runs."
    assert panel.progress.value == 1


def test_keys_do_what_buttons_do(panel, log):
    press(panel, "a")
    press(panel, "R")
    assert panel.status.value == "2 of 3"
    press(panel, "u")
    assert panel.text.value == "A cat runs."
    press(panel, "x")
    assert len(read_log(log)) == 3


def test_keys_that_arrive_together_all_count(panel, log):
    press(panel, "ar")
    assert panel.status.value == "2 of 3" and len(read_log(log)) == 2
    panel.keys.set_state({"value": "a"})  # the browser's backspace presses nothing
    assert panel.status.value == "2 of 3"


def test_an_edited_text_is_kept_as_edited(panel, log, monkeypatch):
    focused = []
    monkeypatch.setattr(panel.text, "focus", lambda: focused.append("text"))
    monkeypatch.setattr(panel.keys, "focus", lambda: focused.append("keys"))
    press(panel, "e")
    panel.text.value = "A red dog sits."
    press(panel, "a")
    assert focused == ["text", "keys"]
    assert verdicts(log)["1"] == Verdict("A dog sits.", True, "A red dog sits.")


def test_at_the_end_only_undo_is_left(panel):
    for key in "aaa":
        press(panel, key)
    assert "all have a verdict" in panel.status.value and panel.text.value == ""
    assert panel.buttons["a"].disabled and panel.buttons["r"].disabled and not panel.buttons["u"].disabled
    press(panel, "a")
    assert "Every text has a verdict" in panel.status.value
    press(panel, "u")
    assert panel.text.value == "A bus waits." and not panel.buttons["a"].disabled
