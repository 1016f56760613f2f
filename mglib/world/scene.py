"""Scene graphs: what is where in each picture of the small world.

A scene is sampled from its seed, split and index alone, with Python's `random` and plain arithmetic, so that
it is the same on every machine. Nothing here needs the font: the objects' proportions are in the catalog.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.data.quarantine import strict
from mglib.data.records import fit_all, read_lines
from mglib.world import catalog
from mglib.world.catalog import Prop, Setting, Thing

SPLITS = ("train", "pool", "val", "test_seen", "test_new_pairs", "test_new_objects")
PRETRAIN = "pretrain"  # BLIP-2's pictures, plain and special, in a world of their own
SHARDED = ("train", "pool", PRETRAIN)  # stored as web data sets; the others in COCO's layout
SPECIALS = ("memes", "dishes", "products", "landscapes", "sketches", "unusual", "notes")
SPECIAL_SPLITS = tuple(f"{kind}_{part}" for kind in SPECIALS for part in ("val", "test"))
KNOWN = (*SPLITS, *SPECIAL_SPLITS, PRETRAIN)
ID_STEP = 10_000_000  # image ids of one split
COUNTS = (1, 2, 3, 4)
COUNT_WEIGHTS = (24, 34, 27, 15)
SEVERAL_SHARE = 0.16  # of the kinds of object in a picture come as two or three
MOST_OBJECTS = 6  # in one picture, all kinds together
SIGN_SHARE = 0.35  # of the pictures get a board with something written on it, if there is room for one
MARGIN = 3  # pixels kept free at the picture's border
MOST_HIDDEN = 0.24  # of an object's box, by nearer boxes
FARTHEST_SCALE = 0.74  # of an object's natural size, at the far end of the ground
SMALLEST = 0.16  # longer side of any object as a share of the picture, so that it can be recognised
PROP_SHARE = 0.7  # of the pictures of a setting show each of its props
INVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}


@dataclass(frozen=True)
class Item:
    """An object or prop in a picture: its box [x, y, w, h] in pixels and its depth (0 near, 1 far)."""

    name: str
    box: tuple[int, int, int, int]
    depth: float
    mirrored: bool = False

    @property
    def thing(self) -> Thing:
        """What it is, if it is an object."""
        return catalog.THINGS[self.name]

    @property
    def right(self) -> int:
        """The x of its box's right edge."""
        return self.box[0] + self.box[2]

    @property
    def foot(self) -> int:
        """The y of its box's bottom edge."""
        return self.box[1] + self.box[3]

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of its box."""
        return self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2

    @property
    def area(self) -> int:
        """The area of its box in square pixels."""
        return self.box[2] * self.box[3]

    @property
    def salience(self) -> float:
        """How striking it is: large and near."""
        return self.area * (1.5 - self.depth)


@dataclass(frozen=True)
class Relation:
    """`subject` is `predicate` `object` ("left of", "behind", ...), clearly so by their boxes."""

    subject: str
    predicate: str
    object: str


@dataclass(frozen=True)
class Writing:
    """Text that can be read in the picture: its box [x, y, w, h] and what it is ("sign", "signpost", ...)."""

    text: str
    box: tuple[int, int, int, int]
    role: str


@dataclass(frozen=True)
class Scene:
    """One picture as a graph; `paint` seeds the small details of the painting that no text mentions.

    An object that appears two or three times has as many items of the same name. `truth` is what a special
    picture shows beyond its objects (see mglib.world.specials); it is empty for a plain scene.
    """

    image_id: int
    size: int  # pixels, square
    setting: str = ""
    objects: tuple[Item, ...] = ()  # far to near, the order in which they are drawn
    props: tuple[Item, ...] = ()
    relations: tuple[Relation, ...] = ()
    paint: int = 0
    writing: tuple[Writing, ...] = ()
    kind: str = "scene"  # or one of SPECIALS
    truth: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def split(self) -> str:
        """The split that it belongs to, by its id."""
        return KNOWN[self.image_id // ID_STEP - 1]

    @property
    def index(self) -> int:
        """Its number in its split, by its id."""
        return self.image_id % ID_STEP

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the objects, each once, from far to near."""
        return tuple(dict.fromkeys(item.name for item in self.objects))

    @property
    def in_words(self) -> str:
        """What it shows, for a reader who cannot see it: its place, its things and the truth of its kind."""
        things = [*self.names, *dict.fromkeys(prop.name for prop in self.props)]
        shows = {"place": self.setting, "things": ", ".join(things), **self.truth}
        plain = {
            name: ", ".join(value) if isinstance(value, list) else value for name, value in shows.items()
        }
        return "; ".join(f"{name}: {value}" for name, value in plain.items() if value)

    def file(self, folder: Path) -> Path:
        """Return the path of its picture in the folder of its split, unless that is stored in shards."""
        return folder / "images" / f"{self.image_id:012d}.jpg"

    def count(self, name: str) -> int:
        """Return how many objects of that name there are."""
        return sum(item.name == name for item in self.objects)


