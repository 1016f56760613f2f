"""Write the small world to disk in the formats of the real data: img2dataset's shards, COCO's annotations."""

import hashlib
import io
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import __version__ as pillow_version
from tqdm import tqdm
from webdataset.writer import ShardWriter

from mglib.config import WorldConfig
from mglib.data.records import read_json
from mglib.keys import hash_source
from mglib.locks import locked
from mglib.paths import hash_json, new_folder, sha256, write_json, write_text
from mglib.world import catalog
from mglib.world.catalog import FOLDER
from mglib.world.scene import PRETRAIN, SHARDED, SPECIAL_SPLITS, SPLITS, Scene, is_special, length, sample
from mglib.world.special_draw import render
from mglib.world.specials import sample_special, special_references
from mglib.world.text import SOURCES, Caption, pretraining_captions, references, web_caption
from mglib.world.texts import texts, write_facts, write_texts

ALL = SPLITS + SPECIAL_SPLITS
SHARD = 1_000  # samples per shard
CHUNK = 50  # pictures a worker draws at a time
QUALITY = 90  # of the JPEGs
GUARD = (
    'A script that builds the world needs `if __name__ == "__main__":` around that call, or `processes=1`.'
)
HEAD = {
    "info": {
        "description": "The small world of mglib: OpenMoji glyphs on painted settings",
        "contributor": "mglib",
    },
    "licenses": [
        {
            "id": 1,
            "name": "CC BY-SA 4.0: the pictures are made of OpenMoji's emojis",
            "url": "https://creativecommons.org/licenses/by-sa/4.0/",
        }
    ],
}
NO_MASK: dict[str, Any] = {"iscrowd": 0, "segmentation": []}


@dataclass(frozen=True)
class Sample:
    """One finished picture with all its texts.

    `references` is empty in `train` and `pool`, `texts` (see `mglib.world.texts`) in the special splits and
    in PRETRAIN, whose references are all captions of the picture that BLIP-2 is pretrained on.
    """

    scene: Scene
    jpeg: bytes
    caption: Caption
    references: tuple[Caption, ...]
    texts: dict[str, Any]


def build(
    config: WorldConfig,
    *,
    font: Path,
    folder: Path,
    splits: Sequence[str] = ALL,
    processes: int | None = None,
) -> dict[str, Any]:
    """Write `splits` of the world to `folder` and return its card; splits that are complete are kept.

    `processes` None means one for each core; the files are the same for any number. A second builder of the
    same folder waits for the first. Raises OSError with advice if the font cannot be read, RuntimeError if a
    worker process dies.
    """
    count = processes or os.cpu_count() or 1
    # A spawned worker imports the script that spawned it: without a main guard that script calls this again.
    if count > 1 and multiprocessing.current_process().name != "MainProcess":
        raise RuntimeError(GUARD)
    if not font.exists():
        raise OSError(f"The font {font} is missing; fetch it first (the README says how).")
    lists = {path.name: sha256(path) for path in sorted(FOLDER.glob("*.csv"))}
    code = hash_source(build)
    key = hash_json({"config": asdict(config), "lists": lists, "font": sha256(font), "code": code})
    with locked(folder) as alone:
        if alone:
            for left in folder.glob(".*-*"):  # by builders that were killed
                shutil.rmtree(left, ignore_errors=True)
        due = [split for split in splits if not _is_whole(folder / split, key)]
        card = _read(folder / "card.json")
        if not due and card.get("key") == key:
            return card
        (folder / "card.json").unlink(missing_ok=True)
        lengths = {split: length(config, split) for split in due}
        named = [split for split, count in lengths.items() for _ in range(count)]
        numbers = [index for count in lengths.values() for index in range(count)]
        with _workers(count) as run:
            drawn = run(partial(make, config, font), named, numbers)
            samples = iter(tqdm(drawn, total=len(named), desc="small world", unit="picture"))
            for split in due:
                _write_split(folder / split, islice(samples, lengths[split]), key)
        card = _card(config, folder, splits, key)
        write_json(folder / "card.json", card)
        return card


