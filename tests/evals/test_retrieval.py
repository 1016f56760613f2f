"""Contrastive retrieval with known pairs, and its chance level."""

import pytest
import torch
from torch import nn

from mglib.evals.retrieval import chance, retrieval_recall
from mglib.model.prompts import tokenize


class Oracle(nn.Module):
    """Stands in for a trained representation: knows which picture each number word means."""

    words = ("zero", "one", "two", "three", "four", "five")

    def __init__(self, tokenizer, meant):
        super().__init__()
        self.known = [tuple(tokenize(tokenizer, word)) for word in self.words]
        self.meant = meant
        self.qformer = nn.Identity()
        self.positions = nn.Embedding(1, 1)  # gives the module's device

    def encode_image(self, queries):
        return queries

    def encode_text(self, text, text_mask):
        rows = [tuple(row[mask].tolist()[1:-1]) for row, mask in zip(text, text_mask, strict=True)]
        return torch.stack([torch.eye(6)[self.meant[self.known.index(row)]] for row in rows])


def pictures():
    """Return six pictures, each with one query that identifies it and one that does not."""
    return [torch.stack([0.1 * torch.ones(6), torch.eye(6)[number]]) for number in range(6)]


def find(tokenizer, meant, references):
    return retrieval_recall(
        Oracle(tokenizer, meant), pictures(), references, tokenizer=tokenizer, max_text=24, batch_size=4
    )


def test_retrieval_is_perfect_or_nothing_where_pictures_and_texts_agree_or_not(tokenizer):
    scores = find(tokenizer, [0, 1, 2, 3, 4, 5], [[word] * 5 for word in Oracle.words])
    assert set(scores) == {"retrieval_i2t_r1", "retrieval_t2i_r1"}
    assert all(score.value == 1 and score.n == 6 for score in scores.values())
    scores = find(tokenizer, [1, 2, 3, 4, 5, 0], [[word] * 5 for word in Oracle.words])
    assert scores["retrieval_i2t_r1"].value == scores["retrieval_t2i_r1"].value == 0  # all contradict


def test_a_references_result_counts_within_its_picture(tokenizer):
    references = [["zero", "one", "one", "one", "one"], *([word] * 5 for word in Oracle.words[1:])]
    scores = find(tokenizer, [0, 1, 2, 3, 4, 5], references)
    assert scores["retrieval_i2t_r1"].value > 0.8  # picture 0 has one right text, which is first
    assert scores["retrieval_t2i_r1"].value == pytest.approx((1 / 5 + 5) / 6)


def test_chance_is_that_of_drawing_blindly():
    assert chance([["a"] * 5] * 4) == {"retrieval_i2t_r1": 1 / 4, "retrieval_t2i_r1": 1 / 4}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_retrieval_runs_where_the_representation_is(representation, tokenizer, random):
    module = representation().cuda().eval()
    tokens = list(torch.randn(6, 5, 64, generator=random))
    references = [[word] for word in Oracle.words]
    scores = retrieval_recall(module, tokens, references, tokenizer=tokenizer, max_text=24, batch_size=4)
    assert all(0 <= score.value <= 1 for score in scores.values())
