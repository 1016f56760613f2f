"""A-OKVQA and GQA as they are published: questions about COCO's val2017 and about GQA's own pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mglib.config import ReleaseConfig
from mglib.data.check import with_pictures
from mglib.data.pictures import named_picture, open_picture
from mglib.data.quarantine import Fault, keep, sound
from mglib.data.questions import ChoiceQuestion, GraphQuestion, read_a_okvqa, read_gqa
from mglib.data.splits import Split
from mglib.paths import CACHE, sha256

VAL, TEST = "val_questions", "test_questions"


@dataclass(frozen=True)
class Questioned:
    """The pictures that are asked about, COCO's before GQA's, and each question with its picture's place."""

    files: tuple[Path, ...]
    choice: tuple[tuple[int, ChoiceQuestion], ...]  # A-OKVQA
    graph: tuple[tuple[int, GraphQuestion], ...]  # GQA


def questioned(
    folder: Path, release: ReleaseConfig, name: str, val_ids: Iterable[int], *, bad: Path | None = None
) -> Questioned:
    """Read the questions of VAL or TEST below `folder`; `val_ids` are the pictures of COCO kept for choices.

    What is no question, and questions about a picture that cannot be opened, are left out; `bad` lists them.

    Pictures with A-OKVQA's questions are in the one split or the other as COCO's are; of GQA, TEST has
    testdev's and VAL those of the first pictures of its val file, which shares none with testdev. (Some of
    GQA's pictures are COCO's under another name, so a few that serve choices may be in val2017's tests.)
    """
    paths, kept = release.questions, frozenset(val_ids)
    images, gqa = folder / release.coco.images, folder / paths.gqa_images
    faults: list[Fault] = []
    choice = [
        one
        for one in keep(read_a_okvqa(folder / paths.aokvqa), faults)
        if (one.image_id in kept) == (name == VAL)
    ]
    graph = list(keep(read_gqa(folder / (paths.gqa_val if name == VAL else paths.gqa_test)), faults))
    first = set(sorted({one.image_id for one in graph})[: paths.gqa_val_pictures if name == VAL else None])

    def file(key: int | str) -> Path:  # COCO's are numbers, GQA's are texts
        return named_picture(images, f"{key:012d}") if isinstance(key, int) else named_picture(gqa, key)

    def there(one: ChoiceQuestion | GraphQuestion) -> Path | None:  # missing ones are told of together
        return file(one.image_id) if file(one.image_id).is_file() else None

    opened = with_pictures([*choice, *(one for one in graph if one.image_id in first)], there)
    asked = sound(chain(faults, opened), bad or CACHE / "web" / f"{name}-bad.jsonl")
    pictures = sorted({one.image_id for one in asked}, key=lambda key: (isinstance(key, str), key))
    places = {picture: place for place, picture in enumerate(pictures)}
    return Questioned(
        files=tuple(map(file, pictures)),
        choice=tuple((places[one.image_id], one) for one in asked if isinstance(one, ChoiceQuestion)),
        graph=tuple((places[one.image_id], one) for one in asked if isinstance(one, GraphQuestion)),
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
