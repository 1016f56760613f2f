"""CHAIR: which objects an answer mentions that the picture does not show (Rohrbach et al. 2018; the paper's
Table 5).

The sound reading is the default: every nameable object counts, including scenery, and nothing that can be
seen or read in the picture is a hallucination. `mglib.evals.chair_official` has the official code's rules.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from mglib.data.splits import Split
from mglib.evals.chair_official import OfficialVocabulary
from mglib.mentions import Vocabulary, introduced
from mglib.metrics import Counts, each, read_rows
from mglib.paths import DATA
from mglib.world import catalog
from mglib.world.scene import Scene

EVALUATION = DATA / "evaluation"
COCO = EVALUATION / "coco.csv"


Mentions = Vocabulary | OfficialVocabulary  # finds the objects that a text mentions


@dataclass(frozen=True)
class Truth:
    """What a picture shows.

    `objects` holds, for each annotated object, all names that are true of it (a runner is a person); recall
    counts these. `sayable` holds every name that is not a hallucination: objects, scenery, what is painted
    into the setting, what is written, what the references mention.
    """

    objects: tuple[frozenset[str], ...]
    sayable: frozenset[str]


@dataclass(frozen=True)
class Reading:
    """The objects that one answer mentions, in order, with what its picture shows."""

    mentions: tuple[str, ...]
    truth: Truth
    length: int  # words
    introduced: int = 0  # phrases that introduce something
    unlisted: int = 0  # of these, those without a known name: CHAIR cannot judge them

    @property
    def wrong(self) -> list[bool]:
        """Whether each mention is hallucinated."""
        return [name not in self.truth.sayable for name in self.mentions]


@lru_cache
def vocabulary() -> Vocabulary:
    """Return the names of everything that a picture of the small world can show."""
    return catalog.vocabulary(EVALUATION / "nouns.csv", scenery=True)


@lru_cache
def coco_vocabulary() -> Vocabulary:
    """Return the names of COCO's categories only; all other names still mask the words in them."""
    return catalog.vocabulary(
        EVALUATION / "nouns.csv", scenery=True, only=[thing.coco for thing in catalog.THINGS.values()]
    )


@lru_cache
def photo_vocabulary() -> Vocabulary:
    """Return the names of all 80 COCO categories, including those that the small world lacks."""
    known = {thing.coco for thing in catalog.THINGS.values()} | {row["coco"] for row in read_rows(COCO)}
    return catalog.vocabulary(EVALUATION / "nouns.csv", COCO, scenery=True, only=known)


@lru_cache
def new_objects() -> frozenset[str]:
    """Return the names of the small world's objects that appear in no training picture or text."""
    return frozenset(thing.category for thing in catalog.THINGS.values() if thing.split == "new")


@lru_cache
def more_general() -> dict[str, frozenset[str]]:
    """Return for each name the more general ones that also apply: a hut is a house and a building."""
    direct = {
        row["name"]: {name for name in row["also"].split("|") if name}
        for row in read_rows(EVALUATION / "nouns.csv")
    }
    return {
        name: frozenset(above.union(*(direct.get(other, ()) for other in above)))
        for name, above in direct.items()
    }


def generalised(names: Iterable[str]) -> frozenset[str]:
    """Return these names with all their more general ones."""
    kept = frozenset(names)
    return kept.union(*(more_general().get(name, ()) for name in kept))


def truth(
    objects: Collection[str], references: Iterable[str], words: Mentions, scene: Scene | None = None
) -> Truth:
    """Return what a picture shows, in the names of `words`.

    Objects that the references mention count as present, as in the official code: COCO's annotators missed
    some. A scene graph adds what else the picture shows: props, what is painted into the setting, signs and
    their text.
    """
    sayable = {*objects, *(name for text in references for name in words.mentions(text))}
    if scene is not None:
        painted = {row["setting"]: row["shows"].split("|") for row in read_rows(EVALUATION / "settings.csv")}
        sayable.update(item.name for item in scene.props)
        sayable.update(filter(None, painted.get(scene.setting, ())))
        for writing in scene.writing:
            sayable.update(("sign", *words.mentions(writing.text)))
    kept = tuple(generalised([name]) & words.names for name in sorted(words.names.intersection(objects)))
    return Truth(kept, generalised(sayable) & words.names)


