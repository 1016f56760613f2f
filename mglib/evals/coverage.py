"""Coverage of references (the paper's Table 2): does an answer say all that a person's caption says?

Two protocols: in v2, whether one random reference per picture is covered; in the ICLR version, how many of
the five are. A judge is any callable (answer, reference) -> bool. The default one compares facts, of which
objects and relations decide. A reference's facts are stored with it, an answer's are extracted
by rules (`parse`), whose accuracy `agreement` measures.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from mglib.data import records
from mglib.evals.chair import EVALUATION, generalised, vocabulary
from mglib.evals.pope import phrase
from mglib.mentions import Span, Vocabulary, denied, word_list, word_lists
from mglib.metrics import Counts, each, read_rows
from mglib.paths import DATA
from mglib.world import catalog

Judge = Callable[[str, str], bool]
Fact = tuple[str, ...]  # kind, then what: ("object", "dog"), ("relation", "dog", "left of", "cat")
KINDS = ("object", "count", "relation", "setting", "writing")
NUMBERS = {
    **{word: number for number, word in enumerate(("one", "two", "three", "four", "five", "six"), 1)},
    **{str(number): number for number in range(1, 10)},
    **dict.fromkeys(("a", "an", "another", "single", "second"), 1),
}
ITS = ("its", "his", "her", "their")
PRONOUNS = (["it"], ["them"], ["him"], ["her"])
TURNED = {"right of": "left of", "below": "above", "behind": "in front of"}
RELATIONS = Vocabulary(word_lists()["relations"])
VERBS, BREAKS = frozenset(word_list("verbs of place")), frozenset(word_list("breaks"))


@lru_cache
def settings() -> Vocabulary:
    """Return the names of the small world's settings."""
    more = {row["setting"]: row["synonyms"].split("|") for row in read_rows(EVALUATION / "settings.csv")}
    return Vocabulary(
        {
            one.name: [one.name, one.noun, *one.phrases, *filter(None, more[one.name])]
            for one in catalog.SETTINGS.values()
        }
    )


def relation(subject: str, predicate: str, other: str) -> Fact:
    """Return a relation in its canonical direction: "a right of b" becomes "b left of a"."""
    if predicate in TURNED:
        return ("relation", other, TURNED[predicate], subject)
    return ("relation", subject, predicate, other)


def count_facts(number: Counter[str]) -> set[Fact]:
    """Return the objects and, for those that occur several times, their number."""
    several = {("count", name, str(many)) for name, many in number.items() if many > 1}
    return {("object", name) for name in number} | several


def parse(text: str) -> frozenset[Fact]:
    """Read the facts that a text states; quoted text is writing and nothing else."""
    quoted = r"[\"“]([^\"”]+)[\"”]"
    found: set[Fact] = {("writing", " ".join(one.lower().split())) for one in re.findall(quoted, text)}
    number: Counter[str] = Counter()
    before: list[Span] = []
    for sentence in re.split(r"[.!?\n]+", re.sub(quoted, " writing ", text).lower()):
        tokens = re.findall(r"[a-z0-9]+|[,;]", sentence)
        places = settings().spans(tokens)
        named = vocabulary().spans(tokens)
        absent = denied(tokens, named) | {one for one in named if any(_within(one, at) for at in places)}
        spans = [span for span in named if span not in absent]
        here: Counter[str] = Counter()
        for span in spans:
            here[span[2]] += _count(tokens, span, known=span[2] in here or span[2] in number)
        number |= Counter({name: max(1, many) for name, many in here.items()})  # the larger of both
        found |= _relations(tokens, spans, before[-1:])
        found |= {("setting", at[2]) for at in places if not any(_within(at, one) for one in named)}
        before = spans or before
    if any(fact[0] == "writing" for fact in found):
        number.pop("sign", None)  # the board that bears the writing
    return frozenset(found | count_facts(number))


def _within(part: Span, whole: Span) -> bool:
    """Return whether a name is part of a longer one: the trees of "among the trees", the office of "office
    building".
    """
    return whole[0] <= part[0] and part[1] <= whole[1] and part[:2] != whole[:2]


def _count(tokens: Sequence[str], span: Span, *, known: bool) -> int:
    """Return how many of an object a mention adds: "the dog" adds none if a dog is known.

    The number is one of the three words before it, back to the nearest break.
    """
    before = reversed(tokens[max(0, span[0] - 3) : span[0]])
    near = takewhile(lambda token: token not in BREAKS, before)
    return next((NUMBERS[token] for token in near if token in NUMBERS), 0 if known else 1)


def _relations(tokens: Sequence[str], spans: Sequence[Span], before: Sequence[Span]) -> set[Fact]:
    """Return the relations of a sentence; `before` is the last object of an earlier one, for "it"."""
    found = set()
    for start, end, predicate in RELATIONS.spans(tokens):
        left = [span for span in spans if span[1] <= start]
        right = [span for span in spans if span[0] >= end]
        subjects = _subjects(tokens, left, start)
        of_it = tokens[start] in ITS or tokens[end : end + 1] in PRONOUNS
        target = None if tokens[start] in ITS else _target(tokens, right, end)
        if target and (not subjects or _inverted(tokens, left, start)):  # "behind the dog is a cat"
            later = [span for span in right if span[0] >= target[1]][:1]
            if later and VERBS & set(tokens[target[1] : later[0][0]]):
                subjects = later
        elif not target and of_it:  # "a cat is behind it", "to its left is a cat"
            subjects = subjects or right[:1]
            target = next(reversed([*before, *left[:-1]]), None)
        found |= {
            relation(one[2], predicate, target[2]) for one in subjects if target and one[2] != target[2]
        }
    return found


