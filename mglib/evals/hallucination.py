"""Which objects answers invent, where in the answer, and what the training captions have to do with it
(paper, section 4.5.1; Rohrbach et al. 2018 ask the same of captioning models).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, permutations

from mglib.evals.chair import Mentions, Reading, Truth, chair_i
from mglib.mentions import Vocabulary
from mglib.metrics import Counts

LONG = "Please describe this image as detailed as possible."  # the paper's prompts for Table 5
SHORT = "Please describe the image shortly and precisely, in less than 20 words."


@dataclass(frozen=True)
class Seen:
    """How many captions name each object, and each two objects together."""

    captions: int
    alone: Counter[str]
    pairs: Counter[tuple[str, str]]

    @classmethod
    def count(cls, captions: Sequence[str], words: Mentions) -> "Seen":
        """Read the captions; an object counts once in each."""
        alone: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for caption in captions:
            named = sorted(set(words.mentions(caption)))
            alone.update(named)
            pairs.update(permutations(named, 2))
        return cls(len(captions), alone, pairs)

    def frequency(self, name: str) -> float:
        """Return the share of captions that name an object."""
        return self.alone[name] / self.captions

    def together(self, name: str, there: Iterable[str]) -> float:
        """Return the largest share that `name` has among the captions of one of the objects `there`."""
        shares = [self.pairs[name, other] / self.alone[other] for other in there if self.alone[other]]
        return max(shares, default=0.0)

    def lift(self, name: str, there: Iterable[str]) -> float:
        """Return how much likelier captions with one of the objects `there` name `name` than any caption."""
        return self.together(name, there) / self.frequency(name) if self.alone[name] else 0.0


def invented(reading: Reading) -> set[str]:
    """Return the objects that an answer names and its picture does not show."""
    return set(reading.mentions) - reading.truth.sayable


def present(truth: Truth) -> frozenset[str]:
    """Return the names of the annotated objects of a picture."""
    return frozenset().union(*truth.objects)


def explained(readings: Sequence[Reading], seen: Seen) -> dict[str, Counts]:
    """Return how often an invented object ranks above one that is absent as well and was not invented.

    Both are of the same picture, and named by some training caption. *frequency* ranks by the share of
    training captions that name the object, *together* by its share among captions that name an object of the
    picture, *lift* by how much larger that share is than its frequency. A tie counts 1/2; so does chance.
    """
    found: dict[str, list[float]] = {"frequency": [], "together": [], "lift": []}
    compared = []
    for reading in readings:
        there = present(reading.truth)
        made_up = sorted(invented(reading) & set(seen.alone))
        others = sorted(set(seen.alone) - reading.truth.sayable - set(made_up))
        compared.append(float(len(made_up) * len(others)))
        ranks: dict[str, Callable[[str], float]] = {
            "frequency": seen.frequency,
            "together": partial(seen.together, there=there),
            "lift": partial(seen.lift, there=there),
        }
        for cause, rank in ranks.items():
            pairs = [(rank(one), rank(other)) for one in made_up for other in others]
            found[cause].append(sum(float(one > other) + 0.5 * (one == other) for one, other in pairs))
    return {cause: Counts(wins, compared) for cause, wins in found.items()}


def unknown(readings: Sequence[Reading], seen: Seen) -> Counts:
    """Return for each answer how many of its invented mentions are of an object that no caption names."""
    made_up = [[name for name in one.mentions if name not in one.truth.sayable] for one in readings]
    never = [sum(seen.alone[name] == 0 for name in names) for names in made_up]
    return Counts(never, [len(names) for names in made_up])


def by_object(readings: Sequence[Reading], seen: Seen) -> list[dict[str, float | str]]:
    """Return a row for each invented object, the most often invented first.

    `rate` is the share of the pictures without it about which it is invented; `captions` the share of
    training captions that name it; `beside` the object of those pictures that training captions most often
    name with it, "-" where they name none with it.
    """
    times: Counter[str] = Counter()
    beside: dict[str, Counter[str]] = {}
    for reading in readings:
        for name in invented(reading):
            times[name] += 1
            near = {other: count for other in present(reading.truth) if (count := seen.pairs[name, other])}
            beside.setdefault(name, Counter()).update(near)
    absent = {name: sum(name not in one.truth.sayable for one in readings) for name in times}
    return [
        {
            "object": name,
            "answers": count,
            "rate": count / absent[name],
            "captions": seen.frequency(name),
            "beside": max(sorted(beside[name]), key=beside[name].__getitem__, default="-"),
        }
        for name, count in sorted(times.items(), key=lambda row: (-row[1], row[0]))
    ]


def sentences(answer: str) -> list[str]:
    """Split an answer behind full stops, question and exclamation marks, and line breaks."""
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", answer.strip()) if part]


def by_sentence(
    answers: Sequence[str], truths: Sequence[Truth], words: Mentions, most: int
) -> dict[str, Counts]:
    """Return CHAIR_i of the first sentences of all answers, of the second ones, ...; the last is open."""
    said = [sentences(answer) for answer in answers]
    found = {}
    for place in range(most):
        last = place == most - 1
        parts = [" ".join(one[place:] if last else one[place : place + 1]) for one in said]
        name = f"sentence {place + 1}" + (" and later" if last else "")
        found[name] = chair_i([words.mentions(part) for part in parts], truths)
    return found


def by_word(
    answers: Sequence[str], truths: Sequence[Truth], words: Vocabulary, edges: Sequence[int]
) -> dict[tuple[int, int], Counts]:
    """Return CHAIR_i of what is named from word a to before word b, for each two neighbours a, b of `edges`.

    A mention counts at its first word; words count from 0.
    """
    named = [words.named(answer) for answer in answers]
    return {
        (low, high): chair_i([[name for word, name in row if low <= word < high] for row in named], truths)
        for low, high in pairwise(edges)
    }
