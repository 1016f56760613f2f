"""Table 1: what is tried on val, how models are asked, and that every answer is judged twice."""

from collections import defaultdict
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from tidy import values

from mglib.config import Asked
from mglib.evals.checklist import CHECKLISTS
from mglib.experiments import abilities
from mglib.model import prompts
from mglib.model.decoding import greedy
from mglib.model.prompts import VICUNA
from mglib.profiles import MINI, PROFILES
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study
from mglib.world.scene import Item, Scene

PAPER_SIZED = next(profile for profile in PROFILES.values() if profile.release is not None)
MODELS = ("blip2", "blip2_ft", "stage1", "weak_lm", "minigpt4", "locna", "oracle")


@dataclass(frozen=True)
class Speaking:
    """A model that answers well if the request comes before the picture and decoding does not sample."""

    wording: str = "<picture> {}"

    def answers(self, queries, text, decoding, *, batch_size, what):
        return ["well" if self.wording.startswith("{}") and not decoding.sample else "badly"] * len(queries)


@pytest.fixture
def study(monkeypatch):
    """The mini study, two pictures a split; the answer "well" fulfils every item."""
    pictures = [Scene(number, 256, "lake", kind="memes") for number in range(2)]
    monkeypatch.setattr(abilities, "read_scenes", lambda folder: pictures)
    monkeypatch.setattr(
        abilities.checklist,
        "scores",
        lambda sheet, texts, shown: {
            what: [float(text == "well") for text in texts] for what in ("success", "items")
        },
    )
    return Study.of(MINI, seed=0, weights="wheel")


@pytest.fixture
def base():
    pictures = SimpleNamespace(first=lambda count: ["picture"] * count)
    return SimpleNamespace(
        queries=defaultdict(lambda: [0, 1]) | {"sketches_test": [0, 1], "test_seen": [0, 1]},
        splits=defaultdict(lambda: pictures),
    )


def test_the_table_lists_every_item_once():
    listed = abilities.checklists()
    assert len(listed) == sum(len(sheet.items) for sheet in CHECKLISTS.values())
    assert not listed.duplicated(["task", "the answer"]).any()
    for task, sheet in CHECKLISTS.items():
        of_picture = listed[listed["task"] == task]["judged by"] == "picture"
        assert of_picture.sum() >= 3 and of_picture.iloc[0]
        assert sheet.request in set(listed["request"])


def test_captioners_are_tried_in_several_wordings(study, base):
    tried = abilities.tried(study, base, dict.fromkeys(MODELS, Speaking()))
    assert len(tried) == len(abilities.decodings(study)) * (3 + 3 + 1)
    well = tried[tried["items"] == 1]
    assert set(well["model"]) == {"blip2", "blip2_ft"} and set(tried["items"]) == {0, 1}
    assert "greedy" in set(well["decoding"]) and set(well["wording"].str[:2]) == {"{}"}


def test_a_model_is_asked_on_val_as_minigpt4_is(study, base):
    found = abilities.as_minigpt4(study, base, Speaking(wording="{} <picture>"))
    assert found == {"items": 1, "requests": 1, "swapped items": 1}


def test_models_are_asked_as_the_profile_says_or_officially(study, base):
    chosen = (
        ("blip2", Asked(decoding="greedy", wording="{} <picture>")),
        ("minigpt4", Asked(decoding="greedy")),
    )
    evaluation = replace(study.profile.evaluation, abilities=chosen)
    study = replace(study, profile=replace(study.profile, evaluation=evaluation))
    participants = abilities.participants(study, dict.fromkeys(MODELS, Speaking()))
    greedily = {name for name, one in participants.items() if not one.decoding.sample}
    assert greedily == {"blip2", "minigpt4", "stage1", "locna", "weak_lm"}  # the last three like minigpt4
    assert list(participants) == list(abilities.JUDGED) and participants["locna"].way == "greedy"
    table = abilities.overview(participants)
    assert list(table["model"]) == list(participants)
    assert list(table["wording"])[:2] == ["{} <picture>", "<picture> {}"]
    said = abilities.answers(study, base, participants)
    assert list(said) == list(abilities.JUDGED) and said["blip2"]["memes"] == ["well", "well"]
    assert said["minigpt4"]["poems"] == ["badly", "badly"]


