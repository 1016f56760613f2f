"""The data sets of the paper as the splits of a study: COCO for choices and tests, web pairs as the pool, and
the authors' own stage-2 pairs.
"""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

from webdataset.shardlists import expand_urls

from mglib.config import ReleaseConfig
from mglib.data.alignment import read_cc_sbu_align
from mglib.data.check import with_pictures
from mglib.data.coco import CocoPicture, read
from mglib.data.mixture import to_row
from mglib.data.pictures import open_picture
from mglib.data.quarantine import Fault, Quarantine, keep, sound
from mglib.data.question_splits import TEST, VAL, Questioned, questioned, questioned_split
from mglib.data.shards import WebPair, read_shards
from mglib.data.splits import Split
from mglib.data.text import clean_caption
from mglib.paths import CACHE
from mglib.paths import sha256 as sha256_of

TESTS = ("test_coco",)
ALIGNMENT = "alignment"


def split(folder: Path, release: ReleaseConfig, name: str) -> Split:
    """Read a split of a release below `folder`; raises ValueError for a name that it does not have.

    `val` and `test_coco` are COCO's pictures, cut by id; the first description stands in for a web caption.
    """
    if name == "pool":
        return pool_split(folder, release)
    if name == ALIGNMENT:
        return alignment_split(folder / release.alignment)
    if name in (VAL, TEST):
        return questioned_split(name, questions(folder, release, name))
    if name not in ("val", *TESTS):
        raise ValueError(
            f"There is no split {name!r} of real data: val, pool, {ALIGNMENT}, {VAL}, {TEST} and "
            f"{', '.join(TESTS)} are there, and stage 1 streams its pairs (mglib.study.stage1)."
        )
    every, first = coco_pictures(folder, release), release.coco.val
    if len(every) <= first:
        raise ValueError(
            f"{folder / release.coco.captions} describes {len(every)} pictures that can be used, and {first} "
            "are for choices: none is left to test on. Take the whole of COCO's val2017, or set `coco.val`."
        )
    return coco_split(name, every[:first] if name == "val" else every[first:])


def coco_pictures(folder: Path, release: ReleaseConfig) -> list[CocoPicture]:
    """Read COCO's annotated pictures, ordered by id, but those that cannot be opened."""
    coco = release.coco
    found = read(folder / coco.images, folder / coco.captions, folder / coco.instances)
    return sound(with_pictures(found, lambda picture: picture.file), CACHE / "web" / "coco-bad.jsonl")


def questions(folder: Path, release: ReleaseConfig, name: str) -> Questioned:
    """Read what A-OKVQA and GQA ask, for choices (VAL) or tests (TEST)."""
    first = coco_pictures(folder, release)[: release.coco.val]
    bad = CACHE / "web" / f"{name}-bad.jsonl"
    return questioned(folder, release, name, [picture.id for picture in first], bad=bad)


def coco_split(name: str, pictures: list[CocoPicture]) -> Split:
    """Make a split of annotated pictures."""
    return Split(
        name=name,
        hashes=tuple(sha256_of(picture.file) for picture in pictures),
        captions=tuple(clean_caption(picture.captions[0]) for picture in pictures),
        images=lambda: (picture.open() for picture in pictures),
        references=tuple(picture.captions for picture in pictures),
        objects=tuple(picture.objects for picture in pictures),
    )


def pool(folder: Path, release: ReleaseConfig, quarantine: Quarantine | None = None) -> Iterator[WebPair]:
    """Yield the first pairs of the pool's shards that are good: web data are never whole.

    `quarantine` counts and lists the bad ones on the way, and stops where they are too many. Deviation: the
    paper draws its 5,000 pictures at random.
    """

    def checked() -> Iterator[WebPair | Fault]:
        for pair in read_shards(map(Path, expand_urls(str(folder / release.pool)))):
            row = pair if isinstance(pair, Fault) else to_row(pair)
            yield row if isinstance(row, Fault) else pair

    good = keep(checked(), []) if quarantine is None else quarantine.sift(checked())
    return islice(good, release.pool_pictures)


def pool_split(folder: Path, release: ReleaseConfig) -> Split:
    """Make a split of the pool and list what is left out; raises ValueError where it has no good pair."""
    quarantine = Quarantine(CACHE / "web" / "pool-bad.jsonl")
    found = [
        (sha256(pair.picture).hexdigest(), clean_caption(pair.caption))
        for pair in pool(folder, release, quarantine)
    ]
    if quarantine.bad:
        print(f"{quarantine.bad:,} bad pairs of the pool are left out: {quarantine.file} lists them.")
    if not found:
        raise ValueError(f"No picture of {release.pool} can be read: {folder} needs these shards.")
    hashes, captions = zip(*found, strict=True)
    return Split(
        name="pool",
        hashes=hashes,
        captions=captions,
        images=lambda: (open_picture(pair.picture) for pair in pool(folder, release)),
    )


def alignment_split(folder: Path) -> Split:
    """Make a split of the authors' curated pairs, whose texts are left as they are."""
    found = with_pictures(read_cc_sbu_align(folder), lambda pair: pair.file)
    pairs = sound(found, CACHE / "web" / f"{ALIGNMENT}-bad.jsonl")
    if not pairs:
        raise ValueError(f"{folder / 'filter_cap.json'} has no pairs: unpack cc_sbu_align.zip again.")
    return Split(
        name=ALIGNMENT,
        hashes=tuple(sha256_of(pair.file) for pair in pairs),
        captions=tuple(pair.caption for pair in pairs),
        images=lambda: (pair.open() for pair in pairs),
    )
