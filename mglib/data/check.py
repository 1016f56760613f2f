"""Look a data set's folder over: counts, the first records, and every fault.

One function for each format yields all records and faults of a folder in the official layout, and opens the
pictures that it has.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from mglib.data import alignment, coco, narratives, questions, regions, shards
from mglib.data.own import read_own
from mglib.data.pictures import named_picture, open_picture
from mglib.data.quarantine import Fault, unique

T = TypeVar("T")
Records = Iterator[Any]

EXAMPLES = 3
EXAMPLE_LENGTH = 300  # characters


def with_pictures(stream: Iterable[T | Fault], file: Callable[[T], Path | None]) -> Iterator[T | Fault]:
    """Open each record's picture, once for all its records; one that cannot be opened is a fault."""
    reasons: dict[Path, str | None] = {}
    for item in stream:
        path = None if isinstance(item, Fault) else file(item)
        if path is not None and path not in reasons:
            reasons[path] = picture_fault(path)
        if path is not None and reasons[path]:
            yield Fault(str(path), "", reasons[path])
        else:
            yield item


def picture_fault(source: Path | bytes) -> str | None:
    """Say why a picture cannot be used; a file is decoded once, until it changes."""
    if isinstance(source, Path) and source.is_file():
        return file_fault(source, source.stat().st_mtime_ns)
    return decoding_fault(source)


@cache
def file_fault(path: Path, changed: int) -> str | None:
    return decoding_fault(path)


def decoding_fault(source: Path | bytes) -> str | None:
    try:
        open_picture(source)
    except FileNotFoundError:
        return "the picture is missing"
    except OSError as error:
        return f"broken picture: {error}"
    return None


def files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files of a folder with these names; raises FileNotFoundError where there are none."""
    named = (path for pattern in patterns for path in folder.glob(pattern))
    found = sorted(path for path in named if not path.name.startswith("."))  # a Mac leaves ._files
    if not found:
        raise FileNotFoundError(f"{folder} has no {' or '.join(patterns)}: data/README.md shows its layout.")
    return found


def read_all(read: Callable[[Path], Iterable[T]], paths: Iterable[Path]) -> Iterator[T | Fault]:
    """Read several files one after the other; one that cannot be read is a fault."""
    for path in paths:
        try:
            yield from read(path)
        except (OSError, ValueError) as error:
            yield Fault(str(path), "", str(error))


def webdataset(folder: Path) -> Records:
    """`*.tar` as img2dataset writes them."""
    pairs = shards.read_shards(shards.shards(folder))
    for pair in unique(pairs, folder, lambda pair: pair.key):
        reason = None if isinstance(pair, Fault) else picture_fault(pair.picture)
        yield Fault(pair.shard, pair.key, reason) if reason else pair


def coco_folder(folder: Path) -> Records:
    """`captions.json`, `instances.json` and `images/`, or the official `annotations/captions_<split>.json`,
    `annotations/instances_<split>.json` and `<split>/` of those splits whose pictures are there.
    """

    def pictures(captions: Path) -> Path:
        return folder / (captions.stem.removeprefix("captions").removeprefix("_") or "images")

    def read(captions: Path) -> Records:
        instances = captions.with_name(captions.name.replace("captions", "instances", 1))
        return coco.read(pictures(captions), captions, instances)

    found = files(folder, "captions.json", "annotations/captions_*.json")
    present = [captions for captions in found if pictures(captions).exists()]
    for captions in set(found) - set(present) if present else ():
        print(f"{captions} is left out: there is no {pictures(captions)}")
    return with_pictures(read_all(read, present or found), lambda picture: picture.file)


def cc_sbu_align(folder: Path) -> Records:
    """`filter_cap.json` and `image/`."""
    return with_pictures(alignment.read_cc_sbu_align(folder), lambda pair: pair.file)


def in_images(folder: Path, name: Callable[[T], str]) -> Callable[[T], Path | None]:
    """Return where a record's picture stands in `images/`, if the folder has that."""
    images = folder / "images"
    return (lambda record: named_picture(images, name(record))) if images.exists() else lambda record: None


