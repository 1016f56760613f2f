"""A-OKVQA and GQA as they are published: questions about COCO's val2017 and about GQA's own pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mglib.config import ReleaseConfig
from mglib.data.pictures import open_picture
from mglib.data.quarantine import strict
from mglib.data.questions import ChoiceQuestion, GraphQuestion, read_a_okvqa, read_gqa
from mglib.data.splits import Split
from mglib.paths import sha256

VAL, TEST = "val_questions", "test_questions"


@dataclass(frozen=True)
class Questioned:
    """The pictures that are asked about, COCO's before GQA's, and each question with its picture's place."""

    files: tuple[Path, ...]
    choice: tuple[tuple[int, ChoiceQuestion], ...]  # A-OKVQA
    graph: tuple[tuple[int, GraphQuestion], ...]  # GQA


def questioned(folder: Path, release: ReleaseConfig, name: str, val_ids: Iterable[int]) -> Questioned:
    """Read the questions of VAL or TEST below `folder`; `val_ids` are the pictures of COCO kept for choices.

    Pictures with A-OKVQA's questions are in the one split or the other as COCO's are; of GQA, TEST has
    testdev's and VAL those of the first pictures of its val file, which shares none with testdev. (Some of
    GQA's pictures are COCO's under another name, so a few that serve choices may be in val2017's tests.)
    """
    paths, kept = release.questions, frozenset(val_ids)
    choice = [
        one for one in strict(read_a_okvqa(folder / paths.aokvqa)) if (one.image_id in kept) == (name == VAL)
    ]
    graph = list(strict(read_gqa(folder / (paths.gqa_val if name == VAL else paths.gqa_test))))
    shown = sorted({one.image_id for one in graph})[: paths.gqa_val_pictures if name == VAL else None]
    coco = sorted({one.image_id for one in choice})
    places = {picture: place for place, picture in enumerate([*coco, *shown])}
    images, gqa = folder / release.coco.images, folder / paths.gqa_images
    return Questioned(
        files=(*(images / f"{number:012d}.jpg" for number in coco), *(gqa / f"{key}.jpg" for key in shown)),
        choice=tuple((places[one.image_id], one) for one in choice),
        graph=tuple((places[one.image_id], one) for one in graph if one.image_id in places),
    )


def questioned_split(name: str, asked: Questioned) -> Split:
    """Make a split of the pictures that are asked about; they have no captions here.

    Raises FileNotFoundError where some of them are missing.
    """
    missing = [file for file in asked.files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing):,} of the {len(asked.files):,} pictures that are asked about are not there, the "
            f"first is {missing[0]}: unpack the data set's pictures again."
        )
    return Split(
        name=name,
        hashes=tuple(map(sha256, asked.files)),
        captions=("",) * len(asked.files),
        images=lambda: map(open_picture, asked.files),
    )
