"""The paper's data sets as the splits of a study: COCO for validation and tests, web pairs as the pool, the
authors' own stage-2 pairs, and A-OKVQA's and GQA's questions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path

from webdataset.shardlists import expand_urls

from mglib.config import ReleaseConfig
from mglib.data import coco
from mglib.data.coco import CocoPicture
from mglib.data.own import read_cc_sbu_align
from mglib.data.pictures import named_picture, with_pictures
from mglib.data.quarantine import Fault, Quarantine, keep
from mglib.data.questions import ChoiceQuestion, GraphQuestion, read_a_okvqa, read_gqa
from mglib.data.shards import WebPair, decodable
from mglib.data.splits import Split, coco_split, file_split, pair_split
from mglib.paths import CACHE

TESTS = ("test_coco",)
ALIGNMENT = "alignment"
POOL_PICTURES = 5_000  # the paper's number
# Paths of the data sets below `mglib.paths.DOWNLOADS`.
CC_SBU_ALIGN = "cc_sbu_align"
COCO_IMAGES = "coco/val2017"
COCO_CAPTIONS = "coco/annotations/captions_val2017.json"
COCO_INSTANCES = "coco/annotations/instances_val2017.json"
AOKVQA = "aokvqa/aokvqa_v1p0_val.json"
GQA_IMAGES = "gqa/images"
VAL, TEST = "val_questions", "test_questions"
GQA = {VAL: "gqa/val_balanced_questions.json", TEST: "gqa/testdev_balanced_questions.json"}


def split(folder: Path, release: ReleaseConfig, name: str) -> Split:
    """Read a split of a release below `folder`; raises ValueError for an unknown name.

    `val` and `test_coco` are COCO's pictures, split by id; the first description stands in for a web caption.
    """
    if name == "pool":
        return pool_split(folder, release)
    if name == ALIGNMENT:
        return alignment_split(folder / CC_SBU_ALIGN)
    if name in (VAL, TEST):
        asked = questions(folder, release, name)
        return file_split(name, asked.files, ("",) * len(asked.files))  # they have no captions here
    if name not in ("val", *TESTS):
        raise ValueError(
            f"There is no split {name!r} of real data: val, pool, {ALIGNMENT}, {VAL}, {TEST} and "
            f"{', '.join(TESTS)} are there, and stage 1 streams its pairs (mglib.study.stage1)."
        )
    every, first = coco_pictures(folder, release), release.coco_val
    if len(every) <= first:
        raise ValueError(
            f"{folder / COCO_CAPTIONS} describes {len(every)} pictures that can be used, and {first} "
            "are for choices: none is left to test on. Take the whole of COCO's val2017, or set `coco_val`."
        )
    pictures = every[:first] if name == "val" else every[first:]
    return coco_split(name, pictures, [picture.captions[0] for picture in pictures])


def quarantine(name: str) -> Quarantine:
    """Return the quarantine for a data set's bad samples."""
    return Quarantine(CACHE / "web" / f"{name}-bad.jsonl")


def coco_pictures(folder: Path, release: ReleaseConfig) -> list[CocoPicture]:
    """Read COCO's annotated pictures, ordered by id, without those that cannot be opened."""
    found = coco.read(folder / COCO_IMAGES, folder / COCO_CAPTIONS, folder / COCO_INSTANCES)
    return list(quarantine("coco").sift(with_pictures(found, attrgetter("file"))))


# --- the pool ---


def pool(folder: Path, release: ReleaseConfig) -> Iterator[WebPair | Fault]:
    """Yield the first POOL_PICTURES good pairs of the pool's shards, and the faults among them.

    Deviation: the paper draws its 5,000 pictures at random.
    """
    good = 0
    for pair in decodable(map(Path, expand_urls(str(folder / release.pool)))):
        yield pair
        good += not isinstance(pair, Fault)
        if good == POOL_PICTURES:
            return


def pool_split(folder: Path, release: ReleaseConfig) -> Split:
    """Make a split of the pool and list what is left out; raises ValueError if it has no good pair."""
    found = quarantine("pool").sift(pool(folder, release))
    split = pair_split("pool", found, lambda: keep(pool(folder, release), []))
    if not len(split):
        raise ValueError(f"No picture of {release.pool} can be read: {folder} needs these shards.")
    return split


def alignment_split(folder: Path) -> Split:
    """Make a split of the authors' curated pairs, whose texts are left as they are."""
    found = with_pictures(read_cc_sbu_align(folder), lambda pair: pair.file)
    pairs = list(quarantine(ALIGNMENT).sift(found))
    if not pairs:
        raise ValueError(f"{folder / 'filter_cap.json'} has no pairs: unpack cc_sbu_align.zip again.")
    return file_split(ALIGNMENT, [pair.file for pair in pairs], [pair.answer for pair in pairs])


# --- questions ---


@dataclass(frozen=True)
class Questions:
    """The pictures that are asked about, COCO's before GQA's, and each question with its picture's index."""

    files: tuple[Path, ...]
    choice: tuple[tuple[int, ChoiceQuestion], ...]  # A-OKVQA
    graph: tuple[tuple[int, GraphQuestion], ...]  # GQA


def questions(folder: Path, release: ReleaseConfig, name: str) -> Questions:
    """Read the questions of A-OKVQA and GQA, for validation (VAL) or tests (TEST).

    Malformed questions, and those about a picture that cannot be opened, are left out and listed. A-OKVQA's
    questions follow COCO's split of their pictures; of GQA, TEST has those of testdev and VAL those about the
    first pictures of the val file, which shares none with testdev. (Some of GQA's pictures are COCO's under
    another name, so a few used for validation may be among val2017's tests.)
    """
    kept = {picture.id for picture in coco_pictures(folder, release)[: release.coco_val]}
    images, gqa = folder / COCO_IMAGES, folder / GQA_IMAGES
    faults: list[Fault] = []
    choice = [
        one for one in keep(read_a_okvqa(folder / AOKVQA), faults) if (one.image_id in kept) == (name == VAL)
    ]
    graph = list(keep(read_gqa(folder / GQA[name]), faults))
    first = set(sorted({one.image_id for one in graph})[: release.gqa_val if name == VAL else None])

    def file(key: int | str) -> Path:  # COCO's are numbers, GQA's are texts
        return named_picture(images, f"{key:012d}") if isinstance(key, int) else named_picture(gqa, key)

    def place(one: ChoiceQuestion | GraphQuestion) -> Path:
        return file(one.image_id)

    about_first = [one for one in graph if one.image_id in first]
    opened = with_pictures(choice, place), with_pictures(about_first, place)
    found: list[ChoiceQuestion | GraphQuestion] = list(quarantine(name).sift(chain(faults, *opened)))
    pictures = sorted({one.image_id for one in found}, key=lambda key: (isinstance(key, str), key))
    index = {picture: number for number, picture in enumerate(pictures)}
    return Questions(
        files=tuple(map(file, pictures)),
        choice=tuple((index[one.image_id], one) for one in found if isinstance(one, ChoiceQuestion)),
        graph=tuple((index[one.image_id], one) for one in found if isinstance(one, GraphQuestion)),
    )
