"""One's own pictures: three shapes give the same pairs, and what cannot be used is reported."""

import json

import pytest
from data_files import jpeg

from mglib.data.own import AnsweredPicture, read_own
from mglib.data.pictures import print_files_used
from mglib.data.quarantine import Fault, Quarantine

TEXTS = {"a": "a red wall", "b": "a blue wall"}


def write(folder, shape):
    """Write two pictures with texts in one of the shapes; return the DATA path and the pictures' folder."""
    images = folder / "image" if shape == "cc_sbu_align" else folder
    images.mkdir(parents=True)
    for name in TEXTS:
        (images / f"{name}.jpg").write_bytes(jpeg({"a": "red", "b": "blue"}[name]))
    if shape == "cc_sbu_align":
        told = [{"image_id": name, "caption": text} for name, text in TEXTS.items()]
        (folder / "filter_cap.json").write_text(json.dumps({"annotations": told}))
        return folder, images
    if shape == "txt":
        for name, text in TEXTS.items():
            (folder / f"{name}.txt").write_text(f"{text}\n")
        return folder, images
    lines = [{"image": f"{name}.jpg", "question": "what?", "answer": text} for name, text in TEXTS.items()]
    (folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "own.jsonl", images


@pytest.mark.parametrize("shape", ["cc_sbu_align", "txt", "jsonl"])
def test_each_shape_is_read_and_a_broken_picture_listed(tmp_path, shape):
    data, images = write(tmp_path / "own", shape)
    asked = "what?" if shape == "jsonl" else None
    pairs = [AnsweredPicture(images / f"{name}.jpg", asked, text) for name, text in TEXTS.items()]
    assert list(read_own(data)) == pairs
    (images / "b.jpg").write_bytes(jpeg("blue")[:-200])
    quarantine = Quarantine(tmp_path / "bad.jsonl", share=0.5)
    assert list(quarantine.sift(read_own(data))) == pairs[:1]
    (line,) = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert json.loads(line)["where"] == str(images / "b.jpg") and "broken picture" in line


def test_pictures_without_texts_and_texts_without_pictures_are_told_apart(tmp_path):
    data, _ = write(tmp_path / "own", "txt")
    (data / "c.jpg").write_bytes(jpeg("green"))
    (data / "b.txt").write_text(" \n")
    (data / "a.txt").write_bytes(b"caf\xe9")
    (data / "notes.txt").write_text("for myself")
    (data / "._a.jpg").write_bytes(b"a Mac's")
    found = list(read_own(data))
    assert [one.costs for one in found] == [1, 1, 1, 0]
    said = ("as UTF-8", "b.txt is empty", "no c.txt next to", "no picture")
    assert all(words in fault.reason for words, fault in zip(said, found, strict=True))


def test_pictures_of_any_depth_and_without_an_ending_are_read_and_those_of_cameras_are_named(tmp_path):
    names = ["a.jpg", "red/a.jpg", "red/deep/b", "red/photo.2023"]
    for name in names:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg("red"))
        text = file.with_suffix(".txt") if name.endswith(".jpg") else file.with_name(f"{file.name}.txt")
        text.write_text(f"the text of {name}")
    for name, content in (("raw.dng", b"II*\0"), ("new.jxl", b"\xff\x0a new")):
        (tmp_path / "red" / name).write_bytes(content)
        (tmp_path / "red" / name).with_suffix(".txt").write_text("a wall")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "c.jpg").write_bytes(jpeg("red"))
    found = list(read_own(tmp_path))
    pairs = [one for one in found if isinstance(one, AnsweredPicture)]
    assert [(str(one.file.relative_to(tmp_path)), one.answer) for one in pairs] == [
        (name, f"the text of {name}") for name in sorted(names)
    ]
    new, raw = (one.reason for one in found if isinstance(one, Fault))
    assert "it is JXL" in new and "develop it into a JPEG" in raw


