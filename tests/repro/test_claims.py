"""The paper's claims: each verdict from made-up numbers, the floors, and what is said without numbers."""

import pandas
import pytest

from mglib import frame
from mglib.metrics import Estimate
from mglib.paths import ROOT
from mglib.repro import claims
from mglib.repro.claims import CLAIMS, COMPARISONS, judge
from mglib.repro.publish import readme_with
from mglib.repro.report import Report, numbers, read
from mglib.settings import Settings

NAMES = [
    *("abilities", "coverage", "curation", "weak_lm", "narratives"),
    *("no_qformer", "depth", "hallucination", "data", "saturation"),
]
ARMS = ("no_qformer", "three_layers", "qformer_tuned")
# A run in which every claim holds; each interval reaches 0.02 to both sides.
HOLDING = {
    **{"t1.total.minigpt4": 0.5, "t1.total.blip2": 0.1, "t1.total.locna": 0.2},
    **{"t1.gain.requests.over_blip2": 0.4, "t1.gain.requests.over_locna": 0.3},
    **{"t1.items.total.minigpt4": 0.7, "t1.items.total.blip2": 0.3, "t1.items.total.locna": 0.5},
    **{"t1.gain.items.over_blip2": 0.4, "t1.gain.items.over_locna": 0.2, "t1.items.total.blip2_ft": 0.3},
    **{f"t1.drop.{name}": 0.1 for name in ("minigpt4", "blip2", "locna", "blip2_ft")},
    **{"t2.covered.minigpt4": 0.6, "t2.covered.blip2": 0.3, "t2.covered.blip2_ft": 0.3},
    **{"t2.references_covered.minigpt4": 2.2, "t2.references_covered.blip2": 1.9},
    **{"t2.gain.covered.over_blip2": 0.3, "t2.gain.references_covered.over_blip2": 0.3},
    **{"effect.items.texts_caption_model": 0.0, "effect.covered.texts_caption_model": 0.0},
    **{f"t3.failure.{task}.before": 0.6 for task in ("describe", "poem")},
    **{f"t3.failure.{task}.after": 0.2 for task in ("describe", "poem")},
    **{f"t3.cut.{task}": 0.4 for task in ("describe", "poem")},
    **{f"t4.{task}.{arm}": 0.5 for task in ("aokvqa", "gqa") for arm in ("base", *ARMS)},
    **{f"t4.{task}.difference.{arm}": 0.0 for task in ("aokvqa", "gqa") for arm in ARMS},
    **{f"t4.{task}.difference.blank": -0.2 for task in ("aokvqa", "gqa")},
    **{"t5.chair_i.long": 0.3, "t5.chair_i.short": 0.2, "t5.chair_i.blip2": 0.1},
    **{"t5.chair_i.long_less_short": 0.1, "t5.chair_i.short_less_blip2": 0.1, "t5.chair_i.everything": 0.95},
    **{f"t7.{task}.lora": 0.6 for task in ("aokvqa", "gqa")},
    **{f"t7.{task}.base": 0.4 for task in ("aokvqa", "gqa")},
    **{f"t7.{task}.lora_less_base": 0.2 for task in ("aokvqa", "gqa")},
    **{f"t7.{task}.lora_less_lora_shuffled": 0.1 for task in ("aokvqa", "gqa")},
    **{"t8.references_covered.100": 2.2, "t8.references_covered.50": 2.1},
    "t8.references_covered.gained_from_50": 0.1,
}
OPPOSITE = {
    "abilities": [{"t1.gain.requests.over_blip2": -0.1}, {"t1.gain.items.over_blip2": -0.1}],
    "coverage": [{f"t2.gain.{what}.over_blip2": -0.1} for what in ("covered", "references_covered")],
    "curation": [{"t3.cut.describe": -0.1}, {"t3.cut.poem": -0.1}],
    "weak_lm": [{f"effect.{what}.texts_caption_model": 0.1} for what in ("items", "covered")],
    "narratives": [{"t1.gain.requests.over_locna": -0.1}, {"t1.gain.items.over_locna": -0.1}],
    "no_qformer": [{f"t4.{task}.difference.no_qformer": -0.1} for task in ("aokvqa", "gqa")],
    "depth": [
        {f"t4.{task}.difference.{arm}": 0.1}
        for task in ("aokvqa", "gqa")
        for arm in ("three_layers", "qformer_tuned")
    ],
    "hallucination": [{"t5.chair_i.long_less_short": -0.1}, {"t5.chair_i.short_less_blip2": -0.1}],
    "data": [{f"t7.{task}.lora_less_base": -0.1} for task in ("aokvqa", "gqa")],
    "saturation": [{"t8.references_covered.gained_from_50": 0.6}],
}
NEAR = {"weak_lm": 0.04, "no_qformer": -0.04, "depth": 0.04, "saturation": 0.52}  # the margins; else zero
UNSURE = {name: [dict.fromkeys(one, NEAR.get(name, 0.01)) for one in some] for name, some in OPPOSITE.items()}
AT_THE_FLOOR = {
    "abilities": [
        {"t1.total.minigpt4": 0.01, "t1.total.blip2": 0.0},
        {"t1.drop.minigpt4": 0.01},
        {"t1.items.total.blip2": 0.8, "t1.drop.blip2": 0.01},
    ],
    "coverage": [{"t2.covered.minigpt4": 0.01, "t2.covered.blip2": 0.0}],
    "curation": [
        {"t3.failure.poem.before": 0.01, "t3.failure.poem.after": 0.0},
        {"t3.failure.describe.before": 1.0, "t3.failure.describe.after": 0.99},
    ],
    "weak_lm": [
        {"t1.drop.blip2_ft": 0.0},
        {"t2.covered.blip2_ft": 0.0, "t2.covered.blip2": 0.0},
    ],
    "narratives": [{"t1.total.minigpt4": 0.01, "t1.total.locna": 0.0}, {"t1.drop.minigpt4": 0.0}],
    "no_qformer": [{"t4.gqa.difference.blank": -0.01}],
    "depth": [{"t4.aokvqa.difference.blank": 0.1}],
    "hallucination": [
        {"t5.chair_i.short": 0.01, "t5.chair_i.blip2": 0.0},
        {"t5.chair_i.long": 0.97, "t5.chair_i.short": 0.94},
    ],
    "data": [{"t7.gqa.lora_less_lora_shuffled": 0.01}],
    "saturation": [{"t8.references_covered.100": 0.01, "t8.references_covered.50": 0.0}],
}


