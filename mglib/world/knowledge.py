"""Knowledge about the objects of the small world beyond what their pictures show.

facts.csv has, for an object, a setting or a piece of scenery, the answer to a kind of question, other ways to
say it (`said`) and other right answers (`also`). Its kind "category" states what scenery and painted
backdrops look like: a tree painted in the distance is a tree, too. traits.csv lists the objects that have a
trait (`yes`) and those that arguably have it (`maybe`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Annotated, Literal

from pydantic import BeforeValidator

from mglib.config import WorldConfig
from mglib.world import catalog
from mglib.world.catalog import FOLDER, Filled, Parts, Phrases, Some, Thing, choose, read, split
from mglib.world.scene import Scene, held_out
from mglib.world.view import groups

CATEGORY = "category"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A row of facts.csv."""

    of: Literal["object", "setting", "prop", "backdrop", "wrong"]  # wrong: right for nothing at all
    name: str
    kind: Filled
    answer: Filled
    said: Parts
    also: Parts


@dataclass(frozen=True, kw_only=True)
class Trait:
    """A row of traits.csv."""

    trait: Filled
    question: Some
    yes: Annotated[frozenset[str], BeforeValidator(split)]
    maybe: Annotated[frozenset[str], BeforeValidator(split)]


FACTS: tuple[Fact, ...] = read(FOLDER / "facts.csv", Fact)
TRAITS: tuple[Trait, ...] = read(FOLDER / "traits.csv", Trait)


@cache
def facts_about(of: str, name: str) -> tuple[Fact, ...]:
    """Return what can be asked about an object, a setting or a piece of scenery."""
    return tuple(fact for fact in FACTS if (fact.of, fact.name) == (of, name) and fact.kind != CATEGORY)


@cache
def categories(of: str, name: str) -> frozenset[str]:
    """Return what a piece of scenery ("prop") or a painted backdrop shows: "tree", "animal", "furniture"."""
    return frozenset(fact.answer for fact in FACTS if (fact.of, fact.name, fact.kind) == (of, name, CATEGORY))


def seen_behind(scene: Scene, but: str | None = None) -> frozenset[str]:
    """Return the categories of all scenery (other than `but`) and of the painted backdrop of a scene."""
    painted = categories("backdrop", catalog.SETTINGS[scene.setting].backdrop)
    return painted.union(*(categories("prop", item.name) for item in scene.props if item.name != but))


@cache
def _resembled(prop: str) -> tuple[str, ...]:
    """Return the objects that a piece of scenery might be taken for: an armchair is a chair."""
    found = (fact for fact in FACTS if (fact.of, fact.name, fact.kind) == ("prop", prop, CATEGORY))
    return tuple(name for fact in found for name in fact.also)


@dataclass(frozen=True)
class Asking:
    """A picture that a question is asked about, in the wording of one list."""

    rng: Random
    config: WorldConfig
    scene: Scene
    phrases: Mapping[str, Phrases]

    def word(self, kind: str, **slots: str) -> str:
        """Draw a phrase of a kind and fill its slots."""
        return choose(self.rng, self.phrases[kind]).format(**slots)

    def strangers(
        self, count: int, *, among: Collection[str] | None = None, beside: Collection[str] = ()
    ) -> list[Thing]:
        """Choose up to `count` objects that are not in the picture and that a text of its split may name.

        `among` limits the choice; `beside` are strangers that the same text names already. New objects are
        named in test_new_objects only, and new pairs come together in test_new_pairs only. Objects at home in
        the scene's setting come first, since they are the plausible ones.
        """
        scene = self.scene
        said = {word for name in groups(scene) for word in _senses(catalog.THINGS[name])}
        home = {thing.name for thing in catalog.at_home(catalog.SETTINGS[scene.setting])}
        alike = {name for item in scene.props for name in _resembled(item.name)}
        left = [
            thing
            for thing in catalog.THINGS.values()
            if (thing.split == "train" or scene.split == "test_new_objects")
            and said.isdisjoint(_senses(thing))
            and thing.name not in beside
            and thing.name not in alike
            and (among is None or thing.name in among)
        ]
        self.rng.shuffle(left)
        chosen: list[Thing] = []
        for thing in sorted(left, key=lambda thing: thing.name not in home):
            together = [*groups(scene), *beside, *(one.name for one in chosen), thing.name]
            new = [pair for pair in held_out(together, self.config) if thing.name in pair]
            if len(chosen) < count and (scene.split == "test_new_pairs" or not new):
                chosen.append(thing)
        return chosen


def _senses(thing: Thing) -> set[str]:
    """Return every word that is true of the object; a cook is a person, too."""
    return {*thing.words, *(["person"] if thing.supercategory == "person" else [])}
