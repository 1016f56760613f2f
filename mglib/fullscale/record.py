"""What has been measured on a card, in a file that holds it as soon as it is known."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mglib.fullscale.timing import Ratio
from mglib.paths import write_json

NO_TIME = "no time was left"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One thing that was timed: the median of its rounds, with the memory that it took at most."""

    model: str
    what: str
    unit: str
    rate: float  # units a second
    seconds: float  # of one call
    at_once: int  # samples, pictures or answers in one call
    share: float | None  # of the ceiling; for answers, of the memory's bandwidth
    peak: int | None  # bytes
    whole: float | None = None  # seconds that all of the profile's would take

    def __str__(self) -> str:
        share = "" if self.share is None else f"  {self.share:5.2f} of the ceiling"
        peak = "" if self.peak is None else f"  {self.peak / 1e9:5.1f} GB"
        return f"{self.model:26} {self.what:30} {self.rate:10,.2f} {self.unit} a second{share}{peak}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A measurement that is still to be made."""

    name: str
    run: Callable[[], Measured | Ratio]


@dataclass
class Log:
    """What has been found of one profile, written after each measurement beside what is known of others."""

    file: Path
    profile: str
    about: dict[str, Any]
    limit: float  # seconds
    start: float = field(default_factory=time.perf_counter)
    measured: list[Measured] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    broken: bool = False

    def follow(self, what: str, tasks: Iterator[Task]) -> None:
        """Make the measurements of one model."""
        if self.late():
            return self.leave_out(what, NO_TIME)
        with self.telling(what):
            for task in tasks:
                if self.late():
                    return self.leave_out(f"{task.name} and what follows", NO_TIME)
                with self.telling(task.name):
                    self.add(task.run())

    def late(self) -> bool:
        """Tell whether nothing may be begun any more."""
        return time.perf_counter() - self.start > self.limit

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Write down what fails, so that what it does not concern can go on."""
        try:
            yield
        except Exception as error:
            self.broken = True
            self.leave_out(what, f"{type(error).__name__}: {error}")

    def add(self, found: Measured | Ratio) -> None:
        (self.ratios if isinstance(found, Ratio) else self.measured).append(found)
        print(found, flush=True)
        self.write()

    def leave_out(self, what: str, why: str) -> None:
        self.left_out[what] = why
        print(f"{what} is left out: {why}", flush=True)
        self.write()

    def write(self) -> None:
        others = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        entry = {
            **self.about,
            "seconds": time.perf_counter() - self.start,
            "measured": [asdict(each) for each in self.measured],
            "ratios": [asdict(each) for each in self.ratios],
            "left_out": self.left_out,
        }
        write_json(self.file, {**others, self.profile: entry})
