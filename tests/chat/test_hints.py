"""Following the advice in an error message works."""

import gzip
import json
import re
import shlex
import shutil
import subprocess

import pytest
from data_files import jpeg, write_coco

from mglib.__main__ import main
from mglib.chat.answer import QUESTION
from mglib.data.check import FORMATS
from mglib.evals.score import TASKS

ANSWER = {"image": "3.jpg", "answer": "Two dogs."}
ASKED = [{"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {n}?", "label": "no"} for n in (1, 2)]
GREEDY = ["--greedy", "--tokens", "3"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the working folder, which holds a file of each name that the advice uses."""
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "coco")
    for name in ("picture.jpg", "folder/a.jpg", "images/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg("red"))
    (tmp_path / "folder" / "a.txt").write_text("a red wall")
    write(tmp_path / "file.jsonl", [{"image": "picture.jpg", "question": "what"}])
    write(tmp_path / "answers.jsonl", [ANSWER])
    return tmp_path


def write(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def made(command):
    """Return the command-line arguments for `make command NAME=value ...`."""
    _, target, *pairs = shlex.split(command)
    return [
        target,
        *(word for pair in pairs for word in ("--" + pair.split("=")[0].lower(), pair.split("=")[1])),
    ]


def answered(out, question=QUESTION):
    """Write the answers of an older version to `out`."""
    write(out, [{"image": "folder/a.jpg", "question": question, "answer": "a wall"}])


def no_pictures(here):
    (here / "folder" / "a.jpg").unlink()
    yield ["answer", "--images", "folder", "--out", "new.jsonl", *GREEDY], r"holds no pictures \(\.jpg, "
    (here / "folder" / "b.jpg").write_bytes(jpeg("red"))
    yield None


def other_means(here):
    answered(here / "old.jsonl")
    words = ["answer", "--images", "folder", "--out", "old.jsonl", *GREEDY]
    yield words, r"move it away, or name another OUT\."
    yield [*words, "--out", "new.jsonl"]
    shutil.move(here / "old.jsonl", here / "away.jsonl")
    yield None


def no_format(here):
    yield ["export", "--to", "gguf-mmproj"], "take TO=transformers or TO=mglib"
    yield ["export", "--to", "mglib", "--out", "out"]


def an_unknown_format(here):
    yield ["export", "--to", "onnx"], "TO is one of mglib, pth, transformers"
    yield ["export", "--to", "pth", "--out", "out"]


def an_export_on_another(here):
    assert main(["export", "--to", "pth", "--out", "out"]) == 0
    yield ["export", "--to", "pth", "--out", "out"], "choose another OUT, or move it away"
    yield ["export", "--to", "pth", "--out", "other"]
    shutil.move(here / "out", here / "away")
    yield None


def a_packed_file(here):
    file = write(here / "own.jsonl", [{**ANSWER, "image": "picture.jpg"}])
    (here / "own.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    yield ["check", "own", "own.jsonl.gz"], r"unpack it first \(`gunzip`\)"
    subprocess.run(["gunzip", "own.jsonl.gz"], check=True)
    yield ["check", "own", "own.jsonl"]


def utf_16(here):
    file = write(here / "own.jsonl", [{**ANSWER, "image": "picture.jpg"}])
    file.write_text(file.read_text(), encoding="utf-16")
    yield ["check", "own", "own.jsonl"], r"save it as UTF-8 \(`iconv -f utf-16 -t utf-8`\)"
    done = subprocess.run(["iconv", "-f", "utf-16", "-t", "utf-8", file], capture_output=True, check=True)
    file.write_bytes(done.stdout)
    yield None


def lines_in_a_folder(here):
    write(here / "lines" / "own.jsonl", [{**ANSWER, "image": "../picture.jpg"}])
    yield ["check", "own", "lines"], r"Is it lines/own\.jsonl that is meant\?"
    yield ["check", "own", "lines/own.jsonl"]


def no_such_check(here):
    yield ["check", "imagenet", "folder"], f"the known ones are {', '.join(FORMATS)}"
    yield ["check", "own", "folder"]


def no_such_task(here):
    yield ["score", "bleu", "answers.jsonl", "--data", "coco"], f"choose one of {', '.join(TASKS)}"
    yield ["score", "chair", "answers.jsonl", "--data", "coco"]


def no_truth(here):
    yield ["score", "chair", "answers.jsonl", "--data", "none"], "name with --data where the truth is"
    yield ["score", "chair", "answers.jsonl", "--data", "coco"]


def no_answers(here):
    yield ["score", "chair", "none.jsonl", "--data", "coco"], "name the file of the answers"
    yield ["score", "chair", "answers.jsonl", "--data", "coco"]


def a_file_for_a_folder(here):
    words = ["score", "chair", "answers.jsonl", "--data"]
    yield [*words, "coco/captions.json"], "name the folder that holds captions and instances"
    yield [*words, "coco"]


def numbers_that_begin_again(here):
    write(here / "coco_pope_random.json", ASKED)
    both = [{"question_id": 1, "answer": text} for text in ("Yes", "No")]
    write(here / "answers.jsonl", both)
    words = ["score", "pope", "answers.jsonl", "--data", "coco_pope_random.json"]
    yield words, "add `image` and `question` to its lines, or make a file of each"
    write(here / "answers.jsonl", both[:1])
    yield None
    more = [{"image": one["image"], "question": one["text"]} for one in ASKED]
    write(here / "answers.jsonl", [{**one, **about} for one, about in zip(both, more, strict=True)])
    yield None


def another_order(here):
    write(here / "coco_pope_random.json", ASKED)
    lines = [{"question": one["text"], "answer": "No"} for one in ASKED]
    write(here / "answers.jsonl", lines[::-1])
    words = ["score", "pope", "answers.jsonl", "--data", "coco_pope_random.json"]
    yield words, r"Put the answers into the order of coco_pope_random\.json"
    write(here / "answers.jsonl", lines)
    yield None


def an_address(here):
    yield ["chat", "--image", "https://example.org/picture.jpg"], "give the path of its file"
    yield ["chat", "--image", "picture.jpg", "--question", "what", *GREEDY]


def no_pictures_named(here):
    usage = "make answer IMAGES=folder, or QUESTIONS=file.jsonl"
    yield ["answer"], usage
    for number, pair in enumerate(("IMAGES=folder", "QUESTIONS=file.jsonl")):
        yield [*made(f"make answer {pair} OUT={number}.jsonl"), *GREEDY]


def no_picture_named(here):
    usage = 'make chat IMAGE=picture.jpg QUESTION="What is this?"'
    yield ["chat"], f"No picture is named: {usage}".replace("?", r"\?")
    yield [*made(usage), *GREEDY]


def no_bits(here):
    yield ["plan", "--bits", "5"], "BITS=8 or BITS=4"
    yield ["plan", "--bits", "4"], "is not there"  # the plan is made, and names what has to be fetched


def no_full_size(here):
    yield ["plan", "--profile", "mini"], "take one of vicuna-7b, vicuna-13b, llama2-7b"
    yield ["plan", "--profile", "llama2-7b"], "is not there"


CASES = [
    no_pictures, other_means, no_format, an_unknown_format, an_export_on_another, a_packed_file, utf_16,
    lines_in_a_folder, no_such_check, no_such_task, no_truth, no_answers, a_file_for_a_folder,
    numbers_that_begin_again, another_order, an_address, no_pictures_named, no_picture_named, no_bits,
    no_full_size,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_advice_leads_somewhere(case, here, run, capsys):
    """A case yields a command with its expected message, then commands that work; None repeats the first."""
    first = None
    for step in case(here):
        words, told = step if isinstance(step, tuple) else (step, "")
        first = first or words
        status = run(*(words or first))
        said = capsys.readouterr()
        assert status == (1 if told else 0), said
        assert not told or re.search(told, said.err + said.out)
