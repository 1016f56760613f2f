"""Early stopping: a training ends when what was held out is no longer answered better, and its best weights
are taken. The loop knows nothing of it: it is watched from outside.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import Dataset

from mglib.config import TrainConfig
from mglib.data.journal import append, read_log
from mglib.training import checkpoint
from mglib.training.loop import fit, kept
from mglib.weights.tensors import save_weights

LOOKS = "held_out.jsonl"


class Enough(Exception):
    """The held-out loss has not fallen for as many looks as there was patience for."""


class Watch:
    """Computes the held-out loss of all weights that a training keeps, each once, in the training's folder.

    What it does hangs on files alone, so that a training which was killed is stopped where the whole one is.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Sequence[dict[str, Any]],
        folder: Path,
        *,
        patience: int,
        device: torch.device,
        bf16: bool,
    ) -> None:
        self.module, self.batches, self.folder, self.patience = module, batches, folder, patience
        self.device, self.bf16 = device, bf16

    @property
    def looks(self) -> list[dict[str, float]]:
        """What was seen so far: `step` and `loss`, from the weights before the first step on."""
        return read_log(self.folder / LOOKS)

    def best(self) -> int:
        """Return the number of the look with the lowest loss, the first of several."""
        losses = [look["loss"] for look in self.looks]
        return losses.index(min(losses))

    def __call__(self, *_: Any) -> None:
        """Look before a step; raises Enough where the training should end."""
        self.catch_up()
        if len(self.looks) - 1 - self.best() >= self.patience:
            raise Enough

    def catch_up(self) -> None:
        """Look at the weights that were kept since the last look; the module's own are put back."""
        unseen = kept(self.folder)[len(self.looks) :]
        if not unseen:
            return
        own = {name: value.detach().clone() for name, value in checkpoint.trainable(self.module).items()}
        for file in unseen:
            about = checkpoint.restore(self.module, file)
            append(self.folder / LOOKS, [{"step": about["step"], "loss": self.loss()}])
        with torch.no_grad():
            for name, value in checkpoint.trainable(self.module).items():
                value.copy_(own[name])

    @torch.no_grad()
    def loss(self) -> float:
        """Return the module's loss on what was held out: the mean over all answer tokens."""
        total, count = 0.0, 0
        for batch in self.batches:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                output = self.module.forward(send_to_device(batch, self.device))  # past the hook
            total, count = total + output["loss"].item(), count + int(output["count"])
        return total / count


def fit_watched(
    module: nn.Module,
    data: Dataset,
    collate: Callable[[list], dict[str, Any]],
    config: TrainConfig,
    folder: Path,
    *,
    held_out: Sequence[dict[str, Any]],
    patience: int,
    seed: int,
    what: str,
    device: torch.device,
    bf16: bool = False,
) -> list[dict[str, float]]:
    """Train as `fit` does, fill the module with its best weights and return the looks at the batches
    `held_out`.

    There is a look at each fraction of `config.keep` and one before the first step; after `patience` looks
    without a lower loss the training ends. For one process.
    """
    start = folder / "step-000000.safetensors"
    if not start.exists():
        save_weights(start, checkpoint.trainable(module), {"step": 0, "seed": seed})
    watch = Watch(module, held_out, folder, patience=patience, device=device, bf16=bf16)
    hook = module.register_forward_pre_hook(watch)
    try:
        with suppress(Enough):
            watch()  # it may have been enough in an earlier run
            fit(module, data, collate, config, folder, seed=seed, what=what, device=device, bf16=bf16)
    finally:
        hook.remove()
    watch.catch_up()
    checkpoint.restore(module, kept(folder)[watch.best()])
    return watch.looks
