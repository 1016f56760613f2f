"""A-OKVQA for the small world: questions that need the picture and a little knowledge.

The knowledge is that of mglib.world.knowledge. Wrong choices are right answers about something else, or other
objects. The records have the official fields (allenai/aokvqa) without the rationales.
"""

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.world import catalog
from mglib.world.catalog import Thing, wording
from mglib.world.knowledge import FACTS, TRAITS, Asking, Fact, Trait, facts_about
from mglib.world.scene import Item, Scene, skip, stream
from mglib.world.view import OFFICIAL_SPLIT, definite, groups, side, singles

CHOICES = 4
PEOPLE = 10  # direct answers
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # of the official ids
AGREED = 4  # of ten people at least must give the same answer, or the question counts as difficult


@dataclass(frozen=True)
class _Asked:
    """A question with its answer, other ways to say it, and wrong choices."""

    question: str
    answer: str
    said: tuple[str, ...]
    wrong: tuple[str, ...]


def aokvqa(config: WorldConfig, scene: Scene) -> dict[str, Any]:
    """Ask one question about a picture, with four choices and the answers of ten people."""
    rng = stream(config, scene.image_id, "aokvqa")
    asked = _ask(Asking(rng, config, scene, wording("questions")))
    place = rng.randrange(CHOICES)
    wrong = rng.sample(asked.wrong, CHOICES - 1)
    direct = _people(rng, asked)
    return {
        "split": OFFICIAL_SPLIT.get(scene.split, "test"),
        "image_id": scene.image_id,
        "question_id": _question_id(f"{config.seed}/{scene.split}/{scene.index}"),
        "question": asked.question,
        "choices": [*wrong[:place], asked.answer, *wrong[place:]],
        "correct_choice_idx": place,
        "direct_answers": direct,
        "difficult_direct_answer": max(map(direct.count, direct)) < AGREED,
    }


def _ask(picture: Asking) -> _Asked:
    """Choose a sort of question, then a question; one about the place is always possible."""
    left = dict(SORTS)
    while True:
        sort = picture.rng.choices(list(left), list(left.values()))[0]
        del left[sort]
        if found := sort(picture):
            return picture.rng.choice(found)


def _about_objects(picture: Asking) -> list[_Asked]:
    """Ask what is known of the only object of its kind: "What sound does this animal make?"."""
    found = []
    for item in singles(picture.scene):
        for fact in facts_about("object", item.name):
            skip(picture.rng)
            found += _from_fact(picture, fact, _meant(picture, item))
    return found


def _about_setting(picture: Asking) -> list[_Asked]:
    picture.rng.choice(catalog.SETTINGS[picture.scene.setting].phrases)  # discarded, as by `skip`
    skip(picture.rng)
    facts = facts_about("setting", picture.scene.setting)
    return [asked for fact in facts for asked in _from_fact(picture, fact, "")]


def _about_props(picture: Asking) -> list[_Asked]:
    names = [item.name for item in picture.scene.props]
    found = []
    for item in picture.scene.props:
        for fact in facts_about("prop", item.name) if names.count(item.name) == 1 else ():
            skip(picture.rng)
            found += _from_fact(picture, fact, definite(item, picture.scene))
    return found


def _from_fact(picture: Asking, fact: Fact, thing: str) -> list[_Asked]:
    """Return the question about a fact, or nothing if too few wrong answers are known for it.

    Wrong choices are other answers of its kind; those about new objects are used in test_new_objects only.
    """
    secret = () if picture.scene.split == "test_new_objects" else catalog.names("new")
    right = {fact.answer, *fact.said, *fact.also}
    every = [other.answer for other in FACTS if other.kind == fact.kind and other.name not in secret]
    wrong = tuple(dict.fromkeys(answer for answer in every if answer not in right))
    if len(wrong) < CHOICES - 1:
        return []
    return [_Asked(picture.word(fact.kind, thing=thing), fact.answer, fact.said, wrong)]


