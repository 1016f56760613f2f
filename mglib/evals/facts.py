"""What a text states, as facts: objects, how many, how two of them stand, where it is, what is written.

`parse` reads them from an answer by rules; how well it does so is measured in `mglib.evals.coverage`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mglib.evals.chair import EVALUATION, generalised, vocabulary
from mglib.metrics import Vocabulary, read_rows
from mglib.world.catalog import load

Fact = tuple[str, ...]  # kind, then what: ("object", "dog"), ("relation", "dog", "left of", "cat")
KINDS = ("object", "count", "relation", "setting", "writing")
NUMBERS = {
    **{word: number for number, word in enumerate(("one", "two", "three", "four", "five", "six"), 1)},
    **{str(number): number for number in range(1, 10)},
    **dict.fromkeys(("a", "an", "another", "single", "second"), 1),
}
ITS = ("its", "his", "her", "their")
TURNED = {"right of": "left of", "below": "above", "behind": "in front of"}
RELATIONS = Vocabulary(
    {
        "left of": [
            "left of",
            "left side of",
            "left hand side of",
            "left from",
            *(f"{it} left" for it in ITS),
        ],
        "right of": [
            "right of",
            "right side of",
            "right hand side of",
            "right from",
            *(f"{it} right" for it in ITS),
        ],
        "above": ["above", "over"],
        "below": ["below", "beneath", "under", "underneath"],
        "in front of": ["in front of"],
        "behind": ["behind", "in back of"],
    }
)
VERBS = frozenset(
    ("is", "are", "was", "were", "there", "you", "we", "stands", "sits", "lies", "flies", "comes")
)
BREAKS = frozenset((",", ";", "and", "with", "in", "on", "at", "that", "which", "while", "but", "where"))
Span = tuple[int, int, str]


@lru_cache
def settings() -> Vocabulary:
    """Return the names of the small world's settings."""
    more = {row["setting"]: row["synonyms"].split("|") for row in read_rows(EVALUATION / "settings.csv")}
    return Vocabulary(
        {
            one.name: [one.name, one.noun, *one.phrases, *filter(None, more[one.name])]
            for one in load().settings
        }
    )


def relation(subject: str, predicate: str, other: str) -> Fact:
    """Return a relation in its one direction: what is right of something has that to its left."""
    if predicate in TURNED:
        return ("relation", other, TURNED[predicate], subject)
    return ("relation", subject, predicate, other)


def count_facts(number: Counter[str]) -> set[Fact]:
    """Return the objects, and how many there are where there are several."""
    return {("object", name) for name in number} | {
        ("count", name, str(many)) for name, many in number.items() if many > 1
    }


def implied(found: Iterable[Fact]) -> frozenset[Fact]:
    """Add what follows from facts: where a runner is, a person is."""
    kept = frozenset(found)
    names = [fact[1] for fact in kept if fact[0] == "object"]
    return kept | {("object", name) for name in generalised(names)}


def parse(text: str) -> frozenset[Fact]:
    """Read the facts that a text states; what stands in quotation marks is writing and nothing else."""
    quoted = r"[\"“]([^\"”]+)[\"”]"
    found: set[Fact] = {
        ("writing", " ".join(written.lower().split())) for written in re.findall(quoted, text)
    }
    number: Counter[str] = Counter()
    before: list[Span] = []
    for sentence in re.split(r"[.!?\n]+", re.sub(quoted, " writing ", text).lower()):
        tokens = re.findall(r"[a-z0-9]+|[,;]", sentence)
        places = settings().spans(tokens)
        named = vocabulary().spans(tokens)
        spans = [
            span
            for span in named
            if not _denied(tokens, span) and not any(_within(span, place) for place in places)
        ]
        here: Counter[str] = Counter()
        for span in spans:
            here[span[2]] += _count(tokens, span, known=span[2] in here or span[2] in number)
        number |= Counter({name: max(1, many) for name, many in here.items()})  # the larger of both
        found |= _relations(tokens, spans, before[-1:])
        found |= {
            ("setting", place[2]) for place in places if not any(_within(place, span) for span in named)
        }
        before = spans or before
    if any(fact[0] == "writing" for fact in found):
        number.pop("sign", None)  # the board of the writing
    return frozenset(found | count_facts(number))


def _within(part: Span, whole: Span) -> bool:
    """Say whether a name is part of a longer one: the trees of "among the trees", the office of "office
    building".
    """
    return whole[0] <= part[0] and part[1] <= whole[1] and part[:2] != whole[:2]


def _denied(tokens: Sequence[str], span: Span) -> bool:
    """Say whether an object is said to be absent: "no dog", "without any dog"."""
    near = _just_before(tokens, span[0])
    return bool({"no", "without"} & set(near)) or near[:2] in (["a", "not"], ["any", "not"], ["an", "not"])


def _just_before(tokens: Sequence[str], start: int) -> list[str]:
    """Return up to three words before an object, nearest first, as far as they belong to it."""
    near = []
    for token in reversed(tokens[max(0, start - 3) : start]):
        if token in BREAKS:
            break
        near.append(token)
    return near


def _count(tokens: Sequence[str], span: Span, *, known: bool) -> int:
    """Return how many of an object a mention adds: "the dog" adds none where a dog is known."""
    for token in _just_before(tokens, span[0]):
        if token in NUMBERS:
            return NUMBERS[token]
    return 0 if known else 1


def _relations(tokens: Sequence[str], spans: Sequence[Span], before: Sequence[Span]) -> set[Fact]:
    """Return the relations of a sentence; `before` is the last object of the one before, for "it"."""
    found = set()
    for start, end, predicate in RELATIONS.spans(tokens):
        left = [span for span in spans if span[1] <= start]
        right = [span for span in spans if span[0] >= end]
        subjects = _subjects(tokens, left, start)
        target = None if tokens[start] in ITS else _target(tokens, right, end)
        if target and (not subjects or _inverted(tokens, left, start, right)):
            later = [span for span in right if span[0] >= target[1]]
            if later and VERBS & set(tokens[target[1] : later[0][0]]):
                subjects = later[:1]
        elif tokens[start] in ITS or (
            not target and {"it", "them", "him", "her"} & set(tokens[end : end + 1])
        ):
            subjects = subjects or right[:1]
            target = (left[:-1] or list(before) or [None])[-1]
        found |= {
            relation(one[2], predicate, target[2]) for one in subjects if target and one[2] != target[2]
        }
    return found


def _subjects(tokens: Sequence[str], left: Sequence[Span], start: int) -> list[Span]:
    """Return what stands in the relation: the object before it, and with "are" all that are joined to it."""
    if not left:
        return []
    subjects = [left[-1]]
    if "are" in tokens[left[-1][1] : start]:
        for span in reversed(left[:-1]):
            between = tokens[span[1] : subjects[-1][0]]
            if len(between) > 4 or not {"and", ","} & set(between) or VERBS & set(between):
                break
            subjects.append(span)
    return subjects


def _target(tokens: Sequence[str], right: Sequence[Span], end: int) -> Span | None:
    """Return the object that follows a relation at once, but for an article, a number or an adjective."""
    if not right or right[0][0] - end > 4 or BREAKS & set(tokens[end : right[0][0]]):
        return None
    return right[0]


def _inverted(tokens: Sequence[str], left: Sequence[Span], start: int, right: Sequence[Span]) -> bool:
    """Say whether the relation opens its clause: "..., and behind the dog is a cat"."""
    opening = [place for place in range(left[-1][1], start) if tokens[place] in (",", ";", "and", "while")]
    return bool(opening) and start - opening[-1] <= 4 and not VERBS & set(tokens[opening[-1] : start])
