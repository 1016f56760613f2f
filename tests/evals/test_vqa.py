"""Exams: what counts as the right answer, rows without a model, and one result a question."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from official_records import CHOICE, GRAPH
from tiny_questions import choice, graph

from mglib.data.shards import read_shards, shards
from mglib.data.splits import annotated_split
from mglib.evals import vqa
from mglib.evals.vqa import Exam, Prior
from mglib.model.decoding import answer, greedy
from mglib.model.prompts import VICUNA


@pytest.mark.parametrize(("count", "score"), [(0, 0), (1, 1 / 3), (2, 2 / 3), (3, 1), (10, 1)])
def test_soft_accuracy_is_a_third_for_each_of_the_people_who_agree(count, score):
    people = ["the dog"] * count + ["a cat"] * (10 - count)
    assert vqa.soft_accuracy("Dog.", people) == pytest.approx(score)


def test_an_abbreviation_is_no_end_of_an_answer():
    assert vqa.soft_accuracy(vqa.head("Dr. Pepper"), ["dr pepper"] * 10) == 1
    assert vqa.exact(vqa.head("\u200b yes"), "yes") == 1


def test_an_exact_answer_is_not_one_that_only_contains_it():
    assert vqa.exact("the left", "left") == 1 and vqa.exact("left and right", "left") == 0


@pytest.fixture
def exam():
    """Two pictures with three questions of each set."""
    return Exam(
        choice=(
            (0, choice(0)),
            (1, choice(1, correct_choice_idx=1, direct_answers=("cat",) * 2 + ("tom",) * 8)),
            (1, choice(2, difficult_direct_answer=True)),
        ),
        graph=((0, graph(0, "yes")), (0, graph(0, "left", "side", "query")), (1, graph(1, "no"))),
    )


@pytest.fixture
def training():
    """Return the prior of training answers: dog before cat, yes three times in four, always right."""
    choices = [choice(0)] * 3 + [choice(0, correct_choice_idx=1, direct_answers=("cat",) * 10)]
    graphs = [graph(0, said) for said in ("yes", "yes", "yes", "no")] + [graph(0, "right", "side", "query")]
    return Prior.of(Exam(choice=tuple((0, one) for one in choices), graph=tuple((0, one) for one in graphs)))


def test_the_majority_answer_comes_from_the_training_questions(exam, training):
    scores = vqa.majority(exam, training)
    assert scores["aokvqa"].values == (1, 0, 1)
    assert scores["aokvqa_direct"].values == (1, 0)  # always "dog"
    assert scores["gqa"].values == (1, 0, 0)  # "yes", "right", "yes"


def test_equally_frequent_choices_share_the_point(training):
    unknown = Exam(choice=((0, choice(0, choices=("a1", "b1", "c1", "d1"))),), graph=())
    assert vqa.majority(unknown, training)["aokvqa"].values == (0.25,)


def test_chance_is_what_blind_draws_score_on_average(exam, training, random):
    scores = vqa.chance(exam, training)
    assert scores["aokvqa"].values == (0.25,) * 3
    assert scores["gqa"].values == (0.75, 0, 0.25)
    drawn = list(training.direct.elements())
    picks = torch.randint(len(drawn), (4000,), generator=random).tolist()
    for value, (_, question) in zip(scores["aokvqa_direct"].values, exam.direct, strict=True):
        found = [vqa.soft_accuracy(drawn[pick], question.direct_answers) for pick in picks]
        assert value == pytest.approx(sum(found) / len(found), abs=0.03)


def test_the_first_pictures_are_those_that_have_such_questions(exam):
    moved = replace(exam, graph=tuple((place + 5, question) for place, question in exam.graph))
    first = moved.first(choice=2, graph=1)
    assert [place for place, _ in first.choice] == [0, 1, 1]
    assert [place for place, _ in first.graph] == [5, 5]


@pytest.fixture
def queries(random):
    return list(torch.randn(2, 3, 32, generator=random))


def examine(tiny, queries, exam, batch_size=2):
    return vqa.examine(
        tiny, queries, VICUNA, exam, prompt="{}", batch_size=batch_size, short_tokens=6, what="test"
    )


def test_an_exam_gives_one_score_for_each_question(model, queries, exam):
    scores, _ = examine(model(), queries, exam)
    baseline = vqa.majority(exam, Prior.of(exam))
    assert list(scores) == [*baseline, "gqa_format"]  # without a model there is no format
    assert scores["gqa_format"].pictures == scores["gqa"].pictures
    for task in baseline:
        assert scores[task].pictures == baseline[task].pictures
        assert scores[task].minus(baseline[task]) is not None
    assert set(scores["gqa"].by(exam.graph_kinds("structural"))) == {"verify", "query"}
    assert len(exam.closed) == 3 and [place for place, _ in exam.direct] == [0, 1]  # a difficult one is not


def test_open_answers_are_those_of_the_picture_asked_about(model, queries, exam):
    tiny = model()
    with torch.no_grad():
        tiny.projection.weight.mul_(20)
    _, said = examine(tiny, queries, exam)
    asked = [(place, question.question) for place, question in exam.graph]
    alone = [
        answer(tiny, {"queries": queries[place][None]}, VICUNA, [vqa.posed("{}", text)], greedy(6))[0]
        for place, text in asked
    ]
    assert said == alone and len(set(alone)) > 1


def test_a_model_that_says_the_truth_gets_all_points(exam):
    direct = [question.direct_answers[-1] for _, question in exam.direct]
    found = vqa.open_scores(exam, direct, [f"The {one.answer}, I think." for _, one in exam.graph])
    assert found["gqa"].values == (1, 1, 1) and found["aokvqa_direct"].values == (1, 1)


def test_the_right_format_is_something_said_and_not_too_long():
    right = ["yes", "the red bus"]  # an article does not count as a word
    said = ["no", "blue car", "a blue car, parked", "", ".", "a car on the street", "An image of a car."]
    assert vqa.fits(said, right) == (1, 1, 1, 0, 0, 0, 0)
    assert vqa.fits([], []) == ()


def test_a_blank_picture_is_that_of_the_encoders_mean_colour(model):
    tiny = model()
    found = vqa.blank(tiny.vision, tiny.qformer)
    with torch.no_grad():
        assert torch.allclose(found, tiny.qformer(tiny.vision(torch.zeros(1, 3, 64, 64)))[0], atol=1e-6)


def test_places_of_shards_are_those_in_which_their_pictures_are_read(world):
    places = vqa.picture_places(world / "train")
    read = [int(pair.key) for pair in read_shards(shards(world / "train"))]
    assert [places[number] for number in read] == list(range(len(read)))


def test_places_of_loose_pictures_are_those_of_their_split(world):
    places = vqa.picture_places(world / "val")
    names = sorted(path.name for path in (world / "val" / "images").iterdir())
    assert [places[int(name.split(".")[0])] for name in names] == list(range(len(names)))
    split = annotated_split(world / "val")
    categories = {e["id"]: e["name"] for e in instances(world)["categories"]}
    for note in instances(world)["annotations"]:
        assert categories[note["category_id"]] in split.objects[places[note["image_id"]]]


def instances(world):
    return json.loads((world / "val" / "instances.json").read_text())


def test_the_worlds_exams_are_whole_and_know_their_priors(world):
    exam, training = Exam.read(world / "val"), Exam.read(world / "train")
    assert len(exam.choice) == 40 and len(training.choice) == 60
    prior = Prior.of(training)
    assert prior.choice.total() == 60 and sum(map(Counter.total, prior.graph.values())) == len(training.graph)
    yes_no = vqa.chance(exam, prior)["gqa"].by(exam.graph_kinds("structural"))["verify"]
    assert 0.35 < yes_no.estimate().value < 0.65


@pytest.mark.parametrize("file", ["aokvqa.json", "gqa_balanced_questions.json"])
def test_a_question_about_a_picture_that_the_split_lacks_is_told(tmp_path, file):
    (tmp_path / "instances.json").write_text(
        '{"images": [{"id": 7, "file_name": "7.jpg"}], "annotations": []}'
    )
    shown = {"aokvqa.json": 7, "gqa_balanced_questions.json": 7, file: 99}
    graph = {"1": {**GRAPH, "imageId": str(shown["gqa_balanced_questions.json"])}}
    (tmp_path / "gqa_balanced_questions.json").write_text(json.dumps(graph))
    (tmp_path / "aokvqa.json").write_text(json.dumps([{**CHOICE, "image_id": shown["aokvqa.json"]}]))
    with pytest.raises(ValueError, match=rf"{file}: 1 questions are about .* lacks.* picture 99"):
        Exam.read(tmp_path)


def test_questions_whose_answers_were_kept_back_are_refused():
    with pytest.raises(ValueError, match="take the val or testdev files"):
        Exam(choice=((0, choice(0, correct_choice_idx=None)),), graph=())


def test_questions_without_peoples_answers_are_refused():
    with pytest.raises(ValueError, match="1 questions have no answer, the first is 3"):
        silent = (choice(3, direct_answers=()), choice(4, direct_answers=(), difficult_direct_answer=True))
        Exam(choice=tuple((0, one) for one in silent), graph=())


def test_questions_of_gqa_without_types_are_refused():
    with pytest.raises(ValueError, match="1 questions of GQA have no `types`"):
        Exam(choice=(), graph=((0, replace(graph(0, "yes"), types=None)),))
