"""Stage 1 changed: other parts between encoder and language model (the paper's ablation, T4; ICLR T5), and
fewer steps (ICLR T8).

Every arm of the ablation, the base included, is trained from the start at one budget on the same pairs; its
rate was chosen on val from one grid (`make tune`).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import pandas
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mglib import frame, metrics
from mglib.config import AblationConfig, ConcatConfig, TrainConfig
from mglib.data.splits import Pairs, batched
from mglib.errors import needed
from mglib.evals import coverage
from mglib.experiments import stage1
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.qformer import standardise
from mglib.model.token_concat import Concat
from mglib.paths import hash_json, sha256
from mglib.study.stage1 import Stage1, attach, first, picture_layout
from mglib.study.stage2 import with_own_projection
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.training.checkpoint import restore
from mglib.training.loop import Log, kept

SLOW = 0.1  # of the learning rate, for a Q-Former that is trained with the projection
ARMS = ("base", "no_qformer", "three_layers", "qformer_tuned")


class ThreeLinear(nn.Sequential):
    """Three linear layers where the paper has one; it names no activation between them."""

    @property
    def weight(self) -> Tensor:
        """The first layer's weight, which has the precision and the device of all."""
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
    depend on the size of the gradient, so w moves `share` times as far. Unlike a parameter group, this needs
    nothing of the training loop; weight decay draws w to where it was pretrained, not to zero; and where the
    projection takes Muon's steps, offsets still take AdamW's.
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


# --- Table 4: the arms ---


def init_arm(study: Study, name: str, base: Stage1) -> MiniGPT4:
    """Build one of the ARMS as it is before training."""
    tokens = base.tokens["train"]
    between: nn.Module = base.model.qformer.requires_grad_(False)
    if name == "no_qformer":
        # The LLaMA-2 variant's way: each four neighbouring tokens, side by side, are one visual token.
        vision = study.profile.vision
        between = Concat(config=ConcatConfig(tokens=vision.tokens, vision_width=vision.width))
        # Deviation: `ln_vision` is set once, as the Q-Former's was, or a short training does not get past it.
        some = tokens.batch(range(0, len(tokens), max(1, len(tokens) // 256)))
        standardise(between.ln_vision, some)
    if name == "qformer_tuned":
        between = Slowly(deepcopy(base.model.qformer), share=SLOW)
    with torch.no_grad():
        queries = between(first(tokens))
    model = attach(study, between, base.language, queries)
    if name == "three_layers":
        model.projection = ThreeLinear.behind(model.projection, seed=study.seed).to(study.device)
    return model


def train_arm(study: Study, name: str, base: Stage1, config: TrainConfig) -> tuple[MiniGPT4, Trained]:
    """Train one arm on its pairs as stage 1 is trained, with these settings."""
    model, split = init_arm(study, name, base), base.splits["train"]
    pairs = Pairs("tokens", base.tokens["train"], split.captions)
    slots = model.qformer.config.queries
    layout = picture_layout(base.language, prompts.CAPTION, slots, config.max_answer)
    trained = train(
        study,
        model,
        pairs,
        pairs.collate(layout),
        config,
        f"ablation-{name}",
        slow=SLOW,
        pictures=split.key(),
        captions=hash_json(split.captions),
        vision=sha256(study.vision_state),
    )
    if isinstance(model.qformer, Slowly):
        model.qformer = model.qformer.merged()
    return model, trained


def arms(study: Study, base: Stage1) -> tuple[dict[str, MiniGPT4], dict[str, Log]]:
    """Train every arm; returns the models and their logs. Without a budget *base* is stage 1's own model,
    alone.
    """
    config = study.profile.ablation
    if config is None:
        return {"base": base.model}, {}
    trained = {name: train_arm(study, name, base, settings(config, name)) for name in ARMS}
    models = {name: model for name, (model, _) in trained.items()}
    return models, {name: run.log for name, (_, run) in trained.items()}


def settings(config: AblationConfig, name: str) -> TrainConfig:
    """Return how an arm is trained: at its own rate where the profile has one."""
    rate = dict(config.lrs).get(name)
    return config.train if rate is None else replace(config.train, lr=rate, min_lr=rate / 10)


def rates(study: Study, base: Stage1) -> pandas.DataFrame:
    """Try every arm at each rate of the profile in a short run: its loss a caption token on val."""
    config, lines = needed(study.profile.ablation, "a profile with `ablation`, as `mini`"), []
    for name in ARMS:
        for rate in config.rates:
            model, _ = train_arm(study, name, base, stage1.trial(config.train, rate, config.rate_steps))
            val = queries(model, base.tokens["val"])
            loss = stage1.caption_loss(study, model, val, base.splits["val"].captions).estimate()
            tried = {"arm": name, "lr": rate, "steps": config.rate_steps}
            lines.append({**tried, **metrics.columns("loss", loss)})
    return pandas.DataFrame(lines)


@torch.inference_mode()
def queries(model: MiniGPT4, tokens: Sequence[Tensor], *, batch_size: int = 64) -> list[Tensor]:
    """Return what an arm's projection reads of each picture, (Q, D_q), from its vision tokens, (N, D_v)."""
    device = model.projection.weight.device
    found: list[Tensor] = []
    for rows in batched(tokens, batch_size):
        found += model.qformer(torch.stack(rows).to(device)).cpu()
    return found


def captions(study: Study, base: Stage1, models: Mapping[str, MiniGPT4], count: int) -> dict[str, list[str]]:
    """Let each arm caption the first test pictures, in the form that all of them were trained in."""
    tokens = [base.tokens[study.tests[0]][row] for row in range(count)]
    return {
        name: stage1.captions(study, model, queries(model, tokens), what=name)
        for name, model in models.items()
    }


# --- ICLR Table 8: fewer steps ---


def saturation(study: Study, base: Stage1) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Caption the first test pictures with each projection that stage 1 kept, by percent of its steps.

    Returns how many references are covered, with the words of a caption, and, paired, what the rest of the
    steps still brings, and a quarter of what half of them bring, minus what the other half adds; no rows
    where there is no judge.
    """
    split, model = study.tests[0], with_own_projection(base.model)
    count = min(len(base.splits[split]), study.profile.evaluation.along_pictures)
    shown = [base.queries[split][row] for row in range(count)]
    references, known = base.splits[split].references[:count], study.judge(split)
    found, rest = {}, {}
    for state in kept(base.trained.folder) if known else ():
        share = round(100 * restore(model, state)["step"] / study.profile.stage1.steps)
        texts = stage1.captions(study, model, shown, what=f"{share} % of stage 1")
        covered = coverage.references_covered(texts, references, needed(known, "facts of the references"))
        words = metrics.each([len(text.split()) for text in texts])
        found[str(share)] = {"references_covered": covered, "words": words}
    for share in [one for one in found if one != "100"]:
        both = (found[one]["references_covered"] for one in ("100", share))
        rest[f"gained_from_{share}"] = {"references_covered": metrics.paired(*both)}
    if {"50", "100"} <= found.keys():
        half, whole = (found[share]["references_covered"] for share in ("50", "100"))
        more = metrics.Counts([1.25 * one for one in half.found], half.among)
        rest["quarter_minus_gain"] = {"references_covered": metrics.paired(more, whole)}
    note = "of five, by stored facts; greedy short captions after stage 1; the paper's by GPT-4 after stage 2"
    notes = {"references_covered": note, "words": "mean of the same captions"}
    gains = frame.rows("t8", rest, note="to the end of stage 1, paired")
    return frame.rows("t8", found, note=notes), gains