def entries(**changes):
    """Write the run in which every claim is reproduced, but for some values; None is listed without one."""
    found = pandas.DataFrame({"name": name, "value": value} for name, value in {**HOLDING, **changes}.items())
    ends = {"low": found["value"] - 0.02, "high": found["value"] + 0.02}
    return found.assign(task=found["name"].str.split(".").str[0], **ends)


def cases(changes):
    return [pytest.param(name, one, id=name) for name, some in changes.items() for one in some]


def test_ten_claims_hold_where_every_interval_is_on_their_side():
    assert list(CLAIMS) == NAMES == list(OPPOSITE) == list(AT_THE_FLOOR)
    assert {name: verdict.value for name, verdict in judge(entries()).items()} == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize(("name", "changes"), cases(OPPOSITE))
def test_one_interval_on_the_other_side_is_enough(name, changes):
    verdict = judge(entries(**changes))[name]
    assert verdict.value == 0


@pytest.mark.parametrize(("name", "changes"), cases(UNSURE))
def test_an_interval_that_allows_both_tells_nothing(name, changes):
    verdict = judge(entries(**changes))[name]
    assert (
        verdict.value is None and "floor" not in verdict.differences and "ceiling" not in verdict.differences
    )


@pytest.mark.parametrize(("name", "changes"), cases(AT_THE_FLOOR))
def test_what_is_compared_at_a_floor_never_holds(name, changes):
    verdict = judge(entries(**changes))[name]
    assert verdict.value is None and ("floor" in verdict.differences or "ceiling" in verdict.differences)


