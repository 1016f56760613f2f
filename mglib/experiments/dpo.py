"""Learning from AI feedback, which the paper proposes (4.5.1): preference optimisation of the projection.

The model answers several times about each picture of the pool, a critic (`curation.critic`) picks the answer
that fits better, and DPO (Rafailov et al. 2023) makes it likelier than the other. Two controls: a coin flip
picks the answer, and the preferred answers are merely imitated (`mglib.study.stage2`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from mglib.config import PreferenceConfig, TrainConfig
from mglib.curation.repair import finished, sentences
from mglib.errors import needed
from mglib.evals import generate
from mglib.model.decoding import Decoding, row_seed
from mglib.model.minigpt4 import MiniGPT4, answer_losses
from mglib.paths import hash_json
from mglib.study.models import INSTRUCTIONS, PromptedModel
from mglib.study.stage2 import instructed, with_own_projection
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.weights.tensors import hash_tensors

QUESTION = INSTRUCTIONS[0]
SAMPLES = 2  # answers per picture; the best is compared with the worst


@dataclass(frozen=True)
class Preference:
    """Two answers about the picture with index `place`; the first is preferred, by `margin`.

    The margin is negative if a coin decided otherwise.
    """

    place: int
    chosen: str
    rejected: str
    margin: float


def draws(
    prompted: PromptedModel,
    queries: Sequence[Tensor],
    config: PreferenceConfig,
    *,
    seed: int,
    batch_size: int,
) -> list[list[str]]:
    """Sample several answers about each picture, (Q, D_q): one list of all pictures' answers per draw.

    Uses the official sampling. A last sentence cut off by the token limit is dropped, so that no model learns
    to stop mid-sentence.
    """
    said = []
    for number in range(SAMPLES):
        decoding = Decoding(max_new_tokens=config.max_new_tokens, seed=row_seed(seed, f"draw {number}"))
        texts = prompted.answers(
            queries, QUESTION, decoding, batch_size=batch_size, what=f"answers, draw {number + 1}"
        )
        said.append([" ".join(finished(sentences(text))) for text in texts])
    return said


def preferences(
    said: Sequence[Sequence[str]], scores: Sequence[Sequence[float]], *, clearest: float
) -> list[Preference]:
    """Compare the best answer about each picture with the worst; `said` and `scores` hold one list per draw.

    Pictures whose best and worst answers are the same are skipped; of the rest, the share `clearest` with the
    largest margins is kept. Raises ValueError if no picture is left.
    """
    found = []
    for place, (texts, values) in enumerate(
        zip(zip(*said, strict=True), zip(*scores, strict=True), strict=True)
    ):
        best, worst = values.index(max(values)), values.index(min(values))
        if texts[best] != texts[worst]:
            found.append(Preference(place, texts[best], texts[worst], values[best] - values[worst]))
    if not found:
        raise ValueError("All answers about each picture are the same: sample them, or draw more often.")
    found.sort(key=lambda pair: -pair.margin)
    return sorted(found[: max(1, round(clearest * len(found)))], key=lambda pair: pair.place)


def by_coin(pairs: Sequence[Preference], *, seed: int) -> list[Preference]:
    """Let a coin flip decide which of the two answers is preferred: the control without a critic."""
    heads = torch.randint(2, (len(pairs),), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen, margin=-pair.margin) if head else pair
        for pair, head in zip(pairs, heads, strict=True)
    ]


def settings(study: Study) -> PreferenceConfig:
    """Return the preference settings of a study; raises ValueError if its profile has none."""
    return needed(study.profile.preference, "a profile with `preference`, as `mini`")


def dpo_losses(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Return the loss of B pairs, (B,) (Rafailov et al. 2023, equation 7).

    Both are log-ratios, (B,): the log-probability of an answer, minus what the start gives it.
    """
    return -functional.logsigmoid(beta * (chosen - rejected))