def read_scenes(path: Path) -> list[Scene]:
    """Read a split's scenes.jsonl in the order of its image ids; raises ValueError at the first fault."""
    return sorted(strict(fit_all(Scene, read_lines(path), path)), key=lambda scene: scene.image_id)


def stream(config: WorldConfig, image_id: int, purpose: str) -> Random:
    """Return the random generator of one picture for one purpose."""
    number, index = divmod(image_id, ID_STEP)
    return Random(f"{config.seed}/{KNOWN[number - 1]}/{index}/{purpose}")


def skip(rng: Random, draws: int = 1) -> None:
    """Consume the random numbers of texts that were removed, so that all later texts stay the same."""
    for _ in range(draws):
        rng.random()


def image_id(split: str, index: int) -> int:
    """Return an id that is unique over all splits; raises ValueError for an unknown split."""
    return (KNOWN.index(split) + 1) * ID_STEP + index


def length(config: WorldConfig, split: str) -> int:
    """Return how many pictures a split has; a sharded one has special pictures after its plain scenes."""
    if split in SPECIAL_SPLITS:
        return config.special_val if split.endswith("_val") else config.special_test
    special = getattr(config, f"special_{split}") if split in SHARDED else 0
    return getattr(config, split) + len(SPECIALS) * special


def is_special(config: WorldConfig, split: str, index: int) -> bool:
    """Return whether picture number `index` of a split is of a special kind."""
    return split in SPECIAL_SPLITS or (split in SHARDED and index >= getattr(config, split))


@cache
def new_pairs(config: WorldConfig) -> frozenset[tuple[str, str]]:
    """Choose the pairs of train objects that only test_new_pairs shows together.

    About the same share of its possible partners is taken for each object. Each pair is in the catalog's
    order. Raises ValueError if no pair would be left for training.
    """
    homes = [{thing.name for thing in catalog.at_home(setting)} for setting in catalog.SETTINGS.values()]
    pairs = combinations(catalog.names("train"), 2)
    left = [pair for pair in pairs if any(home.issuperset(pair) for home in homes)]
    partners = Counter(name for pair in left for name in pair)
    wanted = round(config.new_pair_share * len(left))
    if wanted >= len(left):
        raise ValueError(
            f"new_pair_share asks for {wanted} of the {len(left)} pairs of objects that can meet; leave some "
            "of them to train on."
        )
    Random(f"{config.seed}/new_pairs").shuffle(left)
    chosen: set[tuple[str, str]] = set()
    taken: Counter[str] = Counter()
    for _ in range(wanted):
        pair = min(left, key=lambda pair: sorted((taken[one] / partners[one] for one in pair), reverse=True))
        left.remove(pair)
        chosen.add(pair)
        taken.update(pair)
    return frozenset(chosen)


def held_out(names: Sequence[str], config: WorldConfig) -> list[tuple[str, str]]:
    """Return those pairs among `names` that only test_new_pairs may show."""
    pairs = new_pairs(config)
    return [(a, b) for a, b in combinations(names, 2) if (a, b) in pairs or (b, a) in pairs]


def sample(config: WorldConfig, split: str, index: int) -> Scene:
    """Sample picture number `index` of `split`, one of SPLITS."""
    number = image_id(split, index)
    rng = stream(config, number, "scene")
    setting, objects = _fitting(rng, config, split)
    props = scenery(rng, setting, objects, config.size)
    known, paint = relations(objects, config.size), rng.randrange(2**32)
    writing = _signs(rng, setting, (*objects, *props), config.size)
    return Scene(number, config.size, setting.name, objects, props, known, paint, writing)


def _fitting(rng: Random, config: WorldConfig, split: str) -> tuple[Setting, tuple[Item, ...]]:
    """Draw objects and a setting until everything fits.

    The number of kinds is drawn once, and the first object is given up only after many tries: otherwise big
    objects, which fit less often, would be rare.
    """
    count = rng.choices(COUNTS, COUNT_WEIGHTS)[0]
    while True:
        if split == "test_new_pairs":  # what the picture is about
            names = list(rng.choice(sorted(new_pairs(config))))
        else:
            names = rng.choices(*_likely("new" if split == "test_new_objects" else "train"))
        for _ in range(20):
            setting, things = _cast(rng, config, split, names, count)
            objects = place_all(rng, _several(rng, things), setting, config.size)
            if objects is not None:
                return setting, objects


