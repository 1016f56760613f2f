"""Localized Narratives of the small world: spoken descriptions with timed words and the mouse's way.

The format is the official JSONL (google/localized-narratives). A narrator names one group of objects after
the other while the mouse wanders over it, always in the same order and in the same few phrases: the text is
true, long and monotonous, as the paper found the real one (4.3.3).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.paths import write_text
from mglib.world.catalog import Catalog
from mglib.world.scene import Item, Scene, stream
from mglib.world.view import SKIES, counted, groups, scenery, side, the, wording

NARRATORS = 24  # each keeps to its own phrases and pace
STEP = 0.1  # seconds between two points of the trace
PAUSE = 0.5  # seconds between two sentences
KINDS = (
    "opening",
    "left",
    "middle",
    "right",
    "more",
    "water",
    "background",
    "wall",
    "sign",
    "shore",
    "sky",
    "open sky",
)
Box = tuple[int, int, int, int]
_Named = tuple[str, int, tuple[Item, ...]]  # words, how many, which


@dataclass(frozen=True)
class _Part:
    """Some words and the boxes [x, y, w, h] that the mouse visits while they are said (none: it travels)."""

    text: str
    boxes: tuple[Box, ...] = ()


def narrative(config: WorldConfig, catalog: Catalog, scene: Scene, split: str, index: int) -> dict[str, Any]:
    """Write the narrative of picture `index` of `split` in the official fields.

    `voice_recording` is empty: nobody spoke. Times are in seconds, x and y shares of width and height.
    """
    rng = stream(config, split, index, "narrative")
    narrator = rng.randrange(NARRATORS)
    said = [part for sentence in _sentences(rng, catalog, scene, narrator) for part in sentence]
    timed = _timed(said, pace=0.85 + 0.3 * narrator / NARRATORS)
    return {
        "dataset_id": f"mglib_world_{split}",
        "image_id": f"{scene.image_id:012d}",
        "annotator_id": narrator,
        "caption": " ".join(word["utterance"] for word, _ in timed),
        "timed_caption": [word for word, _ in timed],
        "traces": _traces(rng, timed, scene.size),
        "voice_recording": "",
    }


def write_narratives(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one narrative a line."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def _sentences(rng: Random, catalog: Catalog, scene: Scene, narrator: int) -> list[list[_Part]]:
    """Say the striking objects, then the rest by side, then the scenery, then the place."""
    mine = _own_phrases(narrator)
    place = rng.choice(catalog.setting(scene.setting).phrases)
    sorts = _sorted(catalog, scene)
    first = sorts.pop("opening")
    kind = "opening" if first else "opening empty"
    sentences = [_sentence(mine[kind].replace("{place}", place), first)]
    sentences += [
        _detail(rng, catalog, mine["detail"], item) for _, number, (item, *_) in first if number == 1
    ]
    sentences += [_sentence(mine[kind], named) for kind, named in sorts.items() if named]
    return [*sentences, _sentence(mine["place"].replace("{place}", place), [])]


def _detail(rng: Random, catalog: Catalog, phrase: str, item: Item) -> list[_Part]:
    thing = catalog.thing(item.name)
    words = phrase.format(name=the(thing).removeprefix("the "), verb=rng.choice(thing.verbs))
    return [_Part(words, (item.box,))]


def _own_phrases(narrator: int) -> dict[str, str]:
    return {kind: texts[narrator % len(texts)][0] for kind, texts in wording("narratives").items()}


def _sorted(catalog: Catalog, scene: Scene) -> dict[str, list[_Named]]:
    """Return for each kind of sentence what it names: (words, how many, items), in the order of speaking."""
    sorts: dict[str, list[_Named]] = {kind: [] for kind in KINDS}
    for place, (name, items) in enumerate(groups(scene).items()):
        thing = catalog.thing(name)
        named = (counted(thing, len(items)), len(items), items)
        sides = {side(item, scene.size) for item in items}
        if place == 0 or (place == 1 and len(scene.objects) > 3):
            sorts["opening"].append(named)
        elif thing.stands in ("sky", "water"):
            sorts[thing.stands].append(named)
        else:
            sorts[(sides.pop() if len(sides) == 1 else None) or "more"].append(named)
    for name in dict.fromkeys(item.name for item in scene.props):
        items = tuple(item for item in scene.props if item.name == name)
        prop = catalog.prop(name)
        kind = prop.stands if prop.stands in ("sky", "wall") else "background"
        sorts[kind].append((scenery(prop, len(items)), len(items), items))
    for board in scene.writing:
        words = f'a board with "{board.text}" written on it'
        sorts["sign"].append((words, 1, (Item("board", board.box, 0.5),)))
    setting = catalog.setting(scene.setting)
    horizon, shore = round(setting.horizon * scene.size), round(setting.shore * scene.size)
    if not sorts["sky"] and setting.backdrop in SKIES:
        sorts["open sky"].append(("the sky", 1, (Item("sky", (0, 0, scene.size, horizon), 1.0),)))
    if setting.water:
        water = Item("water", (0, horizon, scene.size, shore - horizon), 1.0)
        sorts["shore"].append(("the water", 1, (water,)))
    return sorts


def _sentence(phrase: str, named: list[_Named]) -> list[_Part]:
    """Fill {objects} and {is}; each object's words keep their boxes."""
    before, _, after = phrase.partition("{objects}")
    is_ = "are" if named and named[0][1] > 1 else "is"
    parts = [_Part(before.replace("{is}", is_))]
    for place, (words, _, items) in enumerate(named):
        if place:
            parts.append(_Part("and" if place == len(named) - 1 else ""))
        comma = "," if place < len(named) - 2 else "" if place < len(named) - 1 or after[:1] != "." else after
        parts.append(_Part(words + comma, tuple(item.box for item in items)))
    return [*parts, _Part(after)] if after != "." else parts


