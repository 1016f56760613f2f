"""Early stopping: a training ends when its loss on held-out batches no longer falls, and its best weights are
taken.
"""

from collections.abc import Sequence

import torch
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import Dataset

from mglib.data.journal import append, read_log
from mglib.training import checkpoint
from mglib.training.loop import Batch, Collate, Log, Run, fit, kept
from mglib.weights.tensors import save_weights

LOSSES = "held_out.jsonl"


class Evaluation:
    """The held-out loss of all weights that a training keeps, each computed once, in the training's folder.

    It depends on files alone, so a training that was killed ends where an uninterrupted one does.
    """

    def __init__(self, module: nn.Module, batches: Sequence[Batch], run: Run) -> None:
        self.module, self.batches, self.run = module, batches, run

    @property
    def losses(self) -> Log:
        """The `loss` after each `step` that was kept, from the weights before the first step on."""
        return read_log(self.run.folder / LOSSES)

    def best(self) -> int:
        """Return the index of the lowest loss, the first of several."""
        losses = [line["loss"] for line in self.losses]
        return losses.index(min(losses))

    def without_gain(self) -> int:
        """Evaluate what was kept since the last call; returns how many losses follow the lowest one."""
        new, trained = kept(self.run.folder)[len(self.losses) :], checkpoint.trainable(self.module)
        own = {name: value.detach().clone() for name, value in trained.items()} if new else {}
        for file in new:
            about = checkpoint.restore(self.module, file)
            append(self.run.folder / LOSSES, [{"step": about["step"], "loss": self.loss()}])
        with torch.no_grad():
            for name, value in own.items():
                trained[name].copy_(value)
        return len(self.losses) - 1 - self.best()

    @torch.no_grad()
    def loss(self) -> float:
        """Return the module's mean loss over all answer tokens of the held-out batches."""
        total, count = 0.0, 0
        for batch in self.batches:
            with torch.autocast(self.run.device.type, torch.bfloat16, enabled=self.run.bf16):
                output = self.module(send_to_device(batch, self.run.device))
            total, count = total + output["loss"].item(), count + int(self.module.count(batch))
        return total / count


def fit_with_early_stopping(
    module: nn.Module,
    data: Dataset,
    collate: Collate,
    run: Run,
    *,
    held_out: Sequence[Batch],
    patience: int,
) -> Log:
    """Train as `fit` does, fill the module with its best weights and return the losses on `held_out`.

    The loss is computed before the first step and at each fraction of `config.keep`; the training ends after
    `patience` losses that are no lower than the best. For one process.
    """
    if not run.weights(0).exists():
        save_weights(run.weights(0), checkpoint.trainable(module), {"step": 0, "seed": run.seed})
    evaluation = Evaluation(module, held_out, run)
    fit(module, data, collate, run, finished=lambda: evaluation.without_gain() >= patience)
    evaluation.without_gain()
    checkpoint.restore(module, kept(run.folder)[evaluation.best()])
    return evaluation.losses