def _several(rng: Random, things: list[Thing]) -> list[Thing]:
    """Repeat some of the objects, so that there are two or three of them."""
    everyone = list(things)
    for thing in things:
        if thing.most > 1 and rng.random() < SEVERAL_SHARE:
            room = min(thing.most, MOST_OBJECTS - len(everyone) + 1)
            everyone += [thing] * (min(room, rng.choice((2, 2, 3))) - 1)
    return everyone


def _cast(
    rng: Random, config: WorldConfig, split: str, names: list[str], count: int
) -> tuple[Setting, list[Thing]]:
    """Choose a setting where all of `names` may be, and more objects under the split's rules."""
    first = [catalog.THINGS[name] for name in names]
    settings = catalog.SETTINGS.values()
    places = [each for each in settings if all(thing in catalog.at_home(each) for thing in first)]
    setting = rng.choices(places, [1 / len(catalog.at_home(place)) for place in places])[0]
    others = [
        thing
        for thing in catalog.at_home(setting)
        if thing not in first and (thing.split == "train" or split == "test_new_objects")
    ]
    rng.shuffle(others)
    things = first
    for thing in others:
        if len(things) >= count:
            break
        if split == "test_new_pairs" or not held_out([*names, thing.name], config):
            things, names = [*things, thing], [*names, thing.name]
    return setting, things


@cache
def _likely(split: str) -> tuple[list[str], list[float]]:
    """Return the objects of a split, with weights that favour those at home in few settings."""
    names = catalog.names(split)
    homes = [thing.name for setting in catalog.SETTINGS.values() for thing in catalog.at_home(setting)]
    return names, [1 + 1 / homes.count(name) for name in names]


def place_all(rng: Random, things: list[Thing], setting: Setting, size: int) -> tuple[Item, ...] | None:
    """Place the objects so that none is hidden by more than MOST_HIDDEN; None if one does not fit.

    Objects of one kind are placed side by side.
    """
    placed: list[Item] = []
    for thing in things:
        for _ in range(40):
            item: Item | None
            if alike := [item for item in placed if item.name == thing.name]:
                item = _beside(rng, rng.choice(alike), thing, setting, size)
            else:
                item = _place(rng, thing, setting, size)
            if item and all(_hidden(other, [*placed, item]) <= MOST_HIDDEN for other in (*placed, item)):
                placed.append(item)
                break
        else:
            return None
    return tuple(sorted(placed, key=lambda item: -item.depth))


def _place(rng: Random, thing: Thing, setting: Setting, size: int) -> Item:
    """Put one object where its kind stands: higher up on the ground is farther away and smaller."""
    near = rng.random()
    scale = thing.size * setting.scale * rng.uniform(0.94, 1.08)
    if thing.stands not in ("sky", "swim"):
        scale *= FARTHEST_SCALE + (1 - FARTHEST_SCALE) * near
    scale = max(scale, SMALLEST / max(1.0, thing.aspect))
    height, width = round(size * scale), round(size * scale * thing.aspect)
    low, high = _reach(thing, setting, size, height)
    base = max(round(low + (high - low) * near), height + MARGIN)
    x = rng.randint(MARGIN, size - MARGIN - width)
    return _item(rng, thing, (x, base - height, width, height), size)


def _beside(rng: Random, first: Item, thing: Thing, setting: Setting, size: int) -> Item | None:
    """Put another one of the same kind next to the `first`; None if that is outside the picture."""
    x, y, width, height = first.box
    low, high = _reach(thing, setting, size, height)
    base = y + height + round(size * rng.uniform(-0.05, 0.05))
    base = max(round(min(max(base, low), high)), height + MARGIN)
    x += rng.choice((-1, 1)) * round(width * rng.uniform(0.85, 1.3))
    if not MARGIN <= x <= size - MARGIN - width:
        return None
    return _item(rng, thing, (x, base - height, width, height), size)


def _reach(thing: Thing, setting: Setting, size: int, height: int) -> tuple[float, float]:
    """Return the highest and the lowest y that the feet of an object may have, in pixels."""
    if thing.stands in ("sky", "swim"):
        return 0.02 * size + height, max(0.03 * size + height, setting.horizon * size - 2)
    if thing.stands == "water":
        return (setting.horizon + 0.05) * size, setting.shore * size
    return (setting.shore + 0.05) * size, 0.975 * size


def _item(rng: Random, thing: Thing, box: tuple[int, int, int, int], size: int) -> Item:
    floating = thing.stands in ("sky", "swim")
    depth = 1.0 if floating else round(1 - (box[1] + box[3]) / size, 3)
    return Item(thing.name, box, depth, thing.mirror and rng.random() < 0.5)