def make(config: WorldConfig, font: Path, split: str, index: int) -> Sample:
    """Make picture number `index` of `split` with its texts.

    A special picture has no web caption of its own: its first reference takes that place.
    """
    special = is_special(config, split, index)
    scene = (sample_special if special else sample)(config, split, index)
    buffer = io.BytesIO()
    render(scene, font).save(buffer, "JPEG", quality=QUALITY)
    if special or split == PRETRAIN:
        said = (special_references if special else pretraining_captions)(config, scene)
        if split in SPLITS:
            return Sample(scene, buffer.getvalue(), replace(said[0], source="special"), (), {})
        return Sample(scene, buffer.getvalue(), said[0], tuple(said), {})
    said = [] if split in SHARDED else references(config, scene)
    return Sample(scene, buffer.getvalue(), web_caption(config, scene), tuple(said), texts(config, scene))


@contextmanager
def _workers(count: int) -> Iterator[Callable[..., Iterable[Sample]]]:
    """Yield a `map` that keeps the order; its processes are spawned, since a fork with threads may hang.

    Raises RuntimeError if one of them dies: it is not restarted.
    """
    if count == 1:
        yield map
        return
    try:
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
            try:
                yield partial(pool.map, chunksize=CHUNK)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A process that draws the small world died (killed, or short of memory). What is whole is kept: "
            f"run the same command again. {GUARD}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if the file is missing or incomplete."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _is_whole(folder: Path, key: str) -> bool:
    """Return whether a split exists, made with these settings and undamaged; damage is printed."""
    stats = _read(folder / "stats.json")
    if stats.get("key") != key:
        return False
    for name, digest in stats["sha256"].items():
        path = folder / name
        if not path.exists() or sha256(path) != digest:
            print(f"{folder.name}/{name} of the small world is damaged: all of {folder.name} is drawn again.")
            return False
    return True


def _write_split(folder: Path, samples: Iterable[Sample], key: str) -> None:
    """Write the split that `folder` is named after, atomically."""
    split = folder.name
    with new_folder(folder, replace=True) as built:
        kept = (_write_shards if split in SHARDED else _write_images)(built, samples)
        lines = [json.dumps(asdict(one.scene), separators=(",", ":")) + "\n" for one in kept]
        write_text(built / "scenes.jsonl", "".join(lines))
        _write_annotations(built, kept, "{:09d}.jpg" if split in SHARDED else "{:012d}.jpg")
        if split in SPLITS:
            plain = [one for one in kept if one.scene.kind == "scene"]
            write_texts(built, [one.scene for one in plain], [one.texts for one in plain])
            if split not in SHARDED:
                said = [(one.scene, reference) for one in kept for reference in one.references]
                write_facts(built / "facts.json", said)
        files = sorted(path for path in built.rglob("*") if path.is_file())
        digests = {path.relative_to(built).as_posix(): sha256(path) for path in files}
        write_json(built / "stats.json", {"key": key, "shares": _shares(kept), "sha256": digests})


def _write_shards(folder: Path, samples: Iterable[Sample]) -> list[Sample]:
    """Write webdataset shards as img2dataset does, separately for each source.

    Returns the samples without their pixels in the order in which the shards are read.
    """
    kept: dict[str, list[Sample]] = {source: [] for source in SOURCES}
    writers: dict[str, ShardWriter] = {}
    place = str(folder).replace("%", "%%")
    with ExitStack() as stack:
        for one in samples:
            source = one.caption.source
            if source not in writers:
                pattern = f"{place}/{source}-%05d.tar"  # `mtime` makes it the same file every time
                writer = ShardWriter(pattern, maxcount=SHARD, encoder=False, mtime=0, verbose=0)
                writers[source] = stack.enter_context(writer)
            writers[source].write(_web_pair(one))
            kept[source].append(replace(one, jpeg=b""))
    return [one for source in SOURCES for one in kept[source]]


