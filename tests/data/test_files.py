"""Web shards and COCO files on disk, and the splits and pairs made of them."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from data_files import COLOURS, jpeg, write_coco, write_shard, write_tar

from mglib.data import coco, shards
from mglib.data.splits import Pairs, annotated_split, web_split
from mglib.data.text import clean_caption


@pytest.fixture
def web(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    rows = [(f"00000000{n}", jpeg(colour), f"A {colour} WALL!") for n, colour in enumerate(COLOURS)]
    write_shard(folder / "00001.tar", rows[2:])
    write_shard(folder / "00000.tar", rows[:2])
    return folder


# --- captions ---


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A Dog", "a dog"),
        ('Look: "the dog" (again)! #wow; ~50*', "look the dog again wow 50"),
        ("  two   spaces\nand a line ", "two spaces and a line"),
        ("well-lit, isn't it?", "well-lit, isn't it?"),  # these characters stay
        ("e.g. this", "e g this"),
        ("...", ""),
        ("word " * 60, " ".join(["word"] * 50)),
    ],
)
def test_captions_are_cleaned_as_in_the_official_code(raw, clean):
    assert clean_caption(raw) == clean


@pytest.mark.parametrize("space", ["\t", "\u00a0", "\u3000", "\n"])
def test_white_space_that_is_no_space_is_folded_where_the_official_code_keeps_it(space):
    assert clean_caption(f"A photo of{space}a cat\n\n\n") == "a photo of a cat"


# --- shards ---


def test_keys_may_hold_dots(tmp_path):
    names = [*(f"clip.{number:04d}" for number in range(1, 5)), "a.b/000"]
    write_shard(tmp_path / "00000.tar", [(name, jpeg("red"), f"a wall {name}") for name in names])
    found = list(shards.read_shards([tmp_path / "00000.tar"]))
    assert [(pair.key, pair.caption) for pair in found] == [(name, f"a wall {name}") for name in names]


@pytest.mark.parametrize("ending", ["JPG", "jfif", "png", "webp", "gif", "bmp", "tif", "TIFF"])
def test_a_shards_picture_may_have_any_ending(tmp_path, ending):
    about = json.dumps({"caption": "a wall"}).encode()
    write_tar(tmp_path / "0.tar", [(f"a.{ending}", jpeg("red")), ("a.json", about)])
    (pair,) = shards.read_shards([tmp_path / "0.tar"])
    assert (pair.key, pair.caption) == ("a", "a wall")


def test_files_of_a_sample_that_stand_apart_are_told_with_what_to_do(tmp_path):
    about = json.dumps({"caption": "a wall"}).encode()
    members = [("a.jpg", jpeg("red")), ("b.jpg", jpeg("red")), ("a.json", about), ("b.json", about)]
    write_tar(tmp_path / "0.tar", members)
    found = list(shards.read_shards([tmp_path / "0.tar"]))
    assert len(found) == 4 and all(
        "stand together in a tar (`tar --sort=name`)" in one.reason for one in found
    )


def test_shards_are_what_is_there(tmp_path):
    for name in ("00000", "00001", "00003", "00012", "00005_stats"):
        (tmp_path / f"{name}.tar").touch()
    there, gaps = shards.present(f"{tmp_path}/{{00000..00004}}.tar")
    assert [file[-9:] for file in there] == ["00000.tar", "00001.tar", "00003.tar", "00012.tar"]
    assert [int(file[-9:-4]) for file in gaps] == [2, 4, 5, 6, 7, 8, 9, 10, 11]
    absent = [f"{tmp_path}/x/{number}.tar" for number in range(2)]
    assert shards.present(f"{tmp_path}/x/{{0..1}}.tar") == (absent, [])
    assert shards.present("https://example.org/{0..1}.tar")[0][1] == "https://example.org/1.tar"


def test_a_broken_picture_is_named_and_not_passed_over(tmp_path):
    rows = [("000000000", jpeg("red"), "a"), ("000000001", jpeg("red")[:-200], "b")]
    write_shard(tmp_path / "00000.tar", rows)
    pictures = web_split(tmp_path).images()
    next(pictures)
    with pytest.raises(OSError, match=r"Picture 000000001 of .*00000\.tar is broken"):
        next(pictures)


def test_a_web_split_has_cleaned_captions_hashes_and_pictures(web):
    split = web_split(web)
    assert split.name == "train" and len(split) == 3
    assert split.captions == ("a red wall", "a green wall", "a blue wall")
    assert split.hashes == tuple(hashlib.sha256(jpeg(colour)).hexdigest() for colour in COLOURS)
    shown = [picture.getpixel((9, 9)) for picture in split.images()]
    assert [pixel.index(max(pixel)) for pixel in shown] == [0, 1, 2]
    assert split.first(2) == list(split.images())[:2]  # a new pass each time
    assert split.references == () and split.objects == ()
    assert split.key() == web_split(web).key() == replace(split, captions=("a", "b", "c")).key()
    assert split.key() != replace(split, hashes=split.hashes[::-1]).key()


# --- COCO ---


def records(folder):
    return list(coco.read(folder / "images", folder / "captions.json", folder / "instances.json"))


def instances(*categories, picture=3):
    """Return a file of one object, of category 1."""
    things = [{"image_id": picture, "category_id": 1}]
    return {"annotations": things, "categories": [{"id": 1, "name": name} for name in categories]}


def test_pictures_may_lie_in_folders_below_and_nowhere_else(tmp_path):
    names = ["train/a/3.jpg", "../7.jpg", "/etc/7.jpg", "a/../../7.jpg", "a\\7.jpg", "", "a//7.jpg"]
    captions = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [{"image_id": 0, "caption": "Two dogs."}],
    }
    folder = write_coco(tmp_path / "val", captions=captions)
    *faults, found = records(folder)
    assert found.file == folder / "images" / "train" / "a" / "3.jpg"
    assert [fault.sample for fault in faults] == [f"images[{number}]" for number in range(1, len(names))]


def test_an_annotated_split_has_everything_in_the_order_of_ids(tmp_path):
    split = annotated_split(write_coco(tmp_path / "val"))
    assert split.name == "val"
    assert split.captions == ("my dogs", "bus")
    assert split.references == (("Two dogs.", "Dogs, two of them."), ("A bus.",))
    assert split.objects == ({"dog", "bus"}, frozenset())
    assert split.hashes == tuple(hashlib.sha256(jpeg(colour)).hexdigest() for colour in ("green", "red"))
    assert [max(range(3), key=picture.getpixel((9, 9)).__getitem__) for picture in split.images()] == [1, 0]


def test_a_picture_without_a_web_caption_is_named(tmp_path):
    web = {"images": [], "annotations": [{"image_id": 7, "caption": "bus"}]}
    with pytest.raises(ValueError, match=r"web_captions\.json.* 3"):
        annotated_split(write_coco(tmp_path / "val", web_captions=web))


@pytest.mark.parametrize("form", [str, float, "{:012d}".format], ids=["text", "float", "zeros"])
def test_ids_of_coco_may_be_written_as_text(tmp_path, form):
    pictures = [{"id": form(number), "file_name": f"{number}.jpg"} for number in (7, 3)]
    notes = [{"image_id": form(number), "caption": "Two dogs."} for number in (3, 7)]
    objects = {
        "annotations": [{"image_id": form(3), "category_id": "18"}],
        "categories": [{"id": "18", "name": "dog"}],
    }
    captions = {"images": pictures, "annotations": notes}
    three, seven = records(write_coco(tmp_path / "val", captions=captions, instances=objects))
    assert (three.id, seven.id) == (3, 7) and three.objects == {"dog"} and not seven.objects


def test_categories_are_spelt_as_cocos_and_listed_once(tmp_path):
    folder = write_coco(tmp_path / "val", instances=instances(" Teddy_Bear ", "cat"))
    fault, three, _ = records(folder)
    assert three.objects == {"teddy bear"} and fault.reason == "this id came before"


def test_objects_of_another_split_are_refused(tmp_path):
    folder = write_coco(tmp_path / "val", instances=instances("dog", picture=9))
    with pytest.raises(ValueError, match=r"instances\.json has no object of any picture of .*captions\.json"):
        records(folder)


def test_a_missing_file_says_what_to_do(tmp_path):
    folder = write_coco(tmp_path / "val")
    (folder / "instances.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"instances\.json is missing: build the small world"):
        records(folder)


# --- pairs ---


def test_pairs_are_stacked_and_their_captions_laid_out():
    pairs = Pairs("queries", list(torch.arange(6.0).reshape(3, 2)), ["a", "b", "c"])
    collate = pairs.collate(lambda captions: {"ids": torch.tensor([ord(caption) for caption in captions])})
    batch = collate([pairs[2], pairs[0]])
    assert batch["queries"].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert batch["ids"].tolist() == [ord("c"), ord("a")]
    with pytest.raises(ValueError, match="3 pictures but 1 captions: compute the features again"):
        Pairs("queries", pairs.features, ["a"])
