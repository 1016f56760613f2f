"""Which objects answers invent, where in the answer, and how far the training captions explain them
(paper, section 4.5.1; Rohrbach et al. 2018 ask the same of captioning models).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

from mglib.evals.chair import Mentions, Reading, Truth, chair_i
from mglib.mentions import Vocabulary
from mglib.metrics import Counts

LONG = "Please describe this image as detailed as possible."  # the paper's prompts for Table 5
SHORT = "Please describe the image shortly and precisely, in less than 20 words."


@dataclass(frozen=True)
class Seen:
    """How many captions name each object, and each pair of objects."""

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

    def ranks(self, name: str, there: Iterable[str]) -> dict[str, float]:
        """Return how far an object is to be expected among the objects `there`, by three measures.

        *frequency*: the share of captions that name it; *together*: its largest share among the captions that
        name one of those objects; *lift*: the ratio of that share to its frequency.
        """
        frequency = self.alone[name] / self.captions
        shares = [self.pairs[name, other] / self.alone[other] for other in there if self.alone[other]]
        together = max(shares, default=0.0)
        lift = together / frequency if frequency else 0.0
        return {"frequency": frequency, "together": together, "lift": lift}


def invented(reading: Reading) -> set[str]:
    """Return the objects that an answer names and its picture does not show."""
    return set(reading.mentions) - reading.truth.sayable


def present(truth: Truth) -> frozenset[str]:
    """Return the names of the annotated objects of a picture."""
    return frozenset().union(*truth.objects)


def explained(readings: Sequence[Reading], seen: Seen) -> dict[str, Counts]:
    """Return how often an invented object ranks above an absent one that was not invented.

    Both are named in some training caption and compared within a picture; they are ranked by each of
    `Seen.ranks`. A tie counts 1/2, which is also chance level.
    """
    found: dict[str, list[float]] = {"frequency": [], "together": [], "lift": []}
    compared = []
    for reading in readings:
        there = present(reading.truth)
        ranks = {name: seen.ranks(name, there) for name in seen.alone if name not in reading.truth.sayable}
        made_up = ranks.keys() & invented(reading)
        pairs = [(ranks[one], ranks[other]) for one in made_up for other in ranks.keys() - made_up]
        compared.append(float(len(pairs)))
        for cause, wins in found.items():
            wins.append(
                sum((one[cause] > other[cause]) + 0.5 * (one[cause] == other[cause]) for one, other in pairs)
            )
    return {cause: Counts(wins, compared) for cause, wins in found.items()}


def unknown(readings: Sequence[Reading], seen: Seen) -> Counts:
    """Return for each answer how many of its invented mentions are of an object that no caption names."""
    made_up = [[name for name in one.mentions if name not in one.truth.sayable] for one in readings]
    never = [sum(seen.alone[name] == 0 for name in names) for names in made_up]
    return Counts(never, [len(names) for names in made_up])


def by_object(readings: Sequence[Reading], seen: Seen) -> list[dict[str, float | str]]:
    """Return a row for each invented object, the most often invented first.

    `rate` is the share of pictures without it in whose answer it is invented; `captions` the share of
    training captions that name it; `beside` the object that these pictures most often show and training
    captions most often name with it (by the product of counts), "-" if there is none.
    """
    times = Counter(name for one in readings for name in invented(one))
    rows: list[dict[str, float | str]] = []
    for name, count in sorted(times.items(), key=lambda row: (-row[1], row[0])):
        near = Counter(other for one in readings if name in invented(one) for other in present(one.truth))
        told = {other: many * seen.pairs[name, other] for other, many in near.items()}
        beside = max(sorted(told), key=told.__getitem__, default="-")
        rows.append(
            {
                "object": name,
                "answers": count,
                "rate": count / sum(name not in one.truth.sayable for one in readings),
                "captions": seen.alone[name] / seen.captions,
                "beside": beside if told.get(beside) else "-",
            }
        )
    return rows


def sentences(answer: str) -> list[str]:
    """Split an answer after full stops, question and exclamation marks, and line breaks."""
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", answer.strip()) if part]


def by_sentence(answers: Sequence[str], truths: Sequence[Truth], words: Mentions, most: int) -> list[Counts]:
    """Return CHAIR_i of the answers' first sentences, of their second ones, ...; the last covers the rest."""
    said = [sentences(answer) for answer in answers]
    ends = [*range(1, most), None]
    return [
        chair_i([words.mentions(" ".join(one[place:end])) for one in said], truths)
        for place, end in enumerate(ends)
    ]


def by_word(
    answers: Sequence[str], truths: Sequence[Truth], words: Vocabulary, edges: Sequence[int]
) -> dict[tuple[int, int], Counts]:
    """Return CHAIR_i of mentions from word a to before word b, for neighbouring a, b in `edges`.

    A mention counts at its first word; words count from 0.
    """
    named = [words.named(answer) for answer in answers]
    return {
        (low, high): chair_i([[name for word, name in row if low <= word < high] for row in named], truths)
        for low, high in pairwise(edges)
    }
