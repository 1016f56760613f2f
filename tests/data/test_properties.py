"""Properties of the readers that hold for any input."""

import json
import pickle
import tempfile
from pathlib import Path

import numpy
import pytest
from data_files import encoded, jpeg, write_shard
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from mglib.data import coco, records, regions
from mglib.data.mixture import RankStream, Source
from mglib.data.narratives import read_narratives
from mglib.data.own import read_cc_sbu_align
from mglib.data.pictures import open_picture
from mglib.data.quarantine import Fault
from mglib.data.questions import read_a_okvqa, read_gqa
from mglib.data.shards import WebPair, read_shard
from mglib.data.text import LONGEST, clean_caption

PICTURE = jpeg("red", (8, 8))

often = settings(max_examples=100, deadline=None, derandomize=True, database=None)
seldom = settings(often, max_examples=30)

words = some.text(some.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip())
json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# --- captions ---


@often
@given(some.text())
def test_cleaning_twice_is_cleaning_once_and_leaves_fifty_words(caption):
    clean = clean_caption(caption)
    assert clean_caption(clean) == clean
    assert len(clean.split()) <= LONGEST
    assert not set(clean) & set('.!"()*#:;~\n\t')


# --- shards ---


@seldom
@given(
    sizes=some.lists(some.integers(0, 9), min_size=1, max_size=5),
    ranks=some.integers(1, 3),
    workers=some.integers(1, 3),
    size=some.integers(1, 5),
    seed=some.integers(),
    data=some.data(),
)
def test_each_sample_is_read_once_over_any_ranks_and_workers(folder, sizes, ranks, workers, size, seed, data):
    shards, names = [], []
    for number, count in enumerate(sizes):
        rows = [(f"{number}-{sample}", PICTURE, f"{number}-{sample}") for sample in range(count)]
        shards.append(str(folder / f"{number}.tar"))
        names += [caption for _, _, caption in rows]
        write_shard(Path(shards[-1]), rows)
    source = Source(name="any", shards=tuple(shards), counts=tuple(sizes), weight=1.0)
    seen = []
    for rank in range(ranks):
        stream = RankStream(source, list, size, seed, rank, ranks, workers)
        lanes = [list(stream.lane(0, lane, 0)) for lane in range(workers)]
        assert {len(lane) for lane in lanes} == {stream.batches()}
        # Resuming at any batch of an epoch gives its remaining batches.
        stop = data.draw(some.integers(0, len(lanes[0])))
        assert [portion.good for portion in stream.lane(0, 0, stop)] == [p.good for p in lanes[0][stop:]]
        seen += [row[1] for lane in lanes for portion in lane for row in portion.batch or []]
    assert sorted(seen) == sorted(names)


@often
@given(some.binary(max_size=2_000), some.integers(0, 6_000), some.booleans())
def test_any_bytes_in_a_shard_give_pairs_or_faults(folder, content, at, alone):
    path = folder / "any.tar"
    write_shard(path, [(f"{number}", PICTURE, "a wall") for number in range(3)])
    whole = path.read_bytes()
    path.write_bytes(content if alone else whole[:at] + content + whole[at + len(content) :])
    found = list(read_shard(str(path)))
    assert found and all(isinstance(one, WebPair | Fault) for one in found)


# --- JSON ---


def read_any_align(path):
    path.with_name("filter_cap.json").write_bytes(path.read_bytes())
    return read_cc_sbu_align(path.parent)


READERS = (
    lambda path: [records.read_json(path)],
    records.read_items,
    lambda path: coco.read(path.parent, path, path),
    read_any_align,
    read_narratives,
    read_a_okvqa,
    read_gqa,
    regions.read_regions,
    regions.read_relationships,
    lambda path: regions.read_refcoco(path, path),
    lambda path: [regions.read_plain_pickle(path)],
)
NAMES = """id image_id imageId caption file_name bbox category_id question isBalanced regions
relationships subject names x w sentences"""
KEYS = some.sampled_from(NAMES.split())
inner = some.none() | some.integers() | some.text() | some.lists(some.dictionaries(KEYS, some.integers()))
lists = some.lists(some.dictionaries(KEYS, inner, max_size=5), max_size=3)
shaped = lists | some.fixed_dictionaries({"images": lists, "annotations": lists, "categories": lists})


@often
@given(content=some.binary() | shaped.map(lambda value: json.dumps(value).encode()))
def test_whatever_stands_in_a_file_is_read_or_named(folder, content):
    """It gives records, faults that name the file, or a ValueError that names it; nothing else."""
    path = folder / "any.json"
    path.write_bytes(content)
    for read in READERS:
        try:
            found = list(read(path))
        except ValueError as error:
            assert folder.name in str(error)
        else:
            assert all(folder.name in item.where for item in found if isinstance(item, Fault))


@seldom
@given(json_values)
def test_a_pickle_of_plain_data_is_read_as_it_was(folder, value):
    path = folder / "plain.p"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(value, protocol))
        assert regions.read_plain_pickle(path) == value


# --- pictures ---


KINDS = {  # modes that a format can hold and that have a fixed range
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P"),
    "BMP": ("1", "L", "P", "RGB"),
}


@often
@given(
    some.sampled_from([(kind, mode) for kind, modes in KINDS.items() for mode in modes]),
    some.integers(1, 40),
    some.integers(1, 40),
    some.integers(0, 2**16),
)
def test_a_picture_of_any_mode_and_size_opens_to_rgb(form, width, height, seed):
    kind, mode = form
    image = Image.new(mode, (width, height))
    noise = numpy.random.default_rng(seed).bytes(len(image.tobytes()))
    picture = open_picture(encoded(Image.frombytes(mode, (width, height), noise), kind))
    assert (picture.mode, picture.size) == ("RGB", (width, height))


@often
@given(some.sampled_from(list(KINDS)), some.binary(max_size=64), some.integers(0, 3_000))
def test_a_damaged_picture_opens_or_is_an_os_error(kind, damage, at):
    whole = encoded(Image.effect_noise((32, 32), 50), kind)
    at %= len(whole)
    try:
        assert open_picture(whole[:at] + damage + whole[at + len(damage) :]).mode == "RGB"
    except OSError as error:
        assert str(error)
