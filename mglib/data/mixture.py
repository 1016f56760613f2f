"""Stage 1 at the paper's scale: web shards of several sources as an endless stream of batches.

As in the official loader each batch comes from one source, drawn by weight (LAION : CC+SBU = 115 : 14), and
samples are shuffled in a buffer. Deviations: a source's shards are read without replacement, so each of its
epochs has every sample once over all ranks and workers; all ranks draw the same source at the same step; the
buffer does not cross shard boundaries, so that a resumed run can skip a shard unread; and bad samples go to
the quarantine, where the official loader prints a warning.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from torch import Generator
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm
from webdataset.filters import shuffle

from mglib.data.journal import append, read_log
from mglib.data.quarantine import Fault, Quarantine, keep, strict
from mglib.data.records import fit
from mglib.data.shards import Row, WebPair, decode, present, read_shard
from mglib.paths import hash_json

BUFFER = 1_000  # size of the shuffle buffer in encoded samples, as in the official loader

Sample = WebPair | Fault
Collate = Callable[[list[Row]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Shards of one origin, how many samples each holds, and its weight in the mixture."""

    name: str
    shards: tuple[str, ...]
    counts: tuple[int, ...]
    weight: float

    @classmethod
    def open(cls, name: str, urls: str, *, weight: float, counts: Path) -> "Source":
        """Expand `urls` as webdataset does ("laion/{00000..00999}.tar", "https://...", "pipe:..."), on disk
        to the files that exist, and count each shard's samples once: the log `counts` keeps the numbers.
        """
        shards = tuple(present(urls)[0])
        return cls(name=name, shards=shards, counts=count_shards(shards, counts), weight=weight)

    @property
    def total(self) -> int:
        return sum(self.counts)


# --- how many samples there are ---


@dataclass(frozen=True)
class Stats:
    """The part of img2dataset's `00000_stats.json` that is used."""

    successes: int


def count_shards(shards: Sequence[str], log: Path) -> tuple[int, ...]:
    """Return how many samples each shard holds, from `log` if known there, else counted and logged.

    A broken shard is counted as far as it can be read, and again on each call.
    """
    known = {entry["shard"]: entry["samples"] for entry in read_log(log)}
    for url in tqdm([url for url in shards if url not in known], desc="counting", mininterval=10, delay=5):
        known[url], whole = count_shard(url)
        if whole:
            append(log, [{"shard": url, "samples": known[url]}])
    return tuple(known[url] for url in shards)


def count_shard(url: str) -> tuple[int, bool]:
    """Return a shard's number of samples and whether it is whole, from img2dataset's `00000_stats.json` if it
    is next to a local shard, else by reading the whole shard.
    """
    path = url.removesuffix(".tar") + "_stats.json"
    if os.path.exists(path):
        (stats,) = strict([fit(Stats, Path(path).read_bytes(), path, "")])
        return stats.successes, True
    count, whole = 0, True
    for item in read_shard(url):
        count += item.costs
        whole = whole and not (isinstance(item, Fault) and not item.sample)
    return count, whole


# --- one source, cut into parts ---


