"""The training loop, one for every stage: the official schedule and exact resume, on accelerate."""

import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import SeedableRandomSampler
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mglib import checkpoint
from mglib.config import TrainConfig
from mglib.paths import read_jsonl, write_text


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


def make_optimizers(module: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Return AdamW for all that is trained or, with `config.muon`, Muon and AdamW, each for its share.

    Muon (Jordan et al. 2024) steps the weights of linear layers, at rates that compare with AdamW's. There is
    no weight decay on vectors (biases, norms), as in the official runner.
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
    decay = config.weight_decay
    return [adamw, torch.optim.Muon(muon, lr=config.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")]


def fit(
    module: nn.Module,
    dataset: Dataset,
    collate: Callable[[list], dict[str, Any]],
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
    is minimised. Whatever else it returns is logged. `folder` should be named by everything that the result
    depends on: a finished run found there is loaded, an unfinished one is continued exactly. Leaves
    `step-*.safetensors` (the trained weights at the fractions `config.keep`) and `log.jsonl`. Raises
    FloatingPointError on a loss that is not finite, ValueError when the data do not fill one batch.
    """
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if bf16 else "no")
    loader = make_loader(dataset, collate, config, seed=seed, what=what)
    optimizers = make_optimizers(module, config)
    latest, log = folder / "latest.safetensors", folder / "log.jsonl"
    keep = {max(1, round(fraction * config.steps)) for fraction in config.keep} | {config.steps}

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        done = checkpoint.load_state(latest, module, optimizers) if latest.exists() else 0
        history = read_jsonl(log)[:done] if done else []
        if done >= config.steps:
            return history
        run, loader, *optimizers = accelerator.prepare(module, loader, *optimizers)
        bar = tqdm(
            total=config.steps,
            initial=done,
            desc=what,
            mininterval=10,
            disable=not accelerator.is_main_process,
        )
        batches = from_step(done, loader, accelerator)
        for step in range(done, config.steps):
            history.append(train_step(run, optimizers, next(batches), config, step, accelerator))
            bar.update()
            bar.set_postfix(loss=f"{history[-1]['loss']:.3f}", refresh=False)
            if accelerator.is_main_process:
                save_progress(module, optimizers, history, folder, config, keep, seed)
        bar.close()
    return history


def make_loader(
    dataset: Dataset, collate: Callable, config: TrainConfig, *, seed: int, what: str
) -> DataLoader:
    """Return a loader that shuffles by the seed and the epoch alone."""
    sampler = SeedableRandomSampler(dataset, data_seed=seed, generator=torch.Generator())
    loader = DataLoader(
        dataset,
        batch_size=config.batch_size,
        sampler=sampler,
        collate_fn=collate,
        drop_last=True,
        generator=torch.Generator(),
    )
    if len(loader) == 0:
        raise ValueError(f"{what}: {len(dataset)} samples do not fill one batch of {config.batch_size}.")
    return loader


def from_step(step: int, loader: DataLoader, accelerator: Accelerator) -> Iterator[dict[str, Any]]:
    """Yield the batches of a prepared loader, epoch after epoch, beginning with that of `step`."""
    epoch, offset = divmod(step, len(loader))
    while True:
        loader.set_epoch(epoch)
        yield from accelerator.skip_first_batches(loader, offset) if offset else loader
        epoch, offset = epoch + 1, 0


def train_step(
    run: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    batch: dict[str, Any],
    config: TrainConfig,
    step: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Do one optimizer step and return its log line."""
    start = time.perf_counter()
    rate = learning_rate(step, config)
    for group in chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
        group["lr"] = rate
    with accelerator.autocast():
        output = run(batch)
    count = accelerator.reduce(output["count"], reduction="sum")
    # DDP averages gradients over processes: scaled so that the average is the gradient of the global mean.
    loss = output["loss"] * accelerator.num_processes / count
    accelerator.backward(loss)
    value = (accelerator.reduce(output["loss"].detach(), reduction="sum") / count).item()
    if not math.isfinite(value):
        raise FloatingPointError(
            f"The loss became {value} at step {step}: lower the learning rate ({rate:g}) or look "
            "for a broken sample; the last checkpoint is kept."
        )
    limit = math.inf if config.clip is None else config.clip
    norm = accelerator.clip_grad_norm_([p for p in run.parameters() if p.grad is not None], limit).item()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    extra = {name: part.item() for name, part in output.items() if name not in ("loss", "count")}
    seconds = time.perf_counter() - start
    samples = config.batch_size * accelerator.num_processes
    return {
        "step": step + 1,
        "loss": value,
        "lr": rate,
        "grad_norm": norm,
        "samples_per_second": samples / seconds,
        **extra,
    }


def save_progress(
    module: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    history: list[dict[str, float]],
    folder: Path,
    config: TrainConfig,
    keep: set[int],
    seed: int,
) -> None:
    """Write the log and a checkpoint where one is due; the state is written last, so a kill never skips a
    step.
    """
    step = len(history)
    if step in keep:
        about = {"step": step, "seed": seed}
        checkpoint.save_weights(folder / f"step-{step:06d}.safetensors", checkpoint.trainable(module), about)
    if step % config.save_every == 0 or step == config.steps:
        write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        checkpoint.save_state(folder / "latest.safetensors", module, optimizers, step=step)


def kept(folder: Path) -> list[Path]:
    """Return the weights that a run kept, in the order of its steps."""
    return sorted(folder.glob("step-*.safetensors"))
