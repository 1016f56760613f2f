"""GQA for the small world: balanced compositional questions, answered by the scene graph.

The records have those of the official fields (visualreasoning.net) that are read here. Unlike in GQA there
are counting questions, since counts are exact here. Question types keep GQA's names where it has them.
"""

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.world import catalog
from mglib.world.catalog import Thing, wording
from mglib.world.knowledge import Asking, categories, seen_behind
from mglib.world.scene import INVERSE, Item, Scene, relation, skip, stream
from mglib.world.view import Link, alike, groups, links, number, side, singles

Record = dict[str, Any]
ASKED = 6  # questions per picture, at most
COMMON = 0.2  # largest share of one answer in a group of questions (or 1.5 times an even share, if larger)
ACROSS, UP, DEEP = ("left of", "right of"), ("above", "below"), ("in front of", "behind")
TYPES = {  # of questions: detailed -> structural, semantic
    "exist": ("verify", "obj"),
    "existAnd": ("logical", "obj"),
    "existOr": ("logical", "obj"),
    "sceneryExist": ("verify", "obj"),
    "count": ("query", "obj"),
    "sceneryCount": ("query", "obj"),
    "relVerify": ("verify", "rel"),
    "relChooser": ("choose", "rel"),
    "existRel": ("verify", "rel"),
    "categoryRelS": ("query", "rel"),
    "categoryThis": ("query", "cat"),
    "categoryThisChoose": ("choose", "cat"),
    "positionVerify": ("verify", "attr"),
    "positionChoose": ("choose", "attr"),
    "positionQuery": ("query", "attr"),
    "comparativeChoose": ("compare", "attr"),
    "twoSame": ("compare", "attr"),
    "place": ("query", "global"),
    "placeVerify": ("verify", "global"),
    "placeChoose": ("choose", "global"),
    "indoorVerify": ("verify", "global"),
}


def gqa(config: WorldConfig, scene: Scene) -> dict[str, Record]:
    """Ask up to ASKED questions about a picture: id -> question, not balanced yet."""
    rng = stream(config, scene.image_id, "gqa")
    asking = Asking(rng, config, scene, wording("gqa"))
    asked = [question for ask in ASKERS if (question := ask(asking))]
    kept = sorted(rng.sample(range(len(asked)), min(ASKED, len(asked))))
    return {f"{number(scene, place):011d}": asked[place] for place in kept}


def balance(questions: dict[str, Record]) -> dict[str, Record]:
    """Drop questions until no answer is too common within its group; yes and no end up half and half.

    A group is one detailed type and global group. One with a single answer is left out: it could be answered
    blind.
    """
    by_group: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, question in questions.items():
        key = (question["types"]["detailed"], question["groups"]["global"] or "")
        by_group.setdefault(key, {}).setdefault(question["answer"], []).append(name)
    kept = set()
    for key, answers in by_group.items():
        shares = _even({answer: len(names) for answer, names in answers.items()})
        for answer, names in answers.items():
            kept.update(Random(f"{key}/{answer}").sample(names, shares[answer]))
    return {name: question for name, question in questions.items() if name in kept}


def _even(counts: dict[str, int]) -> dict[str, int]:
    """Reduce the most frequent answers until none exceeds its share; a single answer is reduced to 0."""
    if len(counts) == 1:
        return dict.fromkeys(counts, 0)
    limit = max(COMMON, (1.0 if len(counts) == 2 else 1.5) / len(counts))
    kept = dict(counts)
    while (most := max(kept.values())) > limit * sum(kept.values()):
        top = max(kept, key=lambda answer: (kept[answer], answer))
        kept[top] = most - 1
    return kept


