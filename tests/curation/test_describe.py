"""Descriptions for curation: continuing short ones, and resuming runs that stopped anywhere."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mglib.curation import describe as module
from mglib.curation.describe import CONTINUE, QUESTION, describe
from mglib.model.decoding import Decoding, row_seed
from mglib.model.dialogue import Turns
from mglib.model.prompts import Template, tokenize, with_image

TURNS = Turns(first=Template(name="lines", bos=True, turn="q {} a ", end="zz"), following="zz\nq {} a ")
IDS = [f"{number:09d}" for number in range(7)]


@pytest.fixture
def queries(random):
    return list(torch.randn(7, 3, 32, generator=random))


@pytest.fixture
def run(model, queries, tmp_path):
    """Return a function that describes the pictures into a folder of the given name."""
    tiny = model()

    def start(name, *, rows=7, tokens=12, seed=0, batch_size=3, depends=("weights",)):
        return describe(
            tiny,
            queries[:rows],
            IDS[:rows],
            TURNS,
            Decoding(max_new_tokens=tokens, seed=seed),
            short=80,
            folder=tmp_path / name,
            depends=depends,
            batch_size=batch_size,
        )

    return start


def only_file(folder):
    (file,) = folder.glob("*.jsonl")
    return file


def test_one_line_a_picture_with_both_answers_and_their_tokens(run, tmp_path, tokenizer):
    made = run("a")
    lines = [json.loads(line) for line in only_file(tmp_path / "a").read_text().splitlines()]
    assert [line["image_id"] for line in lines] == IDS
    assert all(set(line) == {"image_id", "answers", "tokens", "seed"} for line in lines)
    assert all(len(one.answers) == len(one.tokens) == 2 for one in made)  # 12 tokens are always short
    assert len({one.answers for one in made}) == 7
    assert len({one.seed for one in made}) == 7
    for one in made:
        assert one.tokens == tuple(len(tokenize(tokenizer, text)) for text in one.answers)
        assert one.text == " ".join(answer for answer in one.answers if answer)


def test_only_short_answers_are_continued_in_the_papers_words(run, monkeypatch):
    asked = []

    def reply(model, images, turns, prompts, decoding, seeds):
        asked.append((list(prompts), list(seeds), len(images["queries"])))
        if len(asked) == 1:
            return ["a " * 81, "a " * 80, ""]  # exactly eighty tokens are short
        return ["and on", "and on too"]

    monkeypatch.setattr(module, "reply", reply)
    monkeypatch.setattr(module, "tokenize", lambda _, text: text.split())
    made = run("a", rows=3)
    first = f"q {with_image(QUESTION)} a "
    assert asked[0] == ([first] * 3, [row_seed(0, one) for one in IDS[:3]], 3)
    assert asked[1][0] == [f"{first}{'a ' * 80}zz\nq {CONTINUE} a ", f"{first}zz\nq {CONTINUE} a "]
    assert asked[1][1] == [row_seed(0, one) + 1 for one in IDS[1:3]] and asked[1][2] == 2
    assert [one.continued for one in made] == [False, True, True]
    assert made[1].text == "a " * 80 + " and on" and made[2].text == "and on too"
    assert made[0].tokens == (81,) and made[1].tokens == (80, 2)


@pytest.mark.parametrize(("kept", "torn"), [(0, b'{"image_id": "00000'), (3, b""), (4, b'{"image'), (7, b"")])
def test_a_stopped_run_ends_as_one_that_was_not_stopped(run, tmp_path, capsys, monkeypatch, kept, torn):
    whole = run("whole", tokens=4)
    content = only_file(tmp_path / "whole").read_bytes()
    (tmp_path / "stopped").mkdir()
    lines = content.splitlines(keepends=True)[:kept]
    stopped = tmp_path / "stopped" / only_file(tmp_path / "whole").name
    stopped.write_bytes(b"".join(lines) + torn)
    batches, original = [], module.describe_batch
    monkeypatch.setattr(
        module, "describe_batch", lambda *given: batches.append(given[2][0]) or original(*given)
    )
    assert run("stopped", tokens=4) == whole
    # Cut at the same places, so that rounding is the same too.
    assert batches == [one for one in IDS[::3] if one >= IDS[min(kept // 3 * 3, 6)] and kept < 7]
    assert stopped.read_bytes() == content
    assert ("torn" in capsys.readouterr().out) == bool(torn)


def test_other_settings_go_to_another_file(run, tmp_path):
    run("a", tokens=2)
    run("a", tokens=3)
    run("a", tokens=2, seed=1)
    run("a", tokens=2, batch_size=2)
    run("a", tokens=2, depends=("other weights",))
    assert len(list((tmp_path / "a").glob("described-*"))) == 5


def test_a_picture_says_the_same_in_any_batch(run):
    assert run("a", batch_size=3) == run("b", batch_size=7) != run("c", seed=1)


def test_damage_is_told(run, tmp_path):
    run("a", tokens=2)
    file = only_file(tmp_path / "a")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "{}", *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match="line 2"):
        run("a", tokens=2)
    file.write_text("\n".join([lines[1], *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match="lists other pictures"):
        run("a", tokens=2)


@pytest.mark.parametrize(
    ("ids", "decoding", "message"),
    [
        (["a"] * 7, Decoding(), "7 pictures have 1 different ids"),
        (IDS, Decoding(beams=2), "leave `beams` at 1"),
    ],
)
def test_what_cannot_be_described_is_refused(model, queries, tmp_path, ids, decoding, message):
    settings = {"short": 80, "folder": tmp_path, "depends": (), "batch_size": 2}
    with pytest.raises(ValueError, match=message):
        describe(model(), queries, ids, TURNS, decoding, **settings)


def test_two_at_once_describe_every_picture_once(run, tmp_path, capsys):
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: run("a"), range(2))
    assert one == other == run("b")
    assert only_file(tmp_path / "a").read_bytes() == only_file(tmp_path / "b").read_bytes()
