"""The check command: good folders of every format pass, and each fault is found and named."""

import json
import pickle
import re
import tarfile

import pytest
from data_files import encoded, jpeg, write_coco, write_shard, write_tar
from official_records import (
    CHOICE,
    GRAPH,
    INSTANCES,
    NARRATIVE,
    REFERENCE,
    REGIONS,
    RELATIONSHIPS,
    YES_NO,
)
from PIL import Image

from mglib.__main__ import main
from mglib.data.check import FORMATS, check


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())


RED = jpeg("red")
IMAGE = {"id": 3, "file_name": "3.jpg"}
CAPTIONS = {"images": [IMAGE], "annotations": [{"image_id": 3, "caption": "a wall"}]}
OBJECTS = {
    "annotations": [{"image_id": 3, "category_id": 18}],
    "categories": [{"id": 18, "name": "dog"}],
}
GOOD = {  # a small folder of each format in its official layout
    "coco": {
        "annotations/captions_val2014.json": CAPTIONS,
        "annotations/instances_val2014.json": OBJECTS,
        "val2014/3.jpg": RED,
    },
    "cc_sbu_align": {
        "filter_cap.json": {"annotations": [{"image_id": "2", "caption": "a"}]},
        "image/2.jpg": RED,
    },
    "localized_narratives": {
        "coco_val_localized_narratives.jsonl": NARRATIVE,
        "images/000000137576.jpg": RED,
    },
    "a_okvqa": {"aokvqa_v1p0_train.json": [CHOICE], "images/000000299207.jpg": RED},
    "gqa": {"train_all_questions/train_all_questions_0.json": {"1": GRAPH}, "images/2354786.jpg": RED},
    "pope": {"coco_pope_random.json": YES_NO, f"images/{YES_NO['image']}": RED},
    "refcoco": {
        "refs(unc).p": pickle.dumps([REFERENCE]),
        "instances.json": INSTANCES,
        "images/COCO_train2014_000000581857.jpg": RED,
    },
    "visual_genome": {
        "region_descriptions.json": [REGIONS],
        "relationships.json": [RELATIONSHIPS],
        "VG_100K/index.html": b"",
        "VG_100K_2/1.jpg": RED,
    },
    "own": {"a.jpg": RED, "a.txt": b"a red wall"},
}