class Comparing(nn.Module):
    """A model that learns from B pairs: a batch holds 2B rows, the preferred answers first, and each answer's
    log-probability under the starting model as `reference`, (2B,).
    """

    def __init__(self, model: MiniGPT4, *, beta: float) -> None:
        super().__init__()
        self.model, self.beta = model, beta

    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """Return how many pairs a batch has."""
        return torch.tensor(len(batch["reference"]) // 2, device=batch["reference"].device)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the summed loss of the pairs and their number; logged too: how many are in the right order,
        and how far the answers have moved from the start.
        """
        losses, row = answer_losses(self.model.language, self.model.embed(batch), batch)
        reference = batch["reference"]  # (2B,)
        ratios = -torch.zeros_like(reference).index_add(0, row, losses) - reference  # (2B,)
        chosen, rejected = ratios.chunk(2)
        return {
            "loss": dpo_losses(chosen, rejected, self.beta).sum(),
            "count": self.count(batch),
            "in_order": (chosen > rejected).float().mean().detach(),
            "moved_chosen": chosen.mean().detach(),
            "moved_rejected": rejected.mean().detach(),
        }


class Pairs(Dataset):
    """Pairs of answers with their picture, (Q, D_q), and both log-probabilities under the starting model."""

    def __init__(
        self, queries: Sequence[Tensor], pairs: Sequence[Preference], reference: Sequence[Tensor]
    ) -> None:
        self.queries, self.pairs, self.reference = queries, pairs, reference

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Preference, Tensor]:
        pair = self.pairs[index]
        return self.queries[pair.place], pair, self.reference[index]


def collate(layout: Callable[[list[str]], dict[str, Tensor]]) -> Callable[[list], dict[str, Any]]:
    """Return a function that stacks B pairs into 2B rows, preferred answers first, laid out by `layout`."""

    def stack(rows: list[tuple[Tensor, Preference, Tensor]]) -> dict[str, Any]:
        queries, pairs, reference = zip(*rows, strict=True)
        texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        return {
            "queries": torch.stack([*queries, *queries]),  # (2B, Q, D_q)
            "reference": torch.stack(reference).T.flatten(),  # (2B,)
            **layout(texts),
        }

    return stack


def log_probs(
    study: Study, prompted: PromptedModel, queries: Sequence[Tensor], texts: Sequence[str]
) -> Tensor:
    """Return the log-probability of each answer, end symbol included, given its picture, (len,)."""
    with torch.autocast(study.device.type, torch.bfloat16, enabled=study.bf16):  # as in training
        sums, _ = generate.losses(
            prompted.model,
            queries,
            texts,
            prompted.template,
            max_answer=settings(study).train.max_answer,
            batch_size=max(1, study.profile.evaluation.batch_size // 4),
            question=prompted.question(QUESTION),
        )
    return -torch.tensor(sums)


def of_both(
    study: Study, prompted: PromptedModel, queries: Sequence[Tensor], pairs: Sequence[Preference]
) -> Tensor:
    """Return the log-probabilities of the preferred and the rejected answers, (len, 2)."""
    shown = [queries[pair.place] for pair in pairs]
    sides = [[pair.chosen for pair in pairs], [pair.rejected for pair in pairs]]
    return torch.stack([log_probs(study, prompted, shown, texts) for texts in sides], dim=1)


def held_out_losses(
    study: Study,
    start: PromptedModel,
    prompted: PromptedModel,
    queries: Sequence[Tensor],
    pairs: Sequence[Preference],
) -> list[float]:
    """Return the loss of each held-out pair, by which the learning rate is chosen."""
    ratios = of_both(study, prompted, queries, pairs) - of_both(study, start, queries, pairs)  # (len, 2)
    chosen, rejected = ratios.unbind(1)
    return dpo_losses(chosen, rejected, settings(study).beta).tolist()


def drifts(
    study: Study,
    start: PromptedModel,
    prompted: PromptedModel,
    queries: Sequence[Tensor],
    texts: Sequence[str],
) -> list[float]:
    """Return how much likelier a model finds each of its own answers than the start does, in nats.

    The mean over answers sampled from the model estimates the divergence KL(model || start) per answer.
    """
    own, before = (log_probs(study, one, queries, texts) for one in (prompted, start))
    return (own - before).tolist()


def dpo(
    study: Study,
    start: PromptedModel,
    queries: Sequence[Tensor],
    pairs: Sequence[Preference],
    config: TrainConfig,
    *,
    what: str = "dpo",
) -> tuple[PromptedModel, Trained]:
    """Train the projection of `start` on preference pairs; `queries` holds (Q, D_q) of each picture.

    `start` itself is unchanged: it is the reference, whose log-probabilities are computed once. Raises
    ValueError if picture, question and answer exceed the language model's context length.
    """
    beta, asked = settings(study).beta, start.question(QUESTION)
    module = Comparing(with_own_projection(start.model), beta=beta)
    layout = instructed(module.model, start.template, (asked,), config.max_answer, seed=study.seed)
    trained = train(
        study,
        module,
        Pairs(queries, pairs, of_both(study, start, queries, pairs)),
        collate(layout),
        config,
        what,
        beta=beta,
        queries=hash_tensors({row: queries[pair.place] for row, pair in enumerate(pairs)}),
        pairs=hash_json([[pair.chosen, pair.rejected] for pair in pairs]),
        wording=hash_json([start.template.prompt(asked), start.template.end, start.template.bos]),
    )
    return replace(start, model=module.model), trained
