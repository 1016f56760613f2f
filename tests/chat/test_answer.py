"""Questions about many pictures: which are asked, how they are answered, and what is written."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tiny_chat import picture, say, shown

from mglib import errors
from mglib.chat import answer as chat
from mglib.chat.answer import answer
from mglib.data.own import read_own
from mglib.data.pictures import picture as picture_file
from mglib.locks import locked
from mglib.model.decoding import Decoding, greedy
from mglib.paths import read_jsonl


def test_batch_answers_are_those_of_conversations_and_do_not_depend_on_their_neighbours(
    chat_model, monkeypatch
):
    monkeypatch.setattr(chat, "BATCH", 2)
    images, questions = [picture("red"), picture("green"), picture("white")], ["what", "where is it", "who"]
    decoding = Decoding(max_new_tokens=10, seed=4)
    texts = answer(chat_model, images, questions, decoding)
    for image, question, text in zip(images, questions, texts, strict=True):
        assert say(shown(chat_model, image), question, decoding) == text
    assert answer(chat_model, images[1:], questions[1:], decoding) == texts[1:]


def test_a_folder_and_a_file_of_questions_are_answered(chat_model, tmp_path, monkeypatch, capsys, run):
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        picture("red" if name == "b.png" else "green").save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    given = ["--out", out, "--greedy", "--tokens", 5]
    assert run("answer", "--images", folder, *given) == 0
    used = f"2 of the 3 files in {folder} are used; not used: 1 .txt."
    assert used in capsys.readouterr().out
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["image"] for line in lines] == ["pictures/a.jpg", "pictures/b.png"]
    assert {line["question"] for line in lines} == {"Describe this image in detail."}
    asked = tmp_path / "ask.jsonl"
    asked.write_text(
        '{"image": "pictures/b.png", "question": "what", "id": 7}\n{"image": "pictures/b.png"}\n'
    )
    assert run("answer", "--questions", asked, *given) == 1
    assert "answers other questions than these" in capsys.readouterr().err
    out = tmp_path / "other.jsonl"
    given[1] = out
    assert run("answer", "--questions", asked, *given) == 0
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert told[0]["id"] == 7 and [line["question"] for line in told] == ["what", lines[0]["question"]]
    assert told[1]["answer"] == lines[1]["answer"]


def test_a_batch_skips_hidden_files_lists_bad_pictures_and_goes_on(
    chat_model, tmp_path, capsys, monkeypatch, run
):
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    for number in range(5):
        picture("red").save(folder / f"{number}.jpg")
    (folder / "._0.jpg").write_bytes(b"a Mac's notes")
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:-200])
    monkeypatch.setattr(chat, "BATCH", 2)
    batches, whole = [], chat.answer_lines

    def stopped(chat_model, lines, decoding):
        batches.append([line["image"][-5] for line in lines])
        if len(batches) == 2:
            raise KeyboardInterrupt
        return whole(chat_model, lines, decoding)

    monkeypatch.setattr(chat, "answer_lines", stopped)
    given = ["answer", "--images", folder, "--out", out, "--greedy", "--tokens", 4]
    assert run(*given) == 130
    assert len(read_jsonl(out)) == 2
    assert run(*given) == 0
    assert batches == [["0", "1"], ["2", "3"], ["2", "3"], ["4"]]
    lines = read_jsonl(out)
    assert ["error" in line for line in lines] == [False, False, True, False, False]
    assert "2.jpg is not a picture" in lines[2]["error"] and "1 of them errors" in capsys.readouterr().out


def test_a_line_may_ask_about_several_pictures_in_a_folder_of_their_own(chat_model, tmp_path):
    (tmp_path / "pictures").mkdir()
    for color in ("red", "green"):
        picture(color).save(tmp_path / "pictures" / f"{color}.png")
    (tmp_path / "ask.jsonl").write_text('{"image": ["red.png", "green.png"], "question": "which"}\n')
    out = tmp_path / "out.jsonl"
    chat.answer_all(chat_model, tmp_path / "ask.jsonl", out, "", greedy(6), folder=tmp_path / "pictures")
    talk = shown(chat_model, picture("red"), picture("green"))
    assert read_jsonl(out)[0]["answer"] == say(talk, "which", greedy(6))


def test_questions_may_stand_in_one_array(tmp_path):
    lines = [{"image": "a.jpg", "question": text} for text in ("what", "who")]
    (tmp_path / "ask.json").write_text(json.dumps(lines, indent=1))
    assert [one["question"] for one in chat.what_to_ask(tmp_path / "ask.json", "")] == ["what", "who"]
    (tmp_path / "ask.json").write_text("[1]")
    with pytest.raises(ValueError, match='line 1: there is no "image"'):
        chat.what_to_ask(tmp_path / "ask.json", "")


@pytest.mark.parametrize("name", ["a.JPG", "a"])
def test_one_picture_is_asked_about_as_a_folder_of_one(tmp_path, name):
    picture().save(tmp_path / name, "JPEG")
    assert chat.what_to_ask(tmp_path / name, "what") == chat.what_to_ask(tmp_path, "what")


def test_a_batch_that_asks_nothing_is_told(tmp_path, capsys, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    assert run("answer", "--images", tmp_path / "none") == 1
    assert "none: name a folder of pictures, or a file of questions" in capsys.readouterr().err
    (tmp_path / "ask.jsonl").write_text("")
    assert run("answer", "--questions", tmp_path / "ask.jsonl") == 1
    assert "no lines" in capsys.readouterr().err
    assert run("answer", "--questions", tmp_path / "ask.jsonl", "--images", tmp_path / "none") == 1
    assert "none: name a folder of pictures" in capsys.readouterr().err
    assert run("answer") == 1
    assert "make answer IMAGES=folder, or QUESTIONS=file.jsonl" in capsys.readouterr().err


def test_pictures_that_are_not_read_here_are_listed_and_not_passed_over(chat_model, tmp_path):
    folder, out = tmp_path / "phone", tmp_path / "out.jsonl"
    folder.mkdir()
    picture().save(folder / "a.jfif", "JPEG")
    (folder / "b.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(40))
    chat.answer_all(chat_model, folder, out, "what", greedy(3))
    good, bad = read_jsonl(out)
    assert good["answer"] and "it is HEIC" in bad["error"] and "save it as JPEG" in bad["error"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"picture": "a.jpg"}, 'there is no "image"'),
        ({"image": None}, 'there is no "image"'),
        ({"image": []}, 'there is no "image"'),
        ({"image": ["a.jpg", ""]}, 'there is no "image"'),
        ({"image": True}, 'there is no "image"'),
        ({"image": "a.jpg", "question": None}, 'its "question" is no text'),
        ({"image": "a.jpg", "question": ["what"]}, 'its "question" is no text'),
        ({"image": "a.jpg", "answer": "a dog"}, '"answer" is what is written here'),
        ({"image": "a.jpg", "error": ""}, '"error" is what is written here'),
    ],
)
def test_a_line_that_cannot_be_asked_is_told_with_its_number(tmp_path, line, told):
    (tmp_path / "ask.jsonl").write_text('{"image": "a.jpg"}\n' + json.dumps(line))
    with pytest.raises(ValueError, match=f"ask.jsonl, line 2: {told}"):
        chat.what_to_ask(tmp_path / "ask.jsonl", "what")


def test_a_lines_picture_goes_by_its_name_with_or_without_an_ending(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("7.png", "home/b.jpg"):
        picture().save(tmp_path / name)
    names = [7, "7", "7.jpg", "~/b.jpg", "none.png", "https://example.org/c.jpg"]
    (tmp_path / "ask.jsonl").write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    found = [line["image"] for line in chat.what_to_ask(tmp_path / "ask.jsonl", "what")]
    there = [str(tmp_path / "7.png")] * 3 + [str(tmp_path / "home" / "b.jpg"), str(tmp_path / "none.png")]
    assert found[:5] == there
    with pytest.raises(ValueError, match="is an address: download the picture"):
        picture_file(Path(found[5]))


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("<image>\nWhat is it?", "What is it?"),
        ("<Img><ImageHere></Img> What is it?", "What is it?"),
        ("<IMAGE> <image> What is it?", "What is it?"),
        ("What is it?\n<image>", "What is it?"),
        ("Is 3 <imagined> ?", "Is 3 <imagined> ?"),
        ("<image>", None),
    ],
)
def test_the_place_of_a_picture_is_taken_off_a_question(tmp_path, capsys, written, asked):
    """Both `make answer` and `make finetune` remove it, and each says so once."""
    picture().save(tmp_path / "a.jpg")
    line = {"image": "a.jpg", "question": written}
    (tmp_path / "ask.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    (tmp_path / "own.jsonl").write_text(json.dumps({**line, "answer": "a wall"}))
    for one in chat.what_to_ask(tmp_path / "ask.jsonl", "the usual"):
        assert one["question"] == asked or (asked is None and one["question"] == "the usual")
    (pair,) = read_own(tmp_path / "own.jsonl")
    assert pair.question == asked
    said = capsys.readouterr().out.splitlines()
    counts = [line for line in said if "the picture's place" in line]
    assert [f"out of {count} questions" in line for count, line in zip((2, 1), counts, strict=False)] == (
        [] if written == asked else [True, True]
    )


def test_one_bad_question_costs_no_other_its_answer(chat_model, tmp_path):
    picture().save(tmp_path / "a.png")
    lines = [{"image": "a.png", "question": text} for text in ("what", "word " * 400, "\ud83d", "where")]
    (tmp_path / "ask.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chat.answer_all(chat_model, tmp_path / "ask.jsonl", tmp_path / "out.jsonl", "", greedy(3))
    told = read_jsonl(tmp_path / "out.jsonl")
    assert ["answer" in line for line in told] == [True, False, False, True]
    assert "reads 256: ask less" in told[1]["error"] and "half a character" in told[2]["error"]


def test_a_line_that_stands_there_twice_is_answered_twice_after_a_stop(chat_model, tmp_path):
    picture().save(tmp_path / "a.png")
    (tmp_path / "ask.jsonl").write_text('{"image": "a.png"}\n' * 3)
    out = tmp_path / "out.jsonl"
    chat.answer_all(chat_model, tmp_path / "ask.jsonl", out, "what", greedy(3))
    whole = out.read_text()
    out.write_text("".join(whole.splitlines(keepends=True)[:2]))
    chat.answer_all(chat_model, tmp_path / "ask.jsonl", out, "what", greedy(3))
    assert out.read_text() == whole


def test_what_another_model_or_decoding_began_is_refused(chat_model, model, vision_config, tmp_path):
    picture().save(tmp_path / "a.png")
    out, ask = tmp_path / "out.jsonl", partial(chat.answer_all, source=tmp_path, question="what")
    ask(chat_model, out=out, decoding=greedy(3))
    (line,) = read_jsonl(out)
    assert line["model"] == chat_model.name and line["decoding"]["max_new_tokens"] == 3
    whole, other = out.read_text(), replace(chat_model, model=model(seed=1))
    assert replace(chat_model, trained="the same, moved").name == chat_model.name != other.name
    with pytest.raises(ValueError, match="line 1 was answered by other means"):
        ask(other, out=out, decoding=greedy(3))
    with pytest.raises(ValueError, match="name another OUT"):
        ask(chat_model, out=out, decoding=greedy(4))
    out.write_text('{"image": "a.png", "question": "what", "answer": "of an older version"}\n')
    with pytest.raises(ValueError, match="name another OUT"):
        ask(chat_model, out=out, decoding=greedy(3))
    out.unlink()
    ask(chat_model, out=out, decoding=greedy(3))
    assert out.read_text() == whole


@pytest.mark.parametrize("out", ["out/a.jsonl", "a.jsonl", "pictures/a.jsonl", "linked/deep/a.jsonl"])
def test_answers_are_data_of_a_fine_tuning_as_they_are(chat_model, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "below").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to("elsewhere")
    for name in ("a.png", "below/b.png"):
        picture().save(tmp_path / "pictures" / name)
    chat.answer_all(chat_model, Path("pictures"), Path(out), "what", greedy(3))
    pairs = list(read_own(Path(out)))
    files = [tmp_path / "pictures" / name for name in ("a.png", "below/b.png")]
    assert [pair.file.resolve() for pair in pairs] == files
    assert [pair.answer for pair in pairs] == [line["answer"] for line in read_jsonl(Path(out))]
    (tmp_path / "ask.jsonl").write_text('{"image": "pictures/a", "question": "what", "answer": "a dog"}\n')
    assert [pair.file for pair in read_own(tmp_path / "ask.jsonl")] == [tmp_path / "pictures" / "a.png"]


def test_what_failed_is_asked_again_by_the_same_command(chat_model, tmp_path):
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        picture().save(folder / name)
    (folder / "a.png").write_bytes(b"not downloaded yet")
    chat.answer_all(chat_model, folder, out, "what", greedy(3))
    (bad, good), size = read_jsonl(out), out.stat().st_size
    chat.answer_all(chat_model, folder, out, "what", greedy(3))
    assert "error" in bad and read_jsonl(out) == [good, bad] and out.stat().st_size == size
    picture().save(folder / "a.png")
    chat.answer_all(chat_model, folder, out, "what", greedy(3))
    assert [line["answer"] for line in read_jsonl(out)] == [good["answer"]] * 2


def test_one_process_at_a_time_writes_a_file_of_answers(tmp_path, monkeypatch, run):
    def meanwhile(chat_model, lines, decoding):
        with pytest.raises(BlockingIOError), locked(tmp_path / "out.jsonl", wait=False):
            pass
        return [{"answer": "a wall"} for _ in lines]

    monkeypatch.setattr(chat, "answer_lines", meanwhile)
    picture().save(tmp_path / "a.png")
    assert run("answer", "--images", tmp_path / "a.png", "--out", tmp_path / "out.jsonl") == 0


def test_an_error_that_nobody_expected_is_its_lines_own(chat_model, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        picture().save(tmp_path / name)
    opened = chat.picture

    def broken(path):
        return opened(path) if path.name == "a.png" else {}["nothing"]

    monkeypatch.setattr(chat, "picture", broken)
    monkeypatch.setattr(errors.sentence, "__kwdefaults__", {"folder": tmp_path / "errors"})
    chat.answer_all(chat_model, tmp_path, tmp_path / "out.jsonl", "what", greedy(3))
    good, bad = read_jsonl(tmp_path / "out.jsonl")
    assert good["answer"] and bad["error"].startswith("answer failed, KeyError: 'nothing'")
    assert "Traceback" in (tmp_path / "errors" / "answer.txt").read_text()


def test_a_line_at_which_a_batch_fails_costs_no_other_its_answer(chat_model, tmp_path, monkeypatch):
    picture().save(tmp_path / "a.png")
    lines = [{"image": "a.png", "question": text} for text in ("what", "who", "where")]
    (tmp_path / "ask.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wrote = chat.respond

    def broken(model, shown, template, asked, *rest):
        assert not any("who" in text for text in asked)
        return wrote(model, shown, template, asked, *rest)

    monkeypatch.setattr(chat, "respond", broken)
    monkeypatch.setattr(errors.sentence, "__kwdefaults__", {"folder": tmp_path / "errors"})
    chat.answer_all(chat_model, tmp_path / "ask.jsonl", tmp_path / "out.jsonl", "", greedy(3))
    told = read_jsonl(tmp_path / "out.jsonl")
    assert ["error" in line for line in told] == [False, True, False]
