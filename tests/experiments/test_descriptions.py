"""Descriptions: how they are decoded, the names of Table 5's rows, and what is compared with what."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tidy import values

from mglib.evals import chair_official
from mglib.evals.chair import Reading, Truth
from mglib.evals.hallucination import SHORT
from mglib.experiments import descriptions, stage1
from mglib.experiments.descriptions import Descriptions
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
    monkeypatch.setattr(Study, "judge", lambda study, split: lambda answer, text: answer == text)
    return Study.of(MINI, seed=0, weights="wheel")


@pytest.fixture
def base():
    split = SimpleNamespace(references=(("a dog", "a bus"), ("a dog", "a dog"), ("a bus",)))
    names = ("val", "test_seen", "test_new_pairs")
    return SimpleNamespace(queries={name: [0, 1, 2] for name in names}, splits=dict.fromkeys(names, split))


@pytest.fixture
def models():
    return {name: Speaking(name not in ("blip2", "blip2_ft")) for name in NAMES}


@pytest.mark.parametrize("failing", ["", "a dog"])
def test_each_language_model_is_tried_with_every_decoding_and_what_fails_covers_nothing(
    study, base, models, failing, monkeypatch
):
    def detected(study, base, split, texts, most):
        assert split == "val" and most == MINI.evaluation.long_tokens
        return [{"repetition"} if text == failing else set() for text in texts]

    monkeypatch.setattr(stage1, "detected", detected)
    tried = descriptions.tried(study, base, models)
    ways = list(descriptions.decodings(study))
    assert list(tried["model"]) == ["blip2"] * len(ways) + ["minigpt4"] * len(ways)
    assert tried["decoding"].tolist() == ways * 2
    rows = tried.set_index(["model", "decoding"])
    covered, failed = (rows[column]["minigpt4"] for column in ("references_covered", "failed"))
    assert covered["sampled"] == (0 if failing else 1) and covered["greedy"] == 0
    assert failed["sampled"] == bool(failing) and failed["greedy"] == 0


def test_each_language_model_decodes_as_the_profile_says(study, base, models):
    evaluation = replace(study.profile.evaluation, descriptions=(("minigpt4", "sampled"),))
    study = replace(study, profile=replace(study.profile, evaluation=evaluation))
    told = descriptions.describe(study, base, models)
    sampled = {name for name, way in told.decodings.items() if way == "sampled"}
    assert sampled == {"stage1", "minigpt4", "locna"}
    assert told.long["blip2_ft"] == ["a cat"] * 3 and told.long["locna"] == ["a dog"] * 3
    assert list(told.short) == ["stage1", "minigpt4"] and len(set(told.long["everything"])) == 1
    text, brief = models["minigpt4"].asked[-1]
    assert text == SHORT and brief.sample and brief.max_new_tokens == MINI.evaluation.brief_tokens


def test_where_nothing_is_chosen_all_decode_greedily():
    published = Study.of(PAPER_SIZED, seed=0, weights="wheel").profile.evaluation
    assert {descriptions.decoding(published, name) for name in ("blip2", "minigpt4")} == {"greedy"}


def told_of(**long):
    short = {"stage1": ["short"], "minigpt4": ["shorter"]}
    references = (("a dog", "a bus"),)
    given = {"split": "test_seen", "decodings": {"minigpt4": "greedy"}, "note": "drawn"}
    return Descriptions(**given, references=references, long=long, short=short)


def test_the_rows_of_table_5_have_the_papers_names():
    long = {name: [name] for name in ("blip2", "blip2_ft", "stage1", "minigpt4", "oracle", "everything")}
    rows = told_of(**long).rows
    assert list(rows)[:4] == ["blip2", "blip2_ft", "short.stage1", "long.stage1"]
    assert list(rows)[4:] == ["short", "long", "long.oracle", "everything"]
    assert rows["long"] == ["minigpt4"] and rows["short"] == ["shorter"] and rows["long.oracle"] == ["oracle"]


def test_minigpt4_gains_what_it_covers_more(study):
    told = told_of(blip2=["a cat"], blip2_ft=["a dog"], minigpt4=["a dog"], everything=["a list"])
    covered = descriptions.covered(study, told)
    gains = values(descriptions.table2_gains(told, covered))
    assert gains["t2.gain.references_covered.over_blip2"] == 1
    assert gains["t2.gain.references_covered.over_blip2_ft"] == 0
    table = descriptions.table2(told, covered)
    assert values(table)["t2.references_covered.minigpt4"] == 1
    notes = values(table, "note")
    assert notes["t2.covered.minigpt4"].endswith("; greedy")
    assert "degenerate" in notes["t2.covered.everything"]


def test_where_references_come_without_facts_nothing_is_covered():
    published = Study.of(PAPER_SIZED, seed=0, weights="wheel")
    told = told_of(stage1=["a cat"], minigpt4=["a dog"])
    assert descriptions.covered(published, told) == {}
    assert descriptions.table2(told, {}).empty and descriptions.table2_gains(told, {}).empty


def reading(*mentions):
    truth = Truth((frozenset({"dog"}),), frozenset({"dog"}))
    return Reading(mentions, truth, len(mentions))


def test_further_readings_cut_rows_to_equally_many_mentions(monkeypatch):
    rows = {"long": [reading("dog", "bus")], "short": [reading("dog")]}
    told = told_of(stage1=["a"], minigpt4=["b"])
    assert values(descriptions.table5(told, descriptions.counted(rows)))["t5.chair_i.long"] == 0.5
    monkeypatch.setattr(descriptions, "read", lambda study, base, split, texts, how: rows)
    found = values(descriptions.further_readings(None, None, told, rows))
    assert found["t5.chair_i.matched.long"] == 0 and found["t5.chair_i.coco.long"] == 0.5
    ranks = values(descriptions.by_rank(told, rows))
    assert (ranks["t5.chair_i.mention_1.long"], ranks["t5.chair_i.mention_2.long"]) == (0, 1)


def test_the_papers_rows_are_quoted_and_compared_one_by_one():
    rows = {"long": [reading("bus")], "short": [reading("dog", "bus")], "blip2": [reading("dog")]}
    told = told_of(stage1=["a"], minigpt4=["b"])
    less = descriptions.table5_differences(told, descriptions.counted(rows))
    assert values(less) == {"t5.chair_i.long_less_short": 0.5, "t5.chair_i.short_less_blip2": 0.5}
    quoted = descriptions.table5(told, descriptions.counted(rows)).set_index("system").loc["llava"]
    assert quoted["value"].isna().all() and set(quoted["measure"]) == {"chair_i", "length"}


def test_each_reading_has_words_of_its_own():
    study = Study.of(MINI, seed=0, weights="wheel")
    every, coco, rules = (descriptions.vocabulary(study, name) for name in ("all", "coco", "official_rules"))
    assert coco.names < every.names and "dog" in rules.names
    photographs = Study.of(PAPER_SIZED, seed=0, weights="wheel")
    assert descriptions.vocabulary(photographs, "all") is descriptions.vocabulary(photographs, "coco")


def test_only_the_authors_synonyms_make_a_reading_official(tmp_path, monkeypatch):
    study, file = Study.of(MINI, seed=0, weights="wheel"), tmp_path / "synonyms.txt"
    monkeypatch.setattr(chair_official, "SYNONYMS", file)
    assert chair_official.at_hand() == "official_rules"
    with pytest.raises(FileNotFoundError, match=r"data/synonyms\.txt"):
        descriptions.vocabulary(study, "official")
    file.write_text("dog, puppy\n")
    assert chair_official.at_hand() == "official"
    with pytest.raises(ValueError, match="SHA-256"):  # another list is refused, and not called official
        descriptions.vocabulary(study, "official")
    monkeypatch.setattr(chair_official, "SYNONYMS_SHA256", sha256(file))
    assert descriptions.vocabulary(study, "official").names == {"dog"}


def test_no_number_is_called_official_but_by_its_reading():
    sources = [
        "".join(cell["source"])
        for path in (ROOT / "notebooks").glob("0*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    assert sum("descriptions.further_readings(" in source for source in sources) == 1
    assert not any("official" in source.replace("official_", "") for source in sources if "t5" in source)


def test_the_square_compares_language_models_and_texts():
    judged = {name: {"memes": {"items": [value]}} for name, value in zip(NAMES, (0, 0, 0.5, 1), strict=False)}
    some = zip(NAMES, (1, 1, 0, 0), strict=False)
    covered = {name: {"covered": each([value]), "length": each([5.0])} for name, value in some}
    counts = {"chair_i": each([0.0]), "object_recall": each([1.0])}
    counted = dict.fromkeys(("blip2", "blip2_ft", "long.stage1", "long"), counts)
    measured = descriptions.square(judged, covered, counted)
    effects = values(descriptions.effects(measured))
    assert effects["effect.items.chat_model_before"] == effects["effect.items.texts_chat_model"] == 0.5
    assert effects["effect.covered.chat_model_after"] == -1
    assert effects["effect.items.texts_chat_minus_caption"] == 0.5
    assert set(descriptions.square_table(measured)["system"]) == set(descriptions.SQUARE.values())
    assert descriptions.square({}, {}, {}) == {} and descriptions.effects({}).empty