def test_facts_are_judged_with_the_models(study):
    shown = abilities.shown(study)
    judged, swapped = abilities.judge({"blip2": {task: ["well", "badly"] for task in shown}}, shown)
    assert list(judged) == list(swapped) == ["blip2", "facts"]
    found = values(abilities.table1(study, judged, {}))
    assert found["t1.total.blip2"] == 0.5 and found["t1.poems.facts"] == 0
    items = values(abilities.table1_items(study, judged, swapped))
    assert items["t1.items.total.blip2"] == items["t1.swapped.total.blip2"] == 0.5
    assert items["t1.drop.blip2"] == 0


def test_the_weaker_language_model_goes_through_both_stages_on_the_same_texts(study, monkeypatch):
    weaker, seen = replace(study.profile.language, name="weaker"), {}
    study = replace(study, profile=replace(study.profile, weak_language=weaker))
    parts = {"splits": {"train": "pairs"}, "queries": {"train": "queries"}, "vision": None, "tokens": {}}
    strong = SimpleNamespace(qformer="eyes", language="strong")
    base = Stage1(**parts, language="strong", model=strong, trained=None)

    def stage1(study, qformer, language, pairs, queries):
        seen["stage 1"] = study.profile.language, qformer, language, pairs, queries
        return SimpleNamespace(qformer=qformer, language=language), "log"

    def stage2(study, start, data, *, what):
        seen["stage 2"] = study.profile.language, start.language, data, what
        return "learnt", "log"

    monkeypatch.setattr(Study, "language", lambda self: self.profile.language.name)
    monkeypatch.setattr("mglib.study.stage1.train_stage1", stage1)
    monkeypatch.setattr(abilities, "train_stage2", stage2)
    monkeypatch.setattr(abilities, "prompted_stage1", lambda study, base: base.model)
    monkeypatch.setattr(abilities, "stage2_data", lambda study, base: {"curated": base.language})
    models = abilities.with_weaker(study, base, {"minigpt4": "strong"})
    assert models == {"minigpt4": "strong", "weak_lm": "learnt"}
    assert seen["stage 1"] == (weaker, "eyes", "weaker", "pairs", "queries")
    assert seen["stage 2"] == (weaker, "weaker", "strong", "weak-lm")  # texts that the stronger one wrote
    without = replace(study, profile=replace(study.profile, weak_language=None))
    assert abilities.with_weaker(without, base, {"minigpt4": 1}) == {"minigpt4": 1}


def test_the_three_decodings_differ_in_one_thing_each(study):
    sampled, greedy, penalised = abilities.decodings(study).values()
    assert list(abilities.decodings(study)) == ["sampled", "greedy", "penalised"]
    assert sampled.sample and not greedy.sample and greedy.repetition_penalty == 1.0
    assert penalised == replace(greedy, repetition_penalty=1.1)
    assert {one.max_new_tokens for one in (sampled, greedy, penalised)} == {MINI.evaluation.task_tokens}


def test_the_truth_in_words_takes_the_pictures_place(study, model, monkeypatch):
    asked = {}

    def write(given, images, template, questions, decoding, *, first):
        for place, text in enumerate(questions, start=first):
            asked.setdefault(text, []).append((place, decoding))
        return ["well"] * len(questions)

    monkeypatch.setattr(abilities.generate, "answer", write)
    shown = {task: [picture(task, 0), picture(task, 1)] for task in CHECKLISTS}
    one = abilities.Participant(PromptedModel(model=model(), template=VICUNA), "greedy", greedy(7))
    found = abilities.text_oracles(study, {"blip2": one, "minigpt4": one}, shown)
    assert list(found) == ["text_oracle"] and list(found["text_oracle"]) == list(CHECKLISTS)
    for task, sheet in CHECKLISTS.items():
        for place, each in enumerate(shown[task]):
            text = f"The image shows: {each.in_words} {sheet.request}"
            assert asked[text] == [(place, greedy(7))] and prompts.IMAGE not in text
    both = abilities.text_oracles(study, {"minigpt4": one, "weak_lm": one}, shown)
    assert list(both) == ["text_oracle_weak", "text_oracle"]
    assert abilities.text_oracles(study, {"minigpt4": one}, {}) == {}


def picture(task, number):
    things = {"number": f"{task} {number}"}
    return Scene(number, 256, "lake", kind=CHECKLISTS[task].kind, truth=things)


