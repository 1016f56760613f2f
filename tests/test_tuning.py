"""A profile says what its tracked tables say, and the check of that finds a profile that does not."""

from dataclasses import replace

import pandas
import pytest

from mglib.config import Asked, Stage1Trial
from mglib.experiments import abilities
from mglib.experiments.ablations import ARMS
from mglib.experiments.stage1 import start_name
from mglib.paths import TUNING
from mglib.profiles import MINI, PROFILES
from mglib.repro import tuning

FILES = sorted(TUNING.glob("*/*.csv"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_profile_says_what_its_tables_say(path):
    profile = PROFILES[path.parent.name]
    assert tuning.faults(profile, path.stem, tuning.read(path)) == []
    about = tuning.made(profile, path.stem)
    assert about["date"] and about["processor"] and about["seed"] == 0


OWN = Stage1Trial(warm_start=0.1, lr=2e-3, steps=300)
PROFILE = replace(
    MINI,
    warm_start=OWN.warm_start,
    stage1=replace(MINI.stage1, lr=OWN.lr, steps=OWN.steps),
    stage1_trials=(OWN, replace(OWN, lr=1e-3), replace(OWN, warm_start=None)),
)


def stage1_table():
    """Return a table of mini's trials in which the profile's own has the lowest CHAIR_i, 0.1."""
    lines = [
        {"start": start_name(one.warm_start), "lr": one.lr, "steps": one.steps, "chair_i": 0.2}
        for one in PROFILE.stage1_trials
    ]
    return pandas.DataFrame(lines).assign(chair_i=[0.1, *[0.2] * (len(lines) - 1)])


def test_the_best_row_is_the_profiles():
    assert tuning.faults(PROFILE, "stage1", stage1_table()) == []
    marked = tuning.marked(PROFILE, "stage1", stage1_table())
    assert marked[tuning.MARK].tolist() == ["*", "", ""]


@pytest.mark.parametrize(("place", "better"), [(1, "0.001"), (2, "random")])
def test_a_better_rate_or_start_is_told(place, better):
    table = stage1_table()
    table.loc[place, "chair_i"] = 0.05
    (fault,) = tuning.faults(PROFILE, "stage1", table)
    assert better in fault and "lowest CHAIR_i" in fault


def test_a_run_without_a_measurement_does_not_compete():
    table = stage1_table()
    table.loc[2, "chair_i"] = None
    assert tuning.faults(PROFILE, "stage1", table) == []


def test_a_choice_that_was_never_tried_is_told():
    (fault,) = tuning.faults(PROFILE, "stage1", stage1_table()[1:])
    assert "not in the table" in fault


def test_of_equals_each_will_do():
    assert tuning.faults(PROFILE, "stage1", stage1_table().assign(chair_i=0.1)) == []


def test_every_model_of_table_1_has_its_own_best():
    table = pandas.DataFrame(
        [
            {"model": model, "decoding": way, "wording": wording, "items": float(way == "greedy")}
            for model, wordings in abilities.WORDINGS.items()
            for way in ("sampled", "greedy")
            for wording in wordings[:1]
        ]
    )
    assert len(tuning.faults(with_ways(), "decoding", table)) == 3
    chosen = with_ways(
        ("blip2", Asked(decoding="greedy")),
        ("blip2_ft", Asked(decoding="greedy", wording=abilities.CAPTION_WORDINGS[0])),
    )
    (fault,) = tuning.faults(chosen, "decoding", table)
    assert fault.startswith("decoding minigpt4") and "highest items for each model" in fault


def with_ways(*ways):
    return replace(MINI, evaluation=replace(MINI.evaluation, abilities=ways))


def test_every_arm_has_its_own_rate():
    lines = [{"arm": arm, "lr": lr, "loss": abs(lr - 2e-3)} for arm in ARMS for lr in (2e-3, 6e-3)]
    table = pandas.DataFrame(lines)
    profile = replace(MINI, ablation=replace(MINI.ablation, lrs=tuple((arm, 2e-3) for arm in ARMS[1:])))
    assert MINI.ablation.train.lr == 6e-3
    (fault,) = tuning.faults(profile, "arms", table)
    assert fault.startswith("arms base: {'lr': 0.002}")


@pytest.mark.parametrize(
    ("name", "column", "own", "measure", "sign"),
    [
        ("temperatures", "temperature", MINI.curation.temperature, "fit", 1),
        ("stage2", "lr", MINI.stage2.lr, "balance", 1),
        ("preferences", "lr", MINI.preference.train.lr, "loss", -1),
    ],
)
def test_one_value_is_compared_by_its_own_measure(name, column, own, measure, sign):
    table = pandas.DataFrame({column: [own / 2, own, own * 2], measure: [0.0, sign, 0.0]})
    assert tuning.faults(MINI, name, table) == []
    assert len(tuning.faults(MINI, name, table.assign(**{measure: -table[measure]}))) == 1


def test_descriptions_decode_by_what_covers_most():
    lines = [("blip2", "greedy", 1.0), ("blip2", "sampled", 0.5), ("minigpt4", "greedy", 0.5)]
    table = pandas.DataFrame(
        [*lines, ("minigpt4", "sampled", 0.7)], columns=["model", "decoding", "references_covered"]
    )
    greedy = replace(MINI, evaluation=replace(MINI.evaluation, descriptions=()))
    (fault,) = tuning.faults(greedy, "descriptions", table)
    assert fault.startswith("descriptions minigpt4: {'decoding': 'sampled'}")
    told = replace(MINI.evaluation, descriptions=(("minigpt4", "sampled"),))
    assert tuning.faults(replace(MINI, evaluation=told), "descriptions", table) == []


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "stage1.csv"
    stage1_table().to_csv(path, index=False)
    assert tuning.faults(PROFILE, "stage1", tuning.read(path)) == []
    only = stage1_table().query("start != 'random'")
    only.to_csv(path, index=False)  # all starts look like numbers
    assert tuning.own(PROFILE, "stage1", tuning.read(path)).tolist() == [True, False]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_what_is_compared_holds_the_profiles_own_choice(profile):
    compared = tuning.compared(profile)
    assert (compared == []) == (profile.release is not None)
    if "stage1" in compared:
        tried = {(one.warm_start, one.lr, one.steps) for one in profile.stage1_trials}
        assert (profile.warm_start, profile.stage1.lr, profile.stage1.steps) in tried
        assert any(
            one.warm_start is None and one.steps == profile.stage1.steps for one in profile.stage1_trials
        )
        assert profile.curation.temperature in profile.curation.temperatures
        assert profile.stage2.lr in profile.stage2_rates
        assert profile.preference.train.lr in profile.preference.rates
        assert profile.ablation.train.lr in profile.ablation.rates
