"""GQA of the small world: compositional questions with their programs, true by the scene graph, balanced.

The records have the official fields (visualreasoning.net). `entailed` and `equivalent` are empty; counts are
asked, which GQA does not do, because this world can count. Question types keep GQA's names where it has them.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.paths import write_json
from mglib.world.catalog import Catalog, Thing
from mglib.world.knowledge import categories, seen_behind, strangers
from mglib.world.scene import INVERSE, Item, Scene, stream
from mglib.world.text import capitalise
from mglib.world.view import (
    NUMBERS,
    ROOMS,
    SKIES,
    Link,
    alike,
    choose,
    counted,
    groups,
    links,
    number,
    scenery,
    side,
    singles,
    the,
    wording,
)

ASKED = 6  # questions a picture at most
COMMON = 0.2  # of a group of questions at most have the same answer (or 1.5 times an even share, if larger)
ACROSS, UP, DEEP = ("left of", "right of"), ("above", "below"), ("in front of", "behind")


@dataclass(frozen=True)
class _Asking:
    """What a question is made from."""

    rng: Random
    config: WorldConfig
    catalog: Catalog
    scene: Scene
    split: str

    def thing(self, item: Item) -> Thing:
        return self.catalog.thing(item.name)

    def it(self, item: Item) -> str:
        return the(self.thing(item))

    def word(self, kind: str, **slots: str) -> str:
        return choose(self.rng, wording("gqa"), kind).format(**slots)

    def stranger(self, among: Iterable[str] | None = None) -> Thing | None:
        """Return an object that is not in the picture, or None if none may be named."""
        kept = None if among is None else list(among)
        names = strangers(self.rng, self.config, self.catalog, self.scene, self.split, 1, among=kept)
        return self.catalog.thing(names[0]) if names else None

    def ids(self, *items: Item) -> str:
        """Return the objects' ids as programs write them: "(1000000100)", or "(-)" for what is not there."""
        found = [str(number(self.scene, self.scene.objects.index(item))) for item in items]
        return f"({','.join(found) or '-'})"

    def node(self, *items: Item) -> str:
        """Return "dog (1000000100)"."""
        return f"{items[0].name} {self.ids(*items)}"

    @property
    def nouns(self) -> dict[str, tuple[str, str]]:
        """Return the categories that can be asked for: (singular, plural) by supercategory.

        One that the scenery shows as well is left out, since a squirrel in the background is an animal.
        """
        rows = (text.split("|") for text, _ in wording("gqa")["noun"])
        behind = seen_behind(self.scene, self.catalog)
        return {category: (one, many) for category, one, many in rows if category not in behind}


@dataclass(frozen=True)
class _Question:
    """A question before it is numbered; `kin` names the group within which answers are balanced."""

    detailed: str
    structural: str
    semantic: str
    text: str
    answer: str
    full: str
    program: tuple[tuple[str, str, tuple[int, ...]], ...]
    names: tuple[str, ...]
    kin: str | None = None


def gqa(
    config: WorldConfig, catalog: Catalog, scene: Scene, split: str, index: int
) -> dict[str, dict[str, Any]]:
    """Ask up to ASKED questions about picture `index` of `split`: id -> question, not balanced yet."""
    rng = stream(config, split, index, "gqa")
    asking = _Asking(rng, config, catalog, scene, split)
    asked = [question for ask in ASKERS if (question := ask(asking))]
    kept = sorted(rng.sample(range(len(asked)), min(ASKED, len(asked))))
    return {f"{number(scene, place):011d}": _record(scene, asked[place]) for place in kept}


