"""Table 1: what is tried on val is what is asked with, and every answer is judged twice."""

from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from mglib.data.specials import Special
from mglib.evals.checklist import CHECKLISTS
from mglib.experiments import abilities
from mglib.profiles import MINI, PROFILES
from mglib.study.study import Study

PAPER_SIZED = next(profile for profile in PROFILES.values() if profile.release is not None)
MODELS = ("blip2", "blip2_ft", "stage1", "minigpt4", "locna", "oracle")


@dataclass(frozen=True)
class Speaking:
    """A model that answers well when the request stands before the picture and nothing is drawn."""

    wording: str = "<picture> {}"

    def answers(self, queries, text, decoding, *, batch_size, what):
        return ["well" if self.wording.startswith("{}") and not decoding.sample else "badly"] * len(queries)


@pytest.fixture
def study(monkeypatch):
    """The mini study, two pictures a split; the answer "well" fulfils every item."""
    pictures = [Special(number, "memes", "lake", (), (), {}) for number in range(2)]
    monkeypatch.setattr(abilities, "read_specials", lambda folder: pictures)
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


def test_captioners_choose_their_wording_and_others_follow_minigpt4(study, base):
    models = dict.fromkeys(MODELS, Speaking())
    tried, best = abilities.choices(study, base, models)
    assert len(tried) == 2 * (3 + 3 + 1)
    assert best["blip2"]["decoding"] == "greedy" and best["blip2"]["wording"].startswith("{}")
    assert best["blip2"]["items on val"] == 1
    assert best["minigpt4"]["decoding"] == "sampled"  # the first of equals
    assert best["stage1"] == best["locna"] == best["minigpt4"] and "oracle" not in best
    participants = abilities.participants(study, models, best)
    assert not participants["blip2"].decoding.sample and participants["oracle"].decoding.sample
    said = abilities.answers(study, base, participants)
    assert list(said) == list(abilities.JUDGED) and said["blip2"]["memes"] == ["well", "well"]
    assert said["minigpt4"]["poems"] == ["badly", "badly"]


def test_facts_are_judged_beside_the_models(study):
    shown = abilities.shown(study)
    judged = abilities.judged({"blip2": {task: ["well", "badly"] for task in shown}}, shown)
    assert list(judged.right) == list(judged.swapped) == ["blip2", "facts"]
    assert judged.items()["blip2"]["total"].value == 0.5 and judged.success()["facts"]["poems"].value == 0
    assert judged.items_swapped()["blip2"]["memes"].n == 2 and judged.drops()["blip2"].value == 0


def test_minigpt4_gains_what_it_meets_more(study):
    shown = abilities.shown(study)
    said = {"blip2": ["well", "badly"], "minigpt4": ["well", "well"], "stage1": ["badly", "badly"]}
    gains = abilities.judged(
        {name: dict.fromkeys(shown, texts) for name, texts in said.items()}, shown
    ).gains()
    assert list(gains) == ["blip2"] and list(gains["blip2"]) == ["gain.requests", "gain.items"]
    assert gains["blip2"]["gain.requests"].value == gains["blip2"]["gain.items"].value == 0.5
    assert gains["blip2"]["gain.items"].n == 2 * len(shown) and abilities.judged({}, {}).gains() == {}


def test_pages_show_two_models_and_stories_skip_pictures_that_are_not_there(study, base):
    participants = {name: abilities.Participant(Speaking(), None) for name in ("blip2", "minigpt4")}
    participants = {
        name: abilities.Participant(one.prompted, abilities.decodings(study)["greedy"])
        for name, one in participants.items()
    }
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
    models = {"minigpt4": Speaking()}
    tried, best = abilities.choices(study, None, models)
    assert len(tried) == 0 and best == {} and abilities.shown(study) == {}
    assert abilities.answers(study, None, abilities.participants(study, models, best)) == {}
    assert abilities.judged({}, {}).success() == {}