def _about_signs(picture: Asking) -> list[_Asked]:
    """Ask what is written on a board; the wrong choices are the texts of other boards."""
    if not picture.scene.writing:
        return []
    every = dict.fromkeys(sign for setting in catalog.SETTINGS.values() for sign in setting.signs)
    text, question = picture.scene.writing[0].text, picture.word("sign")
    skip(picture.rng)
    said = (text.lower(), text.capitalize())
    return [_Asked(question, text, said, tuple(sign for sign in every if sign != text))]


def _about_place(picture: Asking) -> list[_Asked]:
    setting = catalog.SETTINGS[picture.scene.setting]
    others = [place for place in catalog.SETTINGS.values() if set(place.kinds) != set(setting.kinds)]
    said = (setting.noun.removeprefix("a "), picture.rng.choice(setting.phrases))
    question = picture.word("place")
    skip(picture.rng)
    return [_Asked(question, setting.noun, said, tuple(dict.fromkeys(place.noun for place in others)))]


def _about_traits(picture: Asking) -> list[_Asked]:
    """Ask which object has a trait, if exactly one has it: "What could you eat?"."""
    here = set(groups(picture.scene))
    fit = [trait for trait in TRAITS if len(here & trait.yes) == 1 and not here & trait.maybe]
    if not fit:
        return []
    trait = picture.rng.choice(fit)
    thing = catalog.THINGS[(here & trait.yes).pop()]
    wrong = _other_objects(picture, trait, thing)
    if len(wrong) < CHOICES - 1:
        return []
    skip(picture.rng)
    return [_Asked(picture.rng.choice(trait.question), thing.name, thing.synonyms, wrong)]


def _other_objects(picture: Asking, trait: Trait, thing: Thing) -> tuple[str, ...]:
    """Choose wrong objects: absent ones with the trait or of the same kind, to make one look, then others."""
    every = set(catalog.names())
    kin = {name for name in every if catalog.THINGS[name].supercategory == thing.supercategory}
    near: list[str] = []
    for among, most in ((trait.yes, 1), (kin - trait.maybe, 2), (every - trait.maybe, CHOICES - 1)):
        near += [one.name for one in picture.strangers(most - len(near), among=among, beside=near)]
    here = [name for name in groups(picture.scene) if name != thing.name]
    return tuple([*near[:2], *here, *near[2:]][: CHOICES - 1])


def _meant(picture: Asking, item: Item) -> str:
    """Refer to an object without its name if its kind and side suffice, so that one has to look."""
    scene, thing = picture.scene, item.thing
    nouns = dict(text.split("|") for text, _ in picture.phrases["noun"])
    kind = [other for other in scene.objects if other.thing.supercategory == thing.supercategory]
    options = [(kind, nouns[thing.supercategory])] if thing.supercategory in nouns else []
    for like, noun in [*options, (list(scene.objects), "object")]:
        if len(like) == 1:
            return picture.word("lone", noun=noun)
        where = side(item, scene.size)
        if where in ("left", "right") and [side(other, scene.size) for other in like].count(where) == 1:
            return picture.word("aside", noun=noun, side=where)
    return thing.known


SORTS = {  # what can be asked about -> weight
    _about_objects: 5,
    _about_traits: 6,
    _about_setting: 3,
    _about_signs: 2,
    _about_props: 1,
    _about_place: 1,
}


def _people(rng: Random, asked: _Asked) -> list[str]:
    """Simulate the answers of ten people, about half of whom give the listed answer."""
    ways = list(dict.fromkeys((asked.answer.removeprefix("a ").removeprefix("the "), *asked.said)))
    weights = [len(ways) + 1, *[2] * (len(ways) - 1)]
    return rng.choices(ways, weights, k=PEOPLE)


def _question_id(name: str) -> str:
    """Return 22 letters and digits, like the official ids."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])
    letters = []
    for _ in range(22):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return "".join(letters)
