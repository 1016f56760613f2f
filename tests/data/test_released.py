"""A-OKVQA and GQA below a folder of downloads, in tiny."""

import json

import pytest
from tiny_release import tiny_profile, write_questions

from mglib.data import released
from mglib.data.released import TEST, VAL, questioned_split, read_questions

RELEASE = tiny_profile(300).release


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(released, "CACHE", tmp_path / "cache")
    write_questions(tmp_path)
    return tmp_path


def test_questions_for_choices_and_tests_share_no_picture(folder):
    val, test = (read_questions(folder, RELEASE, name, range(1, 13)) for name in (VAL, TEST))
    assert not set(val.files) & set(test.files)
    assert [one.image_id for _, one in val.choice] == [1, 3, 5, 7, 9, 11]
    assert [one.image_id for _, one in test.choice] == [13, 15, 17, 19, 21, 23]
    assert {one.image_id for _, one in test.graph} == {"n5", "n6"}


def test_each_question_knows_its_pictures_place(folder):
    asked = read_questions(folder, RELEASE, TEST, range(1, 13))
    for place, one in asked.choice:
        assert asked.files[place] == folder / "coco" / "val2017" / f"{one.image_id:012d}.jpg"
    for place, one in asked.graph:
        assert asked.files[place] == folder / "gqa" / "images" / f"{one.image_id}.jpg"


def test_only_the_first_pictures_of_gqas_val_are_for_choices(folder):
    asked = read_questions(folder, RELEASE, VAL, ())
    assert asked.choice == () and [path.stem for path in asked.files] == ["2", "31"]
    assert len(asked.graph) == 4


def test_a_split_opens_the_pictures_in_their_order(folder):
    asked = read_questions(folder, RELEASE, VAL, ())
    split = questioned_split(VAL, asked)
    assert len(split) == len(split.hashes) == 2 and len(set(split.hashes)) == 2
    assert [image.size for image in split.images()] == [(32, 24)] * 2


def test_questions_about_a_broken_picture_are_left_out_and_listed(folder, capsys):
    broken = folder / "gqa" / "images" / "31.jpg"
    broken.write_bytes(broken.read_bytes()[:-300])
    file = folder / "gqa" / "val_balanced_questions.json"
    (one, *_) = json.loads(file.read_text()).values()
    few, many = (
        {f"{key}{n}": {**one, "imageId": key} for n in range(count)} for key, count in (("31", 1), ("2", 60))
    )
    file.write_text(json.dumps(few | many))
    asked = read_questions(folder, RELEASE, VAL, ())
    assert [path.name for path in asked.files] == ["2.jpg"] and len(asked.graph) == 60
    assert (
        "31.jpg" in (folder / "cache" / "web" / f"{VAL}-bad.jsonl").read_text()
        and "1 bad records" in capsys.readouterr().out
    )
    file.write_text(json.dumps(few | {"1": one}))
    with pytest.raises(ValueError, match=r"1 of the 2 samples .* The first: .*31\.jpg"):
        read_questions(folder, RELEASE, VAL, ())


def test_pictures_that_are_missing_are_told(folder):
    (folder / "gqa" / "images" / "31.jpg").unlink()
    asked = read_questions(folder, RELEASE, VAL, ())
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 pictures .*31\.jpg"):
        questioned_split(VAL, asked)


def test_gqas_pictures_are_found_with_and_without_their_endings(folder):
    images, file = folder / "gqa" / "images", folder / "gqa" / "testdev_balanced_questions.json"
    (images / "n6.jpg").rename(images / "n6.png")
    asked = json.loads(file.read_text())
    file.write_text(
        json.dumps({key: {**one, "imageId": f"{one['imageId']}.jpg"} for key, one in asked.items()})
    )
    found = read_questions(folder, RELEASE, TEST, range(1, 25))
    assert [path.name for path in found.files] == ["n5.jpg", "n6.png"] and len(found.graph) == 4
