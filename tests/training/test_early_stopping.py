"""Early stopping: the best weights are kept, a training ends in time, and a kill changes nothing."""

import pytest
import torch
from torch import nn

from mglib.config import TrainConfig
from mglib.paths import read_jsonl
from mglib.training import loop
from mglib.training.early_stopping import LOSSES, fit_with_early_stopping
from mglib.training.loop import Run, fit

CPU = torch.device("cpu")


class Line(nn.Module):
    """One weight that is pulled towards the batch's numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.steps = 0

    def count(self, batch):
        return torch.tensor(len(batch["x"]))

    def forward(self, batch):
        self.steps += torch.is_grad_enabled()
        return {"loss": ((self.weight - batch["x"]) ** 2).sum()}


def collate(rows):
    return {"x": torch.tensor(rows)}


def settings(**changes):
    """Return the settings of twenty steps of 0.1 each, with an evaluation every second step."""
    keep = tuple((look + 1) / 10 for look in range(10))
    common = {"steps": 20, "batch_size": 2, "lr": 0.1, "min_lr": 0.1, "warmup_steps": 0, "weight_decay": 0.0}
    return TrainConfig(**{**common, "save_every": 2, "keep": keep, **changes})


def train(folder, wanted, *, patience=3, module=None, config=None):
    """Train the weight towards 10; the held-out loss is lowest at `wanted`."""
    module = module or Line()
    run = Run(config=config or settings(), folder=folder, seed=0, device=CPU)
    held_out = [{"x": torch.tensor([wanted])}, {"x": torch.tensor([wanted, wanted])}]
    losses = fit_with_early_stopping(module, [10.0] * 4, collate, run, held_out=held_out, patience=patience)
    return module, losses


def test_the_best_weights_are_left_and_the_training_ends_after_its_patience(tmp_path):
    module, looks = train(tmp_path, 0.62)  # steps are of 0.1: best after six
    assert [look["step"] for look in looks] == [0, 2, 4, 6, 8, 10, 12]
    assert min(looks, key=lambda look: look["loss"])["step"] == 6 and module.steps == 12
    assert module.weight.item() == pytest.approx(0.6, abs=0.02)
    assert looks[0]["loss"] == pytest.approx(0.62**2)  # a mean over both batches


def test_without_an_end_it_trains_as_the_loop_alone_does(tmp_path):
    module, looks = train(tmp_path / "watched", 9.0)
    alone = Line()
    fit(alone, [10.0] * 4, collate, Run(config=settings(), folder=tmp_path / "alone", seed=0, device=CPU))
    assert torch.equal(module.weight, alone.weight) and looks[-1]["step"] == 20 and len(looks) == 11


def test_what_never_helps_leaves_the_start(tmp_path):
    module, looks = train(tmp_path, -1.0)
    assert module.weight.item() == 0 and [look["step"] for look in looks] == [0, 2, 4, 6]


@pytest.mark.parametrize("die", [1, 5, 6, 7, 11])
def test_a_kill_changes_nothing(tmp_path, monkeypatch, die):
    whole, looks = train(tmp_path / "whole", 0.62)
    save = loop.save_progress

    def killed(module, optimizers, history, *rest):
        if len(history) == die:
            raise KeyboardInterrupt
        save(module, optimizers, history, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_progress", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "again", 0.62)
    again, found = train(tmp_path / "again", 0.62)
    assert found == looks and torch.equal(again.weight, whole.weight)
    assert read_jsonl(tmp_path / "again" / LOSSES) == looks


def test_a_finished_training_is_found_again_without_a_step(tmp_path):
    module, looks = train(tmp_path, 0.62)
    again, found = train(tmp_path, 0.62)
    assert found == looks and torch.equal(again.weight, module.weight) and again.steps == 0
