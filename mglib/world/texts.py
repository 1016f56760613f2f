"""All further texts of a picture, and the files in which the official formats keep them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mglib.config import WorldConfig
from mglib.world.catalog import Catalog
from mglib.world.describe import describe, write_descriptions
from mglib.world.gqa import gqa, write_gqa
from mglib.world.narratives import narrative, write_narratives
from mglib.world.questions import aokvqa, write_aokvqa
from mglib.world.regions import (
    numbered,
    referring,
    regions,
    relationships,
    write_refs,
    write_visual_genome,
)
from mglib.world.scene import Scene

WRITERS: dict[str, Callable[..., Any]] = {
    "aokvqa": aokvqa,
    "gqa": gqa,
    "referring": referring,
    "regions": regions,
    "relationships": relationships,
    "narrative": narrative,
    "description": describe,
}
# Training knows pictures by web captions and questions; full accounts of them are for other splits.
NOT_IN_TRAIN = ("narrative", "description")


def texts(config: WorldConfig, catalog: Catalog, scene: Scene, split: str, index: int) -> dict[str, Any]:
    """Write the further texts of picture `index` of a plain split."""
    wanted = [kind for kind in WRITERS if split != "train" or kind not in NOT_IN_TRAIN]
    return {kind: WRITERS[kind](config, catalog, scene, split, index) for kind in wanted}


def write_texts(folder: Path, scenes: list[Scene], written: list[dict[str, Any]]) -> None:
    """Write the texts of all pictures of a split, in their order."""

    def of(kind: str) -> list[Any]:
        return [entry[kind] for entry in written if kind in entry]

    write_aokvqa(folder / "aokvqa.json", of("aokvqa"))
    write_gqa(folder / "gqa_balanced_questions.json", of("gqa"))
    write_refs(folder / "refs(mglib).p", numbered(zip(scenes, of("referring"), strict=True)))
    write_visual_genome(folder / "region_descriptions.json", of("regions"))
    write_visual_genome(folder / "relationships.json", of("relationships"))
    if of("narrative"):
        write_narratives(folder / "localized_narratives.jsonl", of("narrative"))
        write_descriptions(folder / "descriptions.json", zip(scenes, of("description"), strict=True))
