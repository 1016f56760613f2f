"""Runs a model over the pictures of a split and returns one result a picture, ready for `mglib.metrics`."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from mglib.curation.critic import similarities
from mglib.data.splits import batched
from mglib.metrics import Estimate, mean, recall_at
from mglib.model import prompts
from mglib.model.blip2 import Representation
from mglib.model.decoding import Decoding, answer, greedy
from mglib.model.minigpt4 import MiniGPT4, answer_losses
from mglib.model.prompts import Template


def ways(max_new_tokens: int, *, seed: int) -> dict[str, Decoding]:
    """Return the ways of decoding an answer that are compared, by name, the official one first."""
    return {
        "sampled": Decoding(max_new_tokens=max_new_tokens, seed=seed),
        "greedy": greedy(max_new_tokens),
        "penalised": replace(greedy(max_new_tokens), repetition_penalty=1.1),
    }


def answers(
    model: MiniGPT4,
    queries: Sequence[Tensor],
    template: Template,
    question: str,
    decoding: Decoding,
    *,
    batch_size: int,
    what: str,
) -> list[str]:
    """Ask the same question about every picture; `queries` holds the Q-Former's output of each, (Q, D_q)."""
    texts: list[str] = []
    for rows in tqdm(list(batched(queries, batch_size)), desc=what, mininterval=10):
        images = {"queries": torch.stack(rows)}
        texts += answer(model, images, template, [question] * len(rows), decoding, first=len(texts))
    return texts


def blind_answers(
    model: MiniGPT4,
    template: Template,
    questions: Sequence[str],
    decoding: Decoding,
    *,
    batch_size: int,
    what: str,
) -> list[str]:
    """Ask a model's language model questions of text alone, without a picture and without visual tokens."""
    blind, width = model.sharing(qformer=Blind()), model.projection.in_features
    texts: list[str] = []
    for rows in tqdm(list(batched(questions, batch_size)), desc=what, mininterval=10):
        nothing = {"queries": torch.zeros(len(rows), 0, width)}
        texts += answer(blind, nothing, template, rows, decoding, first=len(texts))
    return texts


class Blind(nn.Module):
    """Takes a Q-Former's place and passes nothing on: a picture has no tokens."""

    config = SimpleNamespace(queries=0)


@torch.inference_mode()
def losses(
    model: MiniGPT4,
    queries: Sequence[Tensor],
    captions: Sequence[str],
    template: Template,
    *,
    max_answer: int,
    batch_size: int,
    question: str = prompts.IMAGE,
) -> tuple[list[float], list[int]]:
    """Return each picture's summed loss over its caption's tokens, and how many these are."""
    sums, counts = [], []
    for rows in batched(zip(queries, captions, strict=True), batch_size):
        pictures, texts = zip(*rows, strict=True)
        layout = prompts.training_batch(
            model.language.tokenizer,
            template,
            [question] * len(rows),
            texts,
            queries=model.qformer.config.queries,
            max_answer=max_answer,
        )
        device = model.projection.weight.device
        batch = {
            name: value.to(device) for name, value in {"queries": torch.stack(pictures), **layout}.items()
        }
        loss, row = answer_losses(model.language, model.embed(batch), batch)
        sums += torch.zeros(len(rows), device=device).index_add(0, row, loss).tolist()
        counts += torch.bincount(row, minlength=len(rows)).tolist()
    return sums, counts


@torch.inference_mode()
def retrieval(
    representation: Representation,
    tokens: Sequence[Tensor],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: PreTrainedTokenizerFast,
    max_text: int,
    batch_size: int,
) -> dict[str, Estimate]:
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
    """Return what random ranking scores in each metric of `retrieval`, with equally many references each."""
    pictures, group = len(references), len(references[0])
    texts = pictures * group
    scores = {}
    for k in (1, 5):
        misses = math.comb(texts - group, k) / math.comb(texts, k)  # no own reference among the first k
        scores |= {f"retrieval_i2t_r{k}": 1 - misses, f"retrieval_t2i_r{k}": min(1.0, k / pictures)}
    return scores
