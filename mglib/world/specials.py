"""Special pictures for the tasks that the paper only shows: memes, dishes, products, landscapes, website
sketches, unusual scenes and handwritten notes.

Each is a `Scene` of its own kind whose `truth` holds what a good answer has to know. A fifth of the cases of
each list in data/world is kept for val, and of memes, sketches, unusual scenes and notes another fifth for
training (BLIP-2's pretraining, stage 1 and the pool); the rest is test, so that none of these is in two of
the three. Dishes, products and landscapes are common on the web: training has all of them, arranged
differently.
"""

from functools import cache
from itertools import product
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.world import catalog
from mglib.world.catalog import FOLDER, Filled, Setting, Thing, read, split, symbol, wording
from mglib.world.lettering import LINE
from mglib.world.scene import (
    SHARDED,
    SPECIALS,
    Item,
    Scene,
    Writing,
    held_out,
    image_id,
    overlap,
    place_all,
    relations,
    scenery,
    stream,
)
from mglib.world.text import REFERENCES, Caption, capitalise, join, mentions

HELD = 0.2  # of the cases of a list are for val; for OWN_ROWS as many again for training
OWN_ROWS = ("memes", "sketches", "unusual", "notes")
ABOVE = ("sun", "moon", "star", "cloud", "rainbow")  # props that a landscape's weather replaces
READ = ("top", "bottom", "brand", "slogan", "title", "text")  # parts of a truth written in the picture
Row = dict[str, Any]
FILES = {"products": "brands", "landscapes": "moods"}  # files that are not named after their kind
ALTERNATIVES = {"products": ("products",), "landscapes": ("settings",), "unusual": ("things", "settings")}
SEVERAL = {"memes": "objects", "dishes": "ingredients", "sketches": "parts", "notes": "text"}  # columns


@cache
def rows(kind: str) -> tuple[Row, ...]:
    """Read the list that a kind of special picture is made from, one dictionary per row."""
    several = (*ALTERNATIVES.get(kind, ()), SEVERAL.get(kind))
    return tuple(
        {column: split(cell) if column in several else cell for column, cell in row.items()}
        for row in read(FOLDER / f"{FILES.get(kind, kind)}.csv", dict[str, Filled])
    )


@cache
def glyphs() -> dict[str, str]:
    """Return the glyphs of ingredients and dishes by name."""
    named = [(row["name"], row["glyph"]) for row in rows("ingredients")]
    named += [(row["dish"], row["glyph"]) for row in rows("dishes")]
    return {name: symbol(glyph) for name, glyph in named}


def sample_special(config: WorldConfig, split: str, index: int) -> Scene:
    """Sample picture number `index` of one of SPECIAL_SPLITS, or a special one of SHARDED.

    In SHARDED the kinds take turns, and no new object and no pair of objects that is held out for the tests
    is shown.
    """
    number = image_id(split, index)
    rng = stream(config, number, "scene")
    if split in SHARDED:
        turn, place = divmod(index - getattr(config, split), len(SPECIALS))
        kind, part = SPECIALS[place], "train"
    else:
        turn, (kind, part) = index, split.split("_")
    cases, new = _cases(kind, part, config.seed), set(catalog.names("new"))
    while True:
        drawn = SAMPLERS[kind](rng, cases[turn % len(cases)], config.size)
        scene = Scene(
            image_id=number,
            size=config.size,
            relations=relations(drawn["objects"], config.size) if kind == "memes" else (),
            paint=rng.randrange(2**32),
            kind=kind,
            **drawn,
        )
        if split not in SHARDED or not (new & set(scene.names) or held_out(scene.names, config)):
            return scene
        turn += 1


@cache
def _cases(kind: str, part: str, seed: int) -> list[Row]:
    """Return the cases of one kind for a part (val, test, train), shuffled by the seed.

    A row with alternatives makes one case for each: "things" becomes "thing".
    """
    columns = ALTERNATIVES.get(kind, ())
    every = [
        {**row, **{column[:-1]: one for column, one in zip(columns, chosen, strict=True)}}
        for row in rows(kind)
        for chosen in product(*(row[column] for column in columns))
    ]
    Random(f"{seed}/{kind}/cases").shuffle(every)
    held = max(1, round(HELD * len(every)))
    if part == "val":
        return every[:held]
    if kind not in OWN_ROWS:
        return every if part == "train" else every[held:]
    return every[held : 2 * held] if part == "train" else every[2 * held :]


def special_references(config: WorldConfig, scene: Scene) -> list[Caption]:
    """Write up to five different references of a special picture."""
    rng = stream(config, scene.image_id, "references")
    slots = _slots(rng, scene)
    texts = [text for text, _ in wording()[scene.kind]]
    rng.shuffle(texts)
    said = [capitalise(text.format(**slots)) + "." for text in texts[:REFERENCES]]
    return [Caption(text, tuple(mentions(text))) for text in said]


