"""Conversations with a random model: cached against uncached, streamed against whole, the terminal."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from mglib.__main__ import main
from mglib.chat import speaker as speakers
from mglib.chat import terminal as chat
from mglib.chat.speaker import Speaker
from mglib.chat.terminal import Conversation, Exchange, answer, before_end, certain, terminal
from mglib.model.decoding import Decoding, greedy, until_end
from mglib.model.dialogue import VICUNA_CHAT, Turns
from mglib.model.prompts import CAPTION, Template, prompt_tokens, tokenize
from mglib.paths import read_jsonl

END = "zz"  # rare, and never one token of the tiny tokenizer
LINES = Turns(first=Template(name="lines", bos=True, turn="q {} a ", end=END), following=f"{END}\nq {{}} a ")


def picture(color="red", size=(40, 30)):
    image = Image.new("RGB", size, color)
    image.paste("blue", (0, 0, size[0] // 2, size[1] // 2))
    return image


@pytest.fixture(scope="module")
def speaker(model, vision_config):
    """Return a tiny model whose answers depend on the pictures."""
    tiny = model()
    with torch.no_grad():
        tiny.projection.weight.mul_(20)
    return Speaker(model=tiny, turns=LINES, vision=vision_config)


def run(monkeypatch, speaker, *words):
    """Run a command with a model that is there already; returns the exit status."""
    monkeypatch.setattr(speakers, "load", lambda settings, projection: speaker)
    return main(list(map(str, words)))


def say(talk, question, decoding=None):
    return "".join(talk.ask(question, decoding))


@torch.inference_mode()
def uncached(language, context, count):
    """Decode greedily from embeddings (1, T, D), reading everything again for each token."""
    ids = []
    for _ in range(count):
        ids.append(language.model(inputs_embeds=context, use_cache=False).logits[0, -1].argmax().item())
        context = torch.cat([context, language.embed(torch.tensor([[ids[-1]]]))], dim=1)
    return ids


def test_keys_and_values_that_are_kept_change_nothing(speaker):
    talk, language = Conversation(speaker), speaker.model.language
    talk.show(picture())
    for question, count in (("what", 9), ("where", 7), ("and now", 8)):
        if question == "and now":
            talk.show(picture("green"))
        whole = torch.cat([talk.context, talk.segment(question)], dim=1)
        ids = uncached(language, whole, count)
        expected = until_end(language.tokenizer.decode(ids), *LINES.ends(language.tokenizer))
        read = talk.cache.get_seq_length()
        assert (read > 0) == bool(talk.history)
        text = say(talk, question, greedy(count))
        assert text == expected and text
        assert talk.context.shape[1] - talk.cache.get_seq_length() <= 1 + len(END)


def test_beams_answer_as_one_piece_and_the_conversation_goes_on(speaker):
    talk, alone, beams = Conversation(speaker), Conversation(speaker), replace(greedy(8), beams=3)
    for one in (talk, alone):
        one.show(picture())
    pieces = list(talk.ask("what", beams))
    assert pieces == answer(speaker, [picture()], ["what"], beams) and pieces[0]
    assert pieces[0] != say(alone, "what", greedy(8))
    assert talk.cache.get_seq_length() == 0  # the search had its own
    whole = torch.cat([talk.context, talk.segment("where")], dim=1)
    ids = uncached(speaker.model.language, whole, 6)
    expected = until_end(speaker.model.language.tokenizer.decode(ids), END)
    assert say(talk, "where", greedy(6)) == expected


def test_the_terminal_takes_beams(speaker, tmp_path, monkeypatch, capsys):
    picture().save(tmp_path / "a.png")
    given = ["--image", str(tmp_path / "a.png"), "--question", "what", "--greedy", "--tokens", "8"]
    said = []
    for more in ([], ["--beams", "3"]):
        assert run(monkeypatch, speaker, "chat", *given, *more) == 0
        said.append(capsys.readouterr().out.rsplit("\n(")[0])  # without its pace
    assert said[0] != said[1]
    assert answer(speaker, [picture()], ["what"], replace(greedy(8), beams=3))[0] in said[1]
    assert run(monkeypatch, speaker, "chat", *given, "--beams", "0") == 1
    assert "take beams" in capsys.readouterr().err


def test_only_what_is_new_is_read(speaker):
    talk, lengths = Conversation(speaker), []
    decoder = speaker.model.language.model.get_decoder()
    handle = decoder.register_forward_pre_hook(
        lambda _, __, given: lengths.append(given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    talk.show(picture())
    say(talk, "what", greedy(5))
    first = talk.context.shape[1]
    new = talk.segment("where").shape[1]
    say(talk, "where", greedy(5))
    handle.remove()
    assert lengths[1:5] == [1] * 4 and first > lengths[0]
    assert lengths[5] == new + 1  # the last token of the first answer had not been read


def test_an_answer_is_kept_without_its_end_and_the_next_turn_writes_it(speaker, tokenizer):
    text = "two dogszz"
    ids = tokenize(tokenizer, text)
    talk = Conversation(speaker)
    context = talk.segment("what")
    talk.keep("what", context, ids, 0.5)
    count, tail = before_end(tokenizer, ids, [END])
    assert tokenizer.decode(ids[:count]) + tail == "two dogs"
    assert talk.context.shape[1] == context.shape[1] + count + len(tokenize(tokenizer, tail))
    assert talk.history == [Exchange(0, "what", "two dogs", len(ids), 0.5)]


def test_an_end_symbol_of_several_tokens_leaves_the_cache_again(speaker):
    language = speaker.model.language
    decode = language.tokenizer.decode

    def start(turns):
        talk = Conversation(replace(speaker, turns=turns))
        talk.show(picture())
        return talk

    probe = start(LINES)
    ids = uncached(language, torch.cat([probe.context, probe.segment("what")], dim=1), 9)
    end = decode(ids[5:8])
    assert "\ufffd" not in end and decode(ids[:8]).find(end) == len(decode(ids[:5]))
    talk = start(replace(LINES, first=replace(LINES.first, end=end), following=f"{end} q {{}} a "))
    whole = talk.context.shape[1] + talk.segment("what").shape[1]
    assert say(talk, "what", greedy(20)) == decode(ids[:5]).strip()
    assert talk.context.shape[1] == talk.cache.get_seq_length() == whole + 5  # 7 had been read
    again = torch.cat([talk.context, talk.segment("where")], dim=1)
    expected = decode(uncached(language, again, 4)).split(end)[0].strip()
    assert say(talk, "where", greedy(4)) == expected


def test_a_token_that_holds_text_and_end_is_taken_apart():
    class Merged:
        """Three tokens: "a", " dog" and ".###"."""

        def decode(self, ids):
            return "".join(["a", " dog", ".###"][one] for one in ids)

    assert before_end(Merged(), [0, 1, 2], ["###"]) == (2, ".")
    assert before_end(Merged(), [0, 1], ["###"]) == (2, "")
    assert before_end(Merged(), [], ["###"]) == (0, "")


def test_pieces_together_are_the_answer(speaker):
    talk = Conversation(speaker)
    talk.show(picture())
    pieces = list(talk.ask("what", Decoding(max_new_tokens=25)))
    assert len(pieces) > 5
    assert "".join(pieces) == talk.history[0].answer


def test_what_might_still_be_taken_back_is_held():
    assert certain("a dog", ["###"]) == "a dog"
    assert certain(" a dog ##", ["###"]) == "a dog"
    assert certain("a dog ## and", ["###"]) == "a dog ## and"
    assert certain("a dog.###Human: x", ["###", "</s>"]) == "a dog."
    assert certain("a dog</", ["###", "</s>"]) == "a dog"
    assert certain("caf\ufffd", ["###"]) == "caf"
    assert certain("Assist", ["###"]) == "" and certain("Assistant: A dog", ["###"]) == "A dog"


def test_the_official_settings_are_the_defaults(speaker):
    first, second = Conversation(speaker), Conversation(speaker)
    for talk in (first, second):
        talk.show(picture())
    official = Decoding(
        sample=True, top_p=0.9, temperature=1.0, repetition_penalty=1.05, max_new_tokens=300, seed=0
    )
    room = second.room(second.segment("what"))
    assert room < 300  # the tiny model reads 256 tokens: the answer fills what is left
    assert say(first, "what") == say(second, "what", official)
    assert first.context.shape[1] <= 256


def test_several_pictures_stand_in_their_order(speaker):
    def said(*colors):
        talk = Conversation(speaker)
        for color in colors:
            talk.show(picture(color))
        return say(talk, "which", greedy(20)), talk

    both, talk = said("red", "green")
    assert talk.history[0].pictures == 2 and not talk.pending
    assert both != said("green", "red")[0]


def test_a_conversation_can_be_cleared(speaker):
    talk = Conversation(speaker)
    talk.show(picture())
    before = say(talk, "what", greedy(10))
    talk.show(picture("green"))
    talk.clear()
    assert not talk.history and not talk.pending
    talk.show(picture())
    assert say(talk, "what", greedy(10)) == before


def test_an_answer_closed_early_stays_as_far_as_it_came(speaker):
    talk, language = Conversation(speaker), speaker.model.language
    talk.show(picture())
    pieces = talk.ask("what", greedy(20))
    begun = next(pieces) + next(pieces)
    pieces.close()
    assert talk.history[0].answer.startswith(begun) and len(talk.history[0].answer) <= len(begun) + 1
    expected = uncached(language, torch.cat([talk.context, talk.segment("where")], dim=1), 6)
    assert say(talk, "where", greedy(6)) == until_end(
        language.tokenizer.decode(expected), *LINES.ends(language.tokenizer)
    )


def test_a_failure_in_the_middle_leaves_the_conversation_as_it_was(speaker, monkeypatch):
    talk = Conversation(speaker)
    talk.show(picture())
    say(talk, "what", greedy(6))
    good = Conversation(speaker)
    good.show(picture())
    say(good, "what", greedy(6))

    def broken(self, hidden):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(speaker.model.language), "logits", broken)
        with pytest.raises(KeyboardInterrupt):
            say(talk, "where", greedy(6))
    assert len(talk.history) == 1
    assert say(talk, "where", greedy(6)) == say(good, "where", greedy(6))


def test_a_second_question_waits_for_the_first_answer(speaker):
    talk = Conversation(speaker)
    talk.show(picture())
    pieces = talk.ask("what", greedy(20))
    next(pieces)
    with pytest.raises(RuntimeError, match="still being read"):
        say(talk, "where")
    pieces.close()
    say(talk, "where", greedy(3))


def test_a_full_conversation_and_a_picture_inside_a_question_are_refused(speaker):
    talk = Conversation(speaker)
    with pytest.raises(ValueError, match="clear it"):
        say(talk, "word " * 400)
    with pytest.raises(ValueError, match="out of the question"):
        say(talk, "what is <ImageHere>")
    assert talk.history == []


def test_the_transcript_tells_the_turns(speaker):
    talk = Conversation(speaker)
    talk.history = [Exchange(1, "What?", "A dog.", 4, 1.0), Exchange(0, "Where?", "Here.", 3, 1.0)]
    assert talk.transcript() == "You: [picture] What?\nMiniGPT-4: A dog.\nYou: Where?\nMiniGPT-4: Here."


def test_batch_answers_are_those_of_conversations_and_do_not_depend_on_their_neighbours(speaker):
    images, questions = [picture("red"), picture("green"), picture("white")], ["what", "where is it", "who"]
    decoding = Decoding(max_new_tokens=10, seed=4)
    texts = answer(speaker, images, questions, decoding, batch_size=2)
    for image, question, text in zip(images, questions, texts, strict=True):
        talk = Conversation(speaker)
        talk.show(image)
        assert say(talk, question, decoding) == text
    assert answer(speaker, images[1:], questions[1:], decoding) == texts[1:]


def test_what_is_no_picture_is_told(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.jpg is not a picture"):
        chat.picture(tmp_path / "a.jpg")
    (picture().convert("L")).save(tmp_path / "b.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cut\.jpg is not a picture"):
        chat.picture(tmp_path / "cut.jpg")


def test_the_terminal_answers_one_question(speaker, tmp_path, monkeypatch, capsys):
    picture().save(tmp_path / "a.png")
    given = ["--image", str(tmp_path / "a.png"), "--question", "what", "--greedy", "--tokens", "8"]
    assert run(monkeypatch, speaker, "chat", *given) == 0
    talk = Conversation(speaker)
    talk.show(picture())
    said, rest = capsys.readouterr().out.rsplit("\n(", 1)
    assert said == (
        f"Weights: {speaker.weights()}.\nPicture: {speaker.sees(picture(), 'a.png')}.\n"
        f"MiniGPT-4: {say(talk, 'what', greedy(8))}"
    )
    assert rest.startswith(f"{talk.history[0].tokens} tokens in ") and rest.endswith(" tokens a second)\n")


def test_the_pace_counts_tokens_and_the_seconds_from_the_question_to_the_last(speaker, monkeypatch):
    monkeypatch.setattr(chat, "perf_counter", iter([10.0, 14.0, 20.0, 20.5]).__next__)
    talk = Conversation(speaker)
    talk.show(picture())
    say(talk, "what", greedy(8))
    pieces = talk.ask("where", greedy(20))
    next(pieces)
    pieces.close()
    first, second = talk.history
    assert (first.tokens, first.pace()) == (8, "8 tokens in 4.0 s: 2.0 tokens a second")
    assert 0 < second.tokens < 20 and second.seconds == 0.5


def test_the_terminal_talks_until_an_empty_line(speaker, tmp_path, capsys):
    picture().save(tmp_path / "a.png")
    lines = iter(
        [
            "what",
            f"/show {tmp_path / 'none.png'}",
            f"/show {tmp_path / 'a.png'}",
            "which",
            "word " * 400,  # more than the tiny model reads
            "/clear",
            "",
        ]
    )
    talk = Conversation(speaker)
    talk.show(picture())
    terminal(talk, greedy(5), read=lambda _: next(lines))
    out = capsys.readouterr().out
    assert out.count("tokens a second)") == 2 and out.count("Picture: a.png, read as 40 x 30 pixels") == 1
    assert out.count("MiniGPT-4: ") == 3 and "There is no file" in out and "clear it, or ask less" in out
    assert list(lines) == []


def test_a_folder_and_a_file_of_questions_are_answered(speaker, tmp_path, monkeypatch, capsys):
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        picture("red" if name == "b.png" else "green").save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    given = ["--out", out, "--greedy", "--tokens", 5]
    assert run(monkeypatch, speaker, "answer", "--images", folder, *given) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["image"] for line in lines] == [str(folder / "a.jpg"), str(folder / "b.png")]
    assert {line["question"] for line in lines} == {"Describe this image in detail."}
    asked = tmp_path / "ask.jsonl"
    asked.write_text(
        '{"image": "pictures/b.png", "question": "what", "id": 7}\n{"image": "pictures/b.png"}\n'
    )
    assert run(monkeypatch, speaker, "answer", "--questions", asked, *given) == 1
    assert "answers other questions than these" in capsys.readouterr().err
    out = tmp_path / "other.jsonl"
    given[1] = out
    assert run(monkeypatch, speaker, "answer", "--questions", asked, *given) == 0
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert told[0]["id"] == 7 and [line["question"] for line in told] == ["what", lines[0]["question"]]
    assert told[1]["answer"] == lines[1]["answer"]


def test_a_batch_skips_hidden_files_lists_bad_pictures_and_goes_on(speaker, tmp_path, capsys, monkeypatch):
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    for number in range(5):
        picture("red").save(folder / f"{number}.jpg")
    (folder / "._0.jpg").write_bytes(b"a Mac's notes")
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:-200])
    monkeypatch.setattr(chat, "BATCH", 2)
    batches, whole = [], chat.answer_lines

    def stopped(speaker, lines, decoding):
        batches.append([line["image"][-5] for line in lines])
        if len(batches) == 2:
            raise KeyboardInterrupt
        return whole(speaker, lines, decoding)

    monkeypatch.setattr(chat, "answer_lines", stopped)
    given = ["answer", "--images", folder, "--out", out, "--greedy", "--tokens", 4]
    assert run(monkeypatch, speaker, *given) == 130
    assert len(read_jsonl(out)) == 2
    assert run(monkeypatch, speaker, *given) == 0
    assert batches == [["0", "1"], ["2", "3"], ["2", "3"], ["4"]]
    lines = read_jsonl(out)
    assert ["error" if "error" in line else "answer" for line in lines] == ["answer"] * 2 + ["error"] + [
        "answer"
    ] * 2
    assert "2.jpg is not a picture" in lines[2]["error"] and "1 of them errors" in capsys.readouterr().out


def test_a_line_may_ask_about_several_pictures_in_a_folder_of_their_own(speaker, tmp_path):
    (tmp_path / "pictures").mkdir()
    for color in ("red", "green"):
        picture(color).save(tmp_path / "pictures" / f"{color}.png")
    (tmp_path / "ask.jsonl").write_text('{"image": ["red.png", "green.png"], "question": "which"}\n')
    out = tmp_path / "out.jsonl"
    chat.answer_all(speaker, tmp_path / "ask.jsonl", out, "", greedy(6), folder=tmp_path / "pictures")
    talk = Conversation(speaker)
    talk.show(picture("red"))
    talk.show(picture("green"))
    assert read_jsonl(out)[0]["answer"] == say(talk, "which", greedy(6))


@pytest.mark.parametrize(
    "typed",
    ["{}/a b.jpg", "'{}/a b.jpg'", '"{}/a b.jpg"', "{}/a\\ b.jpg ", "file://{}/a%20b.jpg", "~/a b.jpg"],
)
def test_a_path_may_be_typed_quoted_or_dragged(tmp_path, monkeypatch, typed):
    monkeypatch.setenv("HOME", str(tmp_path))
    picture().save(tmp_path / "a b.jpg")
    assert chat.typed_path(typed.format(tmp_path)) == tmp_path / "a b.jpg"


def test_an_address_is_no_path():
    with pytest.raises(ValueError, match="download the picture"):
        chat.typed_path("https://example.org/cat.jpg")


def test_each_picture_of_a_question_has_a_turn_of_its_own_with_vicuna(speaker, tokenizer):
    talk = Conversation(replace(speaker, turns=VICUNA_CHAT))
    talk.show(picture())
    talk.show(picture("green"))
    segment = "###Human: <Img><ImageHere></Img>###Human: <Img><ImageHere></Img> which###Assistant: "
    expected = prompt_tokens(tokenizer, CAPTION, VICUNA_CHAT.first.turn.split("###")[0] + segment, queries=3)
    assert talk.segment("which").shape[1] == len(expected[0])


@pytest.mark.parametrize(
    ("content", "told"), [("", "no lines"), ('{"picture": "a"}\n', 'line 1: there is no "image"')]
)
def test_a_batch_that_asks_nothing_is_told(speaker, tmp_path, monkeypatch, capsys, content, told):
    (tmp_path / "ask.jsonl").write_text(content)
    assert run(monkeypatch, speaker, "answer", "--questions", tmp_path / "ask.jsonl") == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "No picture is named: make chat IMAGE=picture.jpg"),
        (["--image", "none.png"], "There is no file none.png"),
        (["--image", "."], r". is not a picture that can be read"),
    ],
)
def test_a_picture_that_cannot_be_had_is_told_before_the_model_is_loaded(monkeypatch, capsys, given, told):
    monkeypatch.setattr(speakers, "load", lambda *_: pytest.fail("the model was loaded"))
    assert main(["chat", *given]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_keys_that_end_a_terminal_end_the_conversation(speaker, tmp_path, capsys, monkeypatch, end):
    def pressed(*_):
        raise end

    picture().save(tmp_path / "a.png")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(readline=pressed))
    assert run(monkeypatch, speaker, "chat", "--image", tmp_path / "a.png") == 0
    assert capsys.readouterr().err == ""


def test_a_profile_that_was_not_trained_is_told(tmp_path, monkeypatch, capsys):
    picture().save(tmp_path / "a.png")
    monkeypatch.setattr("mglib.chat.speaker.speaker_file", lambda profile: tmp_path / profile)
    assert main(["chat", "--image", str(tmp_path / "a.png")]) == 1
    told = "No trained projection of the profile mini is kept yet: `make reproduce` trains"
    assert told in capsys.readouterr().err


def test_pictures_that_are_not_read_here_are_listed_and_not_passed_over(speaker, tmp_path):
    folder, out = tmp_path / "phone", tmp_path / "out.jsonl"
    folder.mkdir()
    picture().save(folder / "a.jfif", "JPEG")
    (folder / "b.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(40))
    chat.answer_all(speaker, folder, out, "what", greedy(3))
    good, bad = read_jsonl(out)
    assert good["answer"] and "it is HEIC" in bad["error"] and "save it as JPEG" in bad["error"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"image": None}, 'there is no "image"'),
        ({"image": []}, 'there is no "image"'),
        ({"image": ["a.jpg", ""]}, 'there is no "image"'),
        ({"image": True}, 'there is no "image"'),
        ({"image": "a.jpg", "question": None}, 'its "question" is no text'),
        ({"image": "a.jpg", "question": ["what"]}, 'its "question" is no text'),
        ({"image": "a.jpg", "question": "what is <ImageHere>"}, "leave <ImageHere> out"),
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
        chat.picture(chat.Path(found[5]))


def test_one_bad_question_costs_no_other_its_answer(speaker, tmp_path):
    picture().save(tmp_path / "a.png")
    lines = [{"image": "a.png", "question": text} for text in ("what", "word " * 400, "\ud83d", "where")]
    (tmp_path / "ask.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chat.answer_all(speaker, tmp_path / "ask.jsonl", tmp_path / "out.jsonl", "", greedy(3))
    told = read_jsonl(tmp_path / "out.jsonl")
    assert ["answer" in line for line in told] == [True, False, False, True]
    assert "reads 256: ask less" in told[1]["error"] and "half a character" in told[2]["error"]


def test_a_line_that_stands_there_twice_is_answered_twice_after_a_stop(speaker, tmp_path):
    picture().save(tmp_path / "a.png")
    (tmp_path / "ask.jsonl").write_text('{"image": "a.png"}\n' * 3)
    out = tmp_path / "out.jsonl"
    chat.answer_all(speaker, tmp_path / "ask.jsonl", out, "what", greedy(3))
    whole = out.read_text()
    out.write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert chat.answer_all(speaker, tmp_path / "ask.jsonl", out, "what", greedy(3)) == 3
    assert out.read_text() == whole
