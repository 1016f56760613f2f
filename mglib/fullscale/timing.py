"""How long a thing takes, alone or beside another way of doing it."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm


def seconds(work: Callable[[], object]) -> float:
    """Time one call until the card, where there is one, has done what it was given."""
    finish()
    start = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - start


def finish() -> None:
    """Wait for the card: it works on while Python goes ahead."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two ways of doing the same; `work` is what ours takes in FLOP, where it is known."""

    name: str
    other: Callable[[], object]
    ours: Callable[[], object]
    work: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times longer the other way takes: median and range over rounds; the median of our seconds, and
    the share of the processor's ceiling that we reach.
    """

    name: str
    ratio: float
    low: float
    high: float
    seconds: float
    share: float | None

    def __str__(self) -> str:
        share = "" if self.share is None else f"  {self.share:.2f} of the ceiling"
        return (
            f"{self.name:66} {self.ratio:5.2f}x  ({self.low:.2f} to {self.high:.2f})"
            f"  {self.seconds:7.3f} s{share}"
        )


def compare(one: Comparison, *, rounds: int, ceiling: float) -> Ratio:
    """Run both in turns, once to warm up and then `rounds` times; `ceiling` is in FLOP a second."""
    one.other(), one.ours()
    pairs = [(seconds(one.other), seconds(one.ours)) for _ in tqdm(range(rounds), desc=one.name, leave=False)]
    ratios, middle = [slow / fast for slow, fast in pairs], statistics.median(fast for _, fast in pairs)
    return Ratio(
        name=one.name,
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        seconds=middle,
        share=None if one.work is None else one.work / middle / ceiling,
    )
