"""Localized Narratives of the small world: spoken descriptions, without times and the mouse's way.

The format is the official JSONL (google/localized-narratives), as its files of captions alone have it. A
narrator names one group of objects after the other, always in the same order and in the same few phrases:
the text is true, long and monotonous, as the paper found the real one (4.3.3). The order is that of the
list of phrases.
"""

from typing import Any

from mglib.config import WorldConfig
from mglib.world import catalog
from mglib.world.catalog import wording
from mglib.world.scene import Scene, stream
from mglib.world.text import join
from mglib.world.view import groups, side

NARRATORS = 24  # each keeps to its own phrases
_Named = tuple[str, int]  # words, how many


def narrative(config: WorldConfig, scene: Scene) -> dict[str, Any]:
    """Write the narrative of a picture: striking objects, the rest by side, scenery, place."""
    rng = stream(config, scene.image_id, "narrative")
    narrator = rng.randrange(NARRATORS)
    mine = {kind: texts[narrator % len(texts)][0] for kind, texts in wording("narratives").items()}
    place = rng.choice(catalog.SETTINGS[scene.setting].phrases)
    sorts = _sorted(scene)
    first = sorts.pop("opening")
    said = [_sentence(mine["opening" if first else "opening empty"].replace("{place}", place), first)]
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
    is_ = "are" if named and named[0][1] > 1 else "is"
    return phrase.replace("{is}", is_).replace("{objects}", join([words for words, _ in named] or [""]))
