"""A-OKVQA and GQA in a tiny folder of downloads."""

import json

import pytest
from tiny_release import tiny_profile, write_coco_val, write_questions

from mglib.data import released
from mglib.data.released import TEST, VAL, questions

RELEASE = tiny_profile(300).release


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(released, "CACHE", tmp_path / "cache")
    write_coco_val(tmp_path / "coco", ["a dog"])
    write_questions(tmp_path)
    return tmp_path


def test_questions_for_choices_and_tests_share_no_picture(folder):
    val, test = (questions(folder, RELEASE, name) for name in (VAL, TEST))
    assert not set(val.files) & set(test.files)
    assert [one.image_id for _, one in val.choice] == [1, 3, 5, 7, 9, 11]
    assert [one.image_id for _, one in test.choice] == [13, 15, 17, 19, 21, 23]
    assert {one.image_id for _, one in test.graph} == {"n5", "n6"}


def test_each_question_knows_its_pictures_place(folder):
    asked = questions(folder, RELEASE, TEST)
    for place, one in asked.choice:
        assert asked.files[place] == folder / "coco" / "val2017" / f"{one.image_id:012d}.jpg"
    for place, one in asked.graph:
        assert asked.files[place] == folder / "gqa" / "images" / f"{one.image_id}.jpg"


def test_only_the_first_pictures_of_gqas_val_are_for_choices(folder):
    asked = questions(folder, RELEASE, VAL)
    assert [path.stem for path in asked.files[6:]] == ["2", "31"]  # after COCO's
    assert len(asked.graph) == 4


@pytest.mark.parametrize("missing", [True, False])
def test_questions_about_a_picture_that_cannot_be_opened_are_left_out_and_listed(folder, capsys, missing):
    picture = folder / "gqa" / "images" / "31.jpg"
    picture.unlink() if missing else picture.write_bytes(picture.read_bytes()[:-300])
    file = folder / "gqa" / "val_balanced_questions.json"
    (one, *_) = json.loads(file.read_text()).values()
    few, many = (
        {f"{key}{n}": {**one, "imageId": key} for n in range(count)} for key, count in (("31", 1), ("2", 60))
    )
    file.write_text(json.dumps(few | many))
    asked = questions(folder, RELEASE, VAL)
    assert [path.name for path in asked.files[6:]] == ["2.jpg"] and len(asked.graph) == 60
    assert (
        "31.jpg" in (folder / "cache" / "web" / f"{VAL}-bad.jsonl").read_text()
        and "1 bad records" in capsys.readouterr().out
    )
    file.write_text(json.dumps(few | {"1": one}))
    with pytest.raises(ValueError, match=r"1 of the 8 samples .* The first: .*31\.jpg"):
        questions(folder, RELEASE, VAL)


def test_gqas_pictures_are_found_with_and_without_their_endings(folder):
    images, file = folder / "gqa" / "images", folder / "gqa" / "testdev_balanced_questions.json"
    (images / "n6.jpg").rename(images / "n6.png")
    asked = json.loads(file.read_text())
    file.write_text(
        json.dumps({key: {**one, "imageId": f"{one['imageId']}.jpg"} for key, one in asked.items()})
    )
    found = questions(folder, RELEASE, TEST)
    assert [path.name for path in found.files[6:]] == ["n5.jpg", "n6.png"] and len(found.graph) == 4
