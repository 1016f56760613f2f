"""The training loop, one for every stage: the official schedule and exact resume, on accelerate.

It runs in one process or in several, whose steps are those of one: each takes its share of every batch.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
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


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the rate of a step (from 0): linear warm-up, then a cosine over ALL steps (official
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
    """Return AdamW for all that is trained or, with `config.muon`, Muon and AdamW, each for its share.

    Muon steps the weights of linear layers, with its products in `dtype`. There is no weight decay on vectors
    (biases, norms), as in the official runner.
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
    """A process's own endless batches, of `share` samples at most, with a state (`mglib.data.mixture`)."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def share(config: TrainConfig, processes: int) -> int:
    """Return how many samples a process computes at once; raises ValueError if a batch cannot be cut so."""
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
    collate: Callable[[list], dict[str, Any]] | None,
    config: TrainConfig,
    folder: Path,
    *,
    seed: int,
    what: str,
    device: torch.device,
    bf16: bool = False,
) -> list[dict[str, float]]:
    """Train whatever in `module` requires gradients and return the log, one dict a step.

    `module(batch)` returns `loss`, a sum, and `count`, over how many items; their quotient over all processes
    is minimised. Whatever else it returns is logged. A `Stream` brings its own batches, without `collate`.
    Only the main process writes. `folder` should be named by everything that the result
    depends on: a finished run found there is loaded, an unfinished one is continued exactly. Leaves
    `step-*.safetensors` (the trained weights at the fractions `config.keep`) and `log.jsonl`. Raises
    FloatingPointError on a loss that is not finite, ValueError when the data do not fill one batch or it
    cannot be cut evenly.
    """
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")  # `add_gradient` says it
    optimizers = make_optimizers(module, config, torch.bfloat16 if bf16 else torch.float32)
    latest, log = folder / "latest.safetensors", folder / "log.jsonl"
    keep = {max(1, round(fraction * config.steps)) for fraction in config.keep} | {config.steps}
    size = share(config, accelerator.num_processes)
    stream = data if isinstance(data, Stream) else None
    loader = None if stream else make_loader(data, collate, config, size, seed=seed, what=what)

    with held(folder, accelerator), torch.random.fork_rng():
        torch.manual_seed(seed)
        done, places = checkpoint.load_state(latest, module, optimizers) if latest.exists() else (0, [])
        history = read_jsonl(log)[:done] if done else []
        if done >= config.steps:
            return history
        if stream and done:
            stream.load_state_dict(own_place(places, accelerator, what))
        run, loader, *optimizers = accelerator.prepare(module, loader, *optimizers)
        batches = moved(stream, accelerator) if stream else from_step(done, loader, config, accelerator)
        bar = tqdm(
            total=config.steps,
            initial=done,
            desc=what,
            mininterval=10,
            disable=not accelerator.is_main_process,
        )
        for step in range(done, config.steps):
            parts = list(islice(batches, config.accumulate))
            history.append(train_step(run, optimizers, parts, config, step, accelerator, bf16=bf16))
            bar.update()
            bar.set_postfix(loss=f"{history[-1]['loss']:.3f}", refresh=False)
            places = gather_object([stream.state_dict()]) if stream and due(step + 1, config) else []
            if accelerator.is_main_process:
                save_progress(module, optimizers, history, folder, config, keep, seed, places)
        bar.close()
        accelerator.wait_for_everyone()  # or a process could look for files that are still being written
    return history


@contextmanager
def held(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Let the main process hold a training's folder before any of its processes looks into it."""
    with locked(folder) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        yield


def make_loader(
    dataset: Dataset, collate: Callable | None, config: TrainConfig, size: int, *, seed: int, what: str
) -> DataLoader:
    """Return a loader of `size` samples at once that shuffles by the seed and the epoch alone."""
    sampler = SeedableRandomSampler(dataset, data_seed=seed, generator=torch.Generator())
    loader = DataLoader(
        dataset,
        batch_size=size,
        sampler=sampler,
        collate_fn=collate,
        drop_last=True,
        generator=torch.Generator(),
    )
    if len(dataset) < config.batch_size:
        raise ValueError(f"{what}: {len(dataset)} samples do not fill one batch of {config.batch_size}.")
    return loader


def from_step(
    step: int, loader: DataLoader, config: TrainConfig, accelerator: Accelerator
) -> Iterator[dict[str, Any]]:
    """Yield the batches of a prepared loader, epoch after epoch, beginning with the first of `step`.

    An epoch ends with its last whole step, so that it is the same in however many parts a step is done.
    """
    whole = len(loader) // config.accumulate * config.accumulate
    epoch, offset = divmod(step * config.accumulate, whole)
    while True:
        loader.set_epoch(epoch)
        rest = accelerator.skip_first_batches(loader, offset) if offset else loader
        yield from islice(rest, whole - offset)
        epoch, offset = epoch + 1, 0