def test_a_side_above_the_floor_is_enough_to_compare():
    lost = {"t1.total.minigpt4": 0.0, "t1.total.blip2": 0.5, "t1.gain.requests.over_blip2": -0.5}
    assert judge(entries(**lost))["abilities"].value == 0
    unlearnt = {"t7.gqa.lora": 0.2, "t7.gqa.lora_less_base": -0.2, "t7.gqa.lora_less_lora_shuffled": 0.0}
    assert judge(entries(**unlearnt))["data"].value == 0


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_without_all_its_numbers_is_not_judged(claim):
    for name in names(claim):
        for given in (entries().query("name != @name"), entries(**{name: None})):
            verdict = judge(given)[claim]
            assert (verdict.value, verdict.differences) == (None, f"not measured: {name}")
    assert judge(entries()[:0])[claim].differences == f"not measured: {', '.join(names(claim))}"


def names(*wanted):
    """Return all numbers that some claims read, each once."""
    return list(dict.fromkeys(name for one in COMPARISONS if one.claim in wanted for name in one.names))


def test_claims_read_what_notebooks_publish():
    needed = set(names(*CLAIMS))
    assert needed <= {*read(ROOT / "results" / "mini" / "numbers.json")["name"]}
    assert needed == HOLDING.keys()


def test_published_verdicts_follow_from_published_numbers():
    published = read(ROOT / "results" / "mini" / "numbers.json")
    given = published[published["task"] == "claim"].set_index("name")["value"]
    found = claims.verdicts(published)
    assert list(given.index) == frame.names(found)
    pandas.testing.assert_series_equal(given.reset_index(drop=True), found["value"], check_dtype=False)


def test_a_notebook_judges_by_the_numbers_of_all(tmp_path):
    earlier = Report(Settings(), notebook="04_stage2", runs=tmp_path)
    for task in ("describe", "poem"):
        for name, value in {"failure.{}.before": 0.6, "failure.{}.after": 0.2, "cut.{}": 0.4}.items():
            one = Estimate(value, value - 0.1, value + 0.1, 8)
            earlier.add(frame.rows("t3", {"": {name.format(task): one}}))
    found = claims.verdicts(numbers(tmp_path / "mini"))
    assert frame.names(found) == [f"claim.{name}" for name in NAMES]
    by = found.set_index("measure")
    assert by["value"]["curation"] == 1 and "descriptions 0.4 [0.3, 0.5]" in by["note"]["curation"]
    assert pandas.isna(by["value"]["data"]) and "inconclusive: not measured" in by["note"]["data"]


def test_the_claims_are_written_between_their_markers():
    text = "# x\n<!-- claims:start -->\nearlier\n<!-- claims:end -->\nend\n"
    made = readme_with(text, entries())
    assert made.count("| reproduced |") == 10 and "earlier" not in made and made.endswith("end\n")
    assert readme_with(made, entries()) == made
    assert list(claims.table(entries())["paper"])[:2] == ["Table 1", "Table 2"]


def test_a_claim_with_another_verdict_under_another_seed_is_named():
    judged = pandas.DataFrame([{"name": "claim.data", "task": "claim", "value": 1.0}])
    run = pandas.concat([entries(), judged])
    other = pandas.concat([entries(**{"t7.gqa.lora_less_base": -0.1}), judged])
    same = claims.over_seeds([run, run, other, entries()])  # the last has not judged the claims
    assert same["value"][0] == pytest.approx(0.9)
    note = same["note"][0]
    assert "data: reproduced, reproduced, not reproduced" in note and "curation" not in note
    assert claims.over_seeds([run, run])["value"][0] == 1
    assert claims.over_seeds([run]).empty and claims.over_seeds([entries(), run]).empty