def test_image_folders_are_read_and_a_picture_without_a_line_is_a_fault(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(jpeg("red"))
    lines = [{"file_name": f"{name}.jpg", "text": f"wall {name}"} for name in "ab"]
    file = tmp_path / "metadata.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = [AnsweredPicture(tmp_path / f"{name}.jpg", None, f"wall {name}") for name in "ab"]
    assert list(read_own(tmp_path)) == [
        *read,
        Fault(str(tmp_path / "c.jpg"), "", "no good line of metadata.jsonl names it"),
    ]
    assert list(read_own(file)) == read


TALK = {
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A wall.\n"},
        {"from": "human", "value": "Of which colour?"},
        {"from": "gpt", "value": "Red."},
    ]
}
CHAT = {
    "messages": [
        {"role": "system", "content": "You see."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "A wall."},
    ]
}


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        (TALK, [("What is it?", "A wall."), ("Of which colour?", "Red.")]),
        (CHAT, [("What is it?", "A wall.")]),
        ({"question": "", "answer": 3}, [(None, "3")]),
        ({"question": None, "text": "a wall"}, [(None, "a wall")]),
        ({"text": "Is it a wall?", "answer": "Yes."}, [("Is it a wall?", "Yes.")]),  # a question of POPE
        ({"text": "Is it a wall?", "question": "Is it a wall?", "error": "it is broken"}, None),
        ({"conversations": TALK["conversations"][:1]}, None),
        ({"conversations": [TALK["conversations"][0], {"from": "gpt", "value": " "}]}, None),
        ({"conversations": []}, None),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_conversations_and_arrays_of_them_are_read_as_llava_writes_them(tmp_path, line, pairs, indent):
    (tmp_path / "7.jpg").write_bytes(jpeg("red"))
    line = {"id": "7", "image": 7, **line}
    text = json.dumps(line) if indent is None else json.dumps([line], indent=indent)
    (tmp_path / "own.json").write_text(text)
    found = list(read_own(tmp_path / "own.json"))
    if pairs is None:
        (fault,) = found
        assert "nor a conversation" in fault.reason or "`conversations.1.value`" in fault.reason
    else:
        assert found == [AnsweredPicture(tmp_path / "7.jpg", *pair) for pair in pairs]


def test_a_picture_is_found_by_a_path_of_windows(tmp_path):
    (tmp_path / "100% #1").mkdir()
    for name in (r".\100% #1\a.jpg", r"100% #1\..\b.JPG"):
        file = tmp_path / name.replace("\\", "/")
        file.write_bytes(jpeg("red"))
        (tmp_path / "own.jsonl").write_text(json.dumps({"image": name, "answer": "a wall"}))
        (pair,) = read_own(tmp_path / "own.jsonl")
        assert pair.file.samefile(file)


def test_a_text_may_have_the_whole_name_of_its_picture(tmp_path):
    for name in ("a.jpg", "a.png", "b\nc.jpg"):
        (tmp_path / name).write_bytes(jpeg("red"))
        (tmp_path / f"{name}.txt").write_text(f"the text of {name}")
    assert {pair.file.name: pair.answer for pair in read_own(tmp_path)} == {
        name: f"the text of {name}" for name in ("a.jpg", "a.png", "b\nc.jpg")
    }


def test_linked_folders_are_read_once_and_dead_links_are_told(tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_bytes(jpeg("red"))
    (tmp_path / "elsewhere" / "a.txt").write_text("a wall")
    (tmp_path / "elsewhere" / "round").symlink_to("..")
    (tmp_path / "own" / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("dead.jpg", "dead.txt"):
        (tmp_path / "own" / name).symlink_to("none")
    used = set()
    found = list(read_own(tmp_path / "own", used))
    pairs = [one for one in found if isinstance(one, AnsweredPicture)]
    assert [pair.file.resolve() for pair in pairs] == [tmp_path / "elsewhere" / "a.jpg"]
    (dead,) = (one for one in found if isinstance(one, Fault))
    assert dead.where.endswith("dead.txt") and "No such file" in dead.reason
    print_files_used(tmp_path / "own", used)
    assert capsys.readouterr().out.startswith("2 of the 4 files")


def test_half_an_escaped_emoji_costs_its_own_text_alone(tmp_path):
    data, images = write(tmp_path / "own", "cc_sbu_align")
    file = data / "filter_cap.json"
    (images / "c.jpg").write_bytes(jpeg("green"))
    told = '{"image_id": "c", "caption": "a wall \\ud83d"}'
    file.write_text(file.read_text().replace("[", f"[{told}, ", 1))
    bad, *good = read_own(data)
    assert isinstance(bad, Fault) and bad.sample == "annotations[0]"
    assert [pair.answer for pair in good] == list(TEXTS.values())


def test_a_line_that_does_not_fit_is_a_fault_and_a_question_may_be_left_out(tmp_path):
    data, images = write(tmp_path / "own", "jsonl")
    lines = ['{"image": "a.jpg", "answer": "a wall"}', '{"image": "a.jpg"}', "no json"]
    data.write_text("\n".join([*lines, lines[0]]))
    found = list(read_own(data))
    assert found[0] == AnsweredPicture(images / "a.jpg", None, "a wall")
    assert [one.sample.startswith("line") for one in found[1:3]] == [True, True]
    assert "`answer`" in found[1].reason and "came before" in found[3].reason


def test_what_has_none_of_the_shapes_is_met_by_all_three(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not there\. DATA is a folder with filter_cap\.json"):
        read_own(tmp_path / "none")
    (tmp_path / "a.jpg").write_bytes(jpeg("red"))
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a \.txt of the same name.*LLaVA\.$"):
        read_own(tmp_path)
    (tmp_path / "own.json").write_text('[{"image": "a.jpg", "answer": "a wall"}]')
    (tmp_path / "README.txt").write_text("Lines of own.json are about the pictures here.")
    with pytest.raises(ValueError, match=r"Is it .*own\.json that is meant"):
        read_own(tmp_path)
