"""Closed questions: each offered answer is scored by its loss, so that every answer parses."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from mglib.data.splits import batched
from mglib.metrics import Counts, Estimate, paired
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template


@dataclass(frozen=True, kw_only=True)
class ClosedQuestion:
    """A question about a picture with its answer options, one of which is right."""

    picture: int  # its index in the split
    text: str
    options: tuple[str, ...]
    right: int  # its index among the options


@dataclass(frozen=True)
class Losses:
    """The loss of each option of one question: its sum over the answer and the end symbol, and the number of
    their tokens.
    """

    sums: tuple[float, ...]
    counts: tuple[int, ...]

    def summed(self) -> int:
        """Return the option that is likeliest as a whole: the headline.

        Fixed before any result was seen: the sum is minus the log-probability of the whole answer, so nothing
        in it is arbitrary. The official code's loss is a mean, whose divisor grows with an option's length.
        """
        return min(range(len(self.sums)), key=self.sums.__getitem__)

    def per_token(self) -> int:
        """Return the option with the lowest loss per token, which does not penalise long answers."""
        means = [total / count for total, count in zip(self.sums, self.counts, strict=True)]
        return min(range(len(means)), key=means.__getitem__)


@dataclass(frozen=True)
class Scores:
    """One score for each question, with the picture that it is about: errors are clustered by picture."""

    values: tuple[float, ...]
    pictures: tuple[Hashable, ...]

    def counts(self) -> Counts:
        """Return the points of each picture and its number of questions."""
        sums: dict[Hashable, float] = defaultdict(float)
        asked: dict[Hashable, int] = defaultdict(int)
        for value, picture in zip(self.values, self.pictures, strict=True):
            sums[picture] += value
            asked[picture] += 1
        return Counts(list(sums.values()), list(asked.values()))

    def estimate(self) -> Estimate | None:
        """Return the mean over questions with a bootstrap over pictures; None if nothing was asked."""
        return self.counts().estimate()

    def minus(self, other: "Scores") -> Estimate | None:
        """Return the paired difference of the means; raises ValueError if the questions differ."""
        if self.pictures != other.pictures:
            raise ValueError("These scores belong to different questions: compare what was asked alike.")
        return paired(self.counts(), other.counts())

    def by(self, kinds: Sequence[str]) -> dict[str, "Scores"]:
        """Return the scores by kind of question; `kinds` holds the kind of each question."""
        rows = list(zip(kinds, self.values, self.pictures, strict=True))
        apart = {kind: [row[1:] for row in rows if row[0] == kind] for kind in sorted(set(kinds))}
        return {kind: Scores(*zip(*some, strict=True)) for kind, some in apart.items()}


@torch.inference_mode()
def option_losses(
    model: MiniGPT4,
    queries: Sequence[Tensor],
    template: Template,
    asked: Sequence[ClosedQuestion],
    *,
    prompt: str,
    batch_size: int,
    what: str,
) -> list[Losses]:
    """Return the losses of all options of each question.

    `queries` holds the Q-Former's output for each picture of the split, (Q, D_q); `prompt` is the model's
    prompt, with "{}" for the question. A batch is `batch_size` questions.
    """
    found: list[Losses] = []
    for part in tqdm(list(batched(asked, batch_size)), desc=what, mininterval=10):
        pictures = torch.stack([queries[question.picture] for question in part])  # (B, Q, D_q)
        texts = [posed(prompt, question.text) for question in part]
        found += batch_losses(model, pictures, template, texts, [question.options for question in part])
    return found


def posed(prompt: str, question: str) -> str:
    """Put a question into a prompt, with the picture before it."""
    return prompts.with_image(prompt.replace("{}", question))


def batch_losses(
    model: MiniGPT4,
    queries: Tensor,
    template: Template,
    texts: Sequence[str],
    options: Sequence[Sequence[str]],
) -> list[Losses]:
    """Score the options of B questions: pictures and prompts are run once, the R options as R short rows.

    The last token of each prompt is run with its options, since it predicts their first token.
    """
    language, device = model.language, model.projection.weight.device
    layout = prompts.generation_batch(
        language.tokenizer, template, texts, queries=model.qformer.config.queries
    )
    layout = {name: value.to(device) for name, value in {"queries": queries, **layout}.items()}
    words = model.embed(layout)  # (B, T, D_l)
    answers = [
        prompts.answer_tokens(language.tokenizer, text, template.end) for row in options for text in row
    ]
    owner = torch.tensor([place for place, row in enumerate(options) for _ in row], device=device)  # (R,)
    ids = prompts.pad(answers, 0, left=False).to(device)  # (R, A)
    real = prompts.pad([[1] * len(row) for row in answers], 0, left=False).to(device)
    rows = torch.cat([words[owner, -1:], language.embed(ids)], dim=1)  # (R, 1 + A, D_l)
    decoder = language.model.get_decoder()

    def run(embeddings: Tensor, mask: Tensor, cache: Any = None) -> Any:
        positions = (mask.cumsum(1) - 1).clamp(min=0)  # padding takes up none, as in generation
        return decoder(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions[:, -embeddings.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )

    read = run(words[:, :-1], layout["mask"][:, :-1]).past_key_values
    read.batch_select_indices(owner)
    mask = torch.cat([layout["mask"][owner], real], dim=1)  # (R, T + A)
    hidden = run(rows, mask, read).last_hidden_state  # (R, 1 + A, D_l): position t predicts token t
    row, position = real.nonzero(as_tuple=True)
    logits = language.logits(hidden[row, position])  # (M, V)
    losses = functional.cross_entropy(logits.float(), ids[row, position], reduction="none")
    sums = torch.zeros(len(answers), device=device).index_add(0, row, losses).tolist()
    scored = iter(zip(sums, map(len, answers), strict=True))
    return [Losses(*zip(*islice(scored, len(offered)), strict=True)) for offered in options]


def right(
    losses: Sequence[Losses],
    asked: Sequence[ClosedQuestion],
    chosen: Callable[[Losses], int] = Losses.summed,
) -> Scores:
    """Return for each question whether the chosen option is the right one; an option that is offered twice
    counts in both places.
    """
    values = tuple(
        float(question.options[chosen(loss)] == question.options[question.right])
        for loss, question in zip(losses, asked, strict=True)
    )
    return Scores(values, tuple(question.picture for question in asked))
