"""A training of the study, in a folder that is found by all that its result depends on.

One that was already done with the same settings and data is loaded, one that was stopped goes on.
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
    """Run `fit` in the folder of this training, or find what it left there, and freeze the module with its
    last weights; `what` is the training's name for people.
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
    """Return the run of a training, whose folder is found by its settings, the weights that it starts from,
    the language model, the code that it runs, and whatever else its result `depends` on: what it reads.

    A start that is computed is named by its origin, `start`, since each processor rounds it differently. In
    how many parts or processes a step is done does not change the result, and so not the folder either.
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
    """Return all weights but those of a frozen encoder or language model, which files and settings name."""
    backbones = (part for part in module.modules() if isinstance(part, Language | Vision))
    frozen = {id(p) for part in backbones for p in part.parameters() if not p.requires_grad}
    return {name: p for name, p in module.named_parameters() if id(p) not in frozen}
