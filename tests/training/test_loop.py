"""The training loop: the official schedule, one pass over the data per epoch, and exact resume."""

import math
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

from mglib.config import TrainConfig
from mglib.paths import ROOT, read_jsonl
from mglib.training.loop import Run, fit, kept, learning_rate, make_optimizers
from mglib.weights.tensors import load_weights

CPU = torch.device("cpu")
PAPER = TrainConfig(steps=20_000, batch_size=256, lr=1e-4, min_lr=8e-5, warmup_steps=5_000)


class Killed(Exception):
    """Simulates a kill."""


class Toy(nn.Module):
    """A network with two trained layers that can stop at a step and records which samples it saw."""

    def __init__(self, *, die_at=None, bad_at=None, noise=0.0, pause=0.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.frozen, self.second = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.frozen.requires_grad_(False)
        self.die_at, self.bad_at, self.noise, self.pause = die_at, bad_at, noise, pause
        self.seen = []

    def count(self, batch):
        return torch.tensor(len(batch["x"]))

    def forward(self, batch):
        if len(self.seen) == self.die_at:
            raise Killed
        self.seen.append(batch["number"].tolist())
        time.sleep(self.pause)
        found = self.second(self.frozen(self.first(batch["x"])).tanh()).squeeze(1)
        errors = (found - batch["x"].sum(1) + self.noise * torch.randn(())) ** 2
        if len(self.seen) - 1 == self.bad_at:
            errors = errors * math.nan
        return {"loss": errors.sum(), "largest": errors.detach().max()}


def samples(count=12):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(1))
    return list(enumerate(x))


def collate(rows):
    numbers, x = zip(*rows, strict=True)
    return {"number": torch.tensor(numbers), "x": torch.stack(x)}


def settings(**changes):
    common = {"steps": 11, "batch_size": 3, "lr": 1e-2, "min_lr": 1e-3, "warmup_steps": 3, "save_every": 5}
    return TrainConfig(**{**common, **changes})


def train(module, folder, config=None, data=None):
    run = Run(config=config or settings(), folder=folder, seed=0, what="toy", device=CPU)
    return fit(module, data or samples(), collate, run)


def lines(log):
    """Return a log without the speed, the only thing that may differ."""
    return [{name: value for name, value in line.items() if name != "samples_per_second"} for line in log]


def same_state(one: Path, other: Path):
    """Tell whether two folders hold the same weights, optimizer, generator and log, bit for bit."""
    states = [load_weights(folder / "latest.safetensors") for folder in (one, other)]
    assert states[0][0].keys() == states[1][0].keys() and states[0][1] == states[1][1]
    assert [path.name for path in kept(one)] == [path.name for path in kept(other)]
    assert lines(read_jsonl(one / "log.jsonl")) == lines(read_jsonl(other / "log.jsonl"))
    weights = [load_weights(kept(folder)[-1])[0] for folder in (one, other)]
    return all(
        torch.equal(tensors[0][name], tensors[1][name])
        for tensors in ([states[0][0], states[1][0]], weights)
        for name in tensors[0]
    )


# --- the schedule ---


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-6),
        (4_999, 99.9802e-6),
        (5_000, 97.07106781e-6),  # a cosine over all steps: the warm-up is not subtracted
        (19_999, 80.00000012e-6),
    ],
)
def test_the_rate_is_the_official_one_of_stage_1(step, rate):
    assert learning_rate(step, PAPER) == pytest.approx(rate, rel=1e-8, abs=0)


# --- the optimizer ---


def test_muon_takes_the_weights_of_linear_layers_alone():
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    module[1].bias.requires_grad_(False)
    adamw, muon = make_optimizers(module, settings(muon=True), torch.float32)
    assert [id(p) for group in muon.param_groups for p in group["params"]] == [id(module[1].weight)]
    rest = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert rest == {id(module[0].weight), id(module[2].weight), id(module[2].bias)}


def test_two_steps_are_those_of_adamw_with_the_papers_betas_and_biases_do_not_decay(tmp_path):
    config, module, reference = settings(steps=2, weight_decay=0.5), Toy(), Toy()
    train(module, tmp_path, config)
    decayed, free = (
        [p for p in reference.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False)
    )
    groups = [{"params": decayed, "weight_decay": 0.5}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999))
    for step, numbers in enumerate(module.seen):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = learning_rate(step, config)
        output = reference(collate([samples()[number] for number in numbers]))
        optimizer.zero_grad()
        (output["loss"] / len(numbers)).backward()
        optimizer.step()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(module.get_parameter(name), parameter)


def first_moments(folder):
    state, _ = load_weights(folder / "latest.safetensors")
    moments = [value.flatten() for name, value in state.items() if name.endswith(".exp_avg")]
    return torch.cat(moments)


def test_a_clipped_gradient_is_as_long_as_the_limit(tmp_path):
    """After one step the first moment is a tenth of the gradient that the optimizer was given."""
    free = train(Toy(), tmp_path / "free", settings(steps=1))
    clipped = train(Toy(), tmp_path / "clipped", settings(steps=1, clip=0.25))
    assert free[0]["grad_norm"] == clipped[0]["grad_norm"] > 0.25  # the norm before clipping is logged
    assert 10 * first_moments(tmp_path / "free").norm().item() == pytest.approx(free[0]["grad_norm"])
    assert 10 * first_moments(tmp_path / "clipped").norm().item() == pytest.approx(0.25, rel=1e-4)


# --- the samples ---


