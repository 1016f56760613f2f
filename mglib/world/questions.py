"""A-OKVQA of the small world: questions that need the picture and a little knowledge.

What is known stands in mglib.world.knowledge. Wrong choices are right answers about something else, or
objects that are not meant. The records have the official fields (allenai/aokvqa).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.paths import write_json
from mglib.world.catalog import Catalog, Thing
from mglib.world.knowledge import Fact, Trait, facts, facts_about, known_objects, strangers, traits
from mglib.world.scene import Item, Scene, stream
from mglib.world.view import (
    OFFICIAL_SPLIT,
    choose,
    groups,
    scenery,
    side,
    singles,
    the,
    wording,
)

CHOICES = 4
PEOPLE = 10  # direct answers
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # of the official ids
AGREED = 4  # of ten people at least give the same answer, or the question counts as difficult
SHARES = {
    "object": 5,
    "trait": 6,
    "setting": 3,
    "sign": 2,
    "prop": 1,
    "place": 1,
}  # how often each sort is asked


@dataclass(frozen=True)
class _Asked:
    """A question with its answer, as people say it, the wrong choices, and the reasons."""

    question: str
    answer: str
    said: tuple[str, ...]
    wrong: tuple[str, ...]
    seen: str
    why: str


def aokvqa(config: WorldConfig, catalog: Catalog, scene: Scene, split: str, index: int) -> dict[str, Any]:
    """Ask one question about picture `index` of `split`, with four choices and the answers of ten people."""
    rng = stream(config, split, index, "aokvqa")
    asked = _ask(rng, config, catalog, scene, split)
    place = rng.randrange(CHOICES)
    wrong = rng.sample(asked.wrong, CHOICES - 1)
    direct = _people(rng, asked)
    return {
        "split": OFFICIAL_SPLIT.get(split, "test"),
        "image_id": scene.image_id,
        "question_id": _question_id(f"{config.seed}/{split}/{index}"),
        "question": asked.question,
        "choices": [*wrong[:place], asked.answer, *wrong[place:]],
        "correct_choice_idx": place,
        "direct_answers": direct,
        "difficult_direct_answer": max(map(direct.count, direct)) < AGREED,
        "rationales": _rationales(rng, asked),
    }


def write_aokvqa(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write the questions as the official file has them: one list."""
    write_json(path, list(records))


def _ask(rng: Random, config: WorldConfig, catalog: Catalog, scene: Scene, split: str) -> _Asked:
    """Choose the sort of question, then the question; where the picture was made can always be asked."""
    ways = {
        "object": lambda: _about_objects(rng, catalog, scene, split),
        "trait": lambda: _about_traits(rng, config, catalog, scene, split),
        "setting": lambda: _about_setting(rng, catalog, scene, split),
        "prop": lambda: _about_props(rng, catalog, scene, split),
        "sign": lambda: _about_signs(rng, catalog, scene),
    }
    left = dict(SHARES)
    while left:
        sort = rng.choices(list(left), list(left.values()))[0]
        del left[sort]
        found = ways[sort]() if sort in ways else [_about_place(rng, catalog, scene)]
        if found:
            return rng.choice(found)
    raise AssertionError("where a picture was made can always be asked")


def _about_objects(rng: Random, catalog: Catalog, scene: Scene, split: str) -> list[_Asked]:
    """Ask what is known of an object that is alone in its kind: "What sound does this animal make?"."""
    found = []
    for item in singles(scene, catalog):
        thing = catalog.thing(item.name)
        for fact in facts_about("object", item.name):
            seen = choose(rng, wording("questions"), "seen").format(a=thing.phrase)
            found += _from_fact(rng, catalog, fact, split, _meant(rng, catalog, scene, item), seen)
    return found


def _about_setting(rng: Random, catalog: Catalog, scene: Scene, split: str) -> list[_Asked]:
    place = rng.choice(catalog.setting(scene.setting).phrases)
    seen = choose(rng, wording("questions"), "seen place").format(place=place)
    return [
        asked
        for fact in facts_about("setting", scene.setting)
        for asked in _from_fact(rng, catalog, fact, split, "", seen)
    ]


def _about_props(rng: Random, catalog: Catalog, scene: Scene, split: str) -> list[_Asked]:
    names = [item.name for item in scene.props]
    found = []
    for name in dict.fromkeys(names):
        words = scenery(catalog.prop(name))
        for fact in facts_about("prop", name) if names.count(name) == 1 else ():
            seen = choose(rng, wording("questions"), "seen").format(a=words)
            found += _from_fact(rng, catalog, fact, split, f"the {words.partition(' ')[2]}", seen)
    return found


def _from_fact(rng: Random, catalog: Catalog, fact: Fact, split: str, thing: str, seen: str) -> list[_Asked]:
    """Return the question about a fact, or nothing if too few wrong answers are known for it."""
    wrong = _wrong(catalog, fact, split)
    if len(wrong) < CHOICES - 1:
        return []
    question = choose(rng, wording("questions"), fact.kind).format(thing=thing)
    return [_Asked(question, fact.answer, fact.said, wrong, seen, fact.why)]


