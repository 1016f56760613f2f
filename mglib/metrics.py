"""Ratios and means with their intervals over pictures, and the small measures of texts."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy
import torch


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over `n` pictures."""

    value: float
    low: float
    high: float
    n: int


class Counts(NamedTuple):
    """The numerator and denominator of a ratio: what was found and among how many, for each picture."""

    found: Sequence[float]
    among: Sequence[float]

    @property
    def is_share(self) -> bool:
        """Whether the ratio lies between 0 and 1 in every picture."""
        return all(0 <= found <= among for found, among in zip(self.found, self.among, strict=True))

    def estimate(self) -> Estimate | None:
        """Return sum / sum with a percentile bootstrap over pictures; None if nothing was counted.

        A picture with many mentions is resampled with all of them. The interval of a share that is the same
        in every picture allows for unseen pictures that differ: at 0 and 1 it is Clopper and Pearson's, over
        the pictures in which it was counted.
        """
        if sum(self.among) == 0:
            return None
        low, high = _interval(_resampled(self, seed=0))
        value = float(numpy.sum(self.found) / numpy.sum(self.among))
        if self.is_share and high - low < 1e-12:
            unseen = rarest(sum(each > 0 for each in self.among))
            low, high = max(0, value - unseen), min(1, value + unseen)
        return Estimate(value, float(low), float(high), len(self.found))


# The columns of an interval as readers see them.
INTERVAL = {"low": "95 % interval from", "high": "to", "n": "pictures"}


def columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Lay an estimate out as the columns `name`, low, high and n, empty if nothing was counted."""
    if estimate is None:
        return {name: None, "low": None, "high": None, "n": 0}
    return {name: estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def each(values: Sequence[float]) -> Counts:
    """Count every picture once, so that the ratio is a mean."""
    return Counts(values, [1.0] * len(values))


def rarest(n: int) -> float:
    """Return the largest share compatible with 0 of n pictures (Clopper and Pearson's upper end)."""
    return 1 - 0.025 ** (1 / n)


def paired(first: Counts, second: Counts) -> Estimate | None:
    """Return the first ratio minus the second, both over the same pictures, which are resampled together.

    None if either counted nothing; raises ValueError for different numbers of pictures.
    """
    if len(first.found) != len(second.found):
        raise ValueError(
            f"{len(first.found)} pictures against {len(second.found)}: compare on the same pictures."
        )
    return _difference(first, second, second_seed=0)


def unpaired(first: Counts, second: Counts) -> Estimate | None:
    """Return the first ratio minus the second, over different pictures, which are resampled independently.

    None if either counted nothing; `n` is the first one's number of pictures.
    """
    return _difference(first, second, second_seed=1)


def _difference(first: Counts, second: Counts, *, second_seed: int) -> Estimate | None:
    if sum(first.among) == 0 or sum(second.among) == 0:
        return None
    low, high = _interval(_resampled(first, seed=0) - _resampled(second, seed=second_seed))
    difference = sum(first.found) / sum(first.among) - sum(second.found) / sum(second.among)
    if high - low < 1e-12 and (difference == 0 or (first.is_share and second.is_share)):
        unseen = rarest(min(len(first.found), len(second.found)))  # no two pictures seen that differ in it
        ratios = (
            found / among for both in (first, second) for found, among in zip(*both, strict=True) if among
        )
        most = max(1.0, *ratios)
        low, high = max(-most, difference - most * unseen), min(most, difference + most * unseen)
    return Estimate(float(difference), float(low), float(high), len(first.found))


def _resampled(counts: Counts, *, seed: int) -> numpy.ndarray:
    """Return the ratio in each of 2,000 resamples of the pictures; nan if nothing was counted.

    The same seed and number of pictures draw the same resamples.
    """
    found, among = (numpy.asarray(values, dtype=float) for values in counts)
    draws = numpy.random.default_rng(seed).integers(len(found), size=(2000, len(found)))
    totals = among[draws].sum(1)
    return numpy.divide(found[draws].sum(1), totals, out=numpy.full(2000, numpy.nan), where=totals > 0)


def _interval(values: numpy.ndarray) -> tuple[float, float]:
    low, high = numpy.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple testing (Holm 1979), in the given order."""
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = adjusted[place] = max(least, min(1.0, (len(ps) - rank) * ps[place]))
    return adjusted


def needed_for(effect: float, deviation: float) -> int:
    """Return how many pictures, or trainings, with this standard deviation show an effect with a power of 0.8
    at the level 0.05.
    """
    return max(1, math.ceil(((1.96 + 0.8416) * deviation / effect) ** 2))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header; raises FileNotFoundError for a missing one."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def plural(word: str) -> str:
    """Return the regular English plural, and that of words in -man."""
    if word.endswith("man"):
        return word[:-2] + "en"
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", word) + "s"


def words(text: str) -> list[str]:
    """Split into lower-case words; a hyphen or an apostrophe separates."""
    return re.findall(r"[a-z0-9]+", text.lower())


def distinct(text: str, n: int) -> float:
    """Return the share of a text's word n-grams that are distinct (distinct-n); 1 if it has none."""
    said = words(text)
    runs = [tuple(said[start : start + n]) for start in range(len(said) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def derangement(n: int, *, seed: int = 0) -> list[int]:
    """Return a random order of range(n) in which nothing keeps its place: the shuffled-picture control."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    place = {item: order[(rank + 1) % n] for rank, item in enumerate(order)}  # one cycle through all
    return [place[item] for item in range(n)]
