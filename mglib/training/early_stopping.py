"""Early stopping: training ends when the held-out loss no longer falls; the best weights are used."""

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


def fit_with_early_stopping(
    module: nn.Module,
    data: Dataset,
    collate: Collate,
    run: Run,
    *,
    held_out: Sequence[Batch],
    patience: int,
) -> Log:
    """Train as `fit` does, load the best weights into the module and return the losses on `held_out`.

    The loss is computed before the first step and at each fraction of `config.keep`; training ends after
    `patience` losses without a new best. For a single process.
    """
    if not run.weights(0).exists():
        save_weights(run.weights(0), checkpoint.trainable(module), {"step": 0, "seed": run.seed})

    def finished() -> bool:
        losses = evaluate_kept(module, held_out, run)
        return len(losses) - 1 - best(losses) >= patience

    fit(module, data, collate, run, finished=finished)
    losses = evaluate_kept(module, held_out, run)
    checkpoint.restore(module, kept(run.folder)[best(losses)])
    return losses


def evaluate_kept(module: nn.Module, batches: Sequence[Batch], run: Run) -> Log:
    """Return the `loss` after each `step` whose weights were kept, cached in the training's folder.

    The module is left unchanged. The losses depend on files alone, so a killed and resumed training ends
    where an uninterrupted one does.
    """
    losses = read_log(run.folder / LOSSES)
    new, trained = kept(run.folder)[len(losses) :], checkpoint.trainable(module)
    own = {name: value.detach().clone() for name, value in trained.items()} if new else {}
    for file in new:
        about = checkpoint.restore(module, file)
        losses.append({"step": about["step"], "loss": mean_loss(module, batches, run)})
        append(run.folder / LOSSES, losses[-1:])
    module.load_state_dict(own, strict=False)
    return losses


def best(losses: Log) -> int:
    """Return the index of the lowest loss, the first in a tie."""
    return min(range(len(losses)), key=lambda index: losses[index]["loss"])


@torch.no_grad()
def mean_loss(module: nn.Module, batches: Sequence[Batch], run: Run) -> float:
    """Return the module's mean loss over all answer tokens of some batches."""
    total, count = 0.0, 0
    for batch in batches:
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.bf16):
            output = module(send_to_device(batch, run.device))
        total, count = total + output["loss"].item(), count + int(module.count(batch))
    return total / count
