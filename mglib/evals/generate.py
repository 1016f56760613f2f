"""Answers and losses of a model over many pictures, one per picture."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mglib.data.splits import batched
from mglib.model import prompts
from mglib.model.decoding import Decoding, answer, greedy
from mglib.model.minigpt4 import MiniGPT4, answer_losses
from mglib.model.prompts import Template


def decoding_configs(max_new_tokens: int, *, seed: int) -> dict[str, Decoding]:
    """Return the decodings that are compared, by name, the official one first."""
    return {
        "sampled": Decoding(max_new_tokens=max_new_tokens, seed=seed),
        "greedy": greedy(max_new_tokens),
        "penalised": replace(greedy(max_new_tokens), repetition_penalty=1.1),
    }


def answers(
    model: MiniGPT4,
    queries: Sequence[Tensor],
    template: Template,
    questions: str | Sequence[str],
    decoding: Decoding,
    *,
    batch_size: int,
    what: str,
) -> list[str]:
    """Ask one question about every picture, or each picture its own.

    `queries` holds the Q-Former's output for each, (Q, D_q); the questions contain the image placeholder.
    """
    asked = [questions] * len(queries) if isinstance(questions, str) else questions
    texts: list[str] = []
    pairs = list(batched(zip(queries, asked, strict=True), batch_size))
    for pictures, lines in tqdm([zip(*rows, strict=True) for rows in pairs], desc=what, mininterval=10):
        images = {"queries": torch.stack(pictures)}
        texts += answer(model, images, template, lines, decoding, first=len(texts))
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
    """Ask a model's language model text-only questions, without a picture or visual tokens."""
    blind = model.sharing(qformer=Blind())
    nothing = [torch.zeros(0, model.projection.in_features)] * len(questions)
    return answers(blind, nothing, template, questions, decoding, batch_size=batch_size, what=what)


class Blind(nn.Module):
    """Replaces a Q-Former so that a picture has no tokens."""

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
    """Return each picture's summed loss over its caption's tokens, and their number."""
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
