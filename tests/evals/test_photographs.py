"""The photographs' list: every file has its objects, which count by any of their names."""

import pytest
from PIL import Image

from mglib.evals import chair, photographs
from mglib.evals.photographs import LABELS


@pytest.fixture
def shown(tmp_path):
    for row in photographs.read_rows(LABELS):
        Image.new("RGB", (12, 8)).save(tmp_path / row["file"])
    return photographs.photographs(tmp_path)


def test_each_photograph_has_objects_in_the_order_of_the_list(shown):
    assert len(shown) == len(shown.objects) == 5
    assert all(shown.objects) and shown.objects[1] == {"cat"}
    assert [image.size for image in shown.images()] == [(12, 8)] * 5


def test_what_is_said_by_another_or_a_more_general_name_is_there(shown):
    said = ["an astronaut", "a kitten and a dog", "a mug on a desk", "a missile", "a lawn"]
    words = photographs.words()
    truths = [chair.truth(names, (), words) for names in shown.objects]
    readings = chair.read(said, truths, words)
    assert chair.recall(readings).found == [1, 1, 2, 1, 1]
    assert [sum(reading.wrong) for reading in readings] == [0, 1, 0, 0, 0]


def test_every_listed_object_is_found_in_a_text(shown):
    words = photographs.words()
    for names in shown.objects:
        assert words.mentions(" and ".join(f"a {name}" for name in names)) == list(names)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"photographs\.csv names astronaut\.png, which is not in"):
        photographs.photographs(tmp_path)