def _slots(rng: Random, scene: Scene) -> dict[str, str]:
    """Return the truth of a special picture as values for the slots of the phrases."""
    truth = scene.truth
    slots: dict[str, str] = {
        name: join(value) if isinstance(value, list) else value for name, value in truth.items()
    }
    slots |= {name: f'"{truth[name]}"' for name in READ if name in truth}
    slots["objects"] = join([catalog.THINGS[name].counted(scene.count(name)) for name in scene.names] or [""])
    if scene.setting:
        setting = catalog.SETTINGS[scene.setting]
        slots |= {"place": rng.choice(setting.phrases), "noun": setting.noun}
    if scene.kind == "dishes":
        slots["dish"] = truth["phrase"]
    if scene.kind == "products":
        slots["product"] = catalog.THINGS[truth["product"]].phrase
    return slots


# One sampler for each kind returns the fields of its scene.


def _meme(rng: Random, case: Row, size: int) -> Row:
    chosen = [rng.choice(part.split("/")) for part in case["objects"]]
    wanted = [(name, int(times or 1)) for name, _, times in (part.partition("*") for part in chosen)]
    names = [name for name, _ in wanted]
    top, bottom, joke = (case[key].format(*names) for key in ("top", "bottom", "joke"))
    high, low = (round((0.22 if len(text) > LINE else 0.13) * size) for text in (top, bottom))
    writing = (
        Writing(top.upper(), (8, 6, size - 16, high), "top"),
        Writing(bottom.upper(), (8, size - low - 6, size - 16, low), "bottom"),
    )
    setting = catalog.SETTINGS[case["setting"]]
    things = [catalog.THINGS[name] for name, times in wanted for _ in range(times)]
    objects = _put(rng, things, setting, size, writing)
    return {
        "setting": setting.name,
        "objects": objects,
        "props": scenery(rng, setting, objects, size),
        "writing": writing,
        "truth": {"top": top.upper(), "bottom": bottom.upper(), "joke": joke},
    }


def _put(
    rng: Random, things: list[Thing], setting: Setting, size: int, writing: tuple[Writing, ...]
) -> tuple[Item, ...]:
    """Place given objects; of many tries, return the one in which the writing hides least."""

    def hidden(objects: tuple[Item, ...]) -> float:
        return max(sum(overlap(item.box, text.box) for text in writing) / item.area for item in objects)

    tries = [place_all(rng, things, setting, size) for _ in range(60)]
    found = [objects for objects in tries if objects is not None]
    if not found:
        raise ValueError(
            f"{', '.join(thing.name for thing in things)} find no room in {setting.name}; mend that row of "
            "data/world/memes.csv."
        )
    return min(found, key=hidden)


def _dish(rng: Random, case: Row, size: int) -> Row:
    """Sample a plate in the middle with the ingredients in a ring around it."""
    ingredients = list(case["ingredients"])
    rng.shuffle(ingredients)
    ingredients = ingredients[: rng.randint(max(3, len(ingredients) - 1), len(ingredients))]
    ring = [(0.13, 0.15), (0.87, 0.15), (0.13, 0.86), (0.87, 0.86), (0.5, 0.105), (0.5, 0.895)]
    high = round(0.18 * size)
    items = [_centred(rng, case["dish"], (0.5, 0.5), round(0.34 * size), size, 0)]
    items += [_centred(rng, name, at, high, size, 3) for name, at in zip(ingredients, ring, strict=False)]
    known = set(catalog.names())
    return {
        "objects": tuple(item for item in items if item.name in known),
        "props": tuple(item for item in items if item.name not in known),
        "truth": {"dish": case["dish"], "phrase": case["phrase"], "ingredients": ingredients},
    }


