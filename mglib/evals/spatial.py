"""Spatial understanding (paper, section 4.5.2): two-choice questions from annotations; the mirror test.

The questions come from the official formats on disk (Visual Genome's relationships, COCO's instances), are
worded as in no training text, and are scored by the loss of the two options, so every answer parses.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from PIL import ImageOps

from mglib.data.quarantine import strict
from mglib.data.records import fit_list, read_json
from mglib.data.regions import Area, BoxEntry, Relationship, read_relationships
from mglib.data.splits import Split
from mglib.evals.choices import ClosedQuestion, Losses, Scores, right
from mglib.evals.vqa import picture_places
from mglib.world import catalog

RELATIONS = ("left_right", "above_below", "in_front", "counting", "nearest")


@dataclass(frozen=True, kw_only=True)
class Probe(ClosedQuestion):
    """A two-choice question about one of RELATIONS."""

    relation: str


@dataclass(frozen=True)
class Way:
    """How a relation between two objects is asked about: the options, and the predicate that each means."""

    question: str
    options: tuple[str, str]
    predicates: tuple[str, str]


WAYS = {
    "left_right": Way(
        "Going from the {b} to the {a}, does one move left or right?",
        ("left", "right"),
        ("to the left of", "to the right of"),
    ),
    "above_below": Way("Is the {a} higher or lower than the {b}?", ("higher", "lower"), ("above", "below")),
    "in_front": Way(
        "Compared with the {b}, is the {a} at the front or at the back?",
        ("front", "back"),
        ("in front of", "behind"),
    ),
}
NEAREST = "Of the {a} and the {b}, which one is nearest to the camera?"
COUNT = "What is the number of {many} here?"


@dataclass(frozen=True)
class Category:
    """An entry of `categories` with its supercategory."""

    id: int
    name: str
    supercategory: str


@dataclass(frozen=True)
class Picture:
    """The annotations of one picture: its objects' boxes and kinds, and their relations."""

    id: int
    objects: tuple[tuple[Area, Category], ...]
    links: tuple[Relationship, ...]

    def lone(self, kind: Category) -> bool:
        """Return whether a kind's name means no other object: next to a runner, "person" may mean both."""
        return not any(kind.name == other.supercategory != other.name for _, other in self.objects)

    def counts(self) -> Counter[Category]:
        """Return how many objects there are of each kind whose name means no other object."""
        return Counter(kind for _, kind in self.objects if self.lone(kind))

    def certain(self) -> list[Relationship]:
        """Return the relations between two objects that their names identify uniquely."""
        counts = self.counts()
        alone = {area for area, kind in self.objects if counts[kind] == 1}
        return [link for link in self.links if {link.subject.area, link.object.area} <= alone]


def read_pictures(folder: Path) -> list[Picture]:
    """Read a split's `instances.json` and `relationships.json`, ordered by id."""
    path = folder / "instances.json"
    file = read_json(path)
    kinds = {kind.id: kind for kind in strict(fit_list(Category, file, "categories", path))}
    objects: dict[int, list[tuple[Area, Category]]] = defaultdict(list)
    for entry in strict(fit_list(BoxEntry, file, "annotations", path)):
        objects[entry.image_id].append((entry.bbox, kinds[entry.category_id]))
    links: dict[int, list[Relationship]] = defaultdict(list)
    for link in strict(read_relationships(folder / "relationships.json")):
        links[link.image_id].append(link)
    return [Picture(number, tuple(objects[number]), tuple(links[number])) for number in sorted(objects)]


def probes(folder: Path) -> list[Probe]:
    """Ask about every picture of a split: one pair of objects per relation, in both directions; and counts.

    A blind model scores 50 %: both directions of a pair have opposite answers (for `nearest`, opposite
    orders), and of two counts on offer each is right equally often.
    """
    places, pictures = picture_places(folder), read_pictures(folder)
    pairs = [probe for picture in pictures for probe in between(picture, places[picture.id])]
    return pairs + counting(pictures, places)