def moved(stream: Stream, accelerator: Accelerator) -> Iterator[dict[str, Any]]:
    """Yield a stream's batches on this process's device."""
    return (send_to_device(batch, accelerator.device) for batch in stream)


def own_place(places: list[dict[str, Any]], accelerator: Accelerator, what: str) -> dict[str, Any]:
    """Return where this process's stream stood; raises ValueError if there were more or fewer of them."""
    if len(places) != accelerator.num_processes:
        raise ValueError(
            f"{what} was begun with {len(places)} processes and can only go on with as many, not with "
            f"{accelerator.num_processes}."
        )
    return places[accelerator.process_index]


def train_step(
    run: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    parts: Sequence[dict[str, Any]],
    config: TrainConfig,
    step: int,
    accelerator: Accelerator,
    *,
    bf16: bool,
) -> dict[str, float]:
    """Do one optimizer step over this process's parts of a batch and return its log line."""
    start = time.perf_counter()
    rate = learning_rate(step, config)
    for group in chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
        group["lr"] = rate
    outputs: list[dict[str, torch.Tensor]] = []
    for number, part in enumerate(parts, start=1):
        last = number == len(parts)
        outputs.append(add_gradient(run, part, outputs, accelerator, last=last, bf16=bf16))
    first, *_ = counts = [output["count"] for output in outputs]
    count = sum(counts[1:], first)
    value = (accelerator.reduce(sum(output["loss"] for output in outputs), reduction="sum") / count).item()
    if not math.isfinite(value):
        raise FloatingPointError(
            f"The loss became {value} at step {step}: lower the learning rate ({rate:g}) or look "
            "for a broken sample; the last checkpoint is kept."
        )
    parameters = [p for p in run.parameters() if p.grad is not None]
    for parameter in parameters:
        parameter.grad.mul_(first / count)  # one where there is one part
    limit = math.inf if config.clip is None else config.clip
    norm = accelerator.clip_grad_norm_(parameters, limit).item()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    return {
        "step": step + 1,
        "loss": value,
        "lr": rate,
        "grad_norm": norm,
        "samples_per_second": config.batch_size / seconds,
        **averages(outputs, accelerator),
    }


def add_gradient(
    run: nn.Module,
    part: dict[str, Any],
    before: Sequence[dict[str, torch.Tensor]],
    accelerator: Accelerator,
    *,
    last: bool,
    bf16: bool,
) -> dict[str, torch.Tensor]:
    """Add a part's gradient; returns its output detached, with the count over all processes.

    The sum over all parts is to be divided by their common count, which is not known before the last: each is
    divided by the first one's, and `train_step` puts it right. Processes exchange gradients after the last.
    """
    with nullcontext() if last else accelerator.no_sync(run):
        # Not accelerate's own: its precision holds for a whole process and cannot be changed.
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
            output = run(part)
        count = accelerator.reduce(output["count"], reduction="sum")
        # DDP averages gradients over processes: scaled so that this is the gradient of the global mean.
        by = before[0]["count"] if before else count
        accelerator.backward(output["loss"] * accelerator.num_processes / by)
    return {**{name: value.detach() for name, value in output.items()}, "count": count}


def averages(outputs: Sequence[dict[str, torch.Tensor]], accelerator: Accelerator) -> dict[str, float]:
    """Return the mean over parts and processes of what else a module returned."""
    names = [name for name in outputs[0] if name not in ("loss", "count")]
    own = {name: sum(output[name] for output in outputs) / len(outputs) for name in names}
    return {name: accelerator.reduce(value, reduction="mean").item() for name, value in own.items()}


def due(step: int, config: TrainConfig) -> bool:
    """Tell whether the state is written after a step."""
    return step % config.save_every == 0 or step == config.steps


def save_progress(
    module: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    history: list[dict[str, float]],
    folder: Path,
    config: TrainConfig,
    keep: set[int],
    seed: int,
    places: list[dict[str, Any]],
) -> None:
    """Write the log and a checkpoint where one is due; the state is written last, so a kill never skips a
    step.
    """
    step = len(history)
    if step in keep:
        about = {"step": step, "seed": seed}
        tensors.save_weights(folder / f"step-{step:06d}.safetensors", checkpoint.trainable(module), about)
    if due(step, config):
        write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        checkpoint.save_state(folder / "latest.safetensors", module, optimizers, step=step, places=places)


def kept(folder: Path) -> list[Path]:
    """Return the weights that a run kept, in the order of its steps."""
    return sorted(folder.glob("step-*.safetensors"))
