"""How much the language model attends to the picture when it names an object (paper, section 4.5.1)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from mglib.data.splits import batched
from mglib.evals.chair import Truth
from mglib.mentions import Vocabulary
from mglib.metrics import Counts
from mglib.model import prompts
from mglib.model.attention import GROUPED
from mglib.model.device import attention
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import IGNORE, Template


@dataclass(frozen=True)
class Look:
    """An object named in an answer: at which word, and the share of attention on the picture."""

    name: str
    word: int  # of the answer, from 0
    share: float


@torch.inference_mode()
def visual_shares(
    model: MiniGPT4, queries: Tensor, template: Template, question: str, answers: Sequence[str]
) -> list[list[float]]:
    """Return the share of attention on the visual tokens, from 0 to 1, for each token of each answer.

    The attention is taken at the position that predicts the token, summed over the visual tokens and averaged
    over heads and layers. `queries` is (B, Q, D_q); `question` contains the image placeholder; the answers
    are teacher-forced, not sampled.
    """
    tokenizer, device = model.language.tokenizer, model.projection.weight.device
    lengths = [len(prompts.tokenize(tokenizer, answer)) for answer in answers]
    layout = prompts.training_batch(
        tokenizer,
        template,
        [question] * len(answers),
        answers,
        queries=model.qformer.config.queries,
        max_answer=max(lengths) + len(prompts.tokenize(tokenizer, template.end)),
    )
    batch = {name: value.to(device) for name, value in {"queries": queries, **layout}.items()}
    language = model.language.model
    language.set_attn_implementation(GROUPED)  # returns attention weights, unlike a GPU's SDPA
    layers = language.get_decoder()(
        inputs_embeds=model.embed(batch),
        attention_mask=batch["mask"],
        use_cache=False,
        output_attentions=True,
    ).attentions  # (B, heads, T, T) each
    language.set_attn_implementation(attention(device))
    slots = batch["slots"][:, None, None]  # (B, 1, 1, T)
    shares = torch.stack([(layer.float() * slots).sum(-1).mean(1) for layer in layers]).mean(0)  # (B, T)
    said = batch["labels"][:, 1:] != IGNORE  # position t predicts token t + 1
    rows = [row[chosen].tolist() for row, chosen in zip(shares[:, :-1], said, strict=True)]
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]  # without the end symbol


def first_tokens(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Return, for each word of an answer (as split by `metrics.words`), the index of its first token."""
    encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    starts = [word.start() for word in re.finditer(r"[a-z0-9]+", answer.lower())]
    return [next(place for place, end in enumerate(ends) if end > start) for start in starts]


def looks(
    model: MiniGPT4,
    queries: Sequence[Tensor],
    template: Template,
    question: str,
    answers: Sequence[str],
    words: Vocabulary,
    *,
    batch_size: int,
) -> list[list[Look]]:
    """Return every object that each answer names, with the attention to the picture at its first token.

    `queries` holds the Q-Former's output of each picture, (Q, D_q).
    """
    found: list[list[Look]] = []
    tokenizer = model.language.tokenizer
    parts = list(batched(zip(queries, answers, strict=True), batch_size))
    for rows in tqdm(parts, desc="attention", mininterval=10):
        pictures, texts = zip(*rows, strict=True)
        shares = visual_shares(model, torch.stack(pictures), template, question, texts)
        for text, share in zip(texts, shares, strict=True):
            tokens = first_tokens(tokenizer, text)
            found.append([Look(name, word, share[tokens[word]]) for word, name in words.named(text)])
    return found


def by_truth(looked: Sequence[Sequence[Look]], truths: Sequence[Truth]) -> dict[str, Counts]:
    """Return the attention at true and at invented mentions, summed per picture, ready to be averaged."""
    found = {}
    for kind, wanted in (("true", True), ("invented", False)):
        rows = [
            [look.share for look in row if (look.name in truth.sayable) == wanted]
            for row, truth in zip(looked, truths, strict=True)
        ]
        found[kind] = Counts([sum(row) for row in rows], [float(len(row)) for row in rows])
    return found


def within(counts: dict[str, Counts]) -> Counts:
    """Return the attention at true minus invented mentions, within each picture's answer.

    Pictures whose answer lacks either are not counted.
    """
    rows = list(zip(*counts["true"], *counts["invented"], strict=True))
    gaps = [a / n - b / m if n and m else 0.0 for a, n, b, m in rows]
    return Counts(gaps, [float(bool(n and m)) for _, n, _, m in rows])
