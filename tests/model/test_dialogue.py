"""Turns written one after the other, and the next answer in each of several conversations."""

import pytest
import torch

from mglib.model.decoding import Decoding, answer, greedy
from mglib.model.dialogue import ANSWER, VICUNA_CHAT, Turns, reply, turns
from mglib.model.prompts import CAPTION, IMAGE, LLAMA2, VICUNA, chat

NUMBERS = ("one", "two", "three", "four")
LINES = Turns(first=CAPTION, following="\n{}")


def pictures(count, seed=0):
    return {"queries": torch.randn(count, 3, 32, generator=torch.Generator().manual_seed(seed))}


def asked(index):
    return f"{IMAGE} what is in picture {NUMBERS[index]}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (VICUNA, "###Human: Who? ###Assistant: A dog.###Human: Where? ###Assistant: "),
        (LLAMA2, "[INST] Who? [/INST] A dog.</s><s>[INST] Where? [/INST] "),
    ],
)
def test_the_next_turn_begins_with_what_ends_the_answer(tokenizer, template, text):
    made = turns(template, tokenizer)
    assert made.first.prompt("Who?") + "A dog." + made.following.replace("{}", "Where?") == text


def test_the_official_chat_has_a_system_text_and_no_space():
    text = VICUNA_CHAT.first.prompt("Who?") + "A dog." + VICUNA_CHAT.following.replace("{}", "Where?")
    assert text.startswith("Give the following image: <Img>ImageContent</Img>. You will")
    assert text.endswith("questions.###Human: Who?###Assistant: A dog.###Human: Where?###Assistant: ")


def test_a_chat_template_is_continued_as_it_would_write_itself(smollm2):
    made = turns(chat(smollm2), smollm2)
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "A dog."},
        {"role": "user", "content": "Where?"},
    ]
    whole = smollm2.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert made.first.prompt("Who?") + "A dog." + made.following.replace("{}", "Where?") == whole
    assert ANSWER not in made.following


def test_a_template_without_a_second_turn_is_refused(tokenizer):
    with pytest.raises(ValueError, match="'caption' has no second turn"):
        turns(CAPTION, tokenizer)


def test_a_first_reply_is_an_answer(model):
    tiny = model()
    texts = reply(tiny, pictures(4), LINES, [asked(i) for i in range(4)], greedy(12), [0] * 4)
    assert texts == answer(tiny, pictures(4), CAPTION, [asked(i) for i in range(4)], greedy(12))
    assert len(set(texts)) == 4


def test_rows_with_the_same_seed_agree_and_others_do_not(model):
    tiny, one = model(), pictures(1)["queries"].expand(3, -1, -1)
    texts = reply(tiny, {"queries": one}, LINES, [asked(0)] * 3, Decoding(max_new_tokens=12), [1, 1, 2])
    assert texts[0] == texts[1] != texts[2]
