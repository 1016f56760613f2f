"""A closed-form initialisation of the projection that already conveys roughly what is in a picture.

Deviation, for small budgets: the paper starts from PyTorch's random matrix and trains it on five million
pairs. Ridge regression from pictures to the words of their captions is how pictures have long been mapped to
word embeddings (Frome et al. 2013, DeViSE; Lazaridou et al. 2015); it uses nothing that stage 1 does not use.
"""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mglib.data.text import EMPTY_WORDS
from mglib.model.language import Language
from mglib.model.prompts import tokenize


def word_vectors(language: Language) -> Tensor:
    """Return the decoder's input embedding of every token, (V, D_l); Gemma scales the rows of its table."""
    rows = len(language.model.get_input_embeddings().weight)
    return language.embed(torch.arange(rows, device=language.model.device)).detach()


def caption_vectors(language: Language, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the mean embedding of each caption's content words, weighted by rarity, (P, D_l), and which
    captions have any, (P,) of booleans; the rows of the others are zero.
    """
    # Sorted: sums over a set would depend on the process's hash seed.
    words = [sorted({word for word in caption.split() if word not in EMPTY_WORDS}) for caption in captions]
    seen = Counter(word for each in words for word in each)
    table = word_vectors(language)
    vectors = {word: table[tokenize(language.tokenizer, f" {word}")].float().mean(0) for word in seen}
    rarity = {word: math.log(len(captions) / count) for word, count in seen.items()}
    rows = torch.zeros(len(captions), table.shape[1], device=table.device)
    for row, each in zip(rows, words, strict=True):
        total = max(1e-9, sum(rarity[word] for word in each))
        for word in each:
            row += rarity[word] * vectors[word] / total
    return rows, torch.tensor([any(rarity[word] > 0 for word in each) for each in words])


@torch.no_grad()
def warm_start(
    projection: nn.Linear, queries: Tensor, captions: Sequence[str], language: Language, *, ridge: float
) -> None:
    """Fill `projection` by regression from mean queries, (P, D_q), to their captions' words.

    The map is scaled so that a visual token has the spread of word embeddings; the mean picture becomes the
    mean word. `ridge` is the penalty as a share of the queries' mean variance. Raises ValueError where no
    caption says anything.
    """
    words, known = caption_vectors(language, captions)
    if not known.any():
        raise ValueError(
            "No caption has a word that distinguishes it from the others: there is nothing to start from."
        )
    x, y = queries.cpu()[known].double(), words.cpu()[known].double()  # Apple's GPU has no float64
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    covariance = x.T @ x / len(x)  # (D_q, D_q)
    penalty = ridge * covariance.diagonal().mean() * torch.eye(len(covariance), device=x.device)
    weight = torch.linalg.solve(covariance + penalty, x.T @ y / len(x))  # (D_q, D_l)
    spread = word_vectors(language).float().std().cpu().double()
    weight *= spread / (x @ weight).std()
    projection.weight.copy_(weight.T)
    projection.bias.copy_(y_mean - x_mean @ weight)
