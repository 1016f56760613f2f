"""Exams: each question is asked once, the best prompt on val is used for all, differences are paired."""

from types import SimpleNamespace

import pytest
import torch
from tidy import values
from tiny_questions import choice, graph

from mglib.evals.choices import Scores
from mglib.evals.pope import Question
from mglib.evals.vqa import Exam
from mglib.experiments import exams
from mglib.experiments.exams import ExamPrompt
from mglib.model.prompts import VICUNA
from mglib.profiles import MINI
from mglib.study.models import PromptedModel
from mglib.study.study import Study

STUDY = Study.of(MINI, seed=0, weights="wheel")
PICTURES = {"val": [0], "test_seen": [0, 1, 2]}
BASE = SimpleNamespace(
    queries=PICTURES, tokens=PICTURES, vision=None, language=SimpleNamespace(tokenizer=None)
)
WAYS = exams.pope.WAYS


EXAM = Exam(
    choice=tuple((place, choice(place, choices=("dog", "cat"))) for place in (0, 1)),
    graph=(
        (0, graph(0, "dog", structural="query", question="one")),
        (0, graph(0, "dog", structural="verify", question="two")),
        (1, graph(1, "dog", structural="query", question="three")),
    ),
)


def test_a_question_of_two_ways_is_asked_once_and_answered_for_both(monkeypatch):
    put = []

    def answered(model, pictures, template, posed, decoding, **limits):
        put.extend(posed)
        return [f"answer {number}" for number in range(len(posed))]

    monkeypatch.setattr("mglib.evals.generate.answers", answered)
    asked = [Question(0, "dog", "dog?", True), Question(0, "cat", "cat?", False)] * 2
    one = PromptedModel(model=None, template=VICUNA, wording="{}")
    said = exams.poll(STUDY, BASE, one, asked, "{} Yes or no.", "val")
    assert put == ["dog? Yes or no.", "cat? Yes or no."]
    assert said == ["answer 0", "answer 1"] * 2


def test_the_request_that_is_understood_best_on_val_is_chosen_and_compared_with_a_constant_yes(monkeypatch):
    asked = {way: [Question(0, "dog", "dog?", True)] for way in WAYS}
    monkeypatch.setattr(exams, "pope_questions", lambda study, base, split, most: asked)

    def poll(study, base, one, asked, request, split):
        return ["yes" if request == exams.REQUESTS[1] else "hm" for _ in asked]

    monkeypatch.setattr(exams, "poll", poll)
    models = {"minigpt4": None, "stage1": None}
    tried, request = exams.pope_request(STUDY, BASE, models)
    assert request == exams.REQUESTS[1]
    assert tried["accuracy"].tolist() == [0, 1, 0] and tried["unparsed"].tolist() == [1, 0, 1]
    found, gains = map(values, exams.pope_table(STUDY, BASE, models, exams.REQUESTS[0]))
    assert found["pope.accuracy.random"] == found["pope.accuracy.popular.stage1"] == 0
    assert found["pope.accuracy.yes"] == 1 and len(found) == 4 * (2 * len(WAYS) + 1)
    assert gains == {f"pope.gain.accuracy.{way}.over_yes": -1 for way in WAYS}
    _, gains = exams.pope_table(STUDY, BASE, models, request)
    assert set(gains["value"]) == {0}


@pytest.fixture
def put(monkeypatch):
    """Score exams without a model, one constant per row; returns the queries that each row was shown."""
    scores = {"base": 0.5, "no_qformer": 0.0, "blank": 0.25, "shuffled": 0.25, "lora": 1.0}
    scores["base_shuffled"] = 0.25
    seen = {}

    def examine(model, queries, template, exam, *, prompt, what, **limits):
        seen[what] = list(queries)
        score = scores.get(what, 0.75 if prompt.startswith("Question") and template is VICUNA else 0.0)
        return {name: Scores((score,) * 3, (0, 0, 1)) for name in exams.MEASURES}, [f"{what} says"] * 3

    monkeypatch.setattr(exams.vqa, "examine", examine)
    monkeypatch.setattr(exams.vqa, "blank", lambda vision, qformer: torch.zeros(1))
    monkeypatch.setattr(Study, "exam", lambda self, name: EXAM)
    monkeypatch.setattr(exams.ablations, "queries", lambda model, tokens: list(tokens))
    monkeypatch.setattr(exams.prompts, "template", lambda name, tokenizer: VICUNA)
    return seen


PROMPT = ExamPrompt(VICUNA, "{}")


def test_the_prompt_with_the_best_mean_on_val_is_chosen(put):
    model = SimpleNamespace(qformer=None, language=SimpleNamespace(tokenizer=None))
    tried, prompt = exams.choose_prompt(STUDY, BASE, model)
    assert prompt == ExamPrompt(VICUNA, exams.vqa.PROMPTS[1])
    assert tried["mean of three"].tolist() == [0, 0.75, 0]


def test_arms_are_compared_with_rows_that_need_no_sight_and_less_their_base(put):
    models = {name: SimpleNamespace(qformer=None) for name in ("base", "no_qformer")}
    answered = exams.examine_arms(STUDY, BASE, models, PROMPT)
    assert sorted(put["shuffled"]) == [0, 1, 2] and all(a != b for b, a in enumerate(put["shuffled"]))
    found = exams.points("t4", answered)
    assert list(dict.fromkeys(found["system"])) == [*models, "blank", "shuffled", "majority", "chance"]
    assert values(found)["t4.aokvqa.chance"] == 0.5 and values(found)["t4.gqa_format.base"] == 0.5
    assert "t4.gqa_format.chance" not in values(found)
    assert found["note"][0] == "four choices, by summed loss; 3 questions on test_seen; n counts pictures"
    less = values(exams.differences("t4", answered))
    assert less["t4.gqa.difference.no_qformer"] == -0.5 and less["t4.aokvqa.difference.blank"] == -0.25
    assert not any(name.endswith(("base", "chance", "three_layers")) for name in less)
    shown = exams.examples(answered, models, 2)
    assert shown["base"].tolist() == ["base says"] * 2 and shown["truth"].tolist() == ["dog"] * 2


def test_both_are_also_shown_other_pictures_and_what_is_seen_is_the_difference(put):
    alone = exams.examine_learnt(STUDY, BASE, {"base": None}, PROMPT)
    assert list(alone.scores) == ["base"] and exams.differences("t7", alone).empty
    answered = exams.examine_learnt(STUDY, BASE, {"base": None, "lora": None}, PROMPT)
    assert put["lora"] == [0, 1, 2] != put["lora_shuffled"] == put["base_shuffled"]
    found = values(exams.differences("t7", answered))
    assert found["t7.gqa.lora_less_base"] == 0.5 and found["t7.aokvqa.lora_less_lora_shuffled"] == 1
    assert found["t7.gqa.base_less_base_shuffled"] == 0.25 and found["t7.gqa.seen_more"] == 0.75
