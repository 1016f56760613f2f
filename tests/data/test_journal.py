"""The append-only log of lines, whose torn last line is cut off."""

import pytest

from mglib.data.journal import append, read_log


def test_a_torn_last_line_is_told_and_cut_off(tmp_path, capsys):
    file = tmp_path / "log.jsonl"
    file.write_text('{"id": "a"}\n{"id": "b')
    assert read_log(file) == [{"id": "a"}] and "torn" in capsys.readouterr().out
    append(file, [{"id": "b"}])
    assert file.read_text() == '{"id": "a"}\n{"id": "b"}\n'


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x1c", "\r", "\ufeff"])
def test_a_text_with_any_sign_is_written_and_read_back(tmp_path, sign):
    file = tmp_path / "log.jsonl"
    entries = [{"id": "a", "text": f"{sign}A dog.{sign}It runs.{sign}"}, {"id": f"b{sign}"}]
    append(file, entries)
    append(file, entries[:1])
    assert read_log(file) == [*entries, entries[0]]


@pytest.mark.parametrize("line", [b'{"a": ', b"\xff\xfe", b"3", b"[1]", b"[" * 100_000])
def test_a_line_that_is_no_object_is_named_with_its_file(tmp_path, line):
    (tmp_path / "log.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a"}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=r"log\.jsonl, line 3 is n"):
        read_log(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a"}\n\n')
    assert read_log(tmp_path / "log.jsonl") == [{"id": "a"}]


def test_half_a_character_is_written_and_read_back(tmp_path):
    entries = [{"image": "caf\udce9.jpg"}, {"question": "\ud83d caf\u00e9"}]  # a file name not in UTF-8
    append(tmp_path / "log.jsonl", entries)
    assert read_log(tmp_path / "log.jsonl") == entries
