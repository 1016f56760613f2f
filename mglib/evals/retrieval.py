"""Retrieval between pictures and texts by BLIP-2's contrastive similarity (notebook 01)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mglib.metrics import Estimate, each
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
    """Return recall at rank 1 of texts by picture and of pictures by text, by contrastive similarity alone.

    Karpathy's protocol on COCO: a picture is right if one of its own five references ranks first among all of
    the split, a reference if its picture does; references are averaged per picture. Deviation from BLIP-2:
    the best candidates are not re-ranked by the matching head.
    """
    texts = [text for group in references for text in group]
    owner = torch.tensor([index for index, group in enumerate(references) for _ in group])
    similarity = similarities(
        representation, tokens, texts, tokenizer=tokenizer, max_text=max_text, batch_size=batch_size
    )  # (P, R)
    correct = torch.arange(len(references)).unsqueeze(1) == owner  # (P, R)
    hits = correct.T.gather(1, similarity.T.topk(1).indices).squeeze(1).float()  # (R,)
    share = torch.zeros(len(references)).index_add(0, owner, hits) / owner.bincount()
    found = correct.gather(1, similarity.topk(1).indices).squeeze(1).float()  # (P,)
    return {
        "retrieval_i2t_r1": each(found.tolist()).estimate(),
        "retrieval_t2i_r1": each(share.tolist()).estimate(),
    }


def chance(references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the chance level of each metric, with equally many references for each picture."""
    pictures, group = len(references), len(references[0])
    texts = pictures * group
    return {"retrieval_i2t_r1": 1 - (texts - group) / texts, "retrieval_t2i_r1": 1 / pictures}