def good(name, folder):
    if name == "webdataset":
        write_shard(folder / "00000.tar", [("000000000", RED, "a")])
    for file, value in GOOD.get(name, {}).items():
        write(folder / file, value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_folder_passes_and_one_without_its_pictures_does_not(tmp_path, capsys, name):
    good(name, tmp_path)
    write(tmp_path / "film.mp4", b"")
    (tmp_path / "again").symlink_to(".")
    assert main(["check", name, str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("example: ") and said.rstrip().endswith("; 0 faults")
    unread = "1 .html, 1 .mp4" if name == "visual_genome" else "1 .mp4"  # all other files were read
    assert f"files in {tmp_path} are used; not used: {unread}.\n" in said
    pictures = list(tmp_path.rglob("*.jpg"))
    for picture in pictures:
        picture.write_bytes(b"")
    assert check(name, tmp_path) == (not pictures)  # those inside a tar are left as they are
    assert capsys.readouterr().out.count("broken picture: empty, or none of the formats") >= len(pictures)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_folder_does_not_pass(tmp_path, capsys, name):
    assert check(name, tmp_path) is False
    assert f"fault: {tmp_path}: " in capsys.readouterr().out


def entry(name, kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def sample(key, picture=None, about=b'{"caption": "a wall"}'):
    return [(f"{key}.jpg", jpeg("red") if picture is None else picture), (f"{key}.json", about)]


FAULTS = {  # each with its expected message
    "cut": (sample("cut", jpeg("red", (200, 200))[:-200]), "cut: broken picture: image file is truncated"),
    "nothing": (sample("nothing", b""), "nothing: broken picture: empty, or none of the formats JPEG"),
    "bomb": (
        sample("bomb", encoded(Image.new("1", (10_000, 10_000)), "PNG")),
        "bomb: broken picture: .*decompression bomb",
    ),
    "no picture": (sample("bare")[1:], "bare: no picture"),
    "no caption": (sample("mute")[:1], "mute: no caption"),
    "null": (sample("null", about=b'{"caption": null}'), "null: `caption`: Input should be a valid string"),
    "blank": (sample("blank", about=b'{"caption": " "}'), "blank: `caption`"),
    "shape": (sample("shape", about=b"[1]"), "shape: "),
    "torn": (sample("torn", about=b'{"caption'), "torn: Invalid JSON"),
    "not utf-8": (sample("latin", about=b'{"caption": "caf\xe9"}'), "latin: Invalid JSON"),
    "twice": (sample("twice") + sample("twice"), r"twice\.jpg: this name came before"),
    "apart": (sample("apart")[:1] + sample("between") + sample("apart")[1:], "apart: no picture"),
    "link": ([entry("link.jpg", tarfile.SYMTYPE, "/etc/passwd")], r"link\.jpg: a link or device"),
    "hard link": ([entry("hard.jpg", tarfile.LNKTYPE, "good.jpg")], r"hard\.jpg: a link or device"),
    "device": ([entry("zero.jpg", tarfile.CHRTYPE)], r"zero\.jpg: a link or device"),
    "out": (sample("../out"), r"\.\./out\.jpg: a name that no sample has"),
    "absolute": (sample("/out"), r"/out\.jpg: a name that no sample has"),
    "no ending": ([("README", b"hello")], "README: a name that no sample has"),
    "hidden": ([("._a.jpg", b"hello")], r"\._a\.jpg: a name that no sample has"),
    "foreign name": ([("\udcff.jpg", b"")], r"\\udcff: no caption"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_shard_is_named_and_hides_nothing(tmp_path, capsys, fault):
    members, said = FAULTS[fault]
    other = [entry("./", tarfile.DIRTYPE), ("__meta__/a.txt", b"x")]  # no faults
    write_tar(tmp_path / "00000.tar", [*other, *sample("./good"), *members, *sample("last")])
    assert main(["check", "webdataset", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert re.search(rf"fault: .*00000\.tar: {said}", out), out
    assert "key='./good'" in out and "key='last'" in out


def test_an_empty_shard_and_a_key_in_two_shards_are_named(tmp_path, capsys):
    for number, members in enumerate(([], sample("a"), sample("a"))):
        write_tar(tmp_path / f"{number}.tar", members)
    assert check("webdataset", tmp_path) is False
    out = capsys.readouterr().out
    assert "0.tar: the shard is empty" in out and "a: this id came before" in out


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"no tar at all" * 100,
        lambda whole: whole[:600],  # in a file
        lambda whole: whole[: len(whole) // 2 // 512 * 512],  # between blocks
        lambda whole: whole[:-1024].rstrip(b"\0"),
        lambda whole: whole.rstrip(b"\0"),  # without the closing zeros
        lambda whole: whole.replace(b"b.jpg", b"c.jpg"),  # a header whose checksum is wrong
    ],
    ids=["nothing", "foreign", "cut", "cut at a block", "cut at the end", "not closed", "overwritten"],
)
def test_a_broken_tar_is_named(tmp_path, capsys, damage):
    write_tar(tmp_path / "00000.tar", [member for key in "abcdefgh" for member in sample(key)])
    path = tmp_path / "00000.tar"
    path.write_bytes(damage(path.read_bytes()))
    assert check("webdataset", tmp_path) is False
    assert "00000.tar: broken shard: " in capsys.readouterr().out


def coco_captions(images, *captions):
    return {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [{"image_id": number, "caption": "a wall"} for number in captions],
    }


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        (coco_captions([(3, "3.jpg")]), "captions.json: 3: this picture has no caption"),
        (coco_captions([(5, "5.jpg")], 5), "5.jpg: the picture is missing"),
        (coco_captions([(3, "3.jpg"), (3, "3.jpg")], 3), "3: this id came before"),
        (coco_captions([(3, "3.jpg")], 3, 4), "4: a caption of a picture not listed"),
        (coco_captions([(3, "../3.jpg")]), "images[0]: `file_name`"),
        (coco_captions([("x", "3.jpg")]), "images[0]: `id`"),
        ({"images": {}, "annotations": []}, "it needs the key `images` with a list"),
        ([], "it needs the key `images` with a list"),
    ],
)
def test_each_fault_of_coco_is_named(tmp_path, capsys, captions, said):
    objects = {"categories": [], "annotations": [{"image_id": 3, "category_id": 9}]}
    write_coco(tmp_path / "val", captions=captions, instances=objects)
    assert check("coco", tmp_path / "val") is False
    out = capsys.readouterr().out
    assert said in out
    assert "instances.json: 3: category 9 is not listed" in out or "with a list" in out


def test_a_split_of_coco_whose_pictures_were_not_fetched_is_left_out_aloud(tmp_path, capsys):
    good("coco", tmp_path)
    write(tmp_path / "annotations" / "captions_train2014.json", coco_captions([(1, "1.jpg")], 1))
    assert check("coco", tmp_path) is True
    assert "captions_train2014.json is left out: there is no " in capsys.readouterr().out


def test_a_picture_that_many_questions_lack_is_named_once_and_counted_each_time(tmp_path, capsys):
    write(tmp_path / "testdev_balanced_questions.json", {"1": GRAPH, "2": GRAPH})
    (tmp_path / "images").mkdir()
    assert check("gqa", tmp_path) is False
    said = capsys.readouterr().out
    assert said.count("2354786.jpg: the picture is missing") == 1 and "nothing; 2 faults" in said


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path, capsys):
    assert main(["check", "laion", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("There is no format laion; the known ones are ")
    assert all(name in said for name in FORMATS)
