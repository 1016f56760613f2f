"""What each reference states, as data: the truth against which the parser of answers is measured."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mglib.paths import write_json
from mglib.world import catalog
from mglib.world.scene import Scene
from mglib.world.text import Caption


def facts(scene: Scene, reference: Caption) -> dict[str, Any]:
    """Return the objects of a reference with their counts, its relations, setting and writing.

    Objects go by their category in instances.json; `setting` and `writing` are null where they are not said.
    """
    setting, text = catalog.setting(scene.setting), re.sub('"[^"]*"', "", reference.text).lower()
    stated = [reference.relation] if reference.relation else []
    written = [board.text for board in scene.writing if f'"{board.text}"' in reference.text]
    return {
        "image_id": scene.image_id,
        "objects": {catalog.thing(name).category: scene.count(name) for name in reference.named},
        "relations": [
            [catalog.thing(one.subject).category, one.predicate, catalog.thing(one.object).category]
            for one in stated
        ],
        "setting": setting.name
        if any(
            re.search(rf"\b{re.escape(phrase.lower())}\b", text)
            for phrase in (setting.noun, *setting.phrases)
        )
        else None,
        "writing": written[0] if written else None,
    }


def write_facts(path: Path, said: Iterable[tuple[Scene, Caption]]) -> None:
    """Write the facts of all references of a split, numbered as captions.json numbers them."""
    notes = [{"id": number, **facts(scene, reference)} for number, (scene, reference) in enumerate(said, 1)]
    write_json(path, {"annotations": notes})
