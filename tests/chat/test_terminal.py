"""The terminal: one question, a conversation, and the error if the picture or the model is missing."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_chat import picture, say, shown

from mglib.__main__ import main
from mglib.chat import chat_model as chat_models
from mglib.chat.answer import answer
from mglib.chat.terminal import terminal
from mglib.model.decoding import greedy


def test_the_terminal_takes_beams(chat_model, tmp_path, monkeypatch, capsys, run):
    picture().save(tmp_path / "a.png")
    given = ["--image", str(tmp_path / "a.png"), "--question", "what", "--greedy", "--tokens", "8"]
    said = []
    for more in ([], ["--beams", "3"]):
        assert run("chat", *given, *more) == 0
        said.append(capsys.readouterr().out.rsplit("\n(")[0])  # without its pace
    assert said[0] != said[1]
    assert answer(chat_model, [picture()], ["what"], replace(greedy(8), beams=3))[0] in said[1]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert run("chat", *given[:4], "--tokens", "3", "--beams", "2") == 0  # with the official penalty
    assert not [one for one in warned if "repetition_penalty" in str(one.message)]
    capsys.readouterr()
    assert run("chat", *given, "--beams", "0") == 1
    assert "take beams" in capsys.readouterr().err
    assert run("chat", *given[:4], "--tokens", "0") == 2  # not the default of 300


def test_the_terminal_answers_one_question(chat_model, tmp_path, monkeypatch, capsys, run):
    picture().save(tmp_path / "a.png")
    given = ["--image", str(tmp_path / "a.png"), "--question", "what", "--greedy", "--tokens", "8"]
    assert run("chat", *given) == 0
    talk = shown(chat_model)
    said, rest = capsys.readouterr().out.rsplit("\n(", 1)
    assert said == (
        f"Weights: {chat_model.weights()}.\nPicture: {chat_model.sees(picture(), 'a.png')}.\n"
        f"MiniGPT-4: {say(talk, 'what', greedy(8))}"
    )
    assert rest.startswith(f"{talk.history[0].tokens} tokens in ") and rest.endswith(" tokens a second)\n")


def test_the_terminal_talks_until_an_empty_line(chat_model, tmp_path, monkeypatch, capsys):
    picture().save(tmp_path / "a.png")
    shows = [f"/show {tmp_path / name}" for name in ("none.png", "a.png")]
    # The long question is more than the tiny model reads.
    lines = iter(["what", *shows, "/show", "which", "caf\udce9", "word " * 400, "/clear", ""])
    talk = shown(chat_model)
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    terminal(talk, greedy(5))
    out = capsys.readouterr().out
    assert out.count("tokens a second)") == 2 and out.count("Picture: a.png, read as 40 x 30 pixels") == 1
    assert out.count("MiniGPT-4: ") == 4 and "There is no file" in out and "clear it, or ask less" in out
    assert "No picture is named" in out and "half a character" in out
    assert list(lines) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "No picture is named: make chat IMAGE=picture.jpg"),
        (["--image", "none.png"], "There is no file none.png"),
        (["--image", "."], r". is not a picture that can be read"),
    ],
)
def test_a_picture_that_cannot_be_had_is_told_before_the_model_is_loaded(monkeypatch, capsys, given, told):
    monkeypatch.setattr(chat_models, "load", lambda *_: pytest.fail("the model was loaded"))
    assert main(["chat", *given]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_keys_that_end_a_terminal_end_the_conversation(
    chat_model, tmp_path, capsys, monkeypatch, end, run
):
    def pressed(*_):
        raise end

    picture().save(tmp_path / "a.png")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(readline=pressed))
    assert run("chat", "--image", tmp_path / "a.png") == 0
    assert capsys.readouterr().err == ""


def test_a_profile_that_was_not_trained_is_told(tmp_path, monkeypatch, capsys):
    picture().save(tmp_path / "a.png")
    for folder in ("CACHE", "RESULTS"):
        monkeypatch.setattr(chat_models, folder, tmp_path)
    assert main(["chat", "--image", str(tmp_path / "a.png")]) == 1
    told = "There is no trained projection of the profile mini yet: `make reproduce` trains and keeps it.\n"
    assert capsys.readouterr().err == told  # no official one is named: none fits a small profile
