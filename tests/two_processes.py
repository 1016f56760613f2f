"""A tiny MiniGPT-4 trained by one process or by several: for test_processes.py.

`python two_processes.py FOLDER PROCESSES` does all the runs and leaves in FOLDER what each process saw.
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from conftest import CAPTIONS
from tiny_languages import llama
from torch import nn

from mglib.config import TrainConfig
from mglib.data.mixture import Mixture, Source
from mglib.data.quarantine import Quarantine
from mglib.model.blip2 import train_tokenizer
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import CAPTION, IMAGE, training_batch
from mglib.training.loop import Run, fit, share

TOKENIZER = train_tokenizer(CAPTIONS, 300)
SETTINGS = {"steps": 5, "batch_size": 8, "lr": 1e-2, "min_lr": 1e-3, "warmup_steps": 2, "save_every": 2}
WHOLE, PARTS = TrainConfig(**SETTINGS), TrainConfig(**SETTINGS, accumulate=2)


class Killed(Exception):
    """Simulates a kill."""


class Watched(nn.Module):
    """A model that records which samples it saw and can stop before a batch."""

    def __init__(self, *, die_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = MiniGPT4(
            vision=nn.Identity(),
            qformer=nn.Identity(),
            projection=nn.Linear(6, 16),
            language=Language(model=llama(len(TOKENIZER), width=16, layers=1), tokenizer=TOKENIZER),
        )
        self.die_at, self.seen = die_at, []

    def count(self, batch: dict) -> torch.Tensor:
        return self.model.count(batch)

    def forward(self, batch: dict) -> dict[str, torch.Tensor]:
        if len(self.seen) == self.die_at:
            raise Killed
        self.seen.append(batch["names"])
        return {**self.model(batch), "longest": batch["ids"].new_tensor(batch["ids"].shape[1]).float()}


def collate(rows: list) -> dict:
    """Lay out (queries, caption, name) rows; captions differ in length, so the parts' counts differ too."""
    queries, captions, names = zip(*rows, strict=True)
    layout = training_batch(TOKENIZER, CAPTION, [IMAGE] * len(rows), captions, queries=2, max_answer=24)
    return {"queries": torch.stack(queries), "names": list(names), **layout}


def samples() -> list:
    """Return 21 samples, which make two batches of eight an epoch and leave five."""
    queries = torch.randn(21, 2, 6, generator=torch.Generator().manual_seed(1))
    texts = [" and ".join(CAPTIONS[: 1 + number % 4]) for number in range(21)]
    return [(queries[number], texts[number], number) for number in range(21)]


def from_web(rows: list) -> dict:
    """Make a batch of the mixture's rows; a sample's caption is its name."""
    return collate([(torch.ones(2, 6) * len(caption), caption, caption) for _, caption in rows])


def mixture(shards: Path, state: PartialState, config: TrainConfig) -> Mixture:
    """Open the shards that the test has written."""
    source = Source.open("web", str(shards / "{00000..00002}.tar"), weight=1.0, counts=shards / "counts.json")
    return Mixture(
        sources=[source],
        collate=from_web,
        quarantine=Quarantine(shards / f"bad-{state.process_index}.jsonl"),
        batch_size=share(config, state.num_processes),
        seed=0,
        rank=state.process_index,
        ranks=state.num_processes,
    )


def run(data, config: TrainConfig, folder: Path, *, die_at: int | None = None) -> dict:
    """Train and return what was seen, logged and learnt; the log of a killed run is empty."""
    module = Watched(die_at=die_at)
    log = []
    try:
        training = Run(config=config, folder=folder, seed=0, what="tiny", device=torch.device("cpu"))
        log = fit(module, data, collate, training)
    except Killed:
        pass
    weight = module.model.projection.weight.tolist()
    return {"seen": module.seen, "log": log, "weight": weight}


def main(folder: Path) -> None:
    state = PartialState(cpu=True)
    rank = state.process_index
    # The first run has one folder per process: only the main process's may be created.
    done = {
        "whole": run(samples(), WHOLE, folder / f"whole-{rank}"),
        "parts": run(samples(), PARTS, folder / "parts"),
        "broken": run(samples(), PARTS, folder / "stopped", die_at=7),
        "resumed": run(samples(), PARTS, folder / "stopped"),
    }
    shards = folder / "web"
    if shards.exists():
        done |= {
            "stream": run(mixture(shards, state, PARTS), PARTS, folder / "stream"),
            "stream_broken": run(mixture(shards, state, PARTS), PARTS, folder / "cut", die_at=7),
            "stream_resumed": run(mixture(shards, state, PARTS), PARTS, folder / "cut"),
        }
    (folder / f"seen-{rank}.json").write_text(json.dumps(done))
    state.wait_for_everyone()
    state.destroy_process_group()  # else a process that ends after the main one may abort


def become_a_rank(processes: int) -> list[int]:
    """Fork into the ranks of a run, so that imports run once; returns the children that rank 0 waits for."""
    others: list[int] = []
    for rank in range(1, processes):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            return []
        others.append(child)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0"}
    return others


if __name__ == "__main__":
    others = become_a_rank(int(sys.argv[2]))
    main(Path(sys.argv[1]))
    sys.exit(any(os.waitpid(other, 0)[1] for other in others))
