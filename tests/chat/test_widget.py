"""The chat panel, driven as a browser would drive it: values set, buttons clicked, messages sent."""

import html
import io
import shlex
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_chat import shown

from mglib import errors
from mglib.chat.widget import NONE, ChatPanel, turn
from mglib.model.decoding import Decoding, greedy
from mglib.paths import ROOT


@pytest.fixture
def panel(chat_model, tmp_path):
    """Return a panel that offers one picture and answers greedily, in at most 8 tokens."""
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    panel = ChatPanel(chat_model, {"red": tmp_path / "red.png"})
    panel.settings["sample"].value = False
    panel.settings["max_new_tokens"].value = 8
    return panel


def png(mode="RGB", size=(30, 20), color="red"):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def upload(panel, content, name="mine.png"):
    """Send what the browser sends."""
    file = {"name": name, "type": "image/png", "size": len(content), "last_modified": 0}
    panel.upload.set_state({"value": [{**file, "content": memoryview(content)}]})


def test_a_picked_picture_goes_to_the_next_question(panel):
    panel.pick.value = "red"
    assert len(panel.talk.pending) == len(panel.shown.children) == 1
    assert panel.pick.value == NONE
    panel.pick.value = "red"
    assert len(panel.talk.pending) == 2 and panel.status.value == "Pictures for the next question: 2"


def test_an_uploaded_picture_and_a_picked_one_are_the_same(panel, chat_model):
    upload(panel, png())
    panel.question.value = "what"
    panel.send.click()
    talk = shown(chat_model, Image.new("RGB", (30, 20), "red"))
    assert panel.talk.history[0].answer == "".join(talk.ask("what", greedy(8)))
    assert panel.upload.value == ()


def test_a_large_transparent_picture_works_and_its_copy_is_small(panel):
    upload(panel, png("RGBA", (2000, 1000), (0, 0, 0, 0)))
    image, caption = panel.shown.children[0].children
    shown = Image.open(io.BytesIO(image.value))
    assert shown.size == (320, 160) and min(shown.getpixel((9, 9))) > 250
    assert "mine.png, read as 2000 x 1000 pixels" in caption.value
    assert "to a square of 64 x 64" in caption.value


def test_what_is_no_picture_is_told(panel):
    upload(panel, b"no picture", "notes.txt")
    assert "notes.txt is not a picture" in panel.status.value
    assert not panel.talk.pending and not panel.shown.children


def test_of_several_uploaded_files_each_that_is_no_picture_is_told(panel):
    file = {"type": "image/png", "size": 9, "last_modified": 0}
    files = {"a.png": png(), "b.txt": b"no picture", "c.heic": b"nor this", "d.png": png()}
    sent = [{**file, "name": name, "content": memoryview(content)} for name, content in files.items()]
    panel.upload.set_state({"value": sent})
    assert len(panel.talk.pending) == len(panel.shown.children) == 2
    assert "b.txt is not a picture" in panel.status.value and "c.heic is not" in panel.status.value


def test_the_answer_is_written_while_it_comes(panel):
    panel.pick.value = "red"
    states = []
    panel.log.observe(lambda change: states.append(change["new"]), "value")
    panel.question.value = "what"
    panel.question._handle_custom_msg({"event": "submit"}, [])  # what the browser sends for the enter key
    one = panel.talk.history[0]
    assert len(states) > 2 and states[-1] == turn(1, "what", one.answer, one.pace()) == panel.log.value
    assert states[-2] == turn(1, "what", one.answer)  # the pace is added to the whole answer
    assert [len(state) for state in states] == sorted(len(state) for state in states)
    assert panel.question.value == "" and not panel.send.disabled and panel.status.value == ""


def test_what_is_no_question_is_not_asked(panel):
    panel.question.value = "  "
    panel.send.click()
    assert panel.talk.history == [] and not panel.send.disabled


def test_a_second_question_continues_and_the_transcript_is_there_to_copy(panel):
    panel.pick.value = "red"
    for question in ('say "hello"', "and?"):
        panel.question.value = question
        panel.send.click()
    assert [one.question for one in panel.talk.history] == ['say "hello"', "and?"]
    assert panel.log.value.count("<b>You:</b>") == 2
    assert html.escape(panel.talk.transcript()) in panel.copy.value
    assert 'say "hello"' not in panel.copy.value  # its quotes would end the attribute


def test_text_is_never_markup():
    assert "<script>" not in turn(0, "<script>x</script>", "<b>a</b>\nb")
    assert "&lt;b&gt;a&lt;/b&gt;<br>b" in turn(0, "", "<b>a</b>\nb")


def test_clearing_forgets_everything(panel):
    panel.pick.value = "red"
    panel.question.value = "what"
    panel.send.click()
    panel.clear.click()
    assert panel.talk.history == [] and panel.shown.children == () and panel.log.value == ""
    assert panel.status.value == ""


def test_the_settings_begin_at_the_models_own_and_are_obeyed(chat_model):
    own = Decoding(sample=False, repetition_penalty=1.1)
    assert ChatPanel(replace(chat_model, decoding=own)).decoding() == own
    panel = ChatPanel(chat_model)
    assert panel.decoding() == Decoding()
    for name, value in (changed := {"temperature": 0.5, "seed": 7, "sample": False}).items():
        panel.settings[name].value = value
    assert panel.decoding() == Decoding(**changed)


def test_a_question_on_offer_is_asked_by_its_button(chat_model):
    panel = ChatPanel(chat_model, questions=("what is this", "and this"))
    panel.settings["max_new_tokens"].value = 4
    panel.offered[1].click()
    assert [turn.question for turn in panel.talk.history] == ["and this"]


def test_the_panel_says_which_weights_speak(chat_model):
    named = replace(chat_model, trained="a<b.safetensors", language="Tiny", origin={"profile": "p"})
    shown = ChatPanel(named).weights.value
    assert "profile p, a&lt;b.safetensors with Tiny, on cpu in float32" in shown


def test_make_lab_lets_a_photograph_of_many_megabytes_through():
    from jupyter_server.serverapp import ServerApp  # here, since it takes seconds

    (line,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if "-m jupyterlab" in line)
    server = ServerApp()
    server.parse_command_line([word for word in shlex.split(line) if word.startswith("--ServerApp")])
    assert server.tornado_settings["websocket_max_message_size"] >= 100 * 2**20


def test_whatever_goes_wrong_is_said_and_the_question_stays(panel, monkeypatch, tmp_path):
    def full(*_):
        raise torch.OutOfMemoryError("no memory is left")
        yield

    monkeypatch.setattr(panel.talk, "ask", full)
    monkeypatch.setattr(errors.sentence, "__kwdefaults__", {"folder": tmp_path})
    monkeypatch.setattr(errors, "PACKAGE", "elsewhere")
    panel.question.value = "what is this"
    panel.send.click()
    assert "OutOfMemoryError: no memory is left" in panel.status.value
    assert panel.question.value == "what is this" and not panel.send.disabled
    assert "Traceback" in (tmp_path / "chat.txt").read_text()
    monkeypatch.setattr(panel.talk, "show", lambda _: next(full()))
    panel.pick.value = "red"
    assert "OutOfMemoryError: no memory is left" in panel.status.value and not panel.shown.children
