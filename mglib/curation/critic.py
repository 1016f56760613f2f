"""A critic of answers, trained on training data only: how well their sentences fit their own picture.

It compares by BLIP-2's contrast and uses no list of objects, no annotation and no rule of the evaluation, so
a model that learns from it can still be measured by CHAIR.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mglib.curation.repair import sentences
from mglib.data.text import clean_caption
from mglib.model.blip2 import Representation, similarities
from mglib.model.prompts import tokenize

# Maps the vision tokens of each text's picture, (N, D_v), and the texts to a score for each sentence.
Critic = Callable[[Sequence[Tensor], Sequence[str]], list[list[float]]]


def sentence_scores(
    representation: Representation,
    tokens: Sequence[Tensor],
    texts: Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerFast,
    max_text: int,
    batch_size: int = 64,
) -> list[list[float]]:
    """Score how much better each sentence (`repair.sentences`) of each text fits its own picture than others.

    `tokens` are the vision tokens of each text's picture, (N, D_v) each. A score is the cosine with its
    own picture minus the mean cosine with all others: 0 for a sentence that fits all equally well. One longer
    than `max_text` tokens is read in pieces of equal length and scores their mean. Raises ValueError for
    fewer than two pictures or a different number of texts.
    """
    if len(tokens) != len(texts) or len(texts) < 2:
        raise ValueError(
            f"{len(tokens)} pictures and {len(texts)} texts: give each of two pictures or more one text."
        )
    said = [[pieces(one, tokenizer, max_text - 2) for one in sentences(text)] for text in texts]
    flat = [piece for text in said for sentence in text for piece in sentence]
    owner = torch.tensor([place for place, text in enumerate(said) for one in text for _ in one])
    if not flat:
        return [[] for _ in texts]
    cosines = similarities(
        representation, tokens, flat, tokenizer=tokenizer, max_text=max_text, batch_size=batch_size
    )  # (P, R)
    own = cosines.gather(0, owner.unsqueeze(0)).squeeze(0)  # (R,)
    others = (cosines.sum(0) - own) / (len(tokens) - 1)
    left = iter((own - others).tolist())
    return [[fmean([next(left) for _ in sentence]) for sentence in text] for text in said]


def answer_scores(sentence_scores: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over each answer's sentences; 0, as for text that fits all pictures, if it has none."""
    return [fmean(scores) if scores else 0.0 for scores in sentence_scores]


def pieces(sentence: str, tokenizer: PreTrainedTokenizerFast, longest: int) -> list[str]:
    """Clean a sentence like a training caption and cut it into equal parts of at most `longest` tokens."""
    ids = tokenize(tokenizer, clean_caption(sentence))
    if not ids:
        return [""]
    size = math.ceil(len(ids) / math.ceil(len(ids) / longest))
    return [tokenizer.decode(ids[start : start + size]).strip() for start in range(0, len(ids), size)]
