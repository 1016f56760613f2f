"""Descriptions: how they are decoded, the names of Table 5's rows, and what is compared with what."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mglib.evals import chair_official
from mglib.evals.chair import Reading, Truth
from mglib.evals.hallucination import SHORT
from mglib.experiments import described
from mglib.experiments.described import Descriptions
from mglib.metrics import each
from mglib.paths import ROOT, sha256
from mglib.profiles import MINI, PROFILES
from mglib.study.study import Study

PAPER_SIZED = next(profile for profile in PROFILES.values() if profile.release is not None)
NAMES = ("blip2", "blip2_ft", "stage1", "minigpt4", "locna")


class Speaking:
    """A model that covers a reference only when it samples; it keeps what it was asked."""

    def __init__(self, reads):
        self.reads, self.asked = reads, []

    def answers(self, queries, text, decoding, *, batch_size, what):
        self.asked.append((text, decoding))
        return ["a dog" if decoding.sample else "a cat"] * len(queries)


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(described, "judge", lambda study, split: lambda answer, text: answer == text)
    return Study.of(MINI, seed=0, weights="wheel")


@pytest.fixture
def base():
    split = SimpleNamespace(references=(("a dog", "a bus"), ("a dog", "a dog"), ("a bus",)))
    names = ("val", "test_seen", "test_new_pairs")
    return SimpleNamespace(queries={name: [0, 1, 2] for name in names}, splits=dict.fromkeys(names, split))


@pytest.fixture
def models():
    return {name: Speaking(name not in ("blip2", "blip2_ft")) for name in NAMES}


def test_each_language_model_is_tried_with_every_decoding(study, base, models):
    tried = described.tried(study, base, models)
    ways = list(described.decodings(study))
    assert list(tried["model"]) == ["blip2"] * len(ways) + ["minigpt4"] * len(ways)
    assert tried["decoding"].tolist() == ways * 2
    covered = tried.set_index(["model", "decoding"])["references_covered"]
    assert covered["minigpt4", "sampled"] == 1 and covered["minigpt4", "greedy"] == 0


def test_each_language_model_decodes_as_the_profile_says(study, base, models):
    evaluation = replace(study.profile.evaluation, descriptions=(("minigpt4", "sampled"),))
    study = replace(study, profile=replace(study.profile, evaluation=evaluation))
    told = described.describe(study, base, models)
    assert {name for name, way in told.ways.items() if way == "sampled"} == {"stage1", "minigpt4", "locna"}
    assert told.long["blip2_ft"] == ["a cat"] * 3 and told.long["locna"] == ["a dog"] * 3
    assert list(told.short) == ["stage1", "minigpt4"]
    text, brief = models["minigpt4"].asked[-1]
    assert text == SHORT and brief.sample and brief.max_new_tokens == MINI.evaluation.brief_tokens


def test_a_description_can_be_penalised_for_repeating(study):
    sampled, greedy, penalised = described.decodings(study).values()
    assert list(described.decodings(study)) == ["sampled", "greedy", "penalised"]
    assert sampled.sample and penalised == replace(greedy, repetition_penalty=1.1)


def test_where_nothing_is_chosen_all_decode_greedily(models):
    study = Study.of(PAPER_SIZED, seed=0, weights="wheel")
    ways = described.ways(study, models)
    assert list(ways) == list(models) and set(ways.values()) == {"greedy"}
    told = Descriptions(split="val", references=(), ways=ways, long={}, short={})
    assert described.covered(study, told) == {} and described.gains({}) == {}


def told_of(**long):
    references = (("a dog", "a bus"),)
    return Descriptions(split="test_seen", references=references, ways={}, long=long, short={
        "stage1": ["short"], "minigpt4": ["shorter"],
    })  # fmt: skip


def test_the_rows_of_table_5_have_the_papers_names():
    long = {name: [name] for name in ("blip2", "blip2_ft", "stage1", "minigpt4", "oracle")}
    rows = told_of(**long).rows
    assert list(rows)[:4] == ["blip2", "blip2_ft", "short.stage1", "long.stage1"]
    assert list(rows)[4:] == ["short", "long", "long.oracle", "everything"]
    assert rows["long"] == ["minigpt4"] and rows["short"] == ["shorter"] and rows["long.oracle"] == ["oracle"]
    assert list(described.compared(rows)) == list(described.COMPARED)
    assert "blip2" not in told_of(stage1=["a"], minigpt4=["b"]).rows


def test_minigpt4_gains_what_it_covers_more(study):
    told = told_of(blip2=["a cat"], blip2_ft=["a dog"], stage1=["a cat"], minigpt4=["a dog"])
    gains = described.gains(described.covered(study, told))
    assert list(gains) == ["blip2", "blip2_ft", "stage1"]
    assert gains["blip2"]["gain.references_covered"].value == 1
    assert gains["blip2_ft"]["gain.references_covered"].value == 0


def reading(*mentions):
    truth = Truth((frozenset({"dog"}),), frozenset({"dog"}))
    return Reading(mentions, truth, len(mentions))


def test_matched_rows_mention_equally_often():
    rows = {"long": [reading("dog", "bus")], "short": [reading("dog")]}
    assert described.counted(rows)["long"]["chair_i"].estimate().value == 0.5
    matched = described.matched(rows)
    assert matched["long"]["chair_i"].estimate().value == 0
    first, second, *_ = described.by_rank(rows)["long"]
    assert (first.value, second.value) == (0, 1)


def test_the_papers_rows_are_compared_one_by_one():
    rows = {"long": [reading("bus")], "short": [reading("dog", "bus")], "blip2": [reading("dog")]}
    less = described.differences(described.counted(rows))
    assert {name: one["chair_i"].value for name, one in less.items()} == {
        "long_less_short": 0.5, "short_less_blip2": 0.5,
    }  # fmt: skip
    assert list(described.less(less)) == [
        "MiniGPT-4, long less MiniGPT-4, short",
        "MiniGPT-4, short less BLIP-2",
    ]
    rows["long.no_critic"] = [reading("dog", "dog")]
    more = described.differences(described.counted(rows))
    assert more["no_critic_less_minigpt4"]["chair_i"].value == -1
    del rows["blip2"], rows["long.no_critic"]
    assert list(described.differences(described.counted(rows))) == ["long_less_short"]


def test_each_reading_has_words_of_its_own():
    study = Study.of(MINI, seed=0, weights="wheel")
    every, coco, rules = (described.vocabulary(study, name) for name in ("all", "coco", "official_rules"))
    assert coco.names < every.names and "dog" in rules.names
    photographs = Study.of(PAPER_SIZED, seed=0, weights="wheel")
    assert described.vocabulary(photographs, "all") is described.vocabulary(photographs, "coco")


def test_only_the_authors_synonyms_make_a_reading_official(tmp_path, monkeypatch):
    study, file = Study.of(MINI, seed=0, weights="wheel"), tmp_path / "synonyms.txt"
    monkeypatch.setattr(chair_official, "SYNONYMS", file)
    assert described.readings() == ("coco", "official_rules")
    with pytest.raises(FileNotFoundError, match=r"data/synonyms\.txt"):
        described.vocabulary(study, "official")
    file.write_text("dog, puppy\n")
    assert described.readings() == ("coco", "official")
    with pytest.raises(ValueError, match="SHA-256"):  # another list is refused, and not called official
        described.vocabulary(study, "official")
    monkeypatch.setattr(chair_official, "SYNONYMS_SHA256", sha256(file))
    assert described.vocabulary(study, "official").names == {"dog"}


def test_no_number_is_called_official_but_by_its_reading():
    sources = [
        "".join(cell["source"])
        for path in (ROOT / "notebooks").glob("0*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    assert sum("described.readings()" in source for source in sources) == 1
    assert not any("t5.official" in source or '"official"' in source for source in sources)


def test_the_square_compares_language_models_and_texts():
    judged = {name: {"memes": {"items": [value]}} for name, value in zip(NAMES, (0, 0, 0.5, 1), strict=False)}
    covered = {name: {"covered": each([value])} for name, value in zip(NAMES, (1, 1, 0, 0), strict=False)}
    counts = {"chair_i": each([0.0]), "object_recall": each([1.0])}
    counted = dict.fromkeys(("blip2", "blip2_ft", "long.stage1", "long"), counts)
    measured = described.square(judged, covered, counted)
    effects = described.effects(measured)
    assert effects["chat_model_before"]["items"].value == 0.5
    assert effects["texts_chat_model"]["items"].value == 0.5
    assert effects["chat_model_after"]["covered"].value == -1
    assert described.square({}, {}, {}) == described.effects({}) == {}
