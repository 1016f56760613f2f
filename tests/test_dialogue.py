"""Turns written one after the other, and decoding in which every row is alone."""

from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache

from mglib.dialogue import ANSWER, VICUNA_CHAT, Turns, choose, draw, has_ended, reply, steps, turns
from mglib.generate import Decoding, answer, greedy
from mglib.prompts import CAPTION, IMAGE, VICUNA, chat

NUMBERS = ("one", "two", "three", "four")
LINES = Turns(first=CAPTION, following="\n{}")


def pictures(count, seed=0):
    return {"queries": torch.randn(count, 3, 32, generator=torch.Generator().manual_seed(seed))}


def asked(index):
    return f"{IMAGE} what is in picture {NUMBERS[index]}"


def test_vicunas_next_turn_begins_with_the_sign_that_ends_the_answer(tokenizer):
    made = turns(VICUNA, tokenizer)
    text = made.first.prompt("Who?") + "A dog." + made.following.replace("{}", "Continue")
    assert text == "###Human: Who? ###Assistant: A dog.###Human: Continue ###Assistant: "


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


def test_greedy_replies_are_those_of_generate(model):
    tiny = model()
    texts = reply(tiny, pictures(4), LINES, [asked(i) for i in range(4)], greedy(12), [0] * 4)
    assert texts == answer(tiny, pictures(4), CAPTION, [asked(i) for i in range(4)], greedy(12))
    assert len(set(texts)) == 4


def test_a_row_draws_the_same_text_alone_and_among_others(model):
    tiny, everything = model(), pictures(4)["queries"]
    decoding, seeds = Decoding(max_new_tokens=12), [5, 6, 7, 8]
    together = reply(tiny, {"queries": everything}, LINES, [asked(i) for i in range(4)], decoding, seeds)
    alone = [
        reply(tiny, {"queries": everything[i : i + 1]}, LINES, [asked(i)], decoding, [seeds[i]])[0]
        for i in range(4)
    ]
    assert together == alone


def test_rows_with_the_same_seed_agree_and_others_do_not(model):
    tiny, one = model(), pictures(1)["queries"].expand(3, -1, -1)
    texts = reply(tiny, {"queries": one}, LINES, [asked(0)] * 3, Decoding(max_new_tokens=12), [1, 1, 2])
    assert texts[0] == texts[1] != texts[2]


def test_the_global_random_state_is_left_alone(model):
    before = torch.get_rng_state()
    reply(model(), pictures(1), LINES, [asked(0)], Decoding(max_new_tokens=4), [3])
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_stop_when_told_and_at_the_latest_after_the_given_number(model):
    language = model().language
    embeddings, mask = language.embed(torch.tensor([[5, 6, 7]])), torch.ones(1, 3, dtype=torch.long)
    tokens = list(steps(language, embeddings, mask, greedy(4), [0], DynamicCache()))
    assert len(tokens) == 4 and all(token.shape == (1,) for token in tokens)


def test_draws_follow_the_probabilities():
    chances = torch.tensor([0.5, 0.0, 0.3, 0.2])
    scores = (chances.log() + 3).expand(4000, -1)  # a constant changes nothing
    drawn = draw(scores, [torch.Generator().manual_seed(seed) for seed in range(4000)])
    shares = drawn.bincount(minlength=4) / 4000
    assert shares[1] == 0
    assert torch.allclose(shares, chances, atol=0.03)  # four standard deviations


def test_the_nucleus_and_the_penalty_change_what_is_chosen():
    scores, none = torch.tensor([[2.0, 1.9, 0.0]]), torch.zeros(1, 0, dtype=torch.long)
    generators = [torch.Generator().manual_seed(0)]
    assert choose(scores, none, greedy(1), generators).tolist() == [0]
    penalised = replace(greedy(1), repetition_penalty=1.2)
    assert choose(scores, torch.tensor([[0]]), penalised, generators).tolist() == [1]  # 2 / 1.2 < 1.9
    narrow = Decoding(top_p=0.4)  # the first alone reaches 0.4 of the mass
    assert {choose(scores, none, narrow, generators).item() for _ in range(50)} == {0}


def test_the_end_is_seen_with_the_token_that_completes_it(tokenizer):
    ids = tokenizer("two dogs###", add_special_tokens=False)["input_ids"]
    assert [has_ended(tokenizer, ids[: n + 1], ["###", "[EOS]"]) for n in range(len(ids))] == [
        *([False] * (len(ids) - 1)),
        True,
    ]