def _ask(
    asking: Asking, kind: str, answer: str | bool, group: str | None = None, text: str = "", **slots: str
) -> Record:
    """Build a question of one of TYPES, by phrase or `text`; answers are balanced within kind and group."""
    structural, semantic = TYPES[kind]
    return {
        "question": text or asking.word(kind, **slots),
        "imageId": f"{asking.scene.image_id:012d}",
        "answer": answer if isinstance(answer, str) else "yes" if answer else "no",
        "types": {"structural": structural, "semantic": semantic, "detailed": kind},
        "isBalanced": True,
        "groups": {"global": group},
    }


def _nouns(asking: Asking) -> dict[str, tuple[str, str]]:
    """Return the categories that can be asked for: (singular, plural) by supercategory.

    One that the scenery shows as well is left out, since a squirrel in the background is an animal.
    """
    rows = (text.split("|") for text, _ in asking.phrases["noun"])
    behind = seen_behind(asking.scene)
    return {category: (one, many) for category, one, many in rows if category not in behind}


# Existence and counts


def _exist(asking: Asking) -> Record | None:
    true = asking.rng.random() < 0.5
    names = list(groups(asking.scene))
    things = [catalog.THINGS[asking.rng.choice(names)]] if true else asking.strangers(1)
    return _ask(asking, "exist", true, a=things[0].phrase, plural=things[0].plural) if things else None


def _exist_both(asking: Asking) -> Record | None:
    """Ask for two objects with "and" or "or", so that yes and no are equally likely."""
    kind = asking.rng.choice(("existAnd", "existOr"))
    true = asking.rng.random() < 0.5
    # "and" is false with one absent object, "or" only with two; true is the other way round.
    wanted = 2 if (kind, true) == ("existAnd", True) else 0 if (kind, true) == ("existOr", False) else 1
    here = asking.rng.sample(list(groups(asking.scene)), min(wanted, len(groups(asking.scene))))
    things = [*(catalog.THINGS[name] for name in here), *asking.strangers(2 - wanted)]
    if len(things) < 2 or len(here) < wanted:
        return None
    asking.rng.shuffle(things)
    return _ask(asking, kind, true, a=things[0].phrase, b=things[1].phrase)


def _scenery_exist(asking: Asking) -> Record | None:
    """Ask for scenery that is present, or that other pictures of the setting have."""
    here = [item.name for item in asking.scene.props]
    home = catalog.SETTINGS[asking.scene.setting].props
    true = asking.rng.random() < 0.5
    behind = seen_behind(asking.scene)
    gone = [name for name in home if name not in here and categories("prop", name).isdisjoint(behind)]
    options = list(dict.fromkeys(here)) if true else gone
    if not options:
        return None
    prop = catalog.PROPS[asking.rng.choice(options)]
    a = prop.counted(1)
    text = f"Do you see {a} in the sky?" if prop.stands == "sky" else ""
    return _ask(asking, "sceneryExist", true, text=text, a=a)


def _count(asking: Asking) -> Record | None:
    """Count the objects of a category, or those of one name if there are several."""
    several = [
        (name, len(items))
        for name, items in groups(asking.scene).items()
        if len(items) > 1 and len(alike(asking.scene, items[0])) == len(items) - 1
    ]
    if several and asking.rng.random() < 0.7:
        name, many = asking.rng.choice(several)
        nouns = catalog.THINGS[name].counted(2).partition(" ")[2]
    elif _nouns(asking):
        name, (_, nouns) = asking.rng.choice(list(_nouns(asking).items()))
        many = sum(item.thing.supercategory == name for item in asking.scene.objects)
    else:
        return None
    return _ask(asking, "count", str(many), "number", nouns=nouns)


def _scenery_count(asking: Asking) -> Record | None:
    home = map(catalog.PROPS.__getitem__, catalog.SETTINGS[asking.scene.setting].props)
    props = [
        prop
        for prop in home
        if prop.name != prop.plural
        and prop.most > 1
        and categories("prop", prop.name).isdisjoint(seen_behind(asking.scene, prop.name))
    ]
    if not props:
        return None
    prop = asking.rng.choice(props)
    many = sum(item.name == prop.name for item in asking.scene.props)
    return _ask(asking, "sceneryCount", str(many), "number", plural=prop.plural)