def between(picture: Picture, place: int) -> list[Probe]:
    """Ask about one pair of objects, drawn at random, for each relation that some pair has.

    Each is asked about in both directions: if a is left of b, b is right of a.
    """

    def drawn(relation: str, predicates: Sequence[str]) -> list[Relationship]:
        links = [link for link in picture.certain() if link.predicate in predicates]
        return [Random(f"0/{picture.id}/{relation}").choice(links)] if links else []

    def ask(relation: str, text: str, options: tuple[str, str], right: int) -> Probe:
        return Probe(picture=place, text=text, options=options, right=right, relation=relation)

    found = []
    for relation, way in WAYS.items():
        for link in drawn(relation, way.predicates):
            one, other = link.subject.name, link.object.name
            first = way.predicates.index(link.predicate)
            found.append(ask(relation, way.question.format(a=one, b=other), way.options, first))
            found.append(ask(relation, way.question.format(a=other, b=one), way.options, 1 - first))
    for link in drawn("nearest", ["in front of"]):
        one, other = link.subject.name, link.object.name
        found.append(ask("nearest", NEAREST.format(a=one, b=other), (one, other), 0))
        found.append(ask("nearest", NEAREST.format(a=other, b=one), (other, one), 1))
    return found


def counting(pictures: Sequence[Picture], places: Mapping[int, int]) -> list[Probe]:
    """Ask how many there are, one or two, two or three, ...; both options are right equally often."""
    many = {thing.category: thing.plural for thing in catalog.THINGS.values()}
    by_count: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for picture in pictures:
        for kind, count in picture.counts().items():
            by_count[count].append((places[picture.id], COUNT.format(many=many[kind.name])))
    found = []
    for few in sorted(by_count):
        pair = (few, few + 1)
        share = min(len(by_count[few]), len(by_count.get(few + 1, ())))
        for answer, count in enumerate(pair if share else ()):
            drawn = Random(f"0/count/{few}/{count}").sample(by_count[count], share)
            options = tuple(catalog.NUMBERS[number] for number in pair)
            found += [
                Probe(picture=place, text=text, options=options, right=answer, relation="counting")
                for place, text in drawn
            ]
    return found


# --- Results ---


def accuracy(losses: Sequence[Losses], asked: Sequence[Probe]) -> dict[str, Scores]:
    """Return the accuracy by relation; chance is 1/2 in each."""
    return right(losses, asked).by([probe.relation for probe in asked])


def margin(loss: Losses) -> float:
    """Return how much likelier the second option is than the first, in nats."""
    return loss.sums[0] - loss.sums[1]


def without_bias(losses: Sequence[Losses], asked: Sequence[Probe]) -> dict[str, Scores]:
    """Return for each pair whether its two directions differ the right way, by relation; chance is 1/2.

    A model that likes one option whatever it is asked is right in one direction of each pair; here what it
    likes cancels, and only what distinguishes the two directions is left.
    """
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    rows = [row for row in zip(losses, asked, strict=True) if row[1].relation in WAYS]
    for (first, one), (second, _) in zip(rows[::2], rows[1::2], strict=True):
        gap = (margin(first) - margin(second)) * (1 if one.right else -1)
        found[one.relation].append((0.5 if gap == 0 else float(gap > 0), one.picture))
    return {relation: Scores(*zip(*scores, strict=True)) for relation, scores in sorted(found.items())}


def mirrored(split: Split) -> Split:
    """Return the split with every picture mirrored; its texts still describe the original pictures."""
    return replace(
        split,
        name=f"{split.name}-mirrored",
        hashes=tuple(f"{one}-mirrored" for one in split.hashes),
        images=lambda: map(ImageOps.mirror, split.images()),
    )


def mirror_test(
    before: Sequence[Losses], after: Sequence[Losses], asked: Sequence[Probe]
) -> dict[str, dict[str, Scores]]:
    """Compare the answers about pictures with those about the same pictures mirrored, by relation.

    *changed*: the answer differs, as it always should for left and right, and never for the rest; *right*:
    the answer is true of the mirrored picture; *moved*, for left and right only: the answer that is now true
    became likelier (chance is 1/2).
    """
    kinds, pictures = [probe.relation for probe in asked], tuple(probe.picture for probe in asked)
    now = [
        replace(probe, right=1 - probe.right) if probe.relation == "left_right" else probe for probe in asked
    ]
    rows = list(zip(before, after, now, strict=True))
    changed = Scores(tuple(float(one.summed() != other.summed()) for one, other, _ in rows), pictures)
    likelier = [(margin(other) - margin(one)) * (1 if probe.right else -1) > 0 for one, other, probe in rows]
    moved = Scores(tuple(map(float, likelier)), pictures).by(kinds)
    return {
        "changed": changed.by(kinds),
        "right": right(after, now).by(kinds),
        "moved": {kind: scores for kind, scores in moved.items() if kind == "left_right"},
    }
