"""Files of answers in each format, and lines that are none."""

import json

import pytest

from mglib.data.answers import Answer, picture_key, read_answers
from mglib.data.quarantine import Fault


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


def test_cocos_results_format_is_read(tmp_path):
    one, two = read(tmp_path / "captions.json", [{"image_id": 42, "caption": "a dog"}, {"image_id": 43}])
    assert one == Answer(where="item 0", text="a dog", image_id="42")
    assert (two.sample, "answer, caption" in two.reason) == ("item 1", True)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_okvqas_submission_is_read(tmp_path, indent):
    given = {"q1": {"multiple_choice": "dog", "direct_answer": "cat"}, "q2": "bus", "q3": {}}
    one, two, three = read(tmp_path / "predictions.json", json.dumps(given, indent=indent))
    assert one == Answer(where="q1", text="cat", choice="dog", question_id="q1")
    assert (two.text, two.choice, two.question_id) == ("bus", None, "q2")
    assert isinstance(three, Fault) and three.sample == "q3"


def test_gqas_submission_is_read(tmp_path):
    (one,) = read(tmp_path / "gqa.json", [{"questionId": "0123", "prediction": "yes"}])
    assert (one.question_id, one.text) == ("0123", "yes")


def test_popes_own_answers_are_read_whatever_the_file_is_called(tmp_path):
    lines = [{"question": "is there a bird?", "answer": "Yes"}, {"question": "a dog?", "answer": "No"}]
    found = read(tmp_path / "answer.json", "\n".join(map(json.dumps, lines)))
    assert [one.text for one in found] == ["Yes", "No"]


def test_a_file_that_is_missing_or_no_json_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.jsonl"):
        list(read_answers(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        read(tmp_path / "a.json", "What?")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("COCO_val2014_000000000042.jpg", "42"),
        ("val2017/000000000042.jpg", "42"),
        ("42", "42"),
        ("0", "0"),
        ("n161313.jpg", "n161313"),
        ("my.dog.JPEG", "my.dog"),
        (r"C:\pictures\dog.png", "dog"),
    ],
)
def test_a_picture_has_one_name_however_it_is_written(name, key):
    assert picture_key(name) == key
