"""The training loop of all stages: the official schedule and exact resume, on accelerate.

It runs in one process or in several, with the same steps: each process takes its share of every batch.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import gather_object, send_to_device
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mglib.config import TrainConfig
from mglib.locks import locked
from mglib.paths import read_jsonl, write_text
from mglib.training import checkpoint
from mglib.training.muon import Muon
from mglib.weights import tensors

Batch = dict[str, Any]
Collate = Callable[[list], Batch]
Log = list[dict[str, float]]  # one line per step


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training's settings, its folder and its device."""

    config: TrainConfig
    folder: Path  # named by everything that the result depends on
    seed: int
    device: torch.device
    bf16: bool = False  # whether products are in bfloat16; the trained weights stay in float32
    what: str = "training"  # its name in the progress bar and in errors

    @property
    def latest(self) -> Path:
        """The state from which the training resumes."""
        return self.folder / "latest.safetensors"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    def weights(self, step: int) -> Path:
        """Return the file that holds the trained weights after a step."""
        return self.folder / f"step-{step:06d}.safetensors"

    def keeps(self, step: int) -> bool:
        """Return whether the weights after a step are kept: at the fractions `config.keep` and at the end."""
        steps = self.config.steps
        return step == steps or step in {max(1, round(fraction * steps)) for fraction in self.config.keep}

    def saves(self, step: int) -> bool:
        """Return whether the state is written after a step."""
        return step % self.config.save_every == 0 or step == self.config.steps


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then a cosine over ALL steps (official
    `optims.py`).

    As in the official code the cosine does not subtract the warm-up, so the rate jumps down a little where
    the two meet. Deviation: the warm-up counts steps of the whole run and not of one epoch; the two agree in
    the paper.
    """
    if step < config.warmup_steps:
        return config.warmup_lr + (config.lr - config.warmup_lr) * step / config.warmup_steps
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.min_lr + (config.lr - config.min_lr) * cosine


def make_optimizers(
    module: nn.Module, config: TrainConfig, dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Return AdamW for all trainable parameters or, with `config.muon`, AdamW and Muon, each for its share.

    Muon updates the weights of linear layers, with its products in `dtype`. There is no weight decay on
    vectors (biases, norms), as in the official runner.
    """
    linear = {id(part.weight) for part in module.modules() if isinstance(part, nn.Linear)}
    parameters = list(checkpoint.trainable(module).values())
    muon = [p for p in parameters if config.muon and id(p) in linear]
    rest = [p for p in parameters if not (config.muon and id(p) in linear)]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
    if not muon:
        return [adamw]
    return [adamw, Muon(muon, lr=config.lr, weight_decay=config.weight_decay, dtype=dtype)]


@runtime_checkable
class Stream(Protocol):
    """One process's endless batches, of at most `share` samples, with a state (`mglib.data.mixture`)."""

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def share(config: TrainConfig, processes: int) -> int:
    """Return how many samples a process runs at once; raises ValueError if a batch cannot be split so."""
    parts = processes * config.accumulate
    if config.batch_size % parts:
        raise ValueError(
            f"A batch of {config.batch_size} cannot be cut evenly for {processes} processes with "
            f"{config.accumulate} parts each: choose numbers whose product divides it."
        )
    return config.batch_size // parts


def fit(
    module: nn.Module,
    data: Dataset | Stream,
    collate: Collate | None,
    run: Run,
    *,
    finished: Callable[[], bool] = lambda: False,
) -> Log:
    """Train the parameters of `module` that require gradients and return the log.

    `module(batch)` returns as `loss` the loss summed over `module.count(batch)` items; their quotient over
    all processes is minimised. All its other outputs are logged. A `Stream` yields its own batches, without
    `collate`. A finished run found in the folder is loaded, an unfinished one is resumed exactly; `finished`
    is called before each step and may end a run early. Only the main process writes. Leaves the weights that
    `run.keeps` and the log. Raises FloatingPointError if the loss is not finite, ValueError if the data do
    not fill one batch or it cannot be split evenly.
    """
    config = run.config
    accelerator = Accelerator(cpu=run.device.type == "cpu", mixed_precision="no")  # `backward` sets it
    optimizers = make_optimizers(module, config, torch.bfloat16 if run.bf16 else torch.float32)
    stream = data if isinstance(data, Stream) else None
    loader = None if stream else make_loader(data, collate, run, share(config, accelerator.num_processes))

    main = accelerator.is_main_process
    with locked(run.folder) if main else nullcontext(), torch.random.fork_rng():
        accelerator.wait_for_everyone()  # none reads the folder before the main process locks it
        torch.manual_seed(run.seed)
        done, streams = 0, list[dict]()
        if run.latest.exists():
            done, streams = checkpoint.load_state(run.latest, module, optimizers)
        history = read_jsonl(run.log)[:done] if done else []
        if done >= config.steps:
            return history
        if stream and done:
            stream.load_state_dict(own_stream(streams, accelerator, run.what))
        model, loader, *optimizers = accelerator.prepare(module, loader, *optimizers)
        batches: Iterator[Batch]
        if stream:
            batches = (send_to_device(batch, accelerator.device) for batch in stream)
        else:
            batches = from_step(done, loader, config, accelerator)
        bar = tqdm(total=config.steps, initial=done, desc=run.what, mininterval=10, disable=not main)
        for step in range(done, config.steps):
            if finished():
                break
            parts = list(islice(batches, config.accumulate))
            history.append(train_step(model, optimizers, parts, run, step, accelerator))
            bar.update()
            bar.set_postfix(loss=f"{history[-1]['loss']:.3f}", refresh=False)
            streams = gather_object([stream.state_dict()]) if stream and run.saves(step + 1) else []
            if main:
                save_progress(module, optimizers, history, run, streams)
        bar.close()
        accelerator.wait_for_everyone()  # or a process could look for files that are still being written
    return history