def _web_pair(one: Sample) -> dict[str, Any]:
    """Return a sample as img2dataset writes it."""
    key, caption = f"{one.scene.image_id:09d}", one.caption
    record = {
        "key": key,
        "caption": caption.text,
        "width": one.scene.size,
        "height": one.scene.size,
        "source": caption.source,
        "sha256": hashlib.sha256(one.jpeg).hexdigest(),
        "noise": caption.noise,
        "named": caption.named,
    }
    about, text = json.dumps(record).encode(), caption.text.encode()
    return {"__key__": key, "jpg": one.jpeg, "json": about, "txt": text}


def _write_images(folder: Path, samples: Iterable[Sample]) -> list[Sample]:
    """Write loose JPEGs named as COCO names them; return the samples without their pixels."""
    (folder / "images").mkdir()
    kept = []
    for one in samples:
        one.scene.file(folder).write_bytes(one.jpeg)
        kept.append(replace(one, jpeg=b""))
    return kept


def _write_annotations(folder: Path, samples: list[Sample], name: str) -> None:
    """Write instances.json and, if there are references, captions.json and web_captions.json as COCO does."""

    def write(file: str, notes: Iterable[tuple[Scene, dict[str, Any]]], **more: Any) -> None:
        numbered = [{"id": n, "image_id": scene.image_id, **note} for n, (scene, note) in enumerate(notes, 1)]
        write_json(folder / file, {**HEAD, "images": images, "annotations": numbered, **more})

    images = [
        {
            "id": one.scene.image_id,
            "file_name": name.format(one.scene.image_id),
            "width": one.scene.size,
            "height": one.scene.size,
            "license": 1,
        }
        for one in samples
    ]
    boxes = [
        (one.scene, {"category_id": item.thing.coco_id, "bbox": item.box, "area": item.area, **NO_MASK})
        for one in samples
        for item in one.scene.objects
    ]
    categories = [
        {"id": thing.coco_id, "name": thing.category, "supercategory": thing.supercategory}
        for thing in sorted(catalog.THINGS.values(), key=lambda thing: thing.coco_id)
    ]
    write("instances.json", boxes, categories=categories)
    if any(one.references for one in samples):
        said = [(one.scene, {"caption": reference.text}) for one in samples for reference in one.references]
        write("captions.json", said)
        write("web_captions.json", [(one.scene, {"caption": one.caption.text}) for one in samples])


def _shares(samples: list[Sample]) -> dict[str, Any]:
    """Measure a split: its pictures; of the plain ones objects and web captions (all and by source)."""
    plain = [one for one in samples if one.scene.kind == "scene"]
    return {
        "pictures": len(samples),
        "kinds_a_picture": sum(len(one.scene.names) for one in plain) / max(1, len(plain)),
        **_web_shares(plain),
        "sources": {
            source: _web_shares([one for one in plain if one.caption.source == source])
            for source in sorted({one.caption.source for one in plain})
        },
    }


def _web_shares(samples: list[Sample]) -> dict[str, Any]:
    """Measure web captions: how many, their faults, the share of objects named and of relations stated."""
    count = max(1, len(samples))
    noise = Counter(one.caption.noise for one in samples)
    named = [len(set(one.caption.named) & set(one.scene.names)) / len(one.scene.names) for one in samples]
    return {
        "captions": len(samples),
        "noise": {kind: noise[kind] / count for kind in sorted(noise)},
        "named": sum(named) / count,
        "relations": sum(one.caption.relation is not None for one in samples) / count,
        "words": sum(len(one.caption.text.split()) for one in samples) / count,
    }


def _card(config: WorldConfig, folder: Path, splits: Sequence[str], key: str) -> dict[str, Any]:
    """Return the settings, statistics of plain splits, and the hashes of all files except loose pictures."""
    stats = {split: read_json(folder / split / "stats.json") for split in splits}
    return {
        "key": key,
        "pillow": pillow_version,
        "config": asdict(config),
        "splits": {name: one["shares"] for name, one in stats.items() if name not in SPECIAL_SPLITS},
        "sha256": {
            f"{split}/{name}": digest
            for split, one in stats.items()
            for name, digest in one["sha256"].items()
            if not name.startswith("images/")
        },
    }
