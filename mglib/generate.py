"""Batched decoding: greedy or with the official sampling, each row stopping at its own end symbol."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mglib.model import MiniGPT4
from mglib.prompts import Template, generation_batch


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How tokens are chosen; the defaults are the official chat's (`conversation.py`), at a fixed seed."""

    sample: bool = True
    top_p: float = 0.9
    temperature: float = 1.0
    repetition_penalty: float = 1.05
    max_new_tokens: int = 300
    seed: int = 0


def greedy(max_new_tokens: int) -> Decoding:
    """Always take the likeliest token."""
    return Decoding(sample=False, repetition_penalty=1.0, max_new_tokens=max_new_tokens)


@torch.inference_mode()
def answer(
    model: MiniGPT4, images: dict[str, Tensor], form: Template, questions: Sequence[str], decoding: Decoding
) -> list[str]:
    """Answer one question per picture.

    `images` holds `pixels`, `tokens` or `queries` of B pictures, as a batch of `MiniGPT4` does; each question
    holds the picture's place. Prompts are padded on the left, so the rows of a batch do not change each
    other's answers.
    """
    tokenizer = model.language.tokenizer
    device = model.projection.weight.device
    layout = generation_batch(tokenizer, form, questions, queries=model.qformer.config.queries)
    batch = {name: value.to(device) for name, value in {**images, **layout}.items()}
    choice = (
        {"top_p": decoding.top_p, "temperature": decoding.temperature, "top_k": 0} if decoding.sample else {}
    )
    with torch.random.fork_rng():  # transformers samples from the global generator only
        torch.manual_seed(decoding.seed)
        ids = model.language.model.generate(
            inputs_embeds=model.embed(batch),
            attention_mask=batch["mask"],
            do_sample=decoding.sample,
            repetition_penalty=decoding.repetition_penalty,
            max_new_tokens=decoding.max_new_tokens,
            stop_strings=[form.end],
            tokenizer=tokenizer,
            pad_token_id=tokenizer.pad_token_id,
            **choice,
        )  # (B, new)
    return [until_end(tokenizer.decode(row), form.end, tokenizer.eos_token) for row in ids]


def until_end(text: str, *ends: str) -> str:
    """Cut a text at the first end symbol in it and strip the rest."""
    for end in ends:
        text = text.split(end)[0]
    return text.strip()