# Relations of two objects


def _lone_links(asking: Asking) -> list[Link]:
    alone = singles(asking.scene)
    return [link for link in links(asking.scene) if link.subject in alone and link.object in alone]


def _rel_verify(asking: Asking) -> Record | None:
    """Ask whether a relation holds; the false one is its opposite."""
    if not (found := _lone_links(asking)):
        return None
    link, true = asking.rng.choice(found), asking.rng.random() < 0.5
    asked = link.predicate if true else INVERSE[link.predicate]
    it, other = link.subject.thing.known, link.object.thing.known
    question = _ask(asking, "relVerify", true, it=it, relation=asking.word(asked), other=other)
    skip(asking.rng, 2)
    return question


def _rel_choose(asking: Asking) -> Record | None:
    if not (found := _lone_links(asking)):
        return None
    link = asking.rng.choice(found)
    pair = next(pair for pair in (ACROSS, UP, DEEP) if link.predicate in pair)
    first, second = asking.rng.sample(pair, 2)
    it, other, answer = link.subject.thing.known, link.object.thing.known, asking.word(link.predicate)
    said = asking.word(first)
    short = said.removesuffix(" of") if pair == ACROSS else said
    slots = {"it": it, "first": short, "second": asking.word(second), "other": other}
    question = _ask(asking, "relChooser", answer, "|".join(pair), **slots)
    skip(asking.rng)
    return question


def _rel_exist(asking: Asking) -> Record | None:
    """Ask whether there is an object in a relation to another; the false one is not in the picture."""
    alone = singles(asking.scene)
    found = [link for link in links(asking.scene) if link.object in alone]
    true = asking.rng.random() < 0.5
    gone = [] if true else asking.strangers(1)
    if not found or (not true and not gone):
        return None
    link = asking.rng.choice(found)
    thing = link.subject.thing if true else gone[0]
    said, other = asking.word(link.predicate), link.object.thing.known
    return _ask(asking, "existRel", true, a=thing.phrase, relation=said, other=other)


def _category_rel(asking: Asking) -> Record | None:
    """Ask, say, which animal is behind the bus, if one clearly is and no other might be."""
    scene = asking.scene
    found = []
    for link in _lone_links(asking):
        category = link.subject.thing.supercategory
        kin = [item for item in scene.objects if item.thing.supercategory == category]
        others = [item for item in kin if item is not link.subject and item is not link.object]
        ways = {relation(item, link.object, scene.size) for item in others}
        if category in _nouns(asking) and not ways & {link.predicate, None}:
            found.append((link, category))
    if not found:
        return None
    link, category = asking.rng.choice(found)
    said, other = asking.word(link.predicate), link.object.thing.known
    noun = _nouns(asking)[category][0]
    return _ask(asking, "categoryRelS", link.subject.name, category, noun=noun, relation=said, other=other)


# What kind, and where in the picture


def _lone_of_category(asking: Asking) -> Thing | None:
    """Choose an object that is the only one of its category, such as the only animal."""
    things = [item.thing for item in asking.scene.objects]
    kinds = Counter(thing.supercategory for thing in things)
    lone = [t for t in things if kinds[t.supercategory] == 1 and t.supercategory in _nouns(asking)]
    return asking.rng.choice(lone) if lone else None


def _category(asking: Asking) -> Record | None:
    if not (thing := _lone_of_category(asking)):
        return None
    noun = _nouns(asking)[thing.supercategory][0]
    return _ask(asking, "categoryThis", thing.name, thing.supercategory, noun=noun)


