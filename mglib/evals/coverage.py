"""Coverage of references (the paper's Table 2): does an answer say all that a person's caption says?

Two protocols: of v2, one random reference a picture is covered or not; of the ICLR version, how many of the
five. A judge is any callable (answer, reference) -> bool. The default one compares the facts stored with each
reference against those parsed from the answer; `agreement` measures that parser.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mglib.data import coco, records
from mglib.evals.facts import KINDS, Fact, count_facts, implied, parse, relation
from mglib.evals.pope import phrase
from mglib.metrics import Counts, each, read_rows
from mglib.paths import ROOT
from mglib.world.catalog import load

Judge = Callable[[str, str], bool]
REQUIRED = ("object", "relation")  # what the paper asks its judge for
LABELS = ROOT / "data" / "coverage" / "labels.csv"


def read_facts(folder: Path) -> dict[str, frozenset[Fact]]:
    """Return the stored facts of every reference of a split, by its text.

    Raises ValueError where captions.json and facts.json do not belong together.
    """
    texts = {note["id"]: note["caption"] for note in coco.read_json(folder / "captions.json")["annotations"]}
    if not (folder / "facts.json").exists():
        raise FileNotFoundError(
            f"{folder / 'facts.json'} is missing: build the small world again "
            "(`make reproduce NOTEBOOKS=01`), or pass a judge that reads references as text."
        )
    notes = _noted(folder / "facts.json")
    if notes.keys() != texts.keys():
        raise ValueError(
            f"{folder}: facts.json and captions.json differ; remove the folder and build "
            "the small world again."
        )
    return {texts[number]: facts for number, facts in notes.items()}


def _noted(path: Path) -> dict[int, frozenset[Fact]]:
    """Read a facts.json: the facts of each reference by its number."""
    notes = {}
    for note in records.read_json(path)["annotations"]:
        facts = count_facts(Counter(note["objects"])) | {relation(*triple) for triple in note["relations"]}
        for kind in ("setting", "writing"):
            if note[kind]:
                facts.add((kind, note[kind].lower()))
        notes[note["id"]] = frozenset(facts)
    return notes


def fact_judge(stored: Mapping[str, frozenset[Fact]], required: Sequence[str] = REQUIRED) -> Judge:
    """Return a judge that wants every stored fact of the required kinds in the answer.

    Raises KeyError for a reference whose facts are not stored.
    """

    def covers(answer: str, reference: str) -> bool:
        return {fact for fact in stored[reference] if fact[0] in required} <= implied(parse(answer))

    return covers


def one_covered(
    answers: Sequence[str], references: Sequence[Sequence[str]], judge: Judge, *, seed: int
) -> Counts:
    """Return for each picture whether one random reference is covered (v2).

    The same seed draws the same references for every model.
    """
    draw = random.Random(seed)
    drawn = [draw.choice(texts) for texts in references]
    return each([float(judge(*pair)) for pair in zip(answers, drawn, strict=True)])


def references_covered(answers: Sequence[str], references: Sequence[Sequence[str]], judge: Judge) -> Counts:
    """Return for each picture how many of its references are covered (ICLR)."""
    return each(
        [
            float(sum(judge(answer, text) for text in texts))
            for answer, texts in zip(answers, references, strict=True)
        ]
    )


def lengths(answers: Sequence[str]) -> Counts:
    """Return the words of each answer: coverage can be bought with length."""
    return each([len(answer.split()) for answer in answers])


def counted(
    models: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]], judge: Judge
) -> dict[str, dict[str, Counts]]:
    """Count for each model's answers both protocols, *covered* and *references_covered*, and their length."""
    return {
        name: {
            "covered": one_covered(texts, references, judge, seed=0),
            "references_covered": references_covered(texts, references, judge),
            "length": lengths(texts),
        }
        for name, texts in models.items()
    }


def everything() -> str:
    """Return the degenerate answer that names each object of the small world, whatever the picture shows."""
    names = [thing.category for thing in load().things]
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


def read_labels(path: Path = LABELS) -> list[tuple[str, frozenset[Fact]]]:
    """Read answers with the facts that they state, labelled by reading them (by a language model, not by the
    parser; data/README.md says how).
    """
    return [
        (row["answer"], frozenset(tuple(fact.split(":")) for fact in row["facts"].split("|") if fact))
        for row in read_rows(path)
    ]
