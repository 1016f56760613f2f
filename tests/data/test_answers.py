"""Files of answers in each format, and invalid lines."""

import json

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mglib.data.answers import Answer, PictureNames, read_answers, without_ending
from mglib.data.quarantine import Fault
from mglib.evals.score import find_pictures


def read(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return list(read_answers(path))


def test_what_make_answer_writes_is_read(tmp_path):
    lines = [
        {"image": "pictures/1.jpg", "question": "What?", "answer": "A dog."},
        {"image": ["1.jpg", "2.jpg"], "question": "What?", "answer": "Two."},
        {"image": "no.jpg", "question": "What?", "error": "no.jpg is not a picture"},
        {"image": "3.jpg", "text": "Is there a dog?", "question_id": 7, "label": "yes", "answer": "Yes."},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"image": \n'
    first, several, error, pope, broken = read(tmp_path / "answers.jsonl", text)
    assert first == Answer(where="line 1", text="A dog.", image="pictures/1.jpg", question="What?")
    assert [type(one) for one in (several, error, broken)] == [Fault] * 3
    assert "several pictures" in several.reason and "no.jpg is not a picture" in error.reason
    assert str(broken).startswith(f"{tmp_path / 'answers.jsonl'}: line 5: Invalid JSON")
    assert (pope.text, pope.question, pope.question_id) == ("Yes.", "Is there a dog?", "7")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([{"image_id": 42, "caption": "a dog"}], Answer(where="item 0", text="a dog", image_id="42")),
        ([{"image": ["3.jpg"], "answer": "a dog"}], Answer(where="item 0", text="a dog", image="3.jpg")),
        ([{"questionId": "01", "prediction": "yes"}], Answer(where="item 0", text="yes", question_id="01")),
        ([{"questionId": "01", "prediction": 2}], Answer(where="item 0", text="2", question_id="01")),
        ('{"question": "a bird?", "answer": "No"}', Answer(where="line 1", text="No", question="a bird?")),
    ],
    ids=["COCO's results", "a list of one picture", "GQA's submission", "a number", "POPE's own"],
)
def test_each_format_is_read_whatever_the_file_is_called(tmp_path, content, found):
    assert read(tmp_path / "answers.json", content) == [found]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_okvqas_submission_is_read(tmp_path, indent):
    given = {"q1": {"multiple_choice": "dog", "direct_answer": "cat"}, "q2": "bus", "q3": {}}
    one, two, three = read(tmp_path / "predictions.json", json.dumps(given, indent=indent))
    assert one == Answer(where="q1", text="cat", choice="dog", question_id="q1")
    assert (two.text, two.choice, two.question_id) == ("bus", None, "q2")
    assert isinstance(three, Fault) and three.sample == "q3" and "answer, caption" in three.reason


def test_a_file_that_is_missing_or_no_json_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.jsonl"):
        list(read_answers(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        read(tmp_path / "a.json", "What?")


PICTURES = ("COCO_val2014_000000000042.jpg", "n161313.jpg", "a/1.png", "b/1.png", "my.dog.JPEG", "0")


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("COCO_val2014_000000000042.jpg", PICTURES[0]),
        ("val2014/COCO_val2014_000000000042", PICTURES[0]),
        ("000000000042.jpg", PICTURES[0]),
        ("42", PICTURES[0]),
        ("VG/n161313.png", PICTURES[1]),
        ("/x/a/1.png", PICTURES[2]),
        (r"C:\pictures\b\1.png", PICTURES[3]),
        ("./my.dog.jpeg", PICTURES[4]),
        ("my.dog", PICTURES[4]),
        ("0", PICTURES[5]),
        ("c/1.png", None),
        ("my", None),
        ("left_0042.jpg", None),
        ("", None),
    ],
)
def test_a_picture_is_found_by_whatever_name_is_certain(name, picture):
    assert PictureNames(PICTURES).find(name) == ([picture] if picture else [])


NUMBER = "COCO_val2014_000000000001"
PARTS = ("a", "A", "b.c", "1", "01", "0001", "left_0001", "right_0001", NUMBER, "caf\u00e9", "cafe\u0301")
FILES = some.sampled_from([part + ending for part in PARTS for ending in ("", ".jpg", ".JPG", ".png")])
FOLDERS = some.sampled_from(["", *(f"{part}/" for part in PARTS), "a/b.c/"])
PATHS = some.builds("".join, some.tuples(FOLDERS, FILES))


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(some.lists(PATHS, unique=True, min_size=1, max_size=8))
def test_no_two_pictures_of_one_folder_meet(paths):
    names = PictureNames(paths)
    for root in ("", "/data/", "C:\\data\\"):
        assert [names.find(root + path) for path in paths] == [[path] for path in paths]


def bare(path):
    folder, slash, name = path.rpartition("/")
    return folder + slash + without_ending(name)


def meant(name, paths):
    """List the paths a name may mean: whole before partial matches, with extension before without."""
    for form in (str, bare):
        short, formed = form(name), {path: form(path) for path in paths}
        if found := [path for path in paths if formed[path] == short]:
            return found
        ends = [path for path in paths if f"/{formed[path]}".endswith(f"/{short}")]
        if found := ends + [path for path in paths if f"/{short}".endswith(f"/{formed[path]}")]:
            return found


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(some.lists(PATHS, unique=True, min_size=1, max_size=8), some.booleans(), some.booleans())
def test_a_shortened_name_is_taken_for_a_picture_where_no_other_may_be_meant(paths, short, ending):
    path = paths[0]
    name = path.rpartition("/")[2] if short else path
    name = name if ending else bare(name)
    several = meant(name, paths)
    answers = pandas.DataFrame({"where": ["line 1"], "named": [name], "image_id": [None]})
    records = pandas.DataFrame({"picture": paths, "picture_id": None}, dtype=object)
    (found,), reasons = find_pictures(answers, records)
    if len(several) == 1:
        assert (found, reasons) == (several[0], {})
    else:
        assert found is None and sum(one in reasons["line 1"] for one in several) >= 2