def test_each_epoch_sees_every_sample_once_in_another_order(tmp_path):
    module = Toy()
    train(module, tmp_path, settings(steps=12))
    epochs = [list(chain(*module.seen[start : start + 4])) for start in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_the_last_samples_that_fill_no_batch_wait_for_another_epoch(tmp_path):
    module = Toy()
    train(module, tmp_path, settings(steps=40), data=samples(11))
    assert all(len(numbers) == 3 for numbers in module.seen)
    assert set(chain(*module.seen)) == set(range(11))


def test_the_global_random_state_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    train(Toy(noise=0.1), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_samples_are_named(tmp_path):
    with pytest.raises(ValueError, match="toy: 2 samples do not fill one batch of 3"):
        train(Toy(), tmp_path, data=samples(2))


# --- what a training leaves ---


def test_the_asked_fractions_of_a_run_are_kept(tmp_path):
    config = settings(steps=20, keep=(0.01, 0.1, 0.5))
    train(Toy(), tmp_path, config)
    assert [path.name for path in kept(tmp_path)] == [
        f"step-{step:06d}.safetensors" for step in (1, 2, 10, 20)
    ]
    weights, about = load_weights(kept(tmp_path)[2])
    assert about == {"step": 10, "seed": 0}
    assert set(weights) == {f"{layer}.{part}" for layer in ("first", "second") for part in ("weight", "bias")}


def test_the_log_holds_all_that_the_module_returns(tmp_path):
    log = train(Toy(), tmp_path)
    names = {"step", "loss", "lr", "grad_norm", "samples_per_second", "largest"}
    assert all(set(line) == names for line in log)
    assert log == read_jsonl(tmp_path / "log.jsonl")
    assert all(line["loss"] <= line["largest"] for line in log)  # a mean
    assert [line["step"] for line in log] == list(range(1, 12))
    assert [line["lr"] for line in log] == [learning_rate(step, settings()) for step in range(11)]


def test_a_finished_folder_trains_nothing_and_fills_the_module(tmp_path):
    done, again = Toy(), Toy(die_at=0)
    log = train(done, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert train(again, tmp_path) == log
    assert all(torch.equal(p, q) for p, q in zip(done.parameters(), again.parameters(), strict=True))
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


# --- stopping and resuming ---


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("never-stopped")
    train(Toy(), folder)
    return folder


@pytest.mark.parametrize(
    ("die_at", "save_every", "muon"),
    [
        pytest.param(5, 5, False, id="in the middle of the second epoch"),
        pytest.param(8, 5, True, id="three steps after the checkpoint"),
        pytest.param(8, 4, False, id="between two epochs"),
        pytest.param(3, 5, False, id="before the first checkpoint"),
    ],
)
def test_a_resumed_training_is_one_that_never_stopped(tmp_path, die_at, save_every, muon):
    """Whatever the new module's weights, the global generator's state and the pass over the loader."""
    config = settings(save_every=save_every, muon=muon)
    train(Toy(noise=0.1), tmp_path / "whole", config)
    with pytest.raises(Killed):
        train(Toy(noise=0.1, die_at=die_at), tmp_path / "stopped", config)
    module = Toy(noise=0.1)
    if die_at >= save_every:
        nn.init.normal_(module.first.weight)
    torch.manual_seed(99)
    train(module, tmp_path / "stopped", config)
    assert len(module.seen) == 11 - die_at // save_every * save_every
    assert same_state(tmp_path / "whole", tmp_path / "stopped")


def test_a_kill_between_the_log_and_the_state_does_no_harm(tmp_path, never_stopped):
    with pytest.raises(Killed):
        train(Toy(die_at=9), tmp_path)
    older = (tmp_path / "latest.safetensors").read_bytes()
    with pytest.raises(Killed):
        train(Toy(die_at=4), tmp_path, settings(save_every=3))
    (tmp_path / "latest.safetensors").write_bytes(older)
    assert len(read_jsonl(tmp_path / "log.jsonl")) == 9  # the state is that of step 5
    train(Toy(), tmp_path)
    assert same_state(tmp_path, never_stopped)


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_checkpoint(tmp_path, never_stopped):
    advice = r"became nan at step 7: lower the learning rate \(0\.0.*the last checkpoint is kept"
    with pytest.raises(FloatingPointError, match=advice):
        train(Toy(bad_at=7), tmp_path)
    assert load_weights(tmp_path / "latest.safetensors")[1]["step"] == 5
    train(Toy(), tmp_path)
    assert same_state(tmp_path, never_stopped)


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
SLOWLY = "import sys, pathlib, test_loop as t; t.train(t.Toy(pause=0.1), pathlib.Path(sys.argv[1]), t.LONG)"
LONG = settings(steps=60, save_every=2)


def test_a_real_kill_loses_nothing(tmp_path):
    state = tmp_path / "killed" / "latest.safetensors"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(state.parent)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    train(Toy(), tmp_path / "whole", LONG)
    try:
        while not state.exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.45)  # some steps later, most likely in the middle of one
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 2 <= load_weights(state)[1]["step"] < 60
    module = Toy()
    train(module, state.parent, LONG)
    assert 0 < len(module.seen) < 60
    assert same_state(state.parent, tmp_path / "whole")


TWICE = """
import os, pathlib, sys, test_loop as t
child = os.fork()
t.train(t.Toy(pause=0.02), pathlib.Path(sys.argv[1]), t.LONG)
if child:
    sys.exit(os.waitpid(child, 0)[1] != 0)
"""


def test_two_runs_at_once_train_once(tmp_path):
    line = [sys.executable, "-c", TWICE, str(tmp_path / "shared")]
    subprocess.run(line, env=ENVIRONMENT, stderr=subprocess.DEVNULL, timeout=120, check=True)
    train(Toy(), tmp_path / "alone", LONG)
    assert same_state(tmp_path / "shared", tmp_path / "alone")
    assert len(read_jsonl(tmp_path / "shared" / "log.jsonl")) == 60