def truths(split: Split, words: Mentions, scenes: Sequence[Scene] | None = None) -> list[Truth]:
    """Return what each picture of an annotated split shows; `scenes` are its scene graphs, if it has any.

    Raises ValueError if their number is not that of the pictures.
    """
    graphs: Sequence[Scene | None] = scenes if scenes is not None else [None] * len(split)
    rows = zip(split.objects, split.references, graphs, strict=True)
    return [truth(objects, texts, words, scene) for objects, texts, scene in rows]


def read(answers: Sequence[str], truths: Sequence[Truth], words: Mentions) -> list[Reading]:
    """Find what each answer mentions."""
    found = []
    for answer, truth in zip(answers, truths, strict=True):
        phrases = introduced(answer)
        unlisted = sum(not words.mentions(phrase) for phrase in phrases)
        mentions = tuple(words.mentions(answer))
        found.append(Reading(mentions, truth, len(answer.split()), len(phrases), unlisted))
    return found


def counts(readings: Sequence[Reading]) -> dict[str, Counts]:
    """Return the counts of each measure by picture.

    `chair_i`: hallucinated mentions / mentions, pooled (each mention counts); `chair_s`: answers with a
    hallucination; `object_recall`: annotated objects that are mentioned; `mentions` and `length` (words): per
    answer; `unlisted`: phrases that introduce something on no list, which CHAIR cannot judge.
    """
    mentioned = [one.mentions for one in readings]
    return {
        "chair_i": chair_i(mentioned, [one.truth for one in readings]),
        "chair_s": each([float(any(one.wrong)) for one in readings]),
        "object_recall": recall(readings),
        "mentions": each([len(names) for names in mentioned]),
        "length": each([one.length for one in readings]),
        "unlisted": Counts([one.unlisted for one in readings], [one.introduced for one in readings]),
    }


def chair_i(mentioned: Sequence[Sequence[str]], truths: Sequence[Truth]) -> Counts:
    """Return how many mentions of each picture are hallucinated, and how many there are."""
    rows = zip(mentioned, truths, strict=True)
    wrong = [sum(name not in truth.sayable for name in names) for names, truth in rows]
    return Counts(wrong, [len(names) for names in mentioned])


def recall(
    readings: Sequence[Reading], wanted: Callable[[frozenset[str]], bool] = lambda names: True
) -> Counts:
    """Return how many annotated objects are mentioned, among those whose names are `wanted`."""
    asked = [[names for names in one.truth.objects if wanted(names)] for one in readings]
    named = [
        sum(not names.isdisjoint(one.mentions) for names in some)
        for one, some in zip(readings, asked, strict=True)
    ]
    return Counts(named, [len(some) for some in asked])


def matched(models: Mapping[str, Sequence[Reading]]) -> dict[str, list[Reading]]:
    """Truncate all models' answers, picture by picture, to the fewest mentions that any of them makes.

    A model that says little can hallucinate little: this compares like with like. Raises ValueError if the
    numbers of pictures differ.
    """
    fewest = [min(len(reading.mentions) for reading in row) for row in zip(*models.values(), strict=True)]
    return {
        name: [replace(one, mentions=one.mentions[:most]) for one, most in zip(readings, fewest, strict=True)]
        for name, readings in models.items()
    }


def by_rank(readings: Sequence[Reading], most: int) -> list[Counts]:
    """Return CHAIR_i of the first mentions of all answers, of the second ones, and so on to `most`."""
    truths = [one.truth for one in readings]
    return [chair_i([one.mentions[rank : rank + 1] for one in readings], truths) for rank in range(most)]