def balance(questions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Set `isBalanced` so that within each group no answer is too common; yes and no are half and half.

    Groups are those of one detailed type and global group. One with a single answer is left out: it could
    be answered unseen.
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
    return {name: {**question, "isBalanced": name in kept} for name, question in questions.items()}


def _even(counts: dict[str, int]) -> dict[str, int]:
    """Cut the most frequent answers down until none has more than its share; nothing of one answer alone."""
    if len(counts) == 1:
        return dict.fromkeys(counts, 0)
    limit = max(COMMON, (1.0 if len(counts) == 2 else 1.5) / len(counts))
    kept = dict(counts)
    while (most := max(kept.values())) > limit * sum(kept.values()):
        top = max(kept, key=lambda answer: (kept[answer], answer))
        kept[top] = most - 1
    return kept


def write_gqa(path: Path, records: Iterable[dict[str, dict[str, Any]]]) -> None:
    """Write the balanced questions of a split, as the official *_balanced_questions.json has them."""
    every = balance({name: question for record in records for name, question in record.items()})
    write_json(path, {name: question for name, question in every.items() if question["isBalanced"]})


def _record(scene: Scene, question: _Question) -> dict[str, Any]:
    steps = [
        {"operation": operation, "dependencies": list(needs), "argument": argument}
        for operation, argument, needs in question.program
    ]
    return {
        "question": question.text,
        "imageId": f"{scene.image_id:012d}",
        "answer": question.answer,
        "fullAnswer": question.full,
        "types": {
            "structural": question.structural,
            "semantic": question.semantic,
            "detailed": question.detailed,
        },
        "semantic": steps,
        "semanticStr": "->".join(_step_text(step) for step in steps),
        "isBalanced": False,
        "groups": {"global": question.kin, "local": f"{question.detailed}-{'_'.join(question.names)}"},
        "entailed": [],
        "equivalent": [],
    }


def _step_text(step: dict[str, Any]) -> str:
    needs = f" {step['dependencies']}" if step["dependencies"] else ""
    return f"{step['operation']}: {step['argument']}{needs}"


def _yes(true: bool) -> str:
    return "yes" if true else "no"


# What there is


def _exist(asking: _Asking) -> _Question | None:
    true = asking.rng.random() < 0.5
    named = _present(asking) if true else _absent(asking)
    if named is None:
        return None
    thing, node, phrase = named
    text = asking.word("exist", a=thing.phrase, plural=thing.plural)
    full = f"Yes, there {_are(phrase)} {phrase}." if true else f"No, there is no {_bare(thing)}."
    program = (("select", node, ()), ("exist", "?", (0,)))
    return _Question("exist", "verify", "obj", text, _yes(true), full, program, (thing.name,))


def _present(asking: _Asking) -> tuple[Thing, str, str] | None:
    """Choose a group: the object, its node and how many there are in words."""
    every = list(groups(asking.scene).items())
    if not every:
        return None
    name, items = asking.rng.choice(every)
    thing = asking.catalog.thing(name)
    return thing, asking.node(*items), counted(thing, len(items))


def _absent(asking: _Asking) -> tuple[Thing, str, str] | None:
    thing = asking.stranger()
    return thing and (thing, f"{thing.name} (-)", thing.phrase)


def _are(phrase: str) -> str:
    return "are" if phrase.split()[0] in NUMBERS[2:] else "is"


def _bare(thing: Thing) -> str:
    return the(thing).removeprefix("the ")


def _exist_both(asking: _Asking) -> _Question | None:
    """Ask for two objects with "and" or "or", so that yes and no are equally likely."""
    word = asking.rng.choice(("existAnd", "existOr"))
    true = asking.rng.random() < 0.5
    # "and" is false with one absent object, "or" only with two; true is the other way round.
    wanted = 2 if (word, true) == ("existAnd", True) else 0 if (word, true) == ("existOr", False) else 1
    here = asking.rng.sample(list(groups(asking.scene).items()), min(wanted, len(groups(asking.scene))))
    nodes = [(asking.catalog.thing(name), asking.node(*items)) for name, items in here]
    gone = strangers(asking.rng, asking.config, asking.catalog, asking.scene, asking.split, 2 - wanted)
    nodes += [(asking.catalog.thing(name), f"{name} (-)") for name in gone]
    if len(nodes) < 2 or len(here) < wanted:
        return None
    asking.rng.shuffle(nodes)
    (a, node_a), (b, node_b) = nodes
    text = asking.word(word, a=a.phrase, b=b.phrase)
    seen = {name for name, _ in here}
    found = [thing.phrase for thing in (a, b) if thing.name in seen]
    missing = [_bare(thing) for thing in (a, b) if thing.name not in seen]
    full = f"Yes, there is {' and '.join(found)}." if true else f"No, there is no {' and no '.join(missing)}."
    select = (("select", node_a, ()), ("exist", "?", (0,)), ("select", node_b, ()), ("exist", "?", (2,)))
    program = (*select, ("and" if word == "existAnd" else "or", "", (1, 3)))
    return _Question(word, "logical", "obj", text, _yes(true), full, program, (a.name, b.name))


def _scenery_exist(asking: _Asking) -> _Question | None:
    """Ask for scenery that is there or that other pictures of the place have."""
    here = [item.name for item in asking.scene.props]
    home = asking.catalog.setting(asking.scene.setting).props
    true = asking.rng.random() < 0.5
    behind = seen_behind(asking.scene, asking.catalog)
    gone = [name for name in home if name not in here and categories("prop", name).isdisjoint(behind)]
    options = list(dict.fromkeys(here)) if true else gone
    if not options:
        return None
    prop = asking.catalog.prop(asking.rng.choice(options))
    a = scenery(prop)
    text = asking.word("sceneryExist", a=a) if prop.stands != "sky" else f"Do you see {a} in the sky?"
    rest = a.partition(" ")[2]
    full = f"Yes, there is {a}." if true else f"No, there is no {rest}."
    node = f"{prop.name} ({'scenery' if true else '-'})"
    program = (("select", node, ()), ("exist", "?", (0,)))
    return _Question("sceneryExist", "verify", "obj", text, _yes(true), full, program, (prop.name,))


def _count(asking: _Asking) -> _Question | None:
    """Count the objects of a category, or those of one name if there are several."""
    several = [
        (name, items)
        for name, items in groups(asking.scene).items()
        if len(items) > 1 and len(alike(asking.scene, asking.catalog, items[0])) == len(items) - 1
    ]
    if several and asking.rng.random() < 0.7:
        name, items = asking.rng.choice(several)
        thing = asking.catalog.thing(name)
        nouns, many = counted(thing, 2).partition(" ")[2], len(items)
        node, full = asking.node(*items), f"There are {counted(thing, many)}."
    elif asking.nouns:
        name, (one, nouns) = asking.rng.choice(list(asking.nouns.items()))
        items = tuple(item for item in asking.scene.objects if asking.thing(item).supercategory == name)
        many = len(items)
        node = f"{name} {asking.ids(*items)}"
        full = f"There is one {one}." if many == 1 else f"There are {NUMBERS[many]} {nouns}."
        full = full.replace("one food", "one thing to eat")
    else:
        return None
    text = asking.word("count", nouns=nouns)
    program = (("select", node, ()), ("count", "?", (0,)))
    return _Question("count", "query", "obj", text, str(many), full, program, (name,), "number")


def _scenery_count(asking: _Asking) -> _Question | None:
    setting = asking.catalog.setting(asking.scene.setting)
    props = [prop for name in setting.props if (prop := asking.catalog.prop(name)).name != prop.plural]
    props = [
        prop
        for prop in props
        if prop.most > 1
        and categories("prop", prop.name).isdisjoint(seen_behind(asking.scene, asking.catalog, prop.name))
    ]
    if not props:
        return None
    prop = asking.rng.choice(props)
    many = sum(item.name == prop.name for item in asking.scene.props)
    text = asking.word("sceneryCount", plural=prop.plural)
    full = f"There is one {prop.name}." if many == 1 else f"There are {NUMBERS[many]} {prop.plural}."
    program = (("select", f"{prop.name} ({'scenery' if many else '-'})", ()), ("count", "?", (0,)))
    return _Question("sceneryCount", "query", "obj", text, str(many), full, program, (prop.name,), "number")


# How two of them stand


def _lone_links(asking: _Asking) -> list[Link]:
    alone = singles(asking.scene, asking.catalog)
    return [
        link for link in links(asking.scene, asking.catalog) if link.subject in alone and link.object in alone
    ]


def _rel_verify(asking: _Asking) -> _Question | None:
    """Ask whether a relation holds; the false one is its opposite."""
    found = _lone_links(asking)
    if not found:
        return None
    link, true = asking.rng.choice(found), asking.rng.random() < 0.5
    asked = link.predicate if true else INVERSE[link.predicate]
    it, other = asking.it(link.subject), asking.it(link.object)
    text = asking.word("relVerify", it=it, relation=asking.word(asked), other=other)
    full = f"{capitalise(_yes(true))}, {it} is {asking.word(link.predicate)} {other}."
    program = (
        ("select", asking.node(link.object), ()),
        ("verify rel", f"{link.subject.name},{asking.word(asked)},s {asking.ids(link.subject)}", (0,)),
    )
    return _Question("relVerify", "verify", "rel", text, _yes(true), full, program, _ends(link))


def _ends(link: Link) -> tuple[str, str]:
    return link.subject.name, link.object.name


def _rel_choose(asking: _Asking) -> _Question | None:
    found = _lone_links(asking)
    if not found:
        return None
    link = asking.rng.choice(found)
    pair = next(pair for pair in (ACROSS, UP, DEEP) if link.predicate in pair)
    first, second = asking.rng.sample(pair, 2)
    it, other, answer = asking.it(link.subject), asking.it(link.object), asking.word(link.predicate)
    said = asking.word(first)
    short = said.removesuffix(" of") if pair == ACROSS else said
    text = asking.word("relChooser", it=it, first=short, second=asking.word(second), other=other)
    options = f"{said}|{asking.word(second)}"
    program = (
        ("select", asking.node(link.object), ()),
        ("choose rel", f"{link.subject.name},{options},s {asking.ids(link.subject)}", (0,)),
    )
    full = f"{capitalise(it)} is {answer} {other}."
    return _Question("relChooser", "choose", "rel", text, answer, full, program, _ends(link), "|".join(pair))


def _rel_exist(asking: _Asking) -> _Question | None:
    """Ask whether there is an object in a relation to another; the false one is not in the picture."""
    alone = singles(asking.scene, asking.catalog)
    found = [link for link in links(asking.scene, asking.catalog) if link.object in alone]
    true = asking.rng.random() < 0.5
    gone = None if true else asking.stranger()
    if not found or (not true and gone is None):
        return None
    link = asking.rng.choice(found)
    thing = gone or asking.thing(link.subject)
    other, relation = asking.it(link.object), asking.word(link.predicate)
    text = asking.word("existRel", a=thing.phrase, relation=relation, other=other)
    there = f"there is {thing.phrase}" if true else f"there is no {_bare(thing)}"
    full = f"{capitalise(_yes(true))}, {there} {relation} {other}."
    node = asking.ids(link.subject) if true else "(-)"
    program = (
        ("select", asking.node(link.object), ()),
        ("relate", f"{thing.name},{relation},s {node}", (0,)),
        ("exist", "?", (1,)),
    )
    names = (thing.name, link.object.name)
    return _Question("existRel", "verify", "rel", text, _yes(true), full, program, names)


def _category_rel(asking: _Asking) -> _Question | None:
    """Ask which animal stands behind the bus, if one does and no other might."""
    every = {(id(link.subject), id(link.object)): link for link in links(asking.scene, asking.catalog)}
    found = []
    for link in _lone_links(asking):
        category = asking.thing(link.subject).supercategory
        kin = [item for item in asking.scene.objects if asking.thing(item).supercategory == category]
        kin = [item for item in kin if item is not link.subject and item is not link.object]
        others = [every.get((id(item), id(link.object))) for item in kin]
        if category in asking.nouns and all(o and o.predicate != link.predicate for o in others):
            found.append((link, category))
    if not found:
        return None
    link, category = asking.rng.choice(found)
    relation, other = asking.word(link.predicate), asking.it(link.object)
    text = asking.word("categoryRel", noun=asking.nouns[category][0], relation=relation, other=other)
    full = f"{capitalise(asking.thing(link.subject).phrase)} is {relation} {other}."
    program = (
        ("select", asking.node(link.object), ()),
        ("relate", f"{category},{relation},s {asking.ids(link.subject)}", (0,)),
        ("query", "name", (1,)),
    )
    names = _ends(link)
    return _Question("categoryRelS", "query", "rel", text, names[0], full, program, names, category)


# What kind, and where in the picture


def _lone_of_category(asking: _Asking) -> Item | None:
    """Choose an object that is the only one of its category, such as the only animal."""
    kinds = Counter(asking.thing(item).supercategory for item in asking.scene.objects)
    lone = [item for item in asking.scene.objects if kinds[asking.thing(item).supercategory] == 1]
    lone = [item for item in lone if asking.thing(item).supercategory in asking.nouns]
    return asking.rng.choice(lone) if lone else None


def _category(asking: _Asking) -> _Question | None:
    item = _lone_of_category(asking)
    if item is None:
        return None
    category = asking.thing(item).supercategory
    noun = asking.nouns[category][0]
    text = asking.word("category", noun=noun)
    full = f"The {noun} is {asking.thing(item).phrase}."
    program = (("select", f"{category} {asking.ids(item)}", ()), ("query", "name", (0,)))
    return _Question("categoryThis", "query", "cat", text, item.name, full, program, (item.name,), category)


def _category_choose(asking: _Asking) -> _Question | None:
    item = _lone_of_category(asking)
    if item is None:
        return None
    thing = asking.thing(item)
    kin = [other.name for other in asking.catalog.things if other.supercategory == thing.supercategory]
    wrong = asking.stranger(kin)
    if wrong is None:
        return None
    a, b = asking.rng.sample((thing, wrong), 2)
    noun = asking.nouns[thing.supercategory][0]
    text = asking.word("categoryChoose", noun=noun, a=a.phrase, b=b.phrase)
    node = f"{thing.supercategory} {asking.ids(item)}"
    program = (("select", node, ()), ("choose name", f"{a.name}|{b.name}", (0,)))
    full = f"The {noun} is {thing.phrase}."
    names = (thing.name, wrong.name)
    kin_ = thing.supercategory
    return _Question("categoryThisChoose", "choose", "cat", text, thing.name, full, program, names, kin_)


def _position(asking: _Asking) -> _Question | None:
    """Ask on which side something is, in one of three ways."""
    placed = [(item, side(item, asking.scene.size)) for item in singles(asking.scene, asking.catalog)]
    placed = [(item, where) for item, where in placed if where in ("left", "right")]
    if not placed:
        return None
    item, where = asking.rng.choice(placed)
    kind = asking.rng.choice(("positionVerify", "positionChoose", "positionQuery"))
    asked, opposite = asking.rng.sample(("left", "right"), 2)
    text = asking.word(kind, it=asking.it(item), side=asked, opposite=opposite)
    true = f"{asking.it(item)} is on the {where}."
    answer = _yes(asked == where) if kind == "positionVerify" else where
    full = f"{capitalise(answer)}, {true}" if kind == "positionVerify" else capitalise(true)
    step = {
        "positionVerify": ("verify hposition", asked),
        "positionChoose": ("choose hposition", f"{asked}|{opposite}"),
        "positionQuery": ("query", "hposition"),
    }[kind]
    structural = kind.removeprefix("position").lower()
    program = (("select", asking.node(item), ()), (*step, (0,)))
    return _Question(kind, structural, "attr", text, answer, full, program, (item.name,))


# Comparing two


def _compare(asking: _Asking) -> _Question | None:
    """Ask which of two is farther to one side or nearer, or whether both are on the same side."""
    ways = [way for way in (_farther, _nearer, _same_side) if way(asking)]
    return asking.rng.choice(ways)(asking) if ways else None


def _farther(asking: _Asking) -> _Question | None:
    found = [link for link in _lone_links(asking) if link.predicate == "left of"]
    if not found:
        return None
    link = asking.rng.choice(found)
    wanted = asking.rng.choice(("left", "right"))
    return _which(asking, link, "fartherLeft", wanted, link.subject if wanted == "left" else link.object)


def _nearer(asking: _Asking) -> _Question | None:
    found = [link for link in _lone_links(asking) if link.predicate == "in front of"]
    return _which(asking, link := asking.rng.choice(found), "nearer", "near", link.subject) if found else None


def _which(asking: _Asking, link: Link, kind: str, wanted: str, answer: Item) -> _Question:
    a, b = asking.rng.sample((link.subject, link.object), 2)
    text = asking.word(kind, it=asking.it(a), other=asking.it(b), side=wanted)
    comparison = "nearer to us" if kind == "nearer" else f"farther to the {wanted}"
    other = link.object if answer is link.subject else link.subject
    full = f"{capitalise(asking.it(answer))} is {comparison} than {asking.it(other)}."
    program = (
        ("select", asking.node(a), ()),
        ("select", asking.node(b), ()),
        (f"choose {comparison}", "", (0, 1)),
    )
    names = (a.name, b.name)
    return _Question("comparativeChoose", "compare", "attr", text, answer.name, full, program, names, kind)


def _same_side(asking: _Asking) -> _Question | None:
    sides = {id(item): side(item, asking.scene.size) for item in singles(asking.scene, asking.catalog)}
    placed = [item for item in singles(asking.scene, asking.catalog) if sides[id(item)] in ("left", "right")]
    pairs = list(combinations(placed, 2))
    if not pairs:
        return None
    a, b = asking.rng.choice(pairs)
    true = sides[id(a)] == sides[id(b)]
    text = asking.word("sameSide", it=asking.it(a), other=asking.it(b))
    where = f"both on the {sides[id(a)]}" if true else "on different sides"
    full = f"{capitalise(_yes(true))}, {asking.it(a)} and {asking.it(b)} are {where}."
    program = (
        ("select", asking.node(a), ()),
        ("select", asking.node(b), ()),
        ("same hposition", "", (0, 1)),
    )
    return _Question("twoSame", "compare", "attr", text, _yes(true), full, program, (a.name, b.name))


# The place


def _place(asking: _Asking) -> _Question | None:
    """Ask for the place, in one of four ways."""
    setting = asking.catalog.setting(asking.scene.setting)
    others = [other.noun for other in asking.catalog.settings if other.noun != setting.noun]
    other, true = asking.rng.choice(others), asking.rng.random() < 0.5
    kinds = ("place", "placeVerify", "placeChoose", "indoorVerify")
    kind = asking.rng.choice(kinds if setting.backdrop in ROOMS + SKIES else kinds[:-1])
    full = f"This is the {setting.noun}."
    if kind == "place":
        question = _Question(kind, "query", "global", asking.word(kind), setting.noun, full, (), (), "place")
        return replace(question, program=(("select", "scene", ()), ("query", "place", (0,))))
    if kind == "placeVerify":
        asked = setting.noun if true else other
        step, text, answer = ("verify place", asked), asking.word(kind, noun=asked), _yes(true)
        full = f"{capitalise(answer)}, {full[0].lower()}{full[1:]}"
    elif kind == "placeChoose":
        first, second = asking.rng.sample((setting.noun, other), 2)
        step, text = ("choose place", f"{first}|{second}"), asking.word(kind, noun=first, second=second)
        answer = setting.noun
    else:
        inside = setting.backdrop in ROOMS
        asked = "indoors" if inside == true else "outdoors"
        step, text, answer = ("verify location", asked), asking.word(kind, where=asked), _yes(true)
        full = f"{capitalise(answer)}, it is {'indoors' if inside else 'outdoors'}."
    structural = "choose" if kind == "placeChoose" else "verify"
    program = (("select", "scene", ()), (*step, (0,)))
    kin = "place" if kind == "placeChoose" else None
    return _Question(kind, structural, "global", text, answer, full, program, (), kin)


ASKERS: tuple[Callable[[_Asking], _Question | None], ...] = (
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
