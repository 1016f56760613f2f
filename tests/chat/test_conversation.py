"""Conversations with a random model: cached against uncached, streamed against whole."""

from dataclasses import replace

import pytest
import torch
from tiny_chat import END, LINES, picture, say, shown

from mglib.chat import conversation as chat
from mglib.chat.answer import answer
from mglib.chat.conversation import Conversation, Exchange, before_end, certain
from mglib.model.decoding import Decoding, greedy, until_end
from mglib.model.dialogue import VICUNA_CHAT
from mglib.model.prompts import CAPTION, prompt_tokens


@torch.inference_mode()
def uncached(language, context, count):
    """Decode greedily from embeddings (1, T, D), reading everything again for each token."""
    ids = []
    for _ in range(count):
        ids.append(language.model(inputs_embeds=context, use_cache=False).logits[0, -1].argmax().item())
        context = torch.cat([context, language.embed(torch.tensor([[ids[-1]]]))], dim=1)
    return ids


def test_keys_and_values_that_are_kept_change_nothing(chat_model):
    talk, language = shown(chat_model), chat_model.model.language
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


def test_beams_answer_as_one_piece_and_the_conversation_goes_on(chat_model):
    talk, alone, beams = shown(chat_model), shown(chat_model), replace(greedy(8), beams=3)
    pieces = list(talk.ask("what", beams))
    assert pieces == answer(chat_model, [picture()], ["what"], beams) and pieces[0]
    assert pieces[0] != say(alone, "what", greedy(8))
    assert talk.cache.get_seq_length() == 0  # the search had its own
    whole = torch.cat([talk.context, talk.segment("where")], dim=1)
    ids = uncached(chat_model.model.language, whole, 6)
    expected = until_end(chat_model.model.language.tokenizer.decode(ids), END)
    assert say(talk, "where", greedy(6)) == expected


def test_only_what_is_new_is_read(chat_model):
    talk, lengths = Conversation(chat_model), []
    decoder = chat_model.model.language.model.get_decoder()
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


def test_an_end_symbol_of_several_tokens_leaves_the_cache_again(chat_model):
    language = chat_model.model.language
    decode = language.tokenizer.decode

    probe = shown(chat_model)
    ids = uncached(language, torch.cat([probe.context, probe.segment("what")], dim=1), 9)
    end = decode(ids[5:8])
    assert "\ufffd" not in end and decode(ids[:8]).find(end) == len(decode(ids[:5]))
    turns = replace(LINES, first=replace(LINES.first, end=end), following=f"{end} q {{}} a ")
    talk = shown(replace(chat_model, turns=turns))
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


def test_what_might_still_be_taken_back_is_held():
    assert certain("a dog", ["###"]) == "a dog"
    assert certain(" a dog ##", ["###"]) == "a dog"
    assert certain("a dog ## and", ["###"]) == "a dog ## and"
    assert certain("a dog.###Human: x", ["###", "</s>"]) == "a dog."
    assert certain("a dog</", ["###", "</s>"]) == "a dog"
    assert certain("caf\ufffd", ["###"]) == "caf"
    assert certain("Assist", ["###"]) == "" and certain("Assistant: A dog", ["###"]) == "A dog"


def test_the_official_settings_are_the_defaults(chat_model):
    first, second = shown(chat_model), shown(chat_model)
    numbers = {"top_p": 0.9, "temperature": 1.0, "repetition_penalty": 1.05, "max_new_tokens": 300}
    official = Decoding(sample=True, seed=0, **numbers)
    room = second.room(second.segment("what"))
    assert room < 300  # the tiny model reads 256 tokens: the answer fills what is left
    assert say(first, "what") == say(second, "what", official)
    assert first.context.shape[1] <= 256


def test_several_pictures_stand_in_their_order(chat_model):
    def said(*colors):
        talk = shown(chat_model, *map(picture, colors))
        return say(talk, "which", greedy(20)), talk

    both, talk = said("red", "green")
    assert talk.history[0].pictures == 2 and not talk.pending
    assert both != said("green", "red")[0]


def test_a_conversation_can_be_cleared(chat_model):
    talk = shown(chat_model)
    before = say(talk, "what", greedy(10))
    talk.show(picture("green"))
    talk.clear()
    assert not talk.history and not talk.pending
    talk.show(picture())
    assert say(talk, "what", greedy(10)) == before


def test_an_answer_closed_early_stays_as_far_as_it_came(chat_model):
    talk, language = shown(chat_model), chat_model.model.language
    pieces = talk.ask("what", greedy(20))
    begun = next(pieces) + next(pieces)
    pieces.close()
    assert talk.history[0].answer.startswith(begun) and len(talk.history[0].answer) <= len(begun) + 1
    ids = uncached(language, torch.cat([talk.context, talk.segment("where")], dim=1), 6)
    assert say(talk, "where", greedy(6)) == until_end(language.tokenizer.decode(ids), END)


def test_a_failure_in_the_middle_leaves_the_conversation_as_it_was(chat_model, monkeypatch):
    talk = shown(chat_model)
    say(talk, "what", greedy(6))
    good = shown(chat_model)
    say(good, "what", greedy(6))

    def broken(self, hidden):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(chat_model.model.language), "logits", broken)
        with pytest.raises(KeyboardInterrupt):
            say(talk, "where", greedy(6))
    assert len(talk.history) == 1
    assert say(talk, "where", greedy(6)) == say(good, "where", greedy(6))


def test_a_second_question_waits_for_the_first_answer(chat_model):
    talk = shown(chat_model)
    pieces = talk.ask("what", greedy(20))
    next(pieces)
    with pytest.raises(RuntimeError, match="still being read"):
        say(talk, "where")
    pieces.close()
    say(talk, "where", greedy(3))


def test_a_full_conversation_is_refused_and_the_place_of_a_picture_taken_out(chat_model):
    talk = Conversation(chat_model)
    with pytest.raises(ValueError, match="clear it"):
        say(talk, "word " * 400)
    assert talk.history == []
    talk.show(picture())
    assert talk.segment("<Img><ImageHere></Img> what").equal(talk.segment("what"))


def test_the_transcript_tells_the_turns(chat_model):
    talk = Conversation(chat_model)
    talk.history = [Exchange(1, "What?", "A dog.", 4, 1.0), Exchange(0, "Where?", "Here.", 3, 1.0)]
    assert talk.transcript() == "You: [picture] What?\nMiniGPT-4: A dog.\nYou: Where?\nMiniGPT-4: Here."


def test_the_pace_counts_tokens_and_the_seconds_from_the_question_to_the_last(chat_model, monkeypatch):
    monkeypatch.setattr(chat, "perf_counter", iter([10.0, 14.0, 20.0, 20.5]).__next__)
    talk = shown(chat_model)
    say(talk, "what", greedy(8))
    pieces = talk.ask("where", greedy(20))
    next(pieces)
    pieces.close()
    first, second = talk.history
    assert (first.tokens, first.pace()) == (8, "8 tokens in 4.0 s: 2.0 tokens a second")
    assert 0 < second.tokens < 20 and second.seconds == 0.5


def test_each_picture_of_a_question_has_a_turn_of_its_own_with_vicuna(chat_model, tokenizer):
    talk = shown(replace(chat_model, turns=VICUNA_CHAT), picture(), picture("green"))
    segment = "###Human: <Img><ImageHere></Img>###Human: <Img><ImageHere></Img> which###Assistant: "
    expected = prompt_tokens(tokenizer, CAPTION, VICUNA_CHAT.first.turn.split("###")[0] + segment, queries=3)
    assert talk.segment("which").shape[1] == len(expected[0])
