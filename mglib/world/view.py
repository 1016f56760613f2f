"""What is true of a scene: its objects in groups, the position of each, and the relations of two.

Everything is judged from the boxes, instance by instance, so that two dogs in one picture are two dogs.
Whatever a person would hesitate over is None here and is stated by no text.
"""

from dataclasses import dataclass
from itertools import permutations

from mglib.world import catalog
from mglib.world.scene import Item, Scene, relation

OFFICIAL_SPLIT = {"train": "train", "pool": "train", "val": "val"}  # the others are "test"
SIDE = 0.38  # of the width: an object whose centre is nearer to a border is on that side
FAR, NEAR = 0.28, 0.72  # shares of the way from the far end of the ground to the picture's lower border
IDS = 100  # ids reserved for the objects, regions, relations or questions of one picture


@dataclass(frozen=True)
class Link:
    """`subject` is `predicate` ("left of", ...) `object`, which may be a piece of scenery."""

    subject: Item
    predicate: str
    object: Item


def groups(scene: Scene) -> dict[str, tuple[Item, ...]]:
    """Return the objects by name, the most striking (large and near) first."""
    ordered = sorted(scene.objects, key=lambda item: -item.salience)
    return {
        name: tuple(item for item in ordered if item.name == name)
        for name in dict.fromkeys(item.name for item in ordered)
    }


def alike(scene: Scene, item: Item) -> list[Item]:
    """Return the other objects that the name of `item` also applies to: a runner is a person, too."""
    return [
        other
        for other in scene.objects
        if other is not item and item.name in (other.name, other.thing.supercategory)
    ]


def singles(scene: Scene) -> list[Item]:
    """Return the objects whose name applies to no other: "the dog" can only be this one."""
    return [items[0] for items in groups(scene).values() if len(items) == 1 and not alike(scene, items[0])]


def number(scene: Scene, place: int) -> int:
    """Return an id, unique over all splits, for the `place`th of something in a picture."""
    return scene.image_id * IDS + place


def side(item: Item, size: int) -> str | None:
    """Return "left", "right" or "middle" if the object stands there clearly, else None."""
    start, end = item.box[0] / size, item.right / size
    centre = (start + end) / 2
    if centre <= SIDE and end <= 1 - SIDE:
        return "left"
    if centre >= 1 - SIDE and start >= SIDE:
        return "right"
    return "middle" if 0.45 <= centre <= 0.55 else None


def distance(item: Item, scene: Scene) -> str | None:
    """Return "foreground" or "background" for an object that clearly stands there, else None."""
    if item.thing.stands not in ("ground", "pole"):
        return None
    first = catalog.SETTINGS[scene.setting].shore
    nearness = (item.foot / scene.size - first) / (1 - first)
    return "foreground" if nearness >= NEAR else "background" if nearness <= FAR else None


def links(scene: Scene) -> list[Link]:
    """Return every clear relation of two objects, both ways round."""
    return [
        Link(a, predicate, b)
        for a, b in permutations(scene.objects, 2)
        if (predicate := relation(a, b, scene.size))
    ]


def landmarks(scene: Scene) -> list[Link]:
    """Return the clear relations of objects to scenery that appears once: "in front of the tree"."""
    names = [item.name for item in scene.props]
    lone = [item for item in scene.props if names.count(item.name) == 1]
    return [
        Link(item, predicate, prop)
        for item in scene.objects
        for prop in lone
        if (predicate := relation(item, prop, scene.size))
        and predicate not in ("above", "below")  # the whole sky is above everything
        and not (catalog.PROPS[prop.name].stands == "sky" and predicate in ("left of", "right of"))
    ]


def definite(item: Item, scene: Scene) -> str:
    """Return an object or a piece of scenery with the definite article: "the dog", "the palm tree"."""
    if item in scene.objects:
        return item.thing.known
    return f"the {catalog.PROPS[item.name].counted(1).partition(' ')[2]}"
