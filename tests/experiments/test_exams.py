"""Exams: each question is asked once, the best way on val is used for all, differences are paired."""

from types import SimpleNamespace

import pytest
import torch

from mglib.data.questions import ChoiceQuestion, GraphQuestion, QuestionTypes
from mglib.evals.choices import Scores
from mglib.evals.pope import Question
from mglib.evals.vqa import Exam, Result
from mglib.experiments import exams
from mglib.experiments.exams import Sitting, Way
from mglib.model.prompts import CAPTION, VICUNA
from mglib.profiles import MINI
from mglib.study.models import PromptedModel
from mglib.study.study import DrawnStudy, Study

STUDY = Study.of(MINI, seed=0, weights="wheel")
BASE = SimpleNamespace(
    queries={"val": [0], "test_seen": [0, 1, 2]}, tokens={"val": [0], "test_seen": [0, 1, 2]}
)


def graph(question, kind, answer="dog"):
    types = QuestionTypes(structural=kind, semantic="obj", detailed="d")
    return GraphQuestion(image_id="1", question=question, answer=answer, types=types)


def choice(place):
    return ChoiceQuestion(
        split="val", image_id=place, question_id=str(place), question="what", choices=("a", "b"),
        correct_choice_idx=0, direct_answers=("a",) * 10, difficult_direct_answer=False,
    )  # fmt: skip


EXAM = Exam(
    choice=((0, choice(0)), (1, choice(1))),
    graph=((0, graph("one", "query")), (0, graph("two", "verify")), (1, graph("three", "query"))),
)


def result(value):
    """Every answer scores the same."""
    scores = {task: Scores((value,) * 3, (0, 0, 1)) for task in exams.TASKS}
    return Result(scores, [], ["said"] * 3)


def test_a_question_of_two_ways_is_asked_once_and_answered_for_both(monkeypatch):
    put = []

    def told(model, pictures, template, posed, decoding, **limits):
        put.extend(posed)
        return [f"answer {number}" for number in range(len(posed))]

    monkeypatch.setattr(exams, "answers", told)
    asked = [Question(0, "dog", "dog?", True), Question(0, "cat", "cat?", False)] * 2
    one = PromptedModel(model=None, template=VICUNA, wording="{}")
    said = exams.poll(STUDY, BASE, one, asked, "{} Yes or no.", "val")
    assert put == ["dog? Yes or no.", "cat? Yes or no."]
    assert said == ["answer 0", "answer 1"] * 2


def test_the_request_that_is_understood_best_on_val_is_chosen(monkeypatch):
    asked = {way: [Question(0, "dog", "dog?", True)] for way in exams.pope.WAYS}
    monkeypatch.setattr(exams, "pope_questions", lambda study, base, split, most: asked)
    monkeypatch.setattr(
        exams,
        "poll",
        lambda study, base, one, asked, request, split: [
            "yes" if request == exams.REQUESTS[1] else "hm" for _ in asked
        ],
    )
    models = {"minigpt4": None, "stage1": None}
    tried, request = exams.pope_choices(STUDY, BASE, models)
    assert request == exams.REQUESTS[1]
    assert tried["accuracy"].tolist() == [0, 1, 0] and tried["unparsed"].tolist() == [1, 0, 1]
    rows = exams.pope_table(STUDY, BASE, models, exams.REQUESTS[0])
    assert list(rows) == [*(f"{way}.stage1" for way in exams.pope.WAYS), *exams.pope.WAYS, "yes"]
    assert rows["random"]["accuracy"].estimate().value == 0
    assert rows["yes"]["accuracy"].estimate().value == 1
    gained = exams.over_yes(rows)
    assert list(gained) == [f"{way}.over_yes" for way in exams.pope.WAYS]
    assert gained["random.over_yes"]["gain.accuracy"].value == -1
    gained = exams.over_yes(exams.pope_table(STUDY, BASE, models, exams.REQUESTS[1]))
    assert gained["popular.over_yes"]["gain.accuracy"].value == 0


@pytest.fixture
def put(monkeypatch):
    """Let exams be answered without a model: a row's score is looked up by its name."""
    values = {"base": 0.5, "no_qformer": 0.0, "blank": 0.25, "shuffled": 0.25, "lora": 1.0}
    seen = {}

    def put(study, model, queries, exam, way, what):
        seen[what] = list(queries)
        return result(values.get(what, 0.75 if way.prompt == "best" else 0.0))

    monkeypatch.setattr(exams, "put", put)
    monkeypatch.setattr(exams, "questions", lambda study, use, part=1: EXAM)
    monkeypatch.setattr(DrawnStudy, "exam", lambda self, name: EXAM)
    monkeypatch.setattr(exams.ablations, "queries", lambda model, tokens: list(tokens))
    monkeypatch.setattr(exams.vqa, "blank", lambda vision, qformer: torch.zeros(1))
    return seen


def test_the_way_with_the_best_mean_on_val_is_chosen(put, monkeypatch):
    offered = Way(VICUNA, "poor"), Way(CAPTION, "best"), Way(VICUNA, "last")
    monkeypatch.setattr(exams, "ways", lambda study, base: offered)
    tried, way = exams.choices(STUDY, BASE, None)
    assert way == offered[1] and tried["mean of three"].tolist() == [0, 0.75, 0]
    assert list(tried) == ["template", "wording", *exams.TASKS.values(), "mean of three"]


def test_arms_sit_the_exam_beside_the_rows_that_need_no_sight(put):
    base = SimpleNamespace(**vars(BASE), vision=None)
    models = {name: SimpleNamespace(qformer=None) for name in ("base", "no_qformer")}
    sat = exams.of_arms(STUDY, base, models, Way(VICUNA, "{}"))
    assert list(sat.scores) == ["base", "no_qformer", "blank", "shuffled", "majority", "chance"]
    assert list(sat.said) == ["base", "no_qformer"]
    assert sorted(put["shuffled"]) == [0, 1, 2] and all(a != b for b, a in enumerate(put["shuffled"]))
    assert sat.scores["chance"]["aokvqa.choice"].values == (0.5, 0.5)
    assert sat.less("no_qformer", "base")["gqa"].value == -0.5


def test_lora_is_also_shown_other_pictures(put):
    way = Way(VICUNA, "{}")
    assert list(exams.of_learnt(STUDY, BASE, {"base": None}, way).scores) == ["base"]
    sat = exams.of_learnt(STUDY, BASE, {"base": None, "lora": None}, way)
    assert list(sat.scores) == ["base", "lora", "lora_shuffled"]
    assert put["lora"] == [0, 1, 2] != put["lora_shuffled"]


def test_a_sitting_says_what_it_counted():
    rows = {"base": result(0.5).scores, "three_layers": result(1.0).scores}
    sat = Sitting(exam=EXAM, split="test_seen", scores=rows, said={"base": ["x", "y", "z"]})
    assert sat.estimates()["three_layers"]["aokvqa_direct"].value == 1
    assert sat.estimates()["base"]["gqa_format"].value == 0.5
    assert sat.less("three_layers", "base")["aokvqa_per_token"].value == 0.5
    assert sat.notes()["gqa"].endswith("3 questions on test_seen; n counts pictures")
    kinds, notes = sat.structures()
    assert kinds["base"]["query"].n == 2 and kinds["base"]["verify"].n == 1
    assert notes["query"].startswith("exact match on 2 questions")
    shown = sat.examples(2)
    assert shown["base"].tolist() == ["x", "y"] and shown["truth"].tolist() == ["dog", "dog"]


def test_a_way_writes_the_whole_prompt():
    assert "Q: what? A:" in Way(VICUNA, "Q: {} A:").text("what?")
