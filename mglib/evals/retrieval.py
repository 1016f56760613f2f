"""Retrieval between pictures and texts by BLIP-2's contrast (notebook 01)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mglib.metrics import Estimate, mean, recall_at
from mglib.model.blip2 import Representation, similarities


@torch.inference_mode()
def retrieval_recall(
    representation: Representation,
    tokens: Sequence[Tensor],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: PreTrainedTokenizerFast,
    max_text: int,
    batch_size: int,
) -> dict[str, Estimate | None]:
    """Find texts by picture and pictures by text among all of a split, by contrastive similarity alone.

    Karpathy's protocol on COCO: a picture is right when one of its own five references is among the first k,
    a reference when its picture is; each reference's result counts within its picture. Deviation from BLIP-2:
    no second ranking of the best by the matching head.
    """
    texts = [text for group in references for text in group]
    owner = torch.tensor([index for index, group in enumerate(references) for _ in group])
    similarity = similarities(
        representation, tokens, texts, tokenizer=tokenizer, max_text=max_text, batch_size=batch_size
    )  # (P, R)
    correct = torch.arange(len(references)).unsqueeze(1) == owner  # (P, R)
    scores = {}
    for k in (1, 5):
        scores[f"retrieval_i2t_r{k}"] = mean(recall_at(similarity, correct, k))
        hits = torch.tensor(recall_at(similarity.T, correct.T, k))
        share = torch.zeros(len(references)).index_add(0, owner, hits) / owner.bincount()
        scores[f"retrieval_t2i_r{k}"] = mean(share.tolist())
    return scores


def chance(references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return what random ranking scores in each metric, with equally many references for each picture."""
    pictures, group = len(references), len(references[0])
    texts = pictures * group
    scores: dict[str, float] = {}
    for k in (1, 5):
        misses = math.comb(texts - group, k) / math.comb(texts, k)  # no own reference among the first k
        scores |= {f"retrieval_i2t_r{k}": 1 - misses, f"retrieval_t2i_r{k}": min(1.0, k / pictures)}
    return scores
