"""All further texts of a picture, and the files in which the official formats keep them."""

import json
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mglib.config import WorldConfig
from mglib.paths import write_json, write_text
from mglib.world import catalog
from mglib.world.describe import describe, narrative
from mglib.world.gqa import balance, gqa
from mglib.world.questions import aokvqa
from mglib.world.regions import references, referring, regions, relationships
from mglib.world.scene import Scene
from mglib.world.text import Caption

WRITERS: dict[str, Callable[..., Any]] = {
    "aokvqa": aokvqa,
    "gqa": gqa,
    "referring": referring,
    "regions": regions,
    "relationships": relationships,
    "narrative": narrative,
    "description": describe,
}
# Training has only captions, questions and phrases; full descriptions are for the other splits.
NOT_IN_TRAIN = ("narrative", "description")


def texts(config: WorldConfig, scene: Scene) -> dict[str, Any]:
    """Write the further texts of a picture of a plain split."""
    wanted = [kind for kind in WRITERS if scene.split != "train" or kind not in NOT_IN_TRAIN]
    return {kind: WRITERS[kind](config, scene) for kind in wanted}


def write_texts(folder: Path, scenes: list[Scene], written: list[dict[str, Any]]) -> None:
    """Write the texts of all pictures of a split, in their order."""

    def of(kind: str) -> list[Any]:
        return [entry[kind] for entry in written if kind in entry]

    write_json(folder / "aokvqa.json", of("aokvqa"))
    asked = {name: question for record in of("gqa") for name, question in record.items()}
    write_json(folder / "gqa_balanced_questions.json", balance(asked))
    said = zip(scenes, of("referring"), strict=True)
    refs = json.loads(json.dumps(references(said)))  # copied: a pickle records which texts are one object
    (folder / "refs(mglib).p").write_bytes(pickle.dumps(refs, protocol=2))
    write_json(folder / "region_descriptions.json", of("regions"))
    write_json(folder / "relationships.json", of("relationships"))
    if of("narrative"):
        lines = [json.dumps(record) + "\n" for record in of("narrative")]
        write_text(folder / "localized_narratives.jsonl", "".join(lines))
        said = zip(scenes, of("description"), strict=True)  # as cc_sbu_align's filter_cap.json is written
        notes = [{"image_id": str(scene.image_id), "caption": text} for scene, text in said]
        write_json(folder / "descriptions.json", {"annotations": notes})


def facts(scene: Scene, reference: Caption) -> dict[str, Any]:
    """Return the objects of a reference with their counts, its relations, setting and writing.

    Objects are named by their category in instances.json; `setting` and `writing` are null if not stated.
    """
    setting, text = catalog.SETTINGS[scene.setting], re.sub('"[^"]*"', "", reference.text).lower()
    phrases = "|".join(re.escape(phrase.lower()) for phrase in (setting.noun, *setting.phrases))
    stated = [reference.relation] if reference.relation else []
    written = [board.text for board in scene.writing if f'"{board.text}"' in reference.text]
    return {
        "image_id": scene.image_id,
        "objects": {catalog.THINGS[name].category: scene.count(name) for name in reference.named},
        "relations": [
            [catalog.THINGS[one.subject].category, one.predicate, catalog.THINGS[one.object].category]
            for one in stated
        ],
        "setting": setting.name if re.search(rf"\b(?:{phrases})\b", text) else None,
        "writing": written[0] if written else None,
    }


def write_facts(path: Path, said: Iterable[tuple[Scene, Caption]]) -> None:
    """Write the facts of all references of a split, numbered as in captions.json."""
    notes = [{"id": number, **facts(scene, reference)} for number, (scene, reference) in enumerate(said, 1)]
    write_json(path, {"annotations": notes})
