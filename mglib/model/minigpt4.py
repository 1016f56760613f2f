"""MiniGPT-4 (paper, section 3): frozen encoder -> frozen Q-Former -> linear projection -> frozen LM."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mglib.model.language import Language
from mglib.model.prompts import IGNORE


class MiniGPT4(nn.Module):
    """The whole model; `requires_grad` decides which parts are trained, by default the projection alone.

    A batch is a dict with one of `pixels` (B, 3, S, S), `tokens` (B, N, D_v) or `queries` (B, Q, D_q),
    whichever was computed beforehand, and the layout made by `mglib.model.prompts`: `ids`, `mask`, `slots`,
    `labels`, each (B, T).
    """

    def __init__(
        self, *, vision: nn.Module, qformer: nn.Module, projection: nn.Module, language: Language
    ) -> None:
        super().__init__()
        self.vision = vision
        self.qformer = qformer
        self.projection = projection
        self.language = language

    def sharing(self, **changed: nn.Module) -> "MiniGPT4":
        """Return a model that shares all parts except those `changed`, by name."""
        parts = {name: getattr(self, name) for name in ("vision", "qformer", "projection", "language")}
        return MiniGPT4(**(parts | changed))

    def queries(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the Q-Former's output (B, Q, D_q), computing only what the batch lacks."""
        if "queries" in batch:
            return batch["queries"]
        tokens = batch["tokens"] if "tokens" in batch else self.vision(batch["pixels"])  # (B, N, D_v)
        return self.qformer(tokens)  # (B, Q, D_q)

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """Put the projected queries into their slots among the embedded words: (B, T, D_l)."""
        visual = self.projection(self.queries(batch).to(self.projection.weight.dtype))  # (B, Q, D_l)
        words = self.language.embed(batch["ids"])  # (B, T, D_l)
        if (batch["slots"].sum(1) != visual.shape[1]).any():
            raise ValueError(
                f"Every question needs exactly one picture, {visual.shape[1]} visual tokens: put "
                "prompts.IMAGE into it once."
            )
        slots = batch["slots"].unsqueeze(-1)  # (B, T, 1)
        return words.masked_scatter(slots, visual.to(words.dtype))  # (B, T, D_l)

    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """Return how many answer tokens a batch has."""
        return answer_count(batch)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the summed loss over the answer tokens (section 3.1) and how many they are."""
        losses, _ = answer_losses(self.language, self.embed(batch), batch)
        return {"loss": losses.sum(), "count": self.count(batch)}


def assemble(*, vision: nn.Module, qformer: nn.Module, language: Language) -> MiniGPT4:
    """Join frozen parts by a projection with PyTorch's default initialisation (the paper's): D_q -> D_l.

    `vision` may be `nn.Identity` if its tokens or the queries are precomputed.
    """
    projection = nn.Linear(qformer.config.width, language.width)
    return MiniGPT4(vision=vision, qformer=qformer, projection=projection, language=language)


def answer_count(batch: dict[str, Tensor]) -> Tensor:
    """Return how many tokens have a label, except in the first position, which nothing predicts."""
    return (batch["labels"][:, 1:] != IGNORE).sum()


def answer_losses(language: Language, embeddings: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss of each of M answer tokens, (M,), and the row of the batch that it is in, (M,)."""
    hidden = language(embeddings, batch["mask"])  # (B, T, D_l)
    targets = batch["labels"][:, 1:]  # position t predicts token t + 1
    row, position = (targets != IGNORE).nonzero(as_tuple=True)
    # Gathered into one matrix first: logits exist only where there is a label.
    logits = language.logits(hidden[row, position])  # (M, V)
    return functional.cross_entropy(logits.float(), targets[row, position], reduction="none"), row


def init_projection(projection: nn.Linear, queries: Tensor, embeddings: Tensor, *, seed: int) -> None:
    """Initialise so that visual tokens have the standard deviation of word embeddings.

    Deviation from the paper (PyTorch's default), with which short training runs first learn only the scale.
    """
    generator = torch.Generator().manual_seed(seed)
    scale = embeddings.float().std() / (queries.float().pow(2).mean().sqrt() * projection.in_features**0.5)
    with torch.no_grad():
        projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator) * scale)
        projection.bias.zero_()
