"""The paper's ablation (T4; ICLR T5): what stands between encoder and language model, and what of it is
trained.

Every arm, the base included, is trained anew at one budget on the same pairs; its rate was chosen on val from
one grid (`make tune`).
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mglib import metrics
from mglib.config import AblationConfig, ConcatConfig, TrainConfig
from mglib.data.splits import Pairs, Split, batched
from mglib.evals import generate
from mglib.metrics import Estimate
from mglib.model import prompts
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.qformer import QFormer
from mglib.model.token_concat import Concat
from mglib.paths import hash_json, sha256
from mglib.study.stage1 import attach, first, picture_layout
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.training.feature_cache import Features

SLOW = 0.1  # of the learning rate, for a Q-Former that is trained with the projection
ARMS = ("base", "no_qformer", "three_layers", "qformer_tuned")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What all arms start from."""

    qformer: QFormer
    language: Language
    split: Split  # pairs to train on
    tokens: Features  # the vision tokens of its pictures, (N, D_v) each


class ThreeLinear(nn.Sequential):
    """Three linear layers where the paper has one; it names no activation between them."""

    @property
    def weight(self) -> Tensor:
        """The first layer's weight: it tells precision and device, as that of a single layer does."""
        return self[0].weight

    @classmethod
    def behind(cls, first: nn.Linear, *, seed: int) -> "ThreeLinear":
        """Put two layers behind a first one that keep the spread of its output."""
        width, generator = first.out_features, torch.Generator().manual_seed(seed + 1)
        layers = [nn.Linear(width, width) for _ in range(2)]
        with torch.no_grad():
            for layer in layers:
                layer.weight.copy_(torch.randn(width, width, generator=generator) / width**0.5)
                layer.bias.zero_()
        return cls(first, *layers)


class Slowly(nn.Module):
    """A pretrained part with a learning rate of its own: `share` times that of everything else.

    A weight is w0 + share * offset, and the offset, zero at first, is what is trained. AdamW's step does not
    depend on the size of the gradient, so w moves `share` times as far: what a rate group of its own does.
    Deviation: weight decay draws it to where it was pretrained, not to zero; and where the projection takes
    Muon's steps, offsets still take AdamW's.
    """

    def __init__(self, part: nn.Module, *, share: float) -> None:
        super().__init__()
        self.part, self.share, self.config = part.requires_grad_(False), share, part.config
        self.names = [name for name, _ in part.named_parameters()]
        self.offsets = nn.ParameterList(torch.zeros_like(weight) for weight in part.parameters())

    def weights(self) -> dict[str, Tensor]:
        """Return the weights as they are now, by their names in the part."""
        moved = zip(self.names, self.part.parameters(), self.offsets, strict=True)
        return {name: weight + self.share * offset for name, weight, offset in moved}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the part with its weights as they are now."""
        return functional_call(self.part, self.weights(), inputs)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the part with what it has learnt in its own weights."""
        own = dict(self.part.named_parameters())
        for name, weight in self.weights().items():
            own[name].copy_(weight)
        return self.part


def untrained(study: Study, name: str, parts: Parts) -> MiniGPT4:
    """Build an arm as it is before training; raises ValueError for an unknown name."""
    if name not in ARMS:
        raise ValueError(f"Unknown arm {name!r}: choose one of {', '.join(ARMS)}.")
    between: nn.Module = parts.qformer.requires_grad_(False)
    if name == "no_qformer":
        # The LLaMA-2 variant's way: each four neighbouring tokens, side by side, are one visual token.
        vision = study.profile.vision
        between = Concat(config=ConcatConfig(tokens=vision.tokens, vision_width=vision.width))
        # Deviation: `ln_vision` is set once, as the Q-Former's was, or a short training does not get past it.
        some = parts.tokens.batch(range(0, len(parts.tokens), max(1, len(parts.tokens) // 256)))
        QFormer.standardise(between, some)
    if name == "qformer_tuned":
        between = Slowly(deepcopy(parts.qformer), share=SLOW)
    with torch.no_grad():
        queries = between(first(parts.tokens))
    model = attach(study, between, parts.language, queries)
    if name == "three_layers":
        model.projection = ThreeLinear.behind(model.projection, seed=study.seed).to(study.device)
    return model


def arm(study: Study, name: str, parts: Parts, config: TrainConfig) -> tuple[MiniGPT4, Trained]:
    """Train one arm on its pairs as stage 1 is trained, with these settings."""
    model = untrained(study, name, parts)
    pairs = Pairs("tokens", parts.tokens, parts.split.captions)
    slots = model.qformer.config.queries
    layout = picture_layout(parts.language, prompts.CAPTION, slots, config.max_answer)
    trained = train(
        study,
        model,
        pairs,
        pairs.collate(layout),
        config,
        f"ablation-{name}",
        slow=SLOW,
        pictures=parts.split.key(),
        captions=hash_json(parts.split.captions),
        vision=sha256(study.vision_state),
    )
    if isinstance(model.qformer, Slowly):
        model.qformer = model.qformer.merged()
    return model, trained


def trial(config: TrainConfig, rate: float, steps: int) -> TrainConfig:
    """Return a short run at one rate, the whole schedule in small."""
    warmup = config.warmup_steps * steps // config.steps
    return replace(config, steps=steps, warmup_steps=warmup, lr=rate, min_lr=rate / 10)


def grid(
    study: Study, name: str, parts: Parts, val: Split, tokens: Sequence[Tensor]
) -> dict[float, Estimate]:
    """Try an arm at each rate of the profile: the loss a caption token on val, by rate.

    `tokens` are the vision tokens of val's pictures.
    """
    config = study.profile.ablation
    found = {}
    for rate in config.rates:
        model, _ = arm(study, name, parts, trial(config.train, rate, config.rate_steps))
        sums, counts = generate.losses(
            model,
            queries(model, tokens),
            val.captions,
            prompts.CAPTION,
            max_answer=config.train.max_answer,
            batch_size=study.profile.evaluation.batch_size,
        )
        found[rate] = metrics.ratio(sums, counts)
    return found


def settings(config: AblationConfig, name: str) -> TrainConfig:
    """Return how an arm is trained: at its own rate where the profile has one."""
    rate = dict(config.lrs).get(name)
    return config.train if rate is None else replace(config.train, lr=rate, min_lr=rate / 10)


@torch.inference_mode()
def queries(model: MiniGPT4, tokens: Sequence[Tensor], *, batch_size: int = 64) -> list[Tensor]:
    """Return what an arm's projection reads of each picture, (Q, D_q), from its vision tokens, (N, D_v)."""
    device = model.projection.weight.device
    found: list[Tensor] = []
    for rows in batched(tokens, batch_size):
        found += model.qformer(torch.stack(rows).to(device)).cpu()
    return found
