"""Referring expressions as RefCOCO has them, regions and relationships as Visual Genome has them.

RefCOCO's official file of references is a pickle, and so is ours; `mglib.data.regions` reads it with an
unpickler that refuses to run code.
"""

import re
from collections.abc import Iterable
from random import Random
from typing import Any

from mglib.config import WorldConfig
from mglib.world import catalog
from mglib.world.catalog import choose, wording
from mglib.world.scene import INVERSE, Item, Scene, stream
from mglib.world.view import (
    OFFICIAL_SPLIT,
    Link,
    alike,
    definite,
    groups,
    landmarks,
    links,
    number,
    side,
    singles,
)

MOST = 3  # sentences per object, as in RefCOCO
APART = 0.08  # of the width: least distance between the centres of two objects to call one "the left one"
Record = dict[str, Any]


def referring(config: WorldConfig, scene: Scene) -> list[list[str]]:
    """Write for each object of a picture the expressions that refer to it alone, possibly none."""
    rng = stream(config, scene.image_id, "referring")
    return [expressions(rng, scene, item) for item in scene.objects]


def expressions(rng: Random, scene: Scene, item: Item) -> list[str]:
    """Return up to MOST different expressions that refer to `item` and nothing else in the picture."""
    side = _own_side(scene, item)
    kinds = [*(["name"] if item in singles(scene) else []), *([side] if side else [])]
    lists, name = wording("regions"), item.thing.known.removeprefix("the ")
    said = [choose(rng, lists[f"ref {kind}"]).format(name=name) for kind in kinds]
    for link in _telling(scene, item):
        phrase = choose(rng, lists[f"ref {link.predicate}"])
        said.append(phrase.format(name=name, other=definite(link.object, scene)))
    said = list(dict.fromkeys(said))
    kept = set(rng.sample(range(len(said)), min(MOST, len(said))))
    return [text for place, text in enumerate(said) if place in kept]


def _own_side(scene: Scene, item: Item) -> str | None:
    """Return the side that `item` is clearly on, if no object of its kind is there too, else None."""
    where = side(item, scene.size)
    like = alike(scene, item)
    if where == "middle":
        apart = all(side(other, scene.size) in ("left", "right") for other in like)
        return where if apart else None
    outward = -1 if where == "left" else 1
    lead = [outward * (item.middle[0] - other.middle[0]) / scene.size for other in like]
    apart = all(side(other, scene.size) != where for other in like)
    return where if apart and all(gap >= APART for gap in lead) else None


def _telling(scene: Scene, item: Item) -> list[Link]:
    """Return the relations to unique objects that hold for `item` and clearly not for others of its kind.

    Only one dog is behind the bus if the other is in front of it; one beside it may be farther back, too.
    """
    alone = singles(scene)
    every = [link for link in links(scene) if link.object in alone] + landmarks(scene)
    stands = {(id(link.subject), id(link.object)): link.predicate for link in every}
    found = []
    for link in every:
        ways = {stands.get((id(other), id(link.object))) for other in alike(scene, item)}
        across = link.predicate in ("left of", "right of")
        apart = not ways & {link.predicate, None} if across else ways <= {INVERSE[link.predicate]}
        if link.subject is item and apart:
            found.append(link)
    return found


def references(said: Iterable[tuple[Scene, list[list[str]]]]) -> list[Record]:
    """Return the references of all pictures of a split, in order, with the RefCOCO fields that are read.

    `ann_id` is the object's id in instances.json, which numbers the objects of the split from 1.
    """
    objects = [(scene, texts) for scene, found in said for texts in found]
    named = [(ann_id, scene, texts) for ann_id, (scene, texts) in enumerate(objects, 1) if texts]
    return [
        {
            "ref_id": ref_id,
            "ann_id": ann_id,
            "image_id": scene.image_id,
            "split": OFFICIAL_SPLIT.get(scene.split, "test"),
            "sentences": [{"sent": " ".join(re.findall(r"[a-z0-9']+", text.lower()))} for text in texts],
        }
        for ref_id, (ann_id, scene, texts) in enumerate(named)
    ]


def regions(config: WorldConfig, scene: Scene) -> Record:
    """Describe regions of a picture as Visual Genome's region_descriptions.json does.

    There is one for each object, piece of scenery and sign, and for many pairs in a clear relation.
    """
    rng = stream(config, scene.image_id, "regions")
    lists = wording("regions")
    where = rng.choice(catalog.SETTINGS[scene.setting].phrases)
    said: list[tuple[str, list[Item]]] = []
    for item in scene.objects:
        thing = item.thing
        kind = f"region {thing.stands}" if thing.stands in ("sky", "water") else "region"
        phrase = choose(rng, lists[kind])
        said.append((phrase.format(a=thing.phrase, verb=rng.choice(thing.verbs), place=where), [item]))
    said += [(f'a sign that says "{board.text}"', [Item("sign", board.box, 0.5)]) for board in scene.writing]
    said += [(catalog.PROPS[item.name].counted(1), [item]) for item in scene.props]
    several = [items for items in groups(scene).values() if len(items) > 1]
    said += [(items[0].thing.counted(len(items)), [*items]) for items in several]
    for link in links(scene):
        if rng.random() < 0.5:  # each relation from one of its ends, more or less
            a, b = (item.thing.phrase for item in (link.subject, link.object))
            phrase = choose(rng, lists[f"ref {link.predicate}"])
            said.append((phrase.format(name=a, other=b), [link.subject, link.object]))
    rng.shuffle(said)
    return {
        "id": scene.image_id,
        "regions": [
            {"region_id": number(scene, place), "image_id": scene.image_id, "phrase": text, **_around(items)}
            for place, (text, items) in enumerate(said)
        ],
    }


def _around(items: list[Item]) -> Record:
    """Return the box around all items as x, y, width, height."""
    x, y = min(item.box[0] for item in items), min(item.box[1] for item in items)
    right, low = max(item.right for item in items), max(item.foot for item in items)
    return {"x": x, "y": y, "width": right - x, "height": low - y}


def relationships(config: WorldConfig, scene: Scene) -> Record:
    """List every clear relation of a picture as Visual Genome's relationships.json does.

    `config` is unused: the signature is that of the other writers.
    """
    nodes = {
        id(item): {
            "object_id": number(scene, place),
            "name": item.name,
            **dict(zip("xywh", item.box, strict=True)),
        }
        for place, item in enumerate((*scene.objects, *scene.props))
    }
    predicates = {"left of": "to the left of", "right of": "to the right of"}
    return {
        "image_id": scene.image_id,
        "relationships": [
            {
                "relationship_id": number(scene, place),
                "predicate": predicates.get(link.predicate, link.predicate),
                "subject": nodes[id(link.subject)],
                "object": nodes[id(link.object)],
            }
            for place, link in enumerate([*links(scene), *landmarks(scene)])
        ],
    }
