"""A journal: lines are only ever added, the last decision can be taken back, a torn line is cut off."""

import pytest

from mglib.data.journal import Journal, append, read_log


def test_decisions_stand_until_they_are_taken_back(tmp_path):
    file = tmp_path / "folder" / "log.jsonl"
    journal, before = Journal(file, key="id"), b""
    for act in (
        lambda: journal.add({"id": "a", "keep": True}),
        lambda: journal.add({"id": "ü", "keep": False}),
        journal.undo,
        lambda: journal.add({"id": "c", "keep": True}),
    ):
        act()
        after = file.read_bytes()
        assert after.startswith(before) and after.count(b"\n") == before.count(b"\n") + 1
        before = after
    assert [entry["id"] for entry in journal.standing] == ["a", "c"]
    assert Journal(file, key="id").entries == journal.entries
    assert journal.entries[2] == {"undo": "ü"}


def test_nothing_to_take_back_writes_nothing(tmp_path):
    journal = Journal(tmp_path / "log.jsonl", key="id")
    journal.undo()
    journal.add({"id": "a"})
    journal.undo()
    journal.undo()
    assert len(journal.entries) == 2 and journal.standing == []


def test_a_torn_last_line_is_told_and_cut_off(tmp_path, capsys):
    file = tmp_path / "log.jsonl"
    file.write_text('{"id": "a"}\n{"id": "b')
    journal = Journal(file, key="id")
    assert journal.standing == [{"id": "a"}] and "torn" in capsys.readouterr().out
    journal.add({"id": "b"})
    assert file.read_text() == '{"id": "a"}\n{"id": "b"}\n'


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x1c", "\r", "\ufeff"])
def test_a_text_with_any_sign_is_written_and_read_back(tmp_path, sign):
    file = tmp_path / "log.jsonl"
    entries = [{"id": "a", "text": f"{sign}A dog.{sign}It runs.{sign}"}, {"id": f"b{sign}"}]
    append(file, entries)
    append(file, entries[:1])
    assert read_log(file) == [*entries, entries[0]]
    assert Journal(file, key="id").standing == [*entries, entries[0]]


@pytest.mark.parametrize("line", [b'{"a": ', b"\xff\xfe", b"3", b"[1]", b"[" * 100_000])
def test_a_line_that_is_no_object_is_named_with_its_file(tmp_path, line):
    (tmp_path / "log.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a"}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=r"log\.jsonl, line 3 is n"):
        read_log(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a"}\n\n')
    assert read_log(tmp_path / "log.jsonl") == [{"id": "a"}]


def test_half_a_character_is_written_and_read_back(tmp_path):
    entries = [{"image": "caf\udce9.jpg"}, {"question": "\ud83d caf\u00e9"}]  # a file name that is no UTF-8
    append(tmp_path / "log.jsonl", entries)
    assert read_log(tmp_path / "log.jsonl") == entries