def test_all_systems_are_in_reading_order_with_what_is_to_know_of_them(study):
    shown = abilities.shown(study)
    names = ("text_oracle", "minigpt4", "blip2_ft", "locna", "stage1", "blip2")
    said = {
        name: {task: ["well" if name == "text_oracle" else "badly"] * 2 for task in shown} for name in names
    }
    judged, _ = abilities.judge(said, shown)
    participant = abilities.Participant(None, "greedy", None)
    found = abilities.table1(study, judged, {"minigpt4": participant})
    assert list(dict.fromkeys(found["system"])) == [
        "blip2", "blip2_ft", "stage1", "locna", "minigpt4", "text_oracle", "facts",
    ]  # fmt: skip
    notes = values(found, "note")
    assert notes["t1.total.minigpt4"].endswith("; greedy")
    assert notes["t1.total.text_oracle"].endswith("decoded as MiniGPT-4")
    assert values(found)["t1.total.text_oracle"] == 1 and set(found["n"]) == {2, 2 * len(shown)}


def test_requests_are_shown_by_the_size_of_the_language_model(study, model):
    shown, one = abilities.shown(study), PromptedModel(model=model(), template=VICUNA)
    said = {"weak_lm": "badly", "minigpt4": "badly", "text_oracle": "well", "blip2": "well"}
    judged, _ = abilities.judge(
        {name: dict.fromkeys(shown, [text] * 2) for name, text in said.items()}, shown
    )
    participants = dict.fromkeys(said, abilities.Participant(one, "greedy", greedy(7)))
    found = abilities.by_size(abilities.table1(study, judged, {}), participants)
    assert list(zip(found["system"], found["value"], strict=True)) == [
        ("weak_lm", 0), ("minigpt4", 0), ("text_oracle", 1),
    ]  # fmt: skip
    assert set(found["size"]) == {sum(weight.numel() for weight in one.model.language.parameters())}
    assert list(found["given"])[1:] == ["the picture", "the truth in words (text oracle)"]
    assert abilities.by_size(found.iloc[:0], {}).empty


def test_minigpt4_gains_what_it_meets_more(study):
    shown = abilities.shown(study)
    said = {"blip2": ["well", "badly"], "minigpt4": ["well", "well"], "stage1": ["badly", "badly"]}
    judged, _ = abilities.judge({name: dict.fromkeys(shown, texts) for name, texts in said.items()}, shown)
    gains = abilities.table1_gains(study, judged)
    assert values(gains) == {"t1.gain.requests.over_blip2": 0.5, "t1.gain.items.over_blip2": 0.5}
    assert set(gains["n"]) == {2 * len(shown)} and abilities.table1_gains(study, {}).empty


def test_pages_show_two_models_and_stories_skip_pictures_that_are_not_there(study, base):
    greedily = abilities.Participant(Speaking(), "greedy", abilities.decodings(study)["greedy"])
    participants = dict.fromkeys(("blip2", "minigpt4"), greedily)
    said = abilities.answers(study, base, dict.fromkeys(abilities.JUDGED, participants["blip2"]))
    pages = abilities.pages(study, base, said)
    assert [page.name for page in pages] == list(CHECKLISTS)
    assert list(pages[0].answers) == ["blip2", "minigpt4"]
    assert len(pages[0].pictures) == MINI.evaluation.shown // 4
    base.queries = dict(base.queries)
    told = abilities.stories(study, base, participants)
    assert [page.name for page in told] == ["sketches", "story"]


def test_a_study_of_photographs_has_no_tasks():
    study = Study.of(PAPER_SIZED, seed=0, weights="wheel")
    participants = abilities.participants(study, {"minigpt4": Speaking()})
    assert participants["minigpt4"].decoding.sample and abilities.shown(study) == {}
    assert abilities.answers(study, None, participants) == {}
    assert abilities.table1(study, {}, participants).empty


def test_the_truth_in_words_tells_all_that_is_known():
    things = (Item("boat", (0, 0, 9, 9), 0.5),) * 2
    picture = Scene(
        1, 256, "lake", things, (Item("sun", (0, 0, 9, 9), 1.0),), truth={"top": "A", "lines": ["b", "c"]}
    )
    assert picture.in_words == "place: lake; things: boat, sun; top: A; lines: b, c"