def _timed(parts: list[_Part], pace: float) -> list[tuple[dict[str, Any], tuple[Box, ...]]]:
    """Give each word its time and its boxes."""
    timed, now = [], 0.0
    for part in parts:
        words = part.text.split()
        for place, word in enumerate(words):
            end = now + pace * (0.12 + 0.05 * len(word))
            boxes = part.boxes
            if boxes:  # several boxes share the words out among them
                first = place * len(boxes) // len(words)
                boxes = boxes[first : max(first + 1, (place + 1) * len(boxes) // len(words))]
            spoken = {"utterance": word, "start_time": round(now, 2), "end_time": round(end, 2)}
            timed.append((spoken, boxes))
            now = end + (PAUSE if word.endswith(".") else 0.0)
    return timed


def _traces(
    rng: Random, timed: list[tuple[dict[str, Any], tuple[Box, ...]]], size: int
) -> list[list[dict[str, float]]]:
    """Draw one stroke for each sentence: inside the boxes while they are named, on the way between.

    Straight lines between random points only, so that the numbers are the same on every machine.
    """
    stops = _stops(rng, timed, size)
    strokes: list[list[dict[str, float]]] = [[]]
    for (t, x, y), (end, next_x, next_y) in pairwise(stops):
        steps = max(1, round((end - t) / STEP))
        for step in range(steps):
            part = step / steps
            point = (x + part * (next_x - x), y + part * (next_y - y), t + part * (end - t))
            strokes[-1].append(dict(zip("xyt", (round(value, 4) for value in point), strict=True)))
        if any(abs(end - word["end_time"]) < 1e-9 and word["utterance"].endswith(".") for word, _ in timed):
            strokes.append([])
    return [stroke for stroke in strokes if stroke]


def _stops(
    rng: Random, timed: list[tuple[dict[str, Any], tuple[Box, ...]]], size: int
) -> list[tuple[float, float, float]]:
    """Return the points (t, x, y) between which the mouse goes straight."""
    stops = []
    for word, boxes in timed:
        start, end = word["start_time"], word["end_time"]
        times = [start + (end - start) * step / (2 * len(boxes)) for step in range(2 * len(boxes))]
        for time, box in zip(times, (box for box in boxes for _ in range(2)), strict=True):
            stops.append((time, *_inside(rng, box, size)))
        if boxes:
            stops.append((end, *_inside(rng, boxes[-1], size)))
    if not stops or stops[0][0] > 0:
        stops.insert(0, (0.0, round(rng.uniform(0.3, 0.7), 4), round(rng.uniform(0.3, 0.7), 4)))
    last = timed[-1][0]["end_time"]
    return [*stops, (last, rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9))] if stops[-1][0] < last else stops


def _inside(rng: Random, box: Box, size: int) -> tuple[float, float]:
    x, y, width, height = box
    return (x + width * rng.uniform(0.15, 0.85)) / size, (y + height * rng.uniform(0.15, 0.85)) / size
