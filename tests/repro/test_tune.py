"""`make tune`: which grids are made, what is kept of each, and how a better choice is reported."""

import json
from collections import defaultdict

import pandas
import pytest

from mglib.__main__ import main
from mglib.evals.checklist import CHECKLISTS
from mglib.profiles import MINI, VICUNA_7B
from mglib.repro import tune, tuning
from mglib.repro.ledger import CannotRun
from mglib.study.machine import Machine
from mglib.study.study import Study

CPU = Machine(processor="a CPU", threads=2, gflops=100.0, dtype="float32")
STUDY = Study.of(MINI, seed=0, weights="wheel")
BETTER = pandas.DataFrame({"lr": [MINI.stage2.lr, 1.0], "steps": [20, 20], "balance": [0.2, 0.4]})
OWN = BETTER.assign(balance=[0.4, 0.2])


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(tune, "here", lambda: CPU)


def test_every_grid_can_be_made_and_read():
    assert list(tune.MAKE) == list(tuning.GRIDS) == tuning.compared(MINI)


def test_all_grids_are_made_or_those_that_are_asked_for():
    assert tune.chosen(STUDY, "") == list(tune.MAKE)
    assert tune.chosen(STUDY, "decoding, stage1") == ["stage1", "decoding"]
    with pytest.raises(CannotRun, match="no grid 'stage3'; choose from language, stage1"):
        tune.chosen(STUDY, "stage3")
    with pytest.raises(CannotRun, match="vicuna-7b compares nothing"):
        tune.chosen(Study.of(VICUNA_7B, seed=0, weights="wheel"), "stage1")


def test_a_table_and_its_card_are_kept_grid_by_grid(monkeypatch, tmp_path, capsys):
    fits = pandas.DataFrame({"temperature": [MINI.curation.temperature], "fit": [0.1]})
    made = {"stage2": lambda study: code.append("later") or BETTER, "temperatures": lambda study: fits}
    monkeypatch.setattr(tune, "MAKE", made)
    code = ["first"]
    monkeypatch.setattr(tune, "commit", lambda: code[-1])
    tune.tune(STUDY, ["stage2"], folder=tmp_path)
    assert tuning.made(MINI, "stage2", tmp_path)["commit"] == "first"  # that of the code that ran
    said = capsys.readouterr().out
    assert "a CPU" in said and "stage2: never made under mini, so how long it takes is not known" in said
    assert "to be changed in mglib/profiles.py: stage2: {'lr': 1.0}" in said
    tune.tune(STUDY, ["temperatures"], folder=tmp_path)
    assert "to be changed" not in capsys.readouterr().out
    tune.tune(STUDY, ["stage2"], folder=tmp_path)
    assert "stage2: took 0 min on a CPU, float32" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "mini").iterdir()} == {
        "README.md",
        "card.json",
        "stage2.csv",
        "temperatures.csv",
    }
    pandas.testing.assert_frame_equal(tuning.read(tmp_path / "mini" / "stage2.csv"), BETTER)
    card = json.loads((tmp_path / "mini" / "card.json").read_text())
    assert list(card) == ["temperatures", "stage2"]
    about = card["stage2"]
    assert (about["processor"], about["seed"], about["weights"]) == ("a CPU", 0, "wheel")
    assert len(about["date"]) == 10 and set(about) >= {"commit", "precision", "minutes"}


def test_a_table_that_informs_asks_for_no_change():
    sizes = pandas.DataFrame(
        {"language": ["smaller", MINI.language.name, "larger"], "requests": [0.4, 0.7, 0.9]}
    )
    assert tuning.faults(MINI, "language", sizes) == []
    assert tuning.marked(MINI, "language", sizes)["chosen"].tolist() == ["", "*", ""]
    assert "budget" in tuning.GRIDS["language"].criterion


def test_a_grid_that_fails_leaves_the_others_as_they_were(monkeypatch, tmp_path):
    def stopped(study):
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "MAKE", {"stage2": lambda study: OWN, "arms": stopped})
    with pytest.raises(KeyboardInterrupt):
        tune.tune(STUDY, ["stage2", "arms"], folder=tmp_path)
    assert tuning.made(MINI, "stage2", tmp_path)["seed"] == 0
    assert not tuning.file(MINI, "arms", tmp_path).exists()


def test_the_command_line_says_what_cannot_be_done(capsys):
    assert main(["tune", "--profile", "vicuna-7b"]) == 1
    assert main(["tune", "--only", "nothing"]) == 1
    assert "has no grid 'nothing'" in capsys.readouterr().err


def test_no_grid_reads_a_test_split(monkeypatch):
    read = []
    monkeypatch.setattr(tune.Stage1, "of", lambda study, *names: read.append(set(names)))
    for name in ("stage2_data", "prompted_models"):
        monkeypatch.setattr(tune, name, lambda *_: defaultdict(str))
    for module in (tune.stage1, tune.curated, tune.abilities, tune.descriptions, tune.ablations):
        for call in ("trials", "temperatures", "tried", "rates"):
            monkeypatch.setattr(module, call, lambda *_: None, raising=False)
    for module, call in ((tune.stage2, "rates"), (tune.preferences, "rates"), (tune.preferences, "collect")):
        monkeypatch.setattr(module, call, lambda *_: None)
    monkeypatch.setattr(tune.languages, "compared", lambda _: None)  # its own test says what it reads
    for make in tune.MAKE.values():
        make(STUDY)
    special = {f"{sheet.kind}_val" for sheet in CHECKLISTS.values()}
    assert read == [
        {"val", *special},
        {"val"},
        {"pool", "val", *special},
        {"pool", *special},
        {"pool", "val"},
        {"val"},
        {"pool"},
    ]


def test_the_page_has_every_table_with_the_choices_marked(monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "MAKE", {"stage2": lambda study: OWN})
    tune.tune(STUDY, ["stage2"], folder=tmp_path)
    page = (tmp_path / "mini" / "README.md").read_text()
    assert page == tuning.page(MINI, tmp_path) and page.count("## ") == 1
    assert "a CPU; best: highest balance" in page and page.count("| * |") == 1


def test_the_committed_page_is_that_of_the_committed_tables():
    assert (tuning.TUNING / "mini" / "README.md").read_text() == tuning.page(MINI)
