"""Write the small world to disk in the formats of the real data: img2dataset's shards, COCO's annotations."""

import hashlib
import io
import json
import math
import multiprocessing
import os
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import __version__ as pillow_version
from tqdm import tqdm

from mglib.config import WorldConfig
from mglib.keys import hash_source
from mglib.locks import locked
from mglib.paths import hash_json, sha256, write_json
from mglib.world import catalog as catalogs
from mglib.world import specials
from mglib.world.facts import write_facts
from mglib.world.scene import PRETRAIN, SHARDED, SPECIAL_SPLITS, SPLITS, Scene, length, sample
from mglib.world.special_draw import render
from mglib.world.text import SOURCES, Caption, Reference, pretraining_captions, references, web_caption
from mglib.world.texts import texts, write_texts

ALL = SPLITS + SPECIAL_SPLITS
DESCRIBED = tuple(split for split in SPLITS if split not in SHARDED)  # by references whose facts are kept
SHARD = 1_000  # samples a shard
CHUNK = 50  # pictures a worker draws at a time
QUALITY = 90  # of the JPEGs
INFO = {
    "description": "The small world of mglib: OpenMoji glyphs on painted settings",
    "contributor": "mglib",
}
LICENSES = [
    {
        "id": 1,
        "name": "CC BY-SA 4.0: the pictures are made of OpenMoji's emojis",
        "url": "https://creativecommons.org/licenses/by-sa/4.0/",
    }
]


GUARD = (
    'A script that builds the world needs `if __name__ == "__main__":` around that call, or `processes=1`.'
)
HEAD = {"info": INFO, "licenses": LICENSES}


@dataclass(frozen=True)
class Sample:
    """One finished picture with all its texts.

    `references` is empty in `train` and `pool`, `texts` (see `mglib.world.texts`) in the special splits and
    in PRETRAIN, whose references are all captions that BLIP-2 learns the picture by.
    """

    scene: Scene
    jpeg: bytes
    caption: Caption
    references: tuple[Reference | Caption, ...]
    texts: dict[str, Any]


def build(
    config: WorldConfig,
    *,
    font: Path,
    folder: Path,
    splits: Sequence[str] = ALL,
    processes: int | None = None,
) -> dict[str, Any]:
    """Write `splits` of the world to `folder` and return its card; what is there and whole is kept.

    `processes` None means one for each core; the files are the same for any number. A second builder of the
    same folder waits for the first. Raises OSError with advice if the font cannot be read, RuntimeError if a
    worker process dies.
    """
    # A spawned worker imports the script that spawned it: without a main guard that script calls this again.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(GUARD)
    with locked(folder) as alone:
        if alone:
            for left in folder.glob(".*.unfinished-*"):  # by builders that were killed
                shutil.rmtree(left, ignore_errors=True)
        return _brought_up_to_date(config, font, folder, splits, processes)


def _brought_up_to_date(
    config: WorldConfig, font: Path, folder: Path, splits: Sequence[str], processes: int | None
) -> dict[str, Any]:
    catalog = catalogs.load()
    key = _key(config, font)
    folder.mkdir(parents=True, exist_ok=True)
    due = [split for split in splits if not _is_whole(folder / split, key)]
    card = _read(folder / "card.json")
    if not due and card and card.get("key") == key:
        return card
    (folder / "card.json").unlink(missing_ok=True)
    total = sum(length(config, split) for split in due)
    if due:
        with _workers(processes) as run, tqdm(total=total, desc="small world", unit="picture") as bar:
            for split in due:
                every = range(length(config, split))
                jobs = [(config, font, split, every[start : start + CHUNK]) for start in every[::CHUNK]]
                samples = (one for chunk in run(_make_chunk, jobs) for one in chunk)
                _write_split(folder / split, _counted(samples, bar), key, catalog)
    card = _card(config, folder, splits, key)
    write_json(folder / "card.json", card)
    return card


def make(config: WorldConfig, catalog: catalogs.Catalog, font: Path, split: str, index: int) -> Sample:
    """Make picture number `index` of `split` with its texts.

    A special picture has no web caption of its own: its first reference stands in for it.
    """
    more: dict[str, Any] = {}
    said: tuple[Reference | Caption, ...]
    special = split in SPECIAL_SPLITS or (split == PRETRAIN and index >= config.pretrain)
    scene = (specials.sample_special if special else sample)(config, catalog, split, index)
    if special:
        said = tuple(specials.special_references(config, catalog, scene, split, index))
        caption = Caption(said[0].text, "none", said[0].named)
    elif split == PRETRAIN:
        said = tuple(pretraining_captions(config, catalog, scene, index))
        caption = said[0]
    else:
        said = () if split in SHARDED else tuple(references(config, catalog, scene, split, index))
        caption = web_caption(config, catalog, scene, split, index)
        more = texts(config, catalog, scene, split, index)
    buffer = io.BytesIO()
    render(scene, catalog, font).save(buffer, "JPEG", quality=QUALITY)
    return Sample(scene, buffer.getvalue(), caption, said, more)