def _hidden(item: Item, items: list[Item]) -> float:
    """Return an upper bound on the share of `item`'s box that nearer boxes cover."""
    nearer = [other for other in items if other is not item and other.depth <= item.depth]
    return sum(overlap(item.box, other.box) for other in nearer) / item.area


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    """Return the area common to two boxes [x, y, w, h] in square pixels."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)


def scenery(rng: Random, setting: Setting, objects: tuple[Item, ...], size: int) -> tuple[Item, ...]:
    """Choose the props behind the objects, as many of each as find a place where they can be seen."""
    afloat = [item for item in objects if item.thing.stands == "water"]
    items: list[Item] = []
    for name in setting.props:
        prop = catalog.PROPS[name]
        for _ in range(rng.randint(1, prop.most) if rng.random() < PROP_SHARE else 0):
            for _ in range(4):
                item = _place_prop(rng, prop, setting, size)
                hidden = sum(overlap(item.box, other.box) for other in objects)
                clear = not any(overlap(item.box, other.box) for other in (*afloat, *items))
                if clear and hidden <= MOST_HIDDEN * item.area:
                    items.append(item)
                    break
    return tuple(sorted(items, key=lambda item: -item.depth))


def _place_prop(rng: Random, prop: Prop, setting: Setting, size: int) -> Item:
    height = round(size * rng.uniform(prop.smallest, prop.largest))
    width = round(height * prop.aspect)
    x = rng.randint(MARGIN, size - MARGIN - width)
    mirrored = rng.random() < 0.5
    if prop.stands in ("sky", "wall"):
        top, low = (4, setting.horizon * 0.75) if prop.stands == "sky" else (14, setting.horizon - 0.06)
        y = rng.randint(top, max(top, round(low * size) - height))
        return Item(prop.name, (x, y, width, height), 1.0, mirrored)
    drop = rng.uniform(0.0, 0.01) if prop.stands == "horizon" else rng.uniform(0.02, 0.09)
    line = setting.horizon if prop.stands == "horizon" else setting.shore
    base = round((line + drop) * size)
    height = min(height, base)
    return Item(prop.name, (x, base - height, width, height), round(1 - base / size, 3), mirrored)


def _signs(rng: Random, setting: Setting, items: tuple[Item, ...], size: int) -> tuple[Writing, ...]:
    """Place at most one board with a few words, where it hides nothing and nothing hides it."""
    if not setting.signs or rng.random() >= SIGN_SHARE:
        return ()
    text, high = rng.choice(setting.signs), round(0.08 * size)
    width = round(size * (0.05 + 0.035 * len(text)))
    for _ in range(20):
        x = rng.randint(MARGIN, size - MARGIN - width)
        low = 0.6 * setting.horizon if setting.indoors else setting.shore - 0.04
        y = round(size * low * rng.uniform(0.3, 1.0)) if setting.indoors else round(size * low) - high
        post = 0 if setting.indoors else high
        if not any(overlap((x, y, width, high + post), item.box) for item in items):
            return (Writing(text, (x, y, width, high), "sign" if setting.indoors else "signpost"),)
    return ()


def relations(objects: tuple[Item, ...], size: int) -> tuple[Relation, ...]:
    """Return every relation that holds with a clear margin, each together with its inverse.

    With several objects of a kind, it holds for each of them.
    """
    kinds: dict[str, list[Item]] = {}
    for item in objects:
        kinds.setdefault(item.name, []).append(item)
    found = []
    for a, b in combinations(kinds, 2):
        ways = {relation(one, other, size) for one in kinds[a] for other in kinds[b]}
        predicate = ways.pop()
        if predicate and not ways:
            found += [Relation(a, predicate, b), Relation(b, INVERSE[predicate], a)]
    return tuple(found)


def relation(a: Item, b: Item, size: int) -> str | None:
    """Return the relation of `a` to `b` if a person would not hesitate, else None.

    Left and right need a gap and at least as much horizontal as vertical distance. Above and below need a
    gap, horizontal overlap and at least one object that flies or swims. In front of and behind need
    horizontal overlap, nothing that flies or swims, and feet at least 6 % of the height apart.
    """
    across = min(a.right, b.right) - max(a.box[0], b.box[0])
    gap_up = max(a.box[1], b.box[1]) - min(a.foot, b.foot)
    right, down = b.middle[0] - a.middle[0], b.middle[1] - a.middle[1]
    if across <= -0.02 * size and abs(right) >= abs(down):
        return "left of" if right > 0 else "right of"
    if across < 0.5 * min(a.box[2], b.box[2]):
        return None
    if catalog.flies(a.name) or catalog.flies(b.name):
        return ("above" if down > 0 else "below") if gap_up >= 0.01 * size else None
    feet = b.foot - a.foot
    if abs(feet) >= 0.06 * size:
        return "behind" if feet > 0 else "in front of"
    return None
