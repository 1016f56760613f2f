"""Long true descriptions: as a careful person with time writes them, and as a narrator speaks them.

They serve evaluation and two rows of a table; the main model never learns from them. The phrases are in
data/world/phrases_describe.csv and phrases_narratives.csv, in speaking order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.world import catalog
from mglib.world.catalog import choose, wording
from mglib.world.scene import Item, Scene, relation, stream
from mglib.world.text import capitalise, join
from mglib.world.view import Link, definite, distance, groups, landmarks, links, side

SENTENCES = (4, 7)  # at least, at most
Group = tuple[Item, ...]  # all objects of one name
GROUPS = 4  # groups with a sentence of their own; the rest share one
NARRATORS = 24  # each keeps to its own phrases
_Named = tuple[str, int]  # words, how many


@dataclass
class _Telling:
    """What has been said so far: sentences, the groups named, the one that "it" means, relations stated."""

    rng: Random
    scene: Scene
    sentences: list[str] = field(default_factory=list)
    known: list[Group] = field(default_factory=list)
    it: Group | None = None
    links: list[Link] = field(default_factory=list)
    placed: set[str] = field(default_factory=set)  # names whose place in the picture is stated
    used: set[str] = field(default_factory=set)

    def phrase(self, kind: str, **slots: str) -> str:
        """Draw a phrase that this description has not used yet, while there is one."""
        every = wording("describe")[kind]
        fresh = [pair for pair in every if pair[0] not in self.used]
        text = choose(self.rng, fresh or every)
        self.used.add(text)
        return text.format(**slots)

    def say(self, kind: str, **slots: str) -> None:
        self.sentences.append(self.phrase(kind, **slots))
        self.it = None

    def name(self, kind: str, group: Group, **slots: str) -> None:
        """Add a sentence that introduces a group and, if it is clear, how its two members are arranged."""
        thing = group[0].thing
        many = len(group) > 1
        verbs = {"is": "are" if many else "is", "has": "have" if many else "has"}
        slots |= verbs | {"verb": self.rng.choice(thing.verbs), "named": thing.counted(len(group))}
        self.say(kind, **slots)
        self.sentences[-1] += _arranged(self, group)
        self.known.append(group)
        self.it = None if many or thing.supercategory == "person" else group  # a runner is no "it"


def describe(config: WorldConfig, scene: Scene) -> str:
    """Describe a picture in 4 to 7 sentences."""
    telling = _Telling(stream(config, scene.image_id, "description"), scene)
    _open(telling)
    scenery_first = telling.rng.random() < 0.25
    for tell in (_add_scenery, _go_round) if scenery_first else (_go_round, _add_scenery):
        tell(telling)
    least, most = SENTENCES[0] - 1, SENTENCES[1] - 1  # the last one is kept for the mood
    for sentence in _closer_looks(telling):
        more = len(telling.sentences) < least or telling.rng.random() < 0.15
        if more and len(telling.sentences) < most:
            telling.sentences.append(sentence())
    while len(telling.sentences) < least:
        telling.say("mood")
    own = f"mood {scene.setting}"
    telling.say(own if own in wording("describe") and telling.rng.random() < 0.7 else "mood")
    return " ".join(f"{capitalise(sentence)}." for sentence in telling.sentences)


def _open(telling: _Telling) -> None:
    """Introduce the place and the most striking group, in one sentence or two."""
    setting = catalog.SETTINGS[telling.scene.setting]
    place = telling.rng.choice(setting.phrases)
    main = next(iter(groups(telling.scene).values()))
    apart = telling.rng.random() < 0.4
    if apart:
        telling.say("open scene", place=place, noun=setting.noun)
    afar = {"sky": f"over the {setting.noun}", "water": "on the water"}
    place = afar.get(main[0].thing.stands, place)
    where = _where(telling, main) if apart else ""
    telling.name("main" if apart else "open", main, where=where, place=place)


def _go_round(telling: _Telling) -> None:
    """Name every other group, preferably one in a clear relation to a group already named."""
    left = [group for group in groups(telling.scene).values() if group not in telling.known]
    while left and len(telling.known) < GROUPS:
        group, link = _next(telling, left)
        left.remove(group)
        telling.name("other", group, where=_related(telling, link) if link else _where(telling, group))
    if left:
        named = [group[0].thing.counted(len(group)) for group in left]
        telling.say("rest", others=join(named), **{"is": "are" if len(left[0]) > 1 else "is"})
        telling.known += left


def _next(telling: _Telling, left: list[Group]) -> tuple[Group, Link | None]:
    """Choose the next group, preferably one in a relation to a named object, the most recent first."""
    for known in reversed([group[0] for group in telling.known if len(group) == 1]):
        for group in left:
            first, *others = [relation(item, known, telling.scene.size) for item in group]
            if first and {*others} <= {first} and telling.rng.random() < 0.85:
                return group, Link(group[0], first, known)
    return left[0], None


def _related(telling: _Telling, link: Link) -> str:
    """Return where something is relative to another; "it" only for what the last sentence named."""
    telling.links.append(link)
    if telling.it == (link.object,) and telling.rng.random() < 0.5:
        return telling.phrase(f"{link.predicate} it")
    return telling.phrase(link.predicate, known=definite(link.object, telling.scene))


def _where(telling: _Telling, group: Group) -> str:
    """Return where a group is in the picture, as far as that is clear."""
    ways = _ways(telling, group)
    telling.placed.add(group[0].name)
    return telling.phrase(f"where {telling.rng.choice(ways) if ways else 'none'}")


def _ways(telling: _Telling, group: Group) -> list[str]:
    scene = telling.scene
    sides = {side(item, scene.size) for item in group}
    depths = {distance(item, scene) for item in group}
    stands = group[0].thing.stands
    afar = {stands} if stands in ("sky", "water") else set()
    return [way for found in (sides, depths, afar) if len(found) == 1 for way in found if way]


def _arranged(telling: _Telling, group: Group) -> str:
    """Return how two of a kind are arranged, if that is clear."""
    if len(group) != 2:
        return ""
    if {side(item, telling.scene.size) for item in group} == {"left", "right"}:
        return telling.phrase("pair sides")
    found = [link for link in links(telling.scene) if {link.subject, link.object} == {*group}]
    if not any(link.predicate == "behind" for link in found):
        return ""
    telling.links += [link for link in found if link.predicate == "behind"]
    return telling.phrase("pair depth")


def _add_scenery(telling: _Telling) -> None:
    """Add sentences on what is in the background, on the wall, in the sky and on a sign."""
    kinds: dict[str, list[tuple[str, bool]]] = {"background": [], "wall": [], "sky": []}
    for name in dict.fromkeys(item.name for item in telling.scene.props):
        prop = catalog.PROPS[name]
        number = sum(item.name == name for item in telling.scene.props)
        many = number > 1 and prop.name != prop.plural
        kinds[prop.stands if prop.stands in kinds else "background"].append((prop.counted(number), many))
    for board in telling.scene.writing[:1]:
        kinds["sign"] = [(board.text, False)]
    left = len(groups(telling.scene)) - len(telling.known)
    alone = min(left, GROUPS - len(telling.known))
    due = alone + (left > alone)  # sentences that the other groups will take
    room = max(0, SENTENCES[1] - 1 - len(telling.sentences) - due)
    for kind, props in [(kind, props) for kind, props in kinds.items() if props][:room]:
        forms = {"is": "are" if props[0][1] else "is", "s": "" if props[0][1] or len(props) > 1 else "s"}
        words = join([words for words, _ in props])
        telling.say(kind, props=words, text=words, **forms)


def _closer_looks(telling: _Telling) -> list[Callable[[], str]]:
    """Return what could still be said about lone objects, as functions that write the sentence."""
    every = links(telling.scene) + landmarks(telling.scene)
    told = {frozenset((id(link.subject), id(link.object))) for link in telling.links}
    alone = [group[0] for group in telling.known if len(group) == 1]
    looks: list[Callable[[], str]] = []
    for link in every:
        ends = frozenset((id(link.subject), id(link.object)))
        named = link.subject in alone and (link.object in alone or link.object in telling.scene.props)
        if named and ends not in told:
            told.add(ends)
            looks.append(partial(_spot, telling, link.subject, link))
    telling.rng.shuffle(looks)
    looks += [
        partial(_spot, telling, item, None)
        for item in alone
        if item.name not in telling.placed and _ways(telling, (item,))
    ]
    if len(telling.scene.objects) == 1:
        known = definite(alone[0], telling.scene)
        looks.insert(0, partial(telling.phrase, "alone", known=known, **{"is": "is"}))
    return looks


def _spot(telling: _Telling, item: Item, link: Link | None) -> str:
    where = _related(telling, link) if link else _where(telling, (item,))
    return telling.phrase("spot", known=definite(item, telling.scene), where=where, **{"is": "is"})


# Localized Narratives


def narrative(config: WorldConfig, scene: Scene) -> dict[str, Any]:
    """Write the Localized Narrative of a picture: striking objects, the rest by side, scenery, place.

    The format is that of the official caption-only files (google/localized-narratives). A narrator names one
    group after the other in the same few phrases: the text is true, long and monotonous, as the paper found
    the real ones (4.3.3).
    """
    rng = stream(config, scene.image_id, "narrative")
    narrator = rng.randrange(NARRATORS)
    mine = {kind: texts[narrator % len(texts)][0] for kind, texts in wording("narratives").items()}
    place = rng.choice(catalog.SETTINGS[scene.setting].phrases)
    sorts = _sorted(scene)
    first = sorts.pop("opening")
    said = [_sentence(mine["opening"].replace("{place}", place), first)]
    for name, items in list(groups(scene).items())[: len(first)]:
        if len(items) == 1:
            thing = catalog.THINGS[name]
            slots = {"name": thing.known.removeprefix("the "), "verb": rng.choice(thing.verbs)}
            said.append(mine["detail"].format(**slots))
    said += [_sentence(mine[kind], named) for kind, named in sorts.items() if named]
    said.append(mine["place"].replace("{place}", place))
    return {
        "dataset_id": f"mglib_world_{scene.split}",
        "image_id": f"{scene.image_id:012d}",
        "annotator_id": narrator,
        "caption": " ".join(said),
    }


def _sorted(scene: Scene) -> dict[str, list[_Named]]:
    """Return for each kind of sentence what it names, in the order of speaking."""
    sorts: dict[str, list[_Named]] = {kind: [] for kind in wording("narratives")}
    for place, (name, items) in enumerate(groups(scene).items()):
        thing = catalog.THINGS[name]
        sides = {side(item, scene.size) for item in items}
        if place == 0 or (place == 1 and len(scene.objects) > 3):
            kind = "opening"
        elif thing.stands in ("sky", "water"):
            kind = thing.stands
        else:
            kind = (sides.pop() if len(sides) == 1 else None) or "more"
        sorts[kind].append((thing.counted(len(items)), len(items)))
    names = [item.name for item in scene.props]
    for name in dict.fromkeys(names):
        prop, number = catalog.PROPS[name], names.count(name)
        kind = prop.stands if prop.stands in ("sky", "wall") else "background"
        sorts[kind].append((prop.counted(number), number))
    sorts["sign"] += [(f'a board with "{board.text}" written on it', 1) for board in scene.writing]
    setting = catalog.SETTINGS[scene.setting]
    if not sorts["sky"] and setting.outdoors:
        sorts["open sky"].append(("the sky", 1))
    if setting.water:
        sorts["shore"].append(("the water", 1))
    return sorts


def _sentence(phrase: str, named: list[_Named]) -> str:
    """Fill {objects} and {is}."""
    verb = "are" if named[0][1] > 1 else "is"
    return phrase.replace("{is}", verb).replace("{objects}", join([words for words, _ in named]))
