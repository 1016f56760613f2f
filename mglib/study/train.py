"""A training of the study: it runs in a folder named by all that its result depends on.

One that was already done with the same settings and data is loaded, one that was stopped goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn
from torch.utils.data import Dataset

from mglib.config import TrainConfig
from mglib.keys import hash_source
from mglib.model.language import Language
from mglib.model.vision import Vision
from mglib.study.study import Study
from mglib.training.loop import Stream, fit, kept
from mglib.weights.tensors import hash_tensors


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    folder: Path
    log: list[dict[str, float]]

    @property
    def state(self) -> Path:
        """The weights after the last step."""
        return kept(self.folder)[-1]


def train(
    study: Study,
    module: nn.Module,
    data: Dataset | Stream,
    collate: Callable | None,
    config: TrainConfig,
    what: str,
    *depends: object,
) -> Trained:
    """Run `fit` in the folder of this training, or find what it left there; `what` is shown meanwhile."""
    folder = training_folder(study, module, data, collate, config, what, *depends)
    log = fit(
        module.to(study.device),
        data,
        collate,
        config,
        folder,
        seed=study.seed,
        what=what,
        device=study.device,
        bf16=study.bf16,
    )
    return Trained(folder, log)


def training_folder(
    study: Study,
    module: nn.Module,
    data: Dataset | Stream,
    collate: Callable | None,
    config: TrainConfig,
    what: str,
    *depends: object,
) -> Path:
    """Return the folder of a training: found by its settings, the weights that it starts from, the code that
    it runs, and whatever else its result `depends` on, above all what is frozen and what is read.

    In how many parts or processes a step is done does not change the result, and so not the folder either.
    """
    kinds = dict.fromkeys(type(part) for part in module.modules())
    code = hash_source(fit, *kinds, type(data), *([collate] if collate else []))
    start = hash_tensors(without_backbones(module))
    return study.folder(what, replace(config, accumulate=1), start, code, *depends)


def without_backbones(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return all weights but those of a frozen encoder or language model, which files and settings name."""
    backbones = (part for part in module.modules() if isinstance(part, Language | Vision))
    frozen = {id(p) for part in backbones for p in part.parameters() if not p.requires_grad}
    return {name: p for name, p in module.named_parameters() if id(p) not in frozen}