def _centred(
    rng: Random, name: str, at: tuple[float, float], side: int, size: int, jitter: int, aspect: float = 1.0
) -> Item:
    """Place something with its centre `at` a share of the picture, jittered by a few pixels."""
    width, height = (side, round(side / aspect)) if aspect > 1 else (round(side * aspect), side)
    x, y = (round(share * size) + rng.randint(-jitter, jitter) for share in at)
    return Item(name, (x - width // 2, y - height // 2, width, height), 0.5)


def _product(rng: Random, case: Row, size: int) -> Row:
    thing = catalog.THINGS[case["product"]]
    side = round(min(0.56, 0.46 * max(1.0, thing.aspect**0.5)) * size)
    item = _centred(rng, thing.name, (0.5, 0.5), side, size, 0, thing.aspect)
    x, _, width, height = item.box
    base = round(0.74 * size)  # stands on a podium
    return {
        "objects": (Item(item.name, (x, base - height, width, height), 0.3),),
        "writing": (
            Writing(case["brand"], (round(0.08 * size), 12, round(0.84 * size), round(0.14 * size)), "brand"),
            Writing(case["slogan"], (round(0.1 * size), size - 32, round(0.8 * size), 20), "slogan"),
        ),
        "truth": {"product": thing.name, "brand": case["brand"], "slogan": case["slogan"]},
    }


def _landscape(rng: Random, case: Row, size: int) -> Row:
    setting = catalog.SETTINGS[case["setting"]]
    kept: tuple[Item, ...] = ()
    while len(kept) < 2:  # an empty plain makes no landscape
        props = scenery(rng, setting, (), size)
        kept = tuple(item for item in props if item.name not in ABOVE)
    return {
        "setting": setting.name,
        "props": kept,
        "truth": {key: case[key] for key in ("setting", "mood", "weather", "effect")}
        | {"props": list(dict.fromkeys(item.name for item in kept))},
    }


def _sketch(rng: Random, case: Row, size: int) -> Row:
    """Stack the parts of a web page from the top; consecutive pictures or buttons share a row."""
    margin, y = round(0.07 * size), round(0.2 * size)
    heights = {"nav": 22, "search": 24, "picture": 62, "text": 22, "button": 28, "footer": 18, "field": 26}
    writing = [Writing(case["title"], (margin, round(0.07 * size), size - 2 * margin, 26), "title")]
    gap = round(0.035 * size)
    page: list[list[tuple[str, str]]] = []
    for role, _, text in (part.partition(":") for part in case["parts"]):
        if page and page[-1][0][0] == role and role in ("picture", "button") and len(page[-1]) < 3:
            page[-1].append((role, text))
        else:
            page.append([(role, text)])
    total = sum(heights[row[0][0]] for row in page) * size / 256
    stretch = min(1.7, (0.93 * size - y - gap * (len(page) - 1)) / total)  # fill the page
    gap = min(3 * gap, round((0.93 * size - y - stretch * total) / len(page)))
    for row in page:
        high = round(heights[row[0][0]] * stretch * size / 256)
        wide = (size - 2 * margin - 10 * (len(row) - 1)) // len(row)
        for place, (role, text) in enumerate(row):
            writing.append(Writing(text, (margin + place * (wide + 10), y, wide, high), role))
        y += high + gap
    said = [
        wording()[f"part {role}"][0][0].format(text=join(text.split()) if role == "nav" else text)
        for row in page
        for role, text in row
    ]
    return {"writing": tuple(writing), "truth": {"title": case["title"], "parts": said}}


def _unusual(rng: Random, case: Row, size: int) -> Row:
    """Put one thing where or how it cannot be, with the height, width and foot of its row."""
    thing, setting, what = catalog.THINGS[case["thing"]], catalog.SETTINGS[case["setting"]], case["what"]
    width = round(min(float(case["widest"]) * size, round(float(case["height"]) * size) * thing.aspect))
    height = round(width / thing.aspect)
    foot = setting.shore - 0.03 if case["foot"] == "shore" else float(case["foot"])
    x = rng.randint(round(0.08 * size), round(0.92 * size) - width)
    base = round(size * (foot + rng.uniform(-0.03, 0.02)))
    box = (x, max(4, base - height), width, height)
    odd = Item(thing.name, box, 0.1, thing.mirror and rng.random() < 0.5)
    objects = (odd, *_measure(rng, odd, size)) if what == "tiny" else (odd,)
    place = rng.choice(setting.phrases)
    text = case["text"].format(thing=thing.phrase, name=thing.name, noun=setting.noun, place=place)
    return {
        "setting": setting.name,
        "objects": objects,
        "props": _houses(rng, size) if what == "giant" else scenery(rng, setting, objects, size),
        "truth": {"what": what, "object": thing.name, "impossible": text},
    }


def _measure(rng: Random, tiny: Item, size: int) -> tuple[Item, ...]:
    """Place a cup next to something tiny, as a reference for its size."""
    cup = catalog.THINGS["cup"]
    height = round(0.26 * size)
    width = round(height * cup.aspect)
    right = tiny.right + 12
    left = right if right + width < size - 4 else tiny.box[0] - width - 12
    return (Item("cup", (left, tiny.foot - height, width, height), 0.1),)


def _houses(rng: Random, size: int) -> tuple[Item, ...]:
    """Sample a row of small houses at the giant's feet."""
    items: list[Item] = []
    house, x = catalog.PROPS["house"], rng.randint(2, 14)
    while True:
        height = round(size * rng.uniform(0.15, 0.2))
        width = round(height * house.aspect)
        if x + width >= size:
            return tuple(items)
        base = round(size * rng.uniform(0.93, 0.96))
        items.append(Item("house", (x, base - height, width, height), 0.05))
        x += width + rng.randint(2, 26)


def _note(rng: Random, case: Row, size: int) -> Row:
    lines, step = case["text"], round(0.13 * size)
    left, top = round(0.19 * size), round(0.5 * size - step * len(case["text"]) / 2)
    writing = tuple(
        Writing(line, (left, top + step * number, round(0.66 * size), step), "note")
        for number, line in enumerate(lines)
    )
    return {"writing": writing, "truth": {"text": " ".join(lines), "lines": list(lines)}}


SAMPLERS = {
    "memes": _meme,
    "dishes": _dish,
    "products": _product,
    "landscapes": _landscape,
    "sketches": _sketch,
    "unusual": _unusual,
    "notes": _note,
}