def localized_narratives(folder: Path) -> Records:
    """`*localized_narratives*.jsonl`; pictures in `images/` are optional, with COCO's names for COCO's."""

    def name(narrative: narratives.Narrative) -> str:
        is_coco = narrative.dataset_id.startswith("mscoco")
        return narrative.image_id.zfill(12) if is_coco else narrative.image_id

    found = read_all(narratives.read_narratives, files(folder, "*localized_narratives*.jsonl"))
    return with_pictures(found, in_images(folder, name))


def a_okvqa(folder: Path) -> Records:
    """`aokvqa*.json`; COCO's pictures in `images/` are optional."""
    found = read_all(questions.read_a_okvqa, files(folder, "aokvqa*.json"))
    return with_pictures(found, in_images(folder, lambda question: f"{question.image_id:012d}"))


def gqa(folder: Path) -> Records:
    """`*questions*.json`, also in folders of their own; pictures in `images/` are optional."""
    found = read_all(questions.read_gqa, files(folder, "*questions*.json", "*questions*/*.json"))
    return with_pictures(found, in_images(folder, lambda question: question.image_id))


def pope(folder: Path) -> Records:
    """`*pope*.json`, POPE's JSON lines; pictures in `images/` are optional."""
    found = read_all(questions.read_pope, files(folder, "*pope*.json"))
    return with_pictures(found, in_images(folder, lambda question: question.image))


def refcoco(folder: Path) -> Records:
    """`refs(*).p` and `instances.json`; COCO's pictures in `images/` are optional."""
    found = read_all(
        lambda refs: regions.read_refcoco(refs, folder / "instances.json"), files(folder, "refs(*).p")
    )
    return with_pictures(found, in_images(folder, lambda ref: ref.file_name))


def visual_genome(folder: Path) -> Records:
    """`region_descriptions.json`, `relationships.json` or both; pictures in `VG_100K/` and `VG_100K_2/` are
    optional.
    """
    readers = {
        "region_descriptions.json": regions.read_regions,
        "relationships.json": regions.read_relationships,
    }
    found = chain.from_iterable(read_all(readers[path.name], [path]) for path in files(folder, *readers))
    halves = [half for half in (folder / "VG_100K", folder / "VG_100K_2") if half.exists()]

    def file(record: regions.Region | regions.Relationship) -> Path | None:
        candidates = [named_picture(half, str(record.image_id)) for half in halves]
        return next((path for path in candidates if path.exists()), candidates[0] if candidates else None)

    return with_pictures(found, file)


def own(data: Path) -> Records:
    """One's own pictures with texts: the three shapes that `mglib.data.own` reads."""
    return with_pictures(read_own(data), lambda pair: pair.file)


FORMATS: dict[str, Callable[[Path], Records]] = {
    "webdataset": webdataset,
    "coco": coco_folder,
    "cc_sbu_align": cc_sbu_align,
    "localized_narratives": localized_narratives,
    "a_okvqa": a_okvqa,
    "gqa": gqa,
    "pope": pope,
    "refcoco": refcoco,
    "visual_genome": visual_genome,
    "own": own,
}


def check(name: str, folder: Path) -> bool:
    """Print what a folder holds and every fault in it; return whether it is good.

    Raises ValueError for an unknown format.
    """
    if name not in FORMATS:
        raise ValueError(f"There is no format {name}; the known ones are {', '.join(FORMATS)}.")
    counts: Counter[str] = Counter()
    faults: Counter[Fault] = Counter()
    for item in read_all(FORMATS[name], [folder]):
        if isinstance(item, Fault):
            faults[item] += 1
            if faults[item] == 1:  # many questions may be asked about one missing picture
                print(printable(f"fault: {item}"))
            continue
        counts[type(item).__name__] += 1
        if counts.total() <= EXAMPLES:
            print(printable(f"example: {item}"))
    good = ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "nothing"
    print(f"{name} in {folder}: {good}; {faults.total():,} faults")
    return bool(counts) and not faults


def printable(text: str) -> str:
    """Shorten an example and escape what no terminal shows (names inside a tar need not be Unicode)."""
    text = text.encode("utf-8", "backslashreplace").decode()
    line = " ".join(text.splitlines())
    return line if line.startswith("fault") else line[:EXAMPLE_LENGTH]
