"""The demonstration of fine-tuning: texts name the new kind, and only what is named counts."""

from types import SimpleNamespace

import pytest
from tiny_world import pictures_font

from mglib.repro import new_kind
from mglib.settings import Settings
from mglib.world.text import Caption


def picture(*texts):
    """Return a drawn picture with references; each names what its text says."""
    said = tuple(Caption(text, ("guitar",) if "guitar" in text else ("dog",)) for text in texts)
    return SimpleNamespace(jpeg=b"a picture", references=said)


def test_each_picture_is_written_with_the_first_text_that_names_the_kind(tmp_path):
    some = [picture("A dog.", "A dog and a guitar.", "A guitar."), picture("A guitar.")]
    files = new_kind.write(tmp_path / "new", some, "guitar")
    assert [file.with_suffix(".txt").read_text() for file in files] == ["A dog and a guitar.", "A guitar."]
    assert files[1].read_bytes() == b"a picture"


def test_a_description_names_the_kind_or_does_not(tmp_path, monkeypatch):
    said = ["Two guitars in a room.", "A dog.", "A guitarist."]
    monkeypatch.setattr(new_kind, "answer", lambda *_: said)
    assert new_kind.named(None, [tmp_path] * 3, "guitar") == [1.0, 0.0, 0.0]


def test_a_kind_that_no_picture_shows_is_refused():
    with pytest.raises(ValueError, match=r"no new object 'gitar': take .*guitar"):
        new_kind.shown(Settings(), "gitar", lora=False, replay=False)


def test_what_is_drawn_holds_the_kind():
    pictures_font()  # skips the test without the font
    one = next(new_kind.drawn("octopus"))
    assert "octopus" in one.scene.names and one.jpeg[:2] == b"\xff\xd8"