def _make_chunk(job: tuple[WorldConfig, Path, str, range]) -> list[Sample]:
    config, font, split, indices = job
    catalog = catalogs.load()
    return [make(config, catalog, font, split, index) for index in indices]


@contextmanager
def _workers(processes: int | None) -> Iterator[Any]:
    """Yield a `map` that keeps the order; its processes are spawned, since forked threads may hang.

    Raises RuntimeError when one of them dies: nobody starts it again.
    """
    count = processes or os.cpu_count() or 1
    if count == 1:
        yield map
        return
    try:
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
            try:
                yield pool.map
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A process that draws the small world died (killed, or short of memory). What is whole is kept: "
            f"run the same command again. {GUARD}"
        ) from error


def _counted(samples: Iterable[Sample], bar: tqdm) -> Iterator[Sample]:
    for one in samples:
        yield one
        bar.update()


def _key(config: WorldConfig, font: Path) -> str:
    """Name everything the files depend on: settings, catalog, font, code."""
    if not font.exists():
        raise OSError(f"The font {font} is missing; fetch it first (the README says how).")
    lists = {path.name: sha256(path) for path in sorted(catalogs.FOLDER.glob("*.csv"))}
    code = hash_source(_make_chunk, _write_split)
    return hash_json({"config": asdict(config), "lists": lists, "font": sha256(font), "code": code})


