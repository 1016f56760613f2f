"""What is measured: objects named, hallucinated and missed; retrieval; variety; intervals for all of it."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from mglib.paths import ROOT

COMPOUNDS = ROOT / "data" / "evaluation" / "compounds.csv"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over `n` pictures."""

    value: float
    low: float
    high: float
    n: int


class Counts(NamedTuple):
    """A ratio before it is one: what was found and among how many, for each picture."""

    found: Sequence[float]
    among: Sequence[float]

    def estimate(self) -> Estimate | None:
        """Return the pooled ratio with its interval; None where nothing was counted."""
        return ratio(self.found, self.among)


# The columns of an interval as readers see them.
INTERVAL = {"low": "95 % interval from", "high": "to", "n": "pictures"}


def columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Lay an estimate out as the columns `name`, low, high and n, empty where nothing was counted."""
    if estimate is None:
        return {name: None, "low": None, "high": None, "n": 0}
    return {name: estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def each(values: Sequence[float]) -> Counts:
    """Count every picture once, so that the ratio is a mean."""
    return Counts(values, [1.0] * len(values))


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> Estimate | None:
    """Return sum / sum with a percentile bootstrap over pictures; None where nothing was counted.

    Both are given per picture, so that a picture with many mentions is drawn with all of them.
    """
    counts = Counts(numerators, denominators)
    if sum(counts.among) == 0:
        return None
    values = _resampled(counts, seed, resamples)
    low, high = numpy.quantile(values[~numpy.isnan(values)], [0.025, 0.975])
    return Estimate(
        float(numpy.sum(counts.found) / numpy.sum(counts.among)), float(low), float(high), len(counts.found)
    )


def mean(values: Sequence[float]) -> Estimate | None:
    """Return the mean with its bootstrap interval over pictures."""
    return each(values).estimate()


def paired(first: Counts, second: Counts, *, seed: int = 0, resamples: int = 2000) -> Estimate | None:
    """Return the first ratio less the second, both over the same pictures, which are drawn together.

    None where either counted nothing; raises ValueError for different numbers of pictures.
    """
    if len(first.found) != len(second.found):
        raise ValueError(
            f"{len(first.found)} pictures against {len(second.found)}: compare on the same pictures."
        )
    return _difference(first, second, (seed, seed), resamples)


def unpaired(first: Counts, second: Counts, *, seed: int = 0, resamples: int = 2000) -> Estimate | None:
    """Return the first ratio less the second, over different pictures, which are drawn apart.

    None where either counted nothing; `n` is how many pictures the first has.
    """
    return _difference(first, second, (seed, seed + 1), resamples)


def _difference(first: Counts, second: Counts, seeds: tuple[int, int], resamples: int) -> Estimate | None:
    if sum(first.among) == 0 or sum(second.among) == 0:
        return None
    values = _resampled(first, seeds[0], resamples) - _resampled(second, seeds[1], resamples)
    low, high = numpy.quantile(values[~numpy.isnan(values)], [0.025, 0.975])
    difference = sum(first.found) / sum(first.among) - sum(second.found) / sum(second.among)
    return Estimate(float(difference), float(low), float(high), len(first.found))


def _resampled(counts: Counts, seed: int, resamples: int) -> numpy.ndarray:
    """Return the ratio in each resample of the pictures, (resamples,); nan where it has nothing to count.

    The same seed and number of pictures draw the same resamples.
    """
    found, among = (numpy.asarray(values, dtype=float) for values in counts)
    draws = numpy.random.default_rng(seed).integers(len(found), size=(resamples, len(found)))
    totals = among[draws].sum(1)
    return numpy.divide(found[draws].sum(1), totals, out=numpy.full(resamples, numpy.nan), where=totals > 0)


class Vocabulary:
    """The names by which objects can be mentioned: names, plurals and synonyms, double words before single
    ones.
    """

    def __init__(self, names: dict[str, Iterable[str]], compounds: dict[str, str] | None = None) -> None:
        """`names` maps an object to all its surface forms.

        `compounds` are phrases that hold an object's name and mean another object, or ("") none.
        """
        self.forms: dict[tuple[str, ...], str] = {}
        for phrase, meant in (compounds or {}).items():
            for form in (phrase, plural(phrase)):
                self.forms[tuple(words(form))] = meant if meant in names else ""
        self.forms |= {tuple(words(form)): name for name, forms in names.items() for form in forms}
        self.longest = max(map(len, self.forms))

    @classmethod
    def read(cls, *paths: Path) -> "Vocabulary":
        """Read CSVs with the columns name and plural, and perhaps coco and synonyms (split by "|", each also
        with its plural).

        An object goes by its COCO category where it has one, else by its name. Rows of one name add up.
        """
        names: dict[str, list[str]] = {}
        for row in (row for path in paths for row in read_rows(path)):
            synonyms = [synonym for synonym in row.get("synonyms", "").split("|") if synonym]
            forms = [row["name"], row["plural"], *synonyms, *map(plural, synonyms)]
            names.setdefault(row.get("coco") or row["name"], []).extend(forms)
        return cls(names, {row["phrase"]: row["means"] for row in read_rows(COMPOUNDS)})

    @property
    def names(self) -> frozenset[str]:
        """All objects that can be mentioned."""
        return frozenset(self.forms.values()) - {""}

    def only(self, names: Iterable[str]) -> "Vocabulary":
        """Return a vocabulary of these objects alone; the forms of the others still hide what they hold."""
        kept = frozenset(names)
        smaller = Vocabulary.__new__(Vocabulary)
        smaller.forms = {form: name if name in kept else "" for form, name in self.forms.items()}
        smaller.longest = self.longest
        return smaller

    def spans(self, tokens: Sequence[str]) -> list[tuple[int, int, str]]:
        """Return (start, end, object) of each mention among words."""
        found, place = [], 0
        while place < len(tokens):
            for length in range(self.longest, 0, -1):
                form = tuple(tokens[place : place + length])
                if len(form) == length and form in self.forms:
                    found.append((place, place + length, self.forms[form]))
                    place += length
                    break
            else:
                place += 1
        return [span for span in found if span[2]]

    def mentions(self, text: str) -> list[str]:
        """Return the objects mentioned in a text, in order, each time they are mentioned.

        The longest name wins ("teddy bear" is no bear), and what it has used is not read again.
        """
        return [name for _, _, name in self.spans(words(text))]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a head line; raises FileNotFoundError for a missing one."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def plural(word: str) -> str:
    """Spell the regular English plural; and that of man and woman. A plural ("scissors") stays as it is."""
    if word.endswith("man"):
        return word[:-2] + "en"
    if re.search(r"(us|ss|x|z|ch|sh)$", word):
        return word + "es"
    if word.endswith("s"):
        return word
    return re.sub(r"(?<=[^aeiou])y$", "ie", word) + "s"


def words(text: str) -> list[str]:
    """Split into lower-case words; a hyphen or an apostrophe separates."""
    return re.findall(r"[a-z0-9]+", text.lower())


def object_scores(
    answers: Sequence[str], truths: Sequence[set[str]], vocabulary: Vocabulary
) -> dict[str, Estimate | None]:
    """Compare the objects that answers mention with those in the pictures; see `object_counts`."""
    counts = object_counts([vocabulary.mentions(answer) for answer in answers], truths)
    return {name: count.estimate() for name, count in counts.items()}


def object_counts(mentioned: Sequence[Sequence[str]], truths: Sequence[set[str]]) -> dict[str, Counts]:
    """Compare the objects that answers mention with those in the pictures.

    `chair_i`: hallucinated mentions / all mentions, pooled as in Rohrbach et al. 2018 (a mention counts each
    time);
    `mention_precision`: objects named that are there / objects named, each object once per picture;
    `mention_recall`: objects there that are named / objects there.
    """
    wrong = [sum(name not in truth for name in names) for names, truth in zip(mentioned, truths, strict=True)]
    right = [len(set(names) & truth) for names, truth in zip(mentioned, truths, strict=True)]
    return {
        "chair_i": Counts(wrong, [len(names) for names in mentioned]),
        "mention_precision": Counts(right, [len(set(names)) for names in mentioned]),
        "mention_recall": Counts(right, [len(truth) for truth in truths]),
    }


def recall_at(similarity: Tensor, correct: Tensor, k: int) -> list[float]:
    """For each row of (A, B) tell whether one of its k most similar columns is correct (A, B boolean)."""
    best = similarity.topk(k, dim=1).indices  # (A, k)
    return correct.gather(1, best).any(1).float().tolist()


def distinct(text: str, n: int) -> float:
    """Return the share of different ones among the runs of n words (distinct-n); 1 where there is no run."""
    said = words(text)
    runs = [tuple(said[start : start + n]) for start in range(len(said) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def derangement(n: int, *, seed: int = 0) -> list[int]:
    """Return a random order of range(n) in which nothing keeps its place: the shuffled-picture control."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    place = {item: order[(rank + 1) % n] for rank, item in enumerate(order)}  # one cycle through all
    return [place[item] for item in range(n)]