def _category_choose(asking: Asking) -> Record | None:
    if not (thing := _lone_of_category(asking)):
        return None
    kin = [other.name for other in catalog.THINGS.values() if other.supercategory == thing.supercategory]
    if not (wrong := asking.strangers(1, among=kin)):
        return None
    a, b = asking.rng.sample((thing, wrong[0]), 2)
    slots = {"noun": _nouns(asking)[thing.supercategory][0], "a": a.phrase, "b": b.phrase}
    return _ask(asking, "categoryThisChoose", thing.name, thing.supercategory, **slots)


def _position(asking: Asking) -> Record | None:
    """Ask on which side something is, in one of three ways."""
    if not (placed := _aside(asking)):
        return None
    item, where = asking.rng.choice(placed)
    kind = asking.rng.choice(("positionVerify", "positionChoose", "positionQuery"))
    asked, opposite = asking.rng.sample(("left", "right"), 2)
    answer = asked == where if kind == "positionVerify" else where
    return _ask(asking, kind, answer, it=item.thing.known, side=asked, opposite=opposite)


def _aside(asking: Asking) -> list[tuple[Item, str]]:
    """Return the lone objects that clearly are on the left or right, with their side."""
    placed = [(item, side(item, asking.scene.size)) for item in singles(asking.scene)]
    return [(item, where) for item, where in placed if where in ("left", "right")]


# Comparing two


def _compare(asking: Asking) -> Record | None:
    """Ask which of two is farther to one side or nearer, or whether both are on the same side."""
    ways = [way for way in (_farther, _nearer, _same_side) if way(asking)]
    return asking.rng.choice(ways)(asking) if ways else None


def _farther(asking: Asking) -> Record | None:
    if not (found := [link for link in _lone_links(asking) if link.predicate == "left of"]):
        return None
    link = asking.rng.choice(found)
    wanted = asking.rng.choice(("left", "right"))
    return _which(asking, link, "fartherLeft", wanted, link.subject if wanted == "left" else link.object)


def _nearer(asking: Asking) -> Record | None:
    found = [link for link in _lone_links(asking) if link.predicate == "in front of"]
    return _which(asking, link := asking.rng.choice(found), "nearer", "near", link.subject) if found else None


def _which(asking: Asking, link: Link, kind: str, wanted: str, answer: Item) -> Record:
    a, b = asking.rng.sample((link.subject, link.object), 2)
    text = asking.word(kind, it=a.thing.known, other=b.thing.known, side=wanted)
    return _ask(asking, "comparativeChoose", answer.name, kind, text)


def _same_side(asking: Asking) -> Record | None:
    if not (pairs := list(combinations(_aside(asking), 2))):
        return None
    (a, one), (b, other) = asking.rng.choice(pairs)
    return _ask(asking, "twoSame", one == other, it=a.thing.known, other=b.thing.known)


# The place


def _place(asking: Asking) -> Record | None:
    """Ask for the place, in one of four ways."""
    setting = catalog.SETTINGS[asking.scene.setting]
    others = [other.noun for other in catalog.SETTINGS.values() if other.noun != setting.noun]
    other, true = asking.rng.choice(others), asking.rng.random() < 0.5
    kinds = ("place", "placeVerify", "placeChoose", "indoorVerify")
    kind = asking.rng.choice(kinds if setting.indoors or setting.outdoors else kinds[:-1])
    if kind == "place":
        return _ask(asking, kind, setting.noun, "place")
    if kind == "placeVerify":
        return _ask(asking, kind, true, noun=setting.noun if true else other)
    if kind == "placeChoose":
        first, second = asking.rng.sample((setting.noun, other), 2)
        return _ask(asking, kind, setting.noun, "place", noun=first, second=second)
    asked = "indoors" if setting.indoors == true else "outdoors"
    return _ask(asking, kind, true, where=asked)


ASKERS: tuple[Callable[[Asking], Record | None], ...] = (
    _exist,
    _exist_both,
    _scenery_exist,
    _count,
    _scenery_count,
    _rel_verify,
    _rel_choose,
    _rel_exist,
    _category_rel,
    _category,
    _category_choose,
    _position,
    _compare,
    _place,
)