def _read(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is none or it is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _is_whole(folder: Path, key: str) -> bool:
    """Say whether a split is there, made by these settings and undamaged; tell of damage in one sentence."""
    stats = _read(folder / "stats.json")
    if stats is None or stats.get("key") != key:
        return False
    if _lacks(folder.name, stats):
        return False  # drawn before one of them was written, or beside a builder that took them away
    for name, digest in stats["sha256"].items():
        path = folder / name
        if not path.exists() or sha256(path) != digest:
            print(f"{folder.name}/{name} of the small world is damaged: all of {folder.name} is drawn again.")
            return False
    return True


def _lacks(split: str, stats: dict[str, Any]) -> bool:
    """Tell whether a split's list of files is shorter than the counts of its samples promise."""
    names, shares = stats["sha256"].keys(), stats["shares"]
    if split in DESCRIBED and "facts.json" not in names:
        return True
    if split not in SHARDED:
        return sum(name.startswith("images/") for name in names) < shares["pictures"]
    shards = sum(math.ceil(about["captions"] / SHARD) for about in shares["sources"].values())
    return sum(name.endswith(".tar") for name in names) < shards


def _write_split(folder: Path, samples: Iterable[Sample], key: str, catalog: catalogs.Catalog) -> None:
    """Write the split that `folder` is named after beside its place, and move it there when it is whole."""
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
    beside.chmod(0o755)
    kept = (_write_shards if folder.name in SHARDED else _write_images)(beside, samples)
    lines = [json.dumps(one.scene.as_dict(), separators=(",", ":")) for one in kept]
    (beside / "scenes.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    images = [_image_entry(one.scene, folder.name) for one in kept]
    _write_instances(beside, kept, images, catalog)
    if any(one.references for one in kept):
        _write_captions(beside, kept, images)
    if folder.name in DESCRIBED:
        said = [(one.scene, reference) for one in kept for reference in one.references]
        write_facts(beside / "facts.json", said, catalog)
    if folder.name in SPLITS:
        write_texts(beside, [one.scene for one in kept], [one.texts for one in kept])
    files = sorted(path for path in beside.rglob("*") if path.is_file())
    digests = {path.relative_to(beside).as_posix(): sha256(path) for path in files}
    write_json(beside / "stats.json", {"key": key, "shares": _shares(kept), "sha256": digests})
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _write_shards(folder: Path, samples: Iterable[Sample]) -> list[Sample]:
    """Write webdataset shards as img2dataset does, those of each source apart.

    Returns the samples without their pixels in the order in which the shards are read.
    """
    kept: dict[str, list[Sample]] = {source: [] for source in SOURCES}
    waiting: dict[str, list[Sample]] = {source: [] for source in SOURCES}
    for one in samples:
        source = one.caption.source
        waiting[source].append(one)
        kept[source].append(_without_pixels(one))
        if len(waiting[source]) == SHARD:
            _write_shard(folder, source, len(kept[source]), waiting[source])
            waiting[source] = []
    for source, left in waiting.items():
        if left:
            _write_shard(folder, source, len(kept[source]), left)
    return [one for source in SOURCES for one in kept[source]]


def _write_shard(folder: Path, source: str, written: int, samples: list[Sample]) -> None:
    """Write the shard that ends with sample number `written` of its source."""
    path = folder / f"{source}-{(written - 1) // SHARD:05d}.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for one in samples:
            _add_sample(tar, one)


def _key_of(scene: Scene) -> str:
    """Name a sample as img2dataset does."""
    return f"{scene.image_id:09d}"


def _add_sample(tar: tarfile.TarFile, one: Sample) -> None:
    key = _key_of(one.scene)
    record = {
        "key": key,
        "caption": one.caption.text,
        "width": one.scene.size,
        "height": one.scene.size,
        "source": one.caption.source,
        "sha256": hashlib.sha256(one.jpeg).hexdigest(),
        "noise": one.caption.noise,
        "named": list(one.caption.named),
    }
    for ending, content in (
        ("jpg", one.jpeg),
        ("json", json.dumps(record).encode()),
        ("txt", one.caption.text.encode()),
    ):
        entry = tarfile.TarInfo(f"{key}.{ending}")  # time and owner stay zero: the same tar every time
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def _write_images(folder: Path, samples: Iterable[Sample]) -> list[Sample]:
    """Write loose JPEGs named as COCO names them; return the samples without their pixels."""
    (folder / "images").mkdir()
    kept = []
    for one in samples:
        (folder / "images" / _file_name(one.scene)).write_bytes(one.jpeg)
        kept.append(_without_pixels(one))
    return kept


def _without_pixels(one: Sample) -> Sample:
    return replace(one, jpeg=b"")


def _file_name(scene: Scene) -> str:
    return f"{scene.image_id:012d}.jpg"


def _image_entry(scene: Scene, split: str) -> dict[str, Any]:
    name = f"{_key_of(scene)}.jpg" if split in SHARDED else _file_name(scene)
    size = {"width": scene.size, "height": scene.size}
    return {"id": scene.image_id, "file_name": name, **size, "license": 1}


def _write_captions(folder: Path, samples: list[Sample], images: list[dict[str, Any]]) -> None:
    """Write captions.json and web_captions.json in COCO's format."""
    said = [(one.scene.image_id, reference.text) for one in samples for reference in one.references]
    web = [(one.scene.image_id, one.caption.text) for one in samples]
    for name, pairs in (("captions.json", said), ("web_captions.json", web)):
        notes = [
            {"id": number, "image_id": image, "caption": text}
            for number, (image, text) in enumerate(pairs, 1)
        ]
        write_json(folder / name, {**HEAD, "images": images, "annotations": notes})


def _write_instances(
    folder: Path, samples: list[Sample], images: list[dict[str, Any]], catalog: catalogs.Catalog
) -> None:
    """Write instances.json in COCO's format."""
    boxes = [(one.scene.image_id, item) for one in samples for item in one.scene.objects]
    notes = [
        {
            "id": number,
            "image_id": image,
            "category_id": catalog.thing(item.name).coco_id,
            "bbox": list(item.box),
            "area": item.box[2] * item.box[3],
            "iscrowd": 0,
            "segmentation": [],
        }
        for number, (image, item) in enumerate(boxes, 1)
    ]
    categories = [
        {"id": thing.coco_id, "name": thing.category, "supercategory": thing.supercategory}
        for thing in sorted(catalog.things, key=lambda thing: thing.coco_id)
    ]
    content = {**HEAD, "images": images, "annotations": notes, "categories": categories}
    write_json(folder / "instances.json", content)


def _shares(samples: list[Sample]) -> dict[str, Any]:
    """Measure a split: its objects, web captions (all and by source) and references."""
    count = max(1, len(samples))
    said = [reference for one in samples for reference in one.references]
    shares = {
        "pictures": len(samples),
        "objects_a_picture": sum(len(one.scene.objects) for one in samples) / count,
        "kinds_a_picture": sum(len(one.scene.names()) for one in samples) / count,
        "with_several": sum(len(one.scene.names()) < len(one.scene.objects) for one in samples) / count,
        "with_writing": sum(bool(one.scene.writing) for one in samples) / count,
        **_web_shares(samples),
        "sources": {
            source: _web_shares([one for one in samples if one.caption.source == source])
            for source in sorted({one.caption.source for one in samples})
        },
    }
    if said:
        shares["reference_relations"] = sum(reference.relation is not None for reference in said) / len(said)
    return shares


def _web_shares(samples: list[Sample]) -> dict[str, Any]:
    """Measure web captions: how many, their faults, the share of objects named and of relations stated."""
    count = max(1, len(samples))
    noise = Counter(one.caption.noise for one in samples)
    named = [
        len(set(one.caption.named) & set(one.scene.names())) / len(one.scene.names())
        for one in samples
        if one.scene.objects
    ]
    return {
        "captions": len(samples),
        "noise": {kind: noise[kind] / count for kind in sorted(noise)},
        "named": sum(named) / max(1, len(named)),
        "relations": sum(one.caption.relation is not None for one in samples) / count,
        "words": sum(len(one.caption.text.split()) for one in samples) / count,
    }


def _card(config: WorldConfig, folder: Path, splits: Sequence[str], key: str) -> dict[str, Any]:
    stats = {split: _read(folder / split / "stats.json") for split in splits}
    loose = {
        f"{split}/{name}": digest
        for split in splits
        for name, digest in stats[split]["sha256"].items()
        if not name.startswith("images/")
    }
    return {
        "key": key,
        "pillow": pillow_version,
        "config": asdict(config),
        "splits": {name: stats[name]["shares"] for name in splits if name not in SPECIAL_SPLITS},
        "specials": {
            name: {"pictures": stats[name]["shares"]["pictures"]} for name in splits if name in SPECIAL_SPLITS
        },
        "sha256": loose,
    }
