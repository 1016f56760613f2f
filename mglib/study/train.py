"""Trainings of the study, each in a folder keyed by all that its result depends on.

One that has finished with the same settings and data is loaded, one that was stopped is resumed.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn
from torch.utils.data import Dataset

from mglib.config import TrainConfig
from mglib.keys import hash_source
from mglib.model.language import Language
from mglib.model.vision import Vision
from mglib.study.study import Study
from mglib.training.checkpoint import freeze
from mglib.training.loop import Collate, Log, Run, Stream, fit, kept
from mglib.weights.tensors import hash_tensors


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    folder: Path
    log: Log

    @property
    def state(self) -> Path:
        """The weights after the last step."""
        return kept(self.folder)[-1]


def train(
    study: Study,
    module: nn.Module,
    data: Dataset | Stream,
    collate: Collate | None,
    config: TrainConfig,
    what: str,
    start: object = None,  # else the weights of the module
    **depends: object,
) -> Trained:
    """Run `fit` in the folder of this training, or load what it left there, and freeze the module with its
    last weights; `what` is the training's label.
    """
    run = training_run(study, module, data, collate, config, what, start, **depends)
    trained = Trained(run.folder, fit(module.to(study.device), data, collate, run))
    freeze(module, trained.state)
    return trained


def training_run(
    study: Study,
    module: nn.Module,
    data: Dataset | Stream,
    collate: Collate | None,
    config: TrainConfig,
    what: str,
    start: object = None,  # else the weights of the module
    **depends: object,
) -> Run:
    """Return the run of a training, whose folder is keyed by its settings, the weights that it starts from,
    the language model, the code that it runs, and all else that its result `depends` on, such as its data.

    A computed start is keyed by its origin, `start`, since processors round it differently. The number of
    parts or processes per step changes neither the result nor the folder.
    """
    kinds = dict.fromkeys(type(part) for part in module.modules())
    folder = study.folder(
        what,
        config=replace(config, accumulate=1),
        start=start or hash_tensors(without_backbones(module)),
        languages=[part.settings() for part in module.modules() if isinstance(part, Language)],
        code=hash_source(fit, *kinds, type(data), *([collate] if collate else [])),
        **depends,
    )
    return Run(config=config, folder=folder, seed=study.seed, device=study.device, bf16=study.bf16, what=what)


def without_backbones(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return all weights but those of frozen encoders or language models, known by files and settings."""
    backbones = (part for part in module.modules() if isinstance(part, Language | Vision))
    frozen = {id(p) for part in backbones for p in part.parameters() if not p.requires_grad}
    return {name: p for name, p in module.named_parameters() if id(p) not in frozen}
