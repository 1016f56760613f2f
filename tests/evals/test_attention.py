"""Attention to the picture, token by token and word by word."""

import pytest
import torch
from tiny_texts import DOG, WORDS

from mglib.evals import attention
from mglib.evals.attention import Look
from mglib.model import prompts
from mglib.model.prompts import VICUNA

ASKED = prompts.with_image("What is here?")
ANSWERS = ["a dog and a cat", "a red bus on the street"]


@pytest.fixture
def queries(random):
    return torch.randn(2, 3, 32, generator=random)


def uniform(model):
    """Make every head attend equally to all positions it may see."""
    for layer in model.language.model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
    return model


def test_uniform_attention_gives_the_picture_its_share_of_the_positions(model, queries, tokenizer):
    built = uniform(model())
    rows = attention.visual_shares(built, queries, VICUNA, ASKED, ANSWERS)
    before = len(prompts.prompt_tokens(tokenizer, VICUNA, ASKED, queries=3)[0])
    for row, answer in zip(rows, ANSWERS, strict=True):
        assert len(row) == len(prompts.tokenize(tokenizer, answer))
        assert row == pytest.approx([3 / (before + place) for place in range(len(row))], rel=1e-4)


def test_the_attention_of_the_device_is_back_afterwards(model, queries, monkeypatch):
    built = model()
    monkeypatch.setattr(attention, "attention", lambda device: "sdpa")  # as on a card
    attention.visual_shares(built, queries, VICUNA, ASKED, ANSWERS)
    assert built.language.model.config._attn_implementation == "sdpa"


def test_every_mention_gets_its_look(model, queries):
    built = model()
    shown, said = [queries[0], queries[0], queries[1]], [ANSWERS[0], "", ANSWERS[1]]
    one, none, two = attention.looks(built, shown, VICUNA, ASKED, said, WORDS, batch_size=2)
    assert none == []
    assert [(look.name, look.word) for look in one] == [("dog", 1), ("cat", 4)]
    assert [(look.name, look.word) for look in two] == [("bus", 2)]
    shares = attention.visual_shares(built, queries[:1], VICUNA, ASKED, ANSWERS[:1])[0]
    tokens = attention.first_tokens(built.language.tokenizer, ANSWERS[0])
    assert one[1].share == pytest.approx(shares[tokens[4]], abs=1e-5)


def test_true_and_invented_mentions_are_told_apart():
    looked = [[Look("dog", 0, 0.5), Look("cat", 3, 0.2), Look("bus", 9, 0.4)], [Look("dog", 0, 0.1)], []]
    counts = attention.by_truth(looked, [DOG] * 3)
    assert counts["true"].estimate().value == pytest.approx(0.3)
    assert counts["invented"].estimate().value == pytest.approx(0.3)
    assert attention.within(counts).estimate().value == pytest.approx(0.2)
