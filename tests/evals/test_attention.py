"""Attention to the picture: what the model itself would have to give, token by token and word by word."""

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from mglib.evals import attention
from mglib.evals.attention import Look
from mglib.evals.chair import Truth
from mglib.mentions import Vocabulary
from mglib.model import prompts
from mglib.model.prompts import VICUNA

WORDS = Vocabulary({name: [name, f"{name}s"] for name in ("dog", "cat", "bus")})
ASKED = prompts.with_image("What is here?")
ANSWERS = ["a dog and a cat", "a red bus on the street"]


@pytest.fixture
def queries(random):
    return torch.randn(2, 3, 32, generator=random)


def uniform(model):
    """Make every head attend to all that it may see alike."""
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


def test_the_share_is_what_attention_by_hand_gives(model, llama, queries):
    built = model(language=llama(layers=1))
    found = attention.visual_shares(built, queries[:1], VICUNA, ASKED, ANSWERS[:1])[0]
    layout = prompts.training_batch(
        built.language.tokenizer, VICUNA, [ASKED], ANSWERS[:1], queries=3, max_answer=99
    )
    start = int((layout["labels"][0] != prompts.IGNORE).nonzero()[0]) - 1  # predicts the first token
    layer = built.language.model.model.layers[0]
    with torch.no_grad():
        embedded = built.embed({"queries": queries[:1], **layout})
        hidden = layer.input_layernorm(embedded)
        parts = (layer.self_attn.q_proj, layer.self_attn.k_proj)
        q, k = (part(hidden).view(1, -1, 4, 12).transpose(1, 2) for part in parts)  # (1, heads, T, 12)
        positions = torch.arange(embedded.shape[1])[None]
        q, k = apply_rotary_pos_emb(q, k, *built.language.model.model.rotary_emb(hidden, positions))
        weights = torch.einsum("hd,htd->ht", q[0, :, start], k[0, :, : start + 1])
        share = (weights / 12**0.5).softmax(-1)[:, layout["slots"][0, : start + 1]].sum(-1).mean()
    assert found[0] == pytest.approx(share.item(), rel=1e-4)


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
    dog = Truth((frozenset({"dog"}),), frozenset({"dog"}))
    looked = [[Look("dog", 0, 0.5), Look("cat", 3, 0.2), Look("bus", 9, 0.4)], [Look("dog", 0, 0.1)], []]
    counts = attention.by_truth(looked, [dog] * 3)
    assert counts["true"].estimate().value == pytest.approx(0.3)
    assert counts["invented"].estimate().value == pytest.approx(0.3)
    assert attention.within(counts).estimate().value == pytest.approx(0.2)
