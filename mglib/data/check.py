"""Check a data set's folder in its official layout: print counts, the first records, and every fault."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from mglib.data import coco, narratives, questions, regions, shards
from mglib.data.own import ALIGNED, read_cc_sbu_align, read_own
from mglib.data.pictures import named_picture, print_files_used, with_pictures
from mglib.data.quarantine import Fault, unique

T = TypeVar("T")
Records = Iterator[Any]
Read = Callable[[Path, set[Path]], Records]  # reads a folder and adds the files it uses to the set

EXAMPLES = 3
EXAMPLE_LENGTH = 300  # characters


def files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files in a folder that match the patterns; raises FileNotFoundError if there are none."""
    named = (path for pattern in patterns for path in folder.glob(pattern))
    found = sorted(path for path in named if not path.name.startswith("."))  # macOS leaves ._files
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


def webdataset(folder: Path, used: set[Path]) -> Records:
    """Read `*.tar` as img2dataset writes them."""
    found = shards.shards(folder)
    used.update(found)
    return unique(shards.decodable(found), folder, lambda pair: pair.key)


def aligned(folder: Path, used: set[Path]) -> Records:
    """Read `filter_cap.json` and `image/`."""
    used.add(folder / ALIGNED)
    return with_pictures(read_cc_sbu_align(folder), lambda pair: pair.file, used)


def coco_folder(folder: Path, used: set[Path]) -> Records:
    """Read `captions.json`, `instances.json` and `images/`, or the official
    `annotations/captions_<split>.json`, `annotations/instances_<split>.json` and `<split>/` of every split
    whose pictures are there.
    """

    def pictures(captions: Path) -> Path:
        return folder / (captions.stem.removeprefix("captions").removeprefix("_") or "images")

    def read(captions: Path) -> Records:
        used.update((captions, instances := coco.instances_of(captions)))
        return coco.read(pictures(captions), captions, instances)

    found = files(folder, "captions.json", "annotations/captions_*.json")
    present = [captions for captions in found if pictures(captions).exists()]
    for captions in set(found) - set(present) if present else ():
        print(f"{captions} is left out: there is no {pictures(captions)}")
    return with_pictures(read_all(read, present or found), lambda picture: picture.file, used)


def annotated(
    read: Callable[[Path], Iterable[T | Fault]],
    name: Callable[[T], str | int],
    *patterns: str,
    images: tuple[str, ...] = ("images",),
    beside: tuple[str, ...] = (),
) -> Read:
    """Return a reader of a folder's annotation files that opens the pictures in whichever of `images` exist.

    `name` returns the name of a record's picture; `beside` lists files that are read along with each
    annotation file.
    """

    def records(folder: Path, used: set[Path]) -> Records:
        present = [folder / each for each in images if (folder / each).exists()]

        def file(record: T) -> Path | None:
            named = [named_picture(each, str(name(record))) for each in present]
            return next((path for path in named if path.exists()), named[0] if named else None)

        annotations = files(folder, *patterns)
        used.update(path.with_name(each) for path in annotations for each in (path.name, *beside))
        return with_pictures(read_all(read, annotations), file, used)

    return records


FORMATS: dict[str, Read] = {
    "webdataset": webdataset,
    "coco": coco_folder,
    "cc_sbu_align": aligned,
    "localized_narratives": annotated(
        narratives.read_narratives,
        # the names of COCO 2017 have twelve digits
        lambda one: one.image_id.zfill(12) if one.dataset_id.startswith("mscoco") else one.image_id,
        "*localized_narratives*.jsonl",
    ),
    "a_okvqa": annotated(questions.read_a_okvqa, lambda one: f"{one.image_id:012d}", "aokvqa*.json"),
    "gqa": annotated(questions.read_gqa, attrgetter("image_id"), "*questions*.json", "*questions*/*.json"),
    "pope": annotated(questions.read_pope, lambda one: one.image, "*pope*.json"),
    "refcoco": annotated(
        lambda refs: regions.read_refcoco(refs, refs.with_name("instances.json")),
        lambda ref: ref.file_name,
        "refs(*).p",
        beside=("instances.json",),
    ),
    "visual_genome": annotated(
        lambda path: (regions.read_regions if "region" in path.name else regions.read_relationships)(path),
        attrgetter("image_id"),
        "region_descriptions.json",
        "relationships.json",
        images=("VG_100K", "VG_100K_2"),
    ),
    "own": read_own,
}


def check(name: str, folder: Path) -> bool:
    """Print what a folder holds, its faults and how many files were used; return whether it is good.

    Raises ValueError for an unknown format.
    """
    if name not in FORMATS:
        raise ValueError(f"There is no format {name}; the known ones are {', '.join(FORMATS)}.")
    counts: Counter[str] = Counter()
    faults: Counter[Fault] = Counter()
    used: set[Path] = set()
    for item in read_all(lambda path: FORMATS[name](path, used), [folder]):
        line = " ".join(str(item).splitlines())
        if isinstance(item, Fault):
            faults[item] += 1
            if faults[item] == 1:  # many questions may be asked about one missing picture
                print(f"fault: {line}")
            continue
        counts[type(item).__name__] += 1
        if counts.total() <= EXAMPLES:
            print(f"example: {line}"[:EXAMPLE_LENGTH])
    good = ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "nothing"
    print_files_used(folder, used)
    print(f"{name} in {folder}: {good}; {faults.total():,} faults")
    return bool(counts) and not faults