def make_loader(dataset: Dataset, collate: Collate | None, run: Run, size: int) -> DataLoader:
    """Return a loader of batches of `size` that shuffles by the seed and the epoch alone."""
    if len(dataset) < run.config.batch_size:
        raise ValueError(
            f"{run.what}: {len(dataset)} samples do not fill one batch of {run.config.batch_size}."
        )
    return DataLoader(
        dataset,
        batch_size=size,
        sampler=SeedableRandomSampler(dataset, data_seed=run.seed, generator=torch.Generator()),
        collate_fn=collate,
        drop_last=True,
        generator=torch.Generator(),
    )


def from_step(
    step: int, loader: DataLoader, config: TrainConfig, accelerator: Accelerator
) -> Iterator[Batch]:
    """Yield the batches of a prepared loader, epoch after epoch, starting with the first of `step`.

    An epoch ends with its last whole step, so it is the same whatever the number of parts per step.
    """
    whole = len(loader) // config.accumulate * config.accumulate
    epoch, offset = divmod(step * config.accumulate, whole)
    while True:
        loader.set_epoch(epoch)
        rest = accelerator.skip_first_batches(loader, offset) if offset else loader
        yield from islice(rest, whole - offset)
        epoch, offset = epoch + 1, 0


def own_stream(streams: list[dict[str, Any]], accelerator: Accelerator, what: str) -> dict[str, Any]:
    """Return the state of this process's stream; raises ValueError if the number of processes differs."""
    if len(streams) != accelerator.num_processes:
        raise ValueError(
            f"{what} was begun with {len(streams)} processes and can only go on with as many, not with "
            f"{accelerator.num_processes}."
        )
    return streams[accelerator.process_index]


def train_step(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    parts: Sequence[Batch],
    run: Run,
    step: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Take one optimizer step over this process's parts of a batch and return its log line."""
    start, rate = time.perf_counter(), learning_rate(step, run.config)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
    count_items = accelerator.unwrap_model(model).count
    count = accelerator.reduce(sum(count_items(part) for part in parts), reduction="sum")
    outputs = [
        backward(model, part, count, accelerator, bf16=run.bf16, last=part is parts[-1]) for part in parts
    ]
    sums = {name: sum(output[name] for output in outputs) for name in outputs[0] if name != "count"}
    loss = (accelerator.reduce(sums.pop("loss"), reduction="sum") / count).item()
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"The loss became {loss} at step {step}: lower the learning rate ({rate:g}) or look "
            "for a broken sample; the last checkpoint is kept."
        )
    parameters = [p for p in model.parameters() if p.grad is not None]
    limit = math.inf if run.config.clip is None else run.config.clip
    norm = accelerator.clip_grad_norm_(parameters, limit).item()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {
        "step": step + 1,
        "loss": loss,
        "lr": rate,
        "grad_norm": norm,
        "samples_per_second": run.config.batch_size / (time.perf_counter() - start),
        # Whatever else the module returns, as a mean over parts and processes.
        **{
            name: accelerator.reduce(value / len(parts), reduction="mean").item()
            for name, value in sums.items()
        },
    }


def backward(
    model: nn.Module, part: Batch, count: torch.Tensor, accelerator: Accelerator, *, bf16: bool, last: bool
) -> dict[str, torch.Tensor]:
    """Accumulate the gradient of a part's share of a loss over `count` items; returns its output, detached.

    Processes synchronise gradients after the last part.
    """
    with nullcontext() if last else accelerator.no_sync(model):
        # Not accelerate's own autocast: its precision is fixed for the whole process.
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
            output = model(part)
        # DDP averages gradients over processes: scaled so that this is the gradient of the global mean.
        accelerator.backward(output["loss"] * accelerator.num_processes / count)
    return {name: value.detach() for name, value in output.items()}


def save_progress(
    module: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    history: Log,
    run: Run,
    streams: list[dict[str, Any]],
) -> None:
    """Write the weights, the log and the state if they are due; the state comes last, so a kill never skips a
    step.
    """
    step = len(history)
    if run.keeps(step):
        about = {"step": step, "seed": run.seed}
        tensors.save_weights(run.weights(step), checkpoint.trainable(module), about)
    if run.saves(step):
        write_text(run.log, "".join(json.dumps(line) + "\n" for line in history))
        checkpoint.save_state(run.latest, module, optimizers, step=step, streams=streams)


def kept(folder: Path) -> list[Path]:
    """Return the files of weights that a run kept, in step order."""
    return sorted(folder.glob("step-*.safetensors"))