def _subjects(tokens: Sequence[str], left: Sequence[Span], start: int) -> list[Span]:
    """Return the subjects of a relation: the object before it and, with "are", all joined to it."""
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
    """Return the object right after a relation, apart from an article, a number or an adjective."""
    if not right or right[0][0] - end > 4 or BREAKS & set(tokens[end : right[0][0]]):
        return None
    return right[0]


def _inverted(tokens: Sequence[str], left: Sequence[Span], start: int) -> bool:
    """Return whether the relation opens its clause: "..., and behind the dog is a cat"."""
    opening = [place for place in range(left[-1][1], start) if tokens[place] in (",", ";", "and", "while")]
    return bool(opening) and start - opening[-1] <= 4 and not VERBS & set(tokens[opening[-1] : start])


# --- Is a reference covered? ---


def read_facts(folder: Path) -> dict[str, frozenset[Fact]]:
    """Return the stored facts of every reference of a split, by its text.

    Raises ValueError if captions.json and facts.json do not match, FileNotFoundError if one is missing.
    """
    texts = {
        note["id"]: note["caption"] for note in records.read_json(folder / "captions.json")["annotations"]
    }
    if not (folder / "facts.json").exists():
        raise FileNotFoundError(
            f"{folder / 'facts.json'} is missing: build the small world again "
            "(`make reproduce NOTEBOOKS=01`), or pass a judge that reads references as text."
        )
    notes = {}
    for note in records.read_json(folder / "facts.json")["annotations"]:
        facts = count_facts(Counter(note["objects"])) | {relation(*triple) for triple in note["relations"]}
        facts |= {(kind, note[kind].lower()) for kind in ("setting", "writing") if note[kind]}
        notes[note["id"]] = frozenset(facts)
    if notes.keys() != texts.keys():
        raise ValueError(
            f"{folder}: facts.json and captions.json differ; remove the folder and build "
            "the small world again."
        )
    return {texts[number]: facts for number, facts in notes.items()}


def fact_judge(stored: Mapping[str, frozenset[Fact]]) -> Judge:
    """Return a judge that wants every stored object and relation in the answer, as the paper asks its judge,
    or implied by it: where a runner is, a person is.

    Raises KeyError for a reference whose facts are not stored.
    """

    def covers(answer: str, reference: str) -> bool:
        found = parse(answer)
        implied = {("object", name) for name in generalised(fact[1] for fact in found if fact[0] == "object")}
        return {fact for fact in stored[reference] if fact[0] in ("object", "relation")} <= found | implied

    return covers


def references_covered(answers: Sequence[str], references: Sequence[Sequence[str]], judge: Judge) -> Counts:
    """Return for each picture how many of its references are covered (ICLR)."""
    rows = zip(answers, references, strict=True)
    return each([float(sum(judge(answer, text) for text in texts)) for answer, texts in rows])


def counted(
    models: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]], judge: Judge
) -> dict[str, dict[str, Counts]]:
    """Return both protocols' counts for each model's answers, and their length, which can buy coverage.

    *covered*: whether one random reference of each picture is covered, the same one for every model (v2);
    *references_covered*: how many references are (ICLR).
    """
    draw = random.Random(0)
    drawn = [draw.choice(texts) for texts in references]
    return {
        name: {
            "covered": each([float(judge(*pair)) for pair in zip(answers, drawn, strict=True)]),
            "references_covered": references_covered(answers, references, judge),
            "length": each([len(answer.split()) for answer in answers]),
        }
        for name, answers in models.items()
    }


def everything() -> str:
    """Return the degenerate answer that names each object of the small world, whatever the picture shows."""
    names = [thing.category for thing in catalog.THINGS.values()]
    return f"There is {', '.join(map(phrase, names[:-1]))} and {phrase(names[-1])}."


def agreement(
    found: Sequence[frozenset[Fact]], true: Sequence[frozenset[Fact]]
) -> dict[str, dict[str, Counts]]:
    """Return precision and recall of parsed facts, for each kind of fact, counted by text."""
    scores = {}
    for kind in KINDS:
        pairs = [
            [{fact for fact in facts if fact[0] == kind} for facts in pair]
            for pair in zip(found, true, strict=True)
        ]
        hits = [len(one & other) for one, other in pairs]
        scores[kind] = {
            "precision": Counts(hits, [len(one) for one, _ in pairs]),
            "recall": Counts(hits, [len(other) for _, other in pairs]),
        }
    return scores


def read_labels() -> list[tuple[str, frozenset[Fact]]]:
    """Read answers with the facts that they state, as labelled by a language model, not by the parser (see
    data/README.md).
    """
    return [
        (row["answer"], frozenset(tuple(fact.split(":")) for fact in row["facts"].split("|") if fact))
        for row in read_rows(DATA / "coverage" / "labels.csv")
    ]
