"""POPE: does a model say yes to objects that are not there (Li et al. 2023, arXiv 2305.10355)?

Each picture is asked about as many absent objects as present ones. The absent ones are drawn at random, are
the most frequent of the data set (popular), or those that most often stand with what is there (adversarial).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from random import Random

from mglib.evals.chair import WORLD, Truth
from mglib.metrics import Counts, read_rows, words

WAYS = ("random", "popular", "adversarial")
PAIRS = 3  # questions of each answer a picture, at most, as in the paper
QUESTION = "Is there {thing} in the image?"
NOT = frozenset(("no", "not", "t", "none", "nothing", "neither", "nor", "never", "nobody", "nowhere"))
LABEL = re.compile(r"^\W*(?:\(?(?:\d+|[a-z])[.):]\s)?\W*", re.IGNORECASE)  # "1. ", "(a) ", "- ", "..."
UNSURE = frozenset(("sure", "sorry", "unable", "cannot", "unclear", "possible", "maybe", "perhaps"))


@dataclass(frozen=True)
class Question:
    """A question about a picture (its place in the split) and whether yes is right."""

    picture: int
    object: str
    text: str
    answer: bool


@lru_cache
def phrases() -> dict[str, str]:
    """Return how to ask for each object of the small world: "a pair of scissors"."""
    return {
        row["coco"] or row["name"]: f"{row['article']} {row['name']}"
        for row in read_rows(WORLD / "objects.csv")
    }


def phrase(name: str) -> str:
    """Say an object with its article."""
    return phrases().get(name, f"{'an' if name[0] in 'aeiou' else 'a'} {name}")


def questions(
    objects: Sequence[frozenset[str]], truths: Sequence[Truth], way: str, *, seed: int
) -> list[Question]:
    """Ask about each picture of a split; `objects` are its annotated objects, of all of which one can ask.

    No question is asked about what can truly be said of the picture without being annotated. Pictures with
    fewer objects are asked fewer questions. Raises ValueError for an unknown way.
    """
    if way not in WAYS:
        raise ValueError(f"There is no way {way!r} to choose absent objects; take one of {', '.join(WAYS)}.")
    frequent = Counter(name for names in objects for name in sorted(names))
    together = Counter(pair for names in objects for pair in permutations(sorted(names), 2))
    asked = []
    for picture, (present, truth) in enumerate(zip(objects, truths, strict=True)):
        rng = Random(f"{seed}/{picture}")  # the same objects that are there in all three ways
        there = sorted(present)
        rng.shuffle(there)
        absent = sorted(set(frequent) - present - truth.sayable)
        rng.shuffle(absent)  # ties are broken by chance
        if way == "popular":
            absent.sort(key=lambda name: -frequent[name])
        elif way == "adversarial":
            absent.sort(key=lambda name: -sum(together[name, other] for other in present))
        number = min(PAIRS, len(there), len(absent))
        pairs = [(there[place], True) for place in range(number)]
        pairs += [(absent[place], False) for place in range(number)]
        asked += [
            Question(picture, name, QUESTION.format(thing=phrase(name)), right) for name, right in pairs
        ]
    return asked


def parse(answer: str) -> bool | None:
    """Read yes or no from an answer's first sentence; None where it says neither.

    What an answer may begin with is passed over: a number of a list, dots, quotation marks. The official code
    takes whatever has no "no" or "not" for a yes, which flatters models that ramble.
    """
    said = words(re.split(r"[.!?\n]", LABEL.sub("", answer))[0])
    if said[:1] in (["yes"], ["yeah"], ["yep"], ["yup"]):
        return True
    if said[:1] in (["no"], ["nope"], ["nah"]):
        return False
    if UNSURE & set(said) or {"can", "t"} <= set(said):
        return None
    if NOT & set(said):
        return False
    text = " ".join(said)
    found = "yes" in said or any(claim in text for claim in ("there is", "there are", "there s"))
    return True if found else None


def official(answer: str) -> bool:
    """Read an answer as the official code (`evaluate.py`) does: yes, unless "No", "no" or "not" stands in its
    first sentence, between spaces.
    """
    return not {"No", "no", "not"} & set(answer.split(".")[0].replace(",", "").split(" "))


def counts(asked: Sequence[Question], answers: Sequence[str]) -> dict[str, Counts]:
    """Return what is counted for each picture; an unparsed answer is wrong, and is no yes.

    `accuracy`; `precision`, `recall` and `f1` of yes; `yes_ratio` and `unparsed`, of all answers.
    """
    pictures = sorted({question.picture for question in asked})
    place = {picture: index for index, picture in enumerate(pictures)}
    tally = {
        name: [0] * len(pictures) for name in ("asked", "right", "yes", "true_yes", "positive", "unparsed")
    }
    for question, answer in zip(asked, answers, strict=True):
        said, index = parse(answer), place[question.picture]
        tally["asked"][index] += 1
        tally["right"][index] += said is question.answer
        tally["yes"][index] += said is True
        tally["true_yes"][index] += said is True and question.answer
        tally["positive"][index] += question.answer
        tally["unparsed"][index] += said is None
    return {
        "accuracy": Counts(tally["right"], tally["asked"]),
        "precision": Counts(tally["true_yes"], tally["yes"]),
        "recall": Counts(tally["true_yes"], tally["positive"]),
        "f1": Counts(
            [2 * hit for hit in tally["true_yes"]],
            [yes + positive for yes, positive in zip(tally["yes"], tally["positive"], strict=True)],
        ),
        "yes_ratio": Counts(tally["yes"], tally["asked"]),
        "unparsed": Counts(tally["unparsed"], tally["asked"]),
    }
