"""What cannot be used is counted and listed with its reason; too much of it stops the run."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from mglib.paths import write_text

T = TypeVar("T")

SHARE = 0.05  # of the samples: more bad ones than this stop a run
LEAST = 1_000  # samples over which the share is judged while a run goes on


@dataclass(frozen=True)
class Fault:
    """Something that cannot be used: where it stands, what it is, and why."""

    where: str  # file or address
    sample: str  # key, id or line
    reason: str
    costs: int = 1  # samples that are lost by it; 0 for what is no sample, such as a link in a tar

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.sample}: {self.reason}" if self.sample else f"{self.where}: {self.reason}"
        )


def strict(stream: Iterable[T | Fault]) -> Iterator[T]:
    """Pass good records on; raise ValueError at the first fault."""
    for item in stream:
        if isinstance(item, Fault):
            raise ValueError(str(item))
        yield item


def keep(stream: Iterable[T | Fault], faults: list[Fault]) -> Iterator[T]:
    """Pass good records on; faults go to the list."""
    for item in stream:
        if isinstance(item, Fault):
            faults.append(item)
        else:
            yield item


def sound(stream: Iterable[T | Fault], file: Path) -> list[T]:
    """Return the good records of a data set and say how many others are left out; `file` lists those.

    Raises ValueError when too many are bad.
    """
    quarantine = Quarantine(file)
    found = list(quarantine.sift(stream))
    if quarantine.bad:
        print(f"{quarantine.bad:,} bad records are left out: {file} lists them.")
    return found


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
        self.faults: dict[Fault, None] = {}  # in the order of their coming

    def sift(self, stream: Iterable[T | Fault]) -> Iterator[T]:
        """Pass good records on and keep the faults; the list is on disk when the stream ends or breaks.

        Raises ValueError when too many are bad.
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

    def add(self, faults: Iterable[Fault], *, good: int = 0) -> None:
        """Count `good` samples and some bad ones; raises ValueError when too many are bad."""
        self.good += good
        for fault in faults:
            self.bad += fault.costs
            self.faults.setdefault(fault)
        self.judge(least=LEAST)

    def judge(self, *, least: int) -> None:
        """Raise ValueError if the bad ones are more than their share of the samples (of at least `least`)."""
        seen = self.good + self.bad
        if self.bad <= self.share * max(seen, least):
            return
        self.write()
        reason, times = Counter(fault.reason for fault in self.faults).most_common(1)[0]
        raise ValueError(
            f"{self.bad:,} of the {seen:,} samples read are bad, more than the {self.share:.1%} that are "
            f"allowed. {self.file} lists each with its reason (the commonest, {times:,} times: {reason}). "
            f"The first: {next(iter(self.faults))}. Mend or remove them and run the same command again."
        )

    def write(self) -> None:
        """Write the list, whole; an empty one where nothing was bad."""
        # Names inside a broken tar need not be Unicode: JSON's escapes hold them all the same.
        write_text(self.file, "".join(json.dumps(asdict(fault)) + "\n" for fault in self.faults))

    def state_dict(self) -> dict[str, int]:
        """Return the counts, and write the list they belong to."""
        self.write()
        return {"good": self.good, "bad": self.bad}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from the counts of `state` and the list on disk."""
        self.good, self.bad = state["good"], state["bad"]
        lines = self.file.read_text(encoding="utf-8").splitlines()
        self.faults = {Fault(**json.loads(line)): None for line in lines}
