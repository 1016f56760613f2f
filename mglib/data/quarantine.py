"""Unusable samples are counted and listed with the reason; too many of them stop the run.

A reader yields records and faults. `strict` stops at the first fault; `Quarantine.sift` counts and lists
them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from mglib.paths import read_jsonl, write_text

T = TypeVar("T")

SHARE = 0.05  # of the samples; more bad ones than this stop a run
LEAST = 1_000  # samples that the share is taken of, at least, while a run goes on


@dataclass(frozen=True)
class Fault:
    """Something that cannot be used: where it is, what it is, and why."""

    where: str  # file or address
    sample: str  # key, id or line
    reason: str
    costs: int = 1  # samples lost; 0 for what is not a sample, such as a link in a tar

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.sample, self.reason) if part)


def strict(stream: Iterable[T | Fault]) -> Iterator[T]:
    """Pass good records on; raise ValueError at the first fault."""
    for item in stream:
        if isinstance(item, Fault):
            raise ValueError(str(item))
        yield item


def keep(stream: Iterable[T | Fault], faults: list[Fault]) -> Iterator[T]:
    """Pass good records on; faults go to the list, for a reader that joins several streams."""
    for item in stream:
        if isinstance(item, Fault):
            faults.append(item)
        else:
            yield item


def unique(stream: Iterable[T | Fault], where: object, name: Callable[[T], Any]) -> Iterator[T | Fault]:
    """Turn each record whose `name` came before into a fault."""
    seen = set()
    for item in stream:
        if isinstance(item, Fault):
            yield item
        elif name(item) in seen:
            yield Fault(str(where), str(name(item)), "this id came before")
        else:
            seen.add(name(item))
            yield item


class Quarantine:
    """The list of bad samples of one run: `file` (JSON lines, one fault each) and how many samples were good.

    `share` is the largest part of the samples that may be bad. Every occurrence counts; the list names each
    fault once.
    """

    def __init__(self, file: Path, *, share: float = SHARE) -> None:
        self.file, self.share = file, share
        self.good = self.bad = 0
        self.faults: dict[Fault, None] = {}  # in order of appearance

    def sift(self, stream: Iterable[T | Fault]) -> Iterator[T]:
        """Pass good records on and list the faults; print at the end how many records are left out.

        The list is on disk when the stream ends or fails. Raises ValueError when too many are bad.
        """
        try:
            for item in stream:
                if isinstance(item, Fault):
                    self.add([item])
                else:
                    self.good += 1
                    yield item
        finally:
            self.write()
        self.judge(least=1)
        if self.bad:
            print(f"{self.bad:,} bad records are left out: {self.file} lists them.")

    def add(self, faults: Iterable[Fault], *, good: int = 0) -> None:
        """Count `good` samples and some bad ones; raises ValueError when too many are bad."""
        self.good += good
        for fault in faults:
            self.bad += fault.costs
            self.faults.setdefault(fault)
        self.judge(least=LEAST)

    def judge(self, *, least: int) -> None:
        """Raise ValueError if more than `share` of the samples, or of `least` if that is more, are bad."""
        seen = self.good + self.bad
        if self.bad <= self.share * max(seen, least):
            return
        self.write()
        reason, times = Counter(fault.reason for fault in self.faults).most_common(1)[0]
        raise ValueError(
            f"{self.bad:,} of the {seen:,} samples read are bad, more than the {self.share:.1%} that are "
            f"allowed. {self.file} lists each with its reason (the commonest, {times:,} times: {reason}). "
            f"The first: {next(iter(self.faults))}. Repair or remove them and run the same command again."
        )

    def write(self) -> None:
        """Write the list atomically; an empty one if nothing was bad."""
        # Names inside a broken tar need not be Unicode; JSON's escapes can hold them anyway.
        write_text(self.file, "".join(json.dumps(asdict(fault)) + "\n" for fault in self.faults))

    def state_dict(self) -> dict[str, int]:
        """Return the counts, and write the list they belong to."""
        self.write()
        return {"good": self.good, "bad": self.bad}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume from the counts of `state` and the list on disk."""
        self.good, self.bad = state["good"], state["bad"]
        self.faults = {Fault(**line): None for line in read_jsonl(self.file)}