def batch_edges(total: int, parts: int, part: int, batches: int) -> list[int]:
    """Return the positions in an epoch's order at which the `batches` of one part begin, and where the last
    one ends; together the parts cover each position once.
    """
    first, end = total * part // parts, total * (part + 1) // parts
    return [first + (end - first) * number // max(batches, 1) for number in range(batches + 1)]


def read_positions(source: Source, seed: int, epoch: int, first: int) -> Iterator[tuple[int, Sample]]:
    """Yield an epoch's samples with their positions, from position `first` on, pictures not decoded.

    The order depends on the seed, the source's name and the epoch alone, not on where the shards are stored.
    Shards before `first` are not opened. What is not a sample (a link in a tar) has the position of the
    sample before it.
    """
    order = list(range(len(source.shards)))
    Random(f"{seed}/{source.name}/{epoch}").shuffle(order)
    starts = accumulate((source.counts[index] for index in order), initial=0)
    for index, start in zip(order, starts, strict=False):
        url, count = source.shards[index], source.counts[index]
        if start + count <= first:
            continue
        rng = Random(f"{seed}/{source.name}/{epoch}/{index}")
        end = start
        for item in shuffle(BUFFER, initial=BUFFER, rng=rng)(exactly(count, url)):
            end += item.costs
            position = max(start, end - 1)
            if position >= first:
                yield position, item


def exactly(count: int, url: str) -> Iterator[Sample]:
    """Read a shard as if it held `count` samples; each missing one is a fault, any surplus a single one."""
    found = 0
    for item in read_shard(url):
        if found + item.costs > count:
            yield Fault(url, "", f"it holds more than the {count} samples that were counted", costs=0)
            return
        found += item.costs
        yield item
    lost = Fault(url, "", f"{count - found} of the {count} samples that were counted are missing")
    yield from [lost] * (count - found)


@dataclass
class Portion:
    """The outcome of one batch: the collated rows (None if all were bad), their number, and the faults."""

    batch: dict[str, Any] | None
    good: int
    faults: list[Fault]


@dataclass
class RankStream(IterableDataset):
    """One rank's endless share of one source, from batch `done` on, divided among the workers."""

    source: Source
    collate: Collate
    batch_size: int
    seed: int
    rank: int
    ranks: int
    workers: int  # at least one: the process itself if there are none
    done: int = 0  # batches of this rank so far

    def batches(self) -> int:
        """Return how many batches each worker makes per epoch."""
        return -(-self.source.total // (self.ranks * self.workers * self.batch_size))

    def __iter__(self) -> Iterator[Portion]:
        worker = get_worker_info()
        # A loader always starts with worker 0, whichever of the rank's lanes the run stopped at.
        number = self.done + (worker.id if worker else 0)
        turn, lane = divmod(number, self.workers)
        epoch, first = divmod(turn, self.batches())
        while True:
            yield from self.lane(epoch, lane, first)
            epoch, first = epoch + 1, 0

    def lane(self, epoch: int, lane: int, first: int) -> Iterator[Portion]:
        """Yield the batches of an epoch that one worker makes, from its batch `first` on."""
        parts, part = self.ranks * self.workers, self.rank * self.workers + lane
        start, *ends = batch_edges(self.source.total, parts, part, self.batches())[first:]
        stream = read_positions(self.source, self.seed, epoch, start)
        held = next(stream, None)
        for end in ends:
            items = []
            while held is not None and held[0] < end:
                items.append(held[1])
                held = next(stream, None)
            faults: list[Fault] = []
            rows = list(keep(map(decode, items), faults))
            yield Portion(self.collate(rows) if rows else None, len(rows), faults)


# --- the mixture ---


@dataclass(kw_only=True)
class Mixture:
    """An endless stream of batches, each from one source; every rank has its own.

    `collate` makes a batch of a list of (picture in RGB, cleaned caption), in the workers; if processes are
    spawned, as on macOS, it must be a module-level function. A worker's share of an epoch is divided evenly
    into batches of at most `batch_size`, the same number for each worker; bad samples make a batch smaller.
    Raises ValueError if too many are bad.
    """

    sources: list[Source]
    collate: Collate
    quarantine: Quarantine
    batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1
    workers: int = 0  # reader processes per source
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        readers = max(1, self.workers)
        settings = self.collate, self.batch_size, self.seed, self.rank, self.ranks, readers
        self.streams = {source.name: RankStream(source, *settings) for source in self.sources}
        if len(self.streams) < len(self.sources):
            raise ValueError(f"Two sources have one name: {[source.name for source in self.sources]}.")
        self.loaders: dict[str, Iterator[Portion]] = {}
        parts = self.ranks * readers
        for source in self.sources:
            empty = [url for url, count in zip(source.shards, source.counts, strict=True) if not count]
            self.quarantine.add(Fault(url, "", "no sample of it can be read", costs=0) for url in empty)
            if source.total < parts:
                raise ValueError(
                    f"{source.name} has {source.total} samples for {parts} readers (ranks x workers), and "
                    "each needs one. Name more shards, or take fewer workers."
                )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            # Seeded per step, so that all ranks agree and a resumed run continues where it stopped.
            rng = Random(f"{self.seed}/{self.step}")
            (source,) = rng.choices(self.sources, [source.weight for source in self.sources])
            batch = self.take(source.name)
            self.step += 1
            yield batch

    def take(self, name: str) -> dict[str, Any]:
        """Return the next batch of a source with at least one good sample."""
        stream = self.streams[name]
        if name not in self.loaders:
            # Without a generator of its own the loader would draw from the global one.
            loader = DataLoader(stream, batch_size=None, num_workers=self.workers, generator=Generator())
            self.loaders[name] = iter(loader)
        for got in self.loaders[name]:
            stream.done += 1
            self.quarantine.add(got.faults, good=got.good)
            if got.batch is not None:
                return got.batch
        raise RuntimeError(f"{name} ended, though a source is read again and again.")

    def key(self) -> str:
        """Return a hash of what the order of the batches depends on."""
        sources = [asdict(source) for source in self.sources]
        return hash_json([sources, self.batch_size, self.seed, self.ranks, self.workers])

    def state_dict(self) -> dict[str, Any]:
        """Return the state of this rank (ranks differ by quarantine and empty batches)."""
        return {
            "key": self.key(),
            "step": self.step,
            "done": {name: stream.done for name, stream in self.streams.items()},
            "quarantine": self.quarantine.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state; raises ValueError if the batches would not be the same ones."""
        if state["key"] != self.key():
            raise ValueError(
                "The shards, their counts or weights, the batch size, the seed or the number of ranks or "
                "workers are not those of the run that is to go on: set them as they were, or start again."
            )
        self.step = state["step"]
        for name, done in state["done"].items():
            self.streams[name].done = done
        self.quarantine.load_state_dict(state["quarantine"])
        self.loaders = {}
