"""POPE: does a model say yes to objects that are not there (Li et al. 2023, arXiv 2305.10355)?

A picture's questions name as many absent objects as present ones. The absent ones are drawn at random, the
most frequent in the data set (popular), or those that most often occur with what is there (adversarial).
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from random import Random

import pandas

from mglib.evals.chair import Truth
from mglib.evals.cleaning import LABEL
from mglib.mentions import word_list
from mglib.metrics import Counts, words
from mglib.world import catalog

WAYS = ("random", "popular", "adversarial")
PAIRS = 3  # questions per answer and picture, at most, as in the paper
QUESTION = "Is there {thing} in the image?"
YES, NO = frozenset(word_list("yes")), frozenset(word_list("no"))
VERBS = word_list("forms of verbs")
NOT = frozenset((*word_list("not"), *(f"{verb}nt" for verb in VERBS)))  # apostrophes are left out
NONE_THERE = re.compile(r"\bthere (is|are) (zero|0|a lack|an absence)\b")
ASKING = {*VERBS, "can", "will"}  # what a question begins with
ITEM = re.compile(r"^\W*(?:\(?(?:\d+|[a-z])[.):]\s)?\W*", re.IGNORECASE)  # "1. ", "(a) ", "- ", "..."
UNSURE = frozenset(word_list("unsure"))
# Neither yes nor no, whatever else is said: "I do not know", "it is hard to tell if there is a dog".
OPEN = re.compile(
    r"\b((dont|not) (know|clear|certain|sure|able|possible)|(hard|difficult|impossible) to|if|whether)\b"
)
BOTH = re.compile(r"yes\s*(/|or\b|and\b)\s*no\b|no (idea|way)\b", re.IGNORECASE)
AFFIRMED = re.compile(r"\b(no doubt|not only)\b", re.IGNORECASE)  # a "no" that denies nothing
APOSTROPHES = re.compile(r"\s?['‘’ʼ′`´]\s?(?=t\b)|['‘’ʼ′`´]")


@dataclass(frozen=True)
class Question:
    """A question about a picture and whether yes is right."""

    picture: Hashable  # its index in the split, or its file
    object: str
    text: str
    answer: bool


@cache
def phrase(name: str) -> str:
    """Return an object with its article: "a pair of scissors"."""
    known = {thing.category: thing.phrase for thing in catalog.THINGS.values()}
    return known.get(name, f"{'an' if name[0] in 'aeiou' else 'a'} {name}")


def questions(
    objects: Sequence[frozenset[str]], truths: Sequence[Truth], way: str, *, seed: int
) -> list[Question]:
    """Ask about each picture of a split; any of its annotated `objects` may be asked about.

    No question asks about an object that is in the picture without being annotated. Pictures with fewer
    objects get fewer questions.
    """
    frequent = Counter(name for names in objects for name in sorted(names))
    together = Counter(pair for names in objects for pair in permutations(sorted(names), 2))
    asked = []
    for picture, (present, truth) in enumerate(zip(objects, truths, strict=True)):
        rng = Random(f"{seed}/{picture}")  # the same present objects in all three ways
        there = sorted(present)
        rng.shuffle(there)
        absent = sorted(set(frequent) - present - truth.sayable)
        rng.shuffle(absent)  # ties are broken at random
        if way == "popular":
            absent.sort(key=lambda name: -frequent[name])
        elif way == "adversarial":
            absent.sort(key=lambda name: -sum(together[name, other] for other in present))
        number = min(PAIRS, len(there), len(absent))
        for names, right in ((there[:number], True), (absent[:number], False)):
            asked += [Question(picture, name, QUESTION.format(thing=phrase(name)), right) for name in names]
    return asked


def parse(answer: str) -> bool | None:
    """Read yes or no from an answer's first sentence; None if it says neither.

    Openings are skipped: a list number, dots, quotation marks, "Answer:", the question repeated. The official
    code takes any answer without "no" or "not" for a yes, which flatters models that ramble.
    """
    whole = LABEL.sub("", ITEM.sub("", answer))
    if BOTH.match(whole):
        return None
    said: list[str] = []
    for sentence in re.findall(r"[^.!?\n]+[.!?\n]*", whole):
        said = words(AFFIRMED.sub(" ", APOSTROPHES.sub("", sentence)))
        if said and said[0] in YES | NO:
            return said[0] in YES
        if "?" not in sentence or not ASKING & set(said[:1]):
            break
    text = " ".join(said)
    if UNSURE & set(said) or OPEN.search(text):
        return None
    if NOT & set(said) or NONE_THERE.search(text):
        return False
    return True if "yes" in said or re.search(r"\bthere( is| are|s)\b", text) else None


def official(answer: str) -> bool:
    """Read an answer as the official code (`evaluate.py`) does: yes, unless its first sentence contains "No",
    "no" or "not" as a space-separated word.
    """
    return not {"No", "no", "not"} & set(answer.split(".")[0].replace(",", "").split(" "))


def counts(asked: Sequence[Question], answers: Sequence[str]) -> dict[str, Counts]:
    """Return the counts of each measure by picture; an unparsed answer is wrong, and not a yes.

    `accuracy`; `precision`, `recall` and `f1` of yes; `yes_ratio` and `unparsed`, of all answers.
    """
    rows = [
        (question.picture, question.answer, said is True, said is question.answer, said is None)
        for question, said in zip(asked, map(parse, answers), strict=True)
    ]
    table = pandas.DataFrame(rows, columns=["picture", "positive", "yes", "right", "unparsed"])
    table = table.assign(asked=1, hit=table["yes"] & table["positive"])
    sums = table.groupby("picture", sort=False).sum().to_dict("list")  # name -> a number for each picture
    return {
        "accuracy": Counts(sums["right"], sums["asked"]),
        "precision": Counts(sums["hit"], sums["yes"]),
        "recall": Counts(sums["hit"], sums["positive"]),
        "f1": Counts(
            [2 * hit for hit in sums["hit"]],
            [yes + positive for yes, positive in zip(sums["yes"], sums["positive"], strict=True)],
        ),
        "yes_ratio": Counts(sums["yes"], sums["asked"]),
        "unparsed": Counts(sums["unparsed"], sums["asked"]),
    }
