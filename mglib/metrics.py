"""What is measured: objects named, hallucinated and missed; retrieval; variety; intervals for all of it."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over `n` pictures."""

    value: float
    low: float
    high: float
    n: int


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> Estimate | None:
    """Return sum / sum with a percentile bootstrap over pictures; None where nothing was counted.

    Both are given per picture, so that a picture with many mentions is drawn with all of them.
    """
    above, below = numpy.asarray(numerators, dtype=float), numpy.asarray(denominators, dtype=float)
    if below.sum() == 0:
        return None
    generator = numpy.random.default_rng(seed)
    draws = generator.integers(len(above), size=(resamples, len(above)))
    totals = below[draws].sum(1)
    values = above[draws].sum(1)[totals > 0] / totals[totals > 0]
    low, high = numpy.quantile(values, [0.025, 0.975])
    return Estimate(above.sum() / below.sum(), float(low), float(high), len(above))


def mean(values: Sequence[float]) -> Estimate | None:
    """Return the mean with its bootstrap interval over pictures."""
    return ratio(values, [1.0] * len(values))


class Vocabulary:
    """The names by which objects can be mentioned: names, plurals and synonyms, double words before single
    ones.
    """

    def __init__(self, names: dict[str, Iterable[str]]) -> None:
        """`names` maps an object to all its surface forms."""
        self.forms = {tuple(words(form)): name for name, forms in names.items() for form in forms}
        self.longest = max(map(len, self.forms))

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a CSV with columns name, plural, coco and synonyms (split by "|", each also with its plural).

        An object goes by its COCO category where it has one, else by its name.
        """
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names: dict[str, list[str]] = {}
        for row in rows:
            synonyms = [synonym for synonym in row["synonyms"].split("|") if synonym]
            forms = [row["name"], row["plural"], *synonyms, *map(plural, synonyms)]
            names.setdefault(row["coco"] or row["name"], []).extend(forms)
        return cls(names)

    def mentions(self, text: str) -> list[str]:
        """Return the objects mentioned in a text, in order, each time they are mentioned.

        The longest name wins ("teddy bear" is no bear), and what it has used is not read again.
        """
        tokens, found, place = words(text), [], 0
        while place < len(tokens):
            for length in range(self.longest, 0, -1):
                form = tuple(tokens[place : place + length])
                if len(form) == length and form in self.forms:
                    found.append(self.forms[form])
                    place += length
                    break
            else:
                place += 1
        return found


def plural(word: str) -> str:
    """Spell the regular English plural; and that of man and woman."""
    if word.endswith("man"):
        return word[:-2] + "en"
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", word) + "s"


def words(text: str) -> list[str]:
    """Split into lower-case words; a hyphen or an apostrophe separates."""
    return re.findall(r"[a-z0-9]+", text.lower())


def object_scores(
    answers: Sequence[str], truths: Sequence[set[str]], vocabulary: Vocabulary
) -> dict[str, Estimate | None]:
    """Compare the objects that answers mention with those in the pictures.

    `chair_i`: hallucinated mentions / all mentions, pooled as in Rohrbach et al. 2018 (a mention counts each
    time);
    `mention_precision`: objects named that are there / objects named, each object once per picture;
    `mention_recall`: objects there that are named / objects there.
    """
    mentioned = [vocabulary.mentions(answer) for answer in answers]
    wrong = [sum(name not in truth for name in names) for names, truth in zip(mentioned, truths, strict=True)]
    right = [len(set(names) & truth) for names, truth in zip(mentioned, truths, strict=True)]
    return {
        "chair_i": ratio(wrong, [len(names) for names in mentioned]),
        "mention_precision": ratio(right, [len(set(names)) for names in mentioned]),
        "mention_recall": ratio(right, [len(truth) for truth in truths]),
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