def _wrong(catalog: Catalog, fact: Fact, split: str) -> tuple[str, ...]:
    """Return answers of the same kind that are wrong here; what is known of new objects stays with them."""
    secret = () if split == "test_new_objects" else catalog.names("new")
    right = {fact.answer, *fact.said, *fact.also}
    every = [other.answer for other in facts() if other.kind == fact.kind and other.name not in secret]
    return tuple(dict.fromkeys(answer for answer in every if answer not in right))


def _about_signs(rng: Random, catalog: Catalog, scene: Scene) -> list[_Asked]:
    """Ask what is written on a board; wrong are the boards of other pictures."""
    every = dict.fromkeys(sign for setting in catalog.settings for sign in setting.signs)
    lists = wording("questions")
    return [
        _Asked(
            choose(rng, lists, "sign"),
            board.text,
            (board.text.lower(), board.text.capitalize()),
            tuple(sign for sign in every if sign != board.text),
            choose(rng, lists, "seen").format(a="a board with letters on it"),
            f'They spell "{board.text}".',
        )
        for board in scene.writing[:1]
    ]


def _about_place(rng: Random, catalog: Catalog, scene: Scene) -> _Asked:
    setting = catalog.setting(scene.setting)
    wrong = [other.noun for other in catalog.settings if set(other.kinds) != set(setting.kinds)]
    wrong = wrong or [other.noun for other in catalog.settings if other is not setting]
    place = rng.choice(setting.phrases)
    question = choose(rng, wording("questions"), "place")
    seen = choose(rng, wording("questions"), "seen place").format(place=place)
    why = f"The surroundings are those of the {setting.noun}."
    said = (setting.noun.removeprefix("a "), place)
    return _Asked(question, setting.noun, said, tuple(dict.fromkeys(wrong)), seen, why)


def _about_traits(
    rng: Random, config: WorldConfig, catalog: Catalog, scene: Scene, split: str
) -> list[_Asked]:
    """Ask which object has a trait that exactly one of them has: "What could you eat?"."""
    here = set(groups(scene))
    fit = [trait for trait in traits() if len(here & trait.yes) == 1 and not here & trait.maybe]
    if not fit or not here <= known_objects():
        return []
    trait = rng.choice(fit)
    (name,) = here & trait.yes
    thing = catalog.thing(name)
    wrong = _other_objects(rng, config, catalog, scene, split, trait, thing)
    if len(wrong) < CHOICES - 1:
        return []
    seen = choose(rng, wording("questions"), "seen").format(a=thing.phrase)
    return [_Asked(rng.choice(trait.question), name, thing.synonyms, wrong, seen, trait.why)]


def _other_objects(
    rng: Random,
    config: WorldConfig,
    catalog: Catalog,
    scene: Scene,
    split: str,
    trait: Trait,
    thing: Thing,
) -> tuple[str, ...]:
    """Choose wrong objects: absent ones with the trait or of the same kind make one look; then others."""
    kin = {one.name for one in catalog.things if one.supercategory == thing.supercategory}
    near: list[str] = []
    for among, most in (
        (trait.yes, 1),
        (kin - trait.maybe, 2),
        (known_objects() - trait.maybe, CHOICES - 1),
    ):
        wanted = most - len(near)
        near += strangers(rng, config, catalog, scene, split, wanted, among=among, beside=near)
    here = [name for name in groups(scene) if name != thing.name]
    return tuple([*near[:2], *here, *near[2:]][: CHOICES - 1])


def _meant(rng: Random, catalog: Catalog, scene: Scene, item: Item) -> str:
    """Point at an object without its name where its kind and side suffice, so that one has to look."""
    thing = catalog.thing(item.name)
    nouns = dict(text.split("|") for text, _ in wording("questions")["noun"])
    kind = [
        other for other in scene.objects if catalog.thing(other.name).supercategory == thing.supercategory
    ]
    options = [(kind, nouns[thing.supercategory])] if thing.supercategory in nouns else []
    for like, noun in [*options, (list(scene.objects), "object")]:
        if len(like) == 1:
            return choose(rng, wording("questions"), "lone").format(noun=noun)
        where = side(item, scene.size)
        if where in ("left", "right") and [side(other, scene.size) for other in like].count(where) == 1:
            return choose(rng, wording("questions"), "aside").format(noun=noun, side=where)
    return the(thing)


def _people(rng: Random, asked: _Asked) -> list[str]:
    """Let ten people answer in their own words: about half of them as the list has it."""
    ways = [asked.answer.removeprefix("a ").removeprefix("the "), *asked.said]
    ways = list(dict.fromkeys(ways))
    weights = [len(ways) + 1, *[2] * (len(ways) - 1)]
    return rng.choices(ways, weights, k=PEOPLE)


def _rationales(rng: Random, asked: _Asked) -> list[str]:
    so = choose(rng, wording("questions"), "so").format(answer=asked.answer)
    reasons = [f"{asked.seen} {asked.why}", f"{asked.why} {so}", f"{asked.seen} {so}"]
    return rng.sample(reasons, len(reasons))


def _question_id(name: str) -> str:
    """Return 22 letters and digits, as the official ids look."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])
    letters = []
    for _ in range(22):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return "".join(letters)
