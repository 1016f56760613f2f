"""Ablations of stage 1: other parts between encoder and language model (the paper's T4; ICLR T5), and fewer
steps (ICLR T8).

Every arm trains for as many steps as the base, on the same pairs and from the same kind of start; its
learning rate was chosen on val from one grid (`make tune`). The arms concern the picture's side only, so they
use the profile's weaker language model, at a third of the cost.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import product

import pandas
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mglib import frame, metrics
from mglib.config import ConcatConfig, Profile, TrainConfig
from mglib.data.splits import Pairs, batched
from mglib.errors import needed
from mglib.evals import coverage
from mglib.experiments import stage1
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.qformer import standardise
from mglib.model.token_concat import Concat
from mglib.paths import hash_json, sha256
from mglib.study.stage1 import Stage1, behind_weaker, origin, picture_layout, with_warm_start
from mglib.study.stage2 import with_own_projection
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.training.checkpoint import restore
from mglib.training.loop import Log, kept

SLOW = 0.1  # times the learning rate, for a Q-Former trained along with the projection
ARMS = ("base", "no_qformer", "three_layers", "qformer_tuned")


class ThreeLinear(nn.Sequential):
    """Three linear layers instead of one; the paper mentions no activation between them."""

    @property
    def weight(self) -> Tensor:
        """The first layer's weight, whose dtype and device all layers share."""
        return self[0].weight

    @classmethod
    def behind(cls, first: nn.Linear) -> "ThreeLinear":
        """Append two identity layers to a first one, so that all arms start alike."""
        layers = [nn.Linear(first.out_features, first.out_features) for _ in range(2)]
        for layer in layers:
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        return cls(first, *layers)


class Slowly(nn.Module):
    """A pretrained part with a learning rate of its own: `share` times that of everything else.

    A weight is w0 + share * offset; only the offset, initially zero, is trained. AdamW's step is independent
    of the gradient's scale, so w moves `share` times as far. Unlike a parameter group, this needs no support
    from the training loop; weight decay pulls w towards its pretrained value, not to zero; and if the
    projection is trained with Muon, the offsets still use AdamW.
    """

    def __init__(self, part: nn.Module, *, share: float) -> None:
        super().__init__()
        self.part, self.share, self.config = part.requires_grad_(False), share, part.config
        self.names = [name for name, _ in part.named_parameters()]
        self.offsets = nn.ParameterList(torch.zeros_like(weight) for weight in part.parameters())

    def weights(self) -> dict[str, Tensor]:
        """Return the current weights by their names in the part."""
        moved = zip(self.names, self.part.parameters(), self.offsets, strict=True)
        return {name: weight + self.share * offset for name, weight, offset in moved}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the part with its current weights."""
        return functional_call(self.part, self.weights(), inputs)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the part with the offsets merged into its own weights."""
        own = dict(self.part.named_parameters())
        for name, weight in self.weights().items():
            own[name].copy_(weight)
        return self.part


# --- Table 4: the arms ---


def init_arm(study: Study, name: str, base: Stage1) -> MiniGPT4:
    """Build one of the ARMS before training, initialised as stage 1 is."""
    tokens = base.tokens["train"]
    between: nn.Module = base.model.qformer.requires_grad_(False)
    seen: Sequence[Tensor] = base.queries["train"]
    if name == "no_qformer":
        # As in the LLaMA-2 variant: every four neighbouring tokens are concatenated into one visual token.
        vision = study.profile.vision
        between = Concat(config=ConcatConfig(tokens=vision.tokens, vision_width=vision.width))
        # Deviation: `ln_vision` is standardised once, as the Q-Former's was, since the run is short.
        some = tokens.batch(range(0, len(tokens), max(1, len(tokens) // 256)))
        standardise(between.ln_vision, some)
        seen = queries(between.to(study.device), tokens)
    if name == "qformer_tuned":
        between = Slowly(deepcopy(base.model.qformer), share=SLOW)
    model = with_warm_start(study, between, base.language, seen, base.splits["train"].captions)
    if name == "three_layers":
        model.projection = ThreeLinear.behind(model.projection).to(study.device)
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
        start=name + origin(study, base.model.qformer, init_arm),
        slow=SLOW,
        pictures=split.key(),
        captions=hash_json(split.captions),
        vision=sha256(study.vision_state),
    )
    if isinstance(model.qformer, Slowly):
        model.qformer = model.qformer.merged()
    return model, trained


def arms(study: Study, base: Stage1) -> tuple[dict[str, MiniGPT4], dict[str, Log]]:
    """Train every arm except the base, which is stage 1; returns the models and their logs, or only *base* if
    the profile has no ablation.
    """
    if study.profile.ablation is None:
        return {"base": base.model}, {}
    study, base = behind_weaker(study, base)
    models, logs = {"base": base.model}, {"base": base.trained.log}
    for name in ARMS[1:]:
        models[name], trained = train_arm(study, name, base, settings(study.profile, name))
        logs[name] = trained.log
    return models, logs


def settings(profile: Profile, name: str) -> TrainConfig:
    """Return an arm's training settings: those of stage 1, at the arm's own rate if the profile has one."""
    config = needed(profile.ablation, "a profile with `ablation`, as `mini`")
    rate = dict(config.lrs).get(name, profile.stage1.lr)
    return replace(profile.stage1, lr=rate, min_lr=rate / 10, keep=(1.0,))


def rates(study: Study, base: Stage1) -> pandas.DataFrame:
    """Try every arm except the base in a short run at each rate of the profile: the loss per token on val."""
    config, lines = needed(study.profile.ablation, "a profile with `ablation`, as `mini`"), []
    study, base = behind_weaker(study, base)
    for name, rate in product(ARMS[1:], config.rates):
        short = stage1.trial(settings(study.profile, name), rate, config.rate_steps)
        model, _ = train_arm(study, name, base, short)
        val = queries(model.qformer, base.tokens["val"])
        loss = stage1.caption_loss(study, model, val, base.splits["val"].captions).estimate()
        lines.append({"arm": name, "lr": rate, "steps": short.steps, **metrics.columns("loss", loss)})
    return pandas.DataFrame(lines)


@torch.inference_mode()
def queries(between: nn.Module, tokens: Sequence[Tensor], *, batch_size: int = 64) -> list[Tensor]:
    """Return the input of an arm's projection for each picture, (Q, D_q), from vision tokens, (N, D_v)."""
    device = next(between.parameters()).device
    found: list[Tensor] = []
    for rows in batched(tokens, batch_size):
        found += between(torch.stack(rows).to(device)).cpu()
    return found


def captions(study: Study, base: Stage1, models: Mapping[str, MiniGPT4], count: int) -> dict[str, list[str]]:
    """Let each arm caption the first test pictures, in the prompt format of its training."""
    tokens = [base.tokens[study.tests[0]][row] for row in range(count)]
    return {
        name: stage1.captions(study, model, queries(model.qformer, tokens), what=name)
        for name, model in models.items()
    }


# --- ICLR Table 8: fewer steps ---


def saturation(study: Study, base: Stage1) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Caption the first test pictures with each projection that stage 1 kept, by percent of its steps.

    Returns the references covered and the words per caption; and, paired, the gain from each of these to the
    end, and a quarter of what half of the steps cover minus what the other half adds. No rows if there is no
    judge.
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
