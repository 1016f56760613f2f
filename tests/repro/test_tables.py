"""Tables of estimates: what is published of each cell, and how it is written."""

import pandas
import pytest

from mglib.metrics import Counts, Estimate
from mglib.repro import tables
from mglib.repro.paper import PAPER
from mglib.repro.report import Report, numbers

HALF = Estimate(0.5, 0.25, 0.75, 8)


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setattr("mglib.repro.report.display", lambda shown: None)
    return Report(profile="mini", seed=0, weights="wheel", notebook="05_eval", runs=tmp_path)


def test_estimates_are_those_of_the_named_measures():
    counted = {"one": {"a": Counts([1, 0], [1, 1]), "b": Counts([0, 0], [0, 0])}}
    assert tables.estimates(counted)["one"]["b"] is None
    assert list(tables.estimates(counted, "a")["one"]) == ["a"]
    assert tables.estimates(counted, "a")["one"]["a"].value == 0.5


def test_the_first_of_equals_is_taken_for_each_model():
    tried = [
        {"model": "x", "way": 1, "score": 0.2},
        {"model": "y", "way": 2, "score": 0.9},
        {"model": "x", "way": 3, "score": 0.4},
        {"model": "x", "way": 4, "score": 0.4},
    ]
    assert {model: line["way"] for model, line in tables.best(tried, "score").items()} == {"x": 3, "y": 2}
    assert tables.best([], "score") == {}


def test_each_cell_is_a_number_with_its_note_and_the_papers_value(report, tmp_path):
    rows = {"long": {"chair_i": HALF, "words": None}, "llava": {"chair_i": None}}
    tables.publish(report, "t", rows, prefix="t5", note="drawn", remarks={"long": "greedy"})
    found = {number["name"]: number for number in numbers(tmp_path / "mini")}
    long, llava = found["t5.chair_i.long"], found["t5.chair_i.llava"]
    assert (long["value"], long["low"], long["high"], long["n"]) == (0.5, 0.25, 0.75, 8)
    assert long["note"] == "drawn; greedy" and long["paper"] == PAPER["t5.chair_i.long"]
    assert found["t5.words.long"]["value"] is None
    assert "quoted" in llava["note"] and llava["value"] is None and llava["paper"] == PAPER[llava["name"]]
    table = pandas.read_csv(tmp_path / "mini" / "tables" / "05_eval" / "t.csv")
    assert list(table["n"]) == ["8", "quoted"]
    assert table["chair_i"][0] == f"0.5 [0.25, 0.75] (paper {PAPER['t5.chair_i.long']:.3g})"


def test_a_table_without_rows_is_empty(report, tmp_path):
    tables.publish(report, "t", {}, prefix="t5", note="drawn")
    assert numbers(tmp_path / "mini") == []
    assert (tmp_path / "mini" / "tables" / "05_eval" / "t.md").exists()


def test_a_cell_without_a_number_has_a_dash():
    assert tables.cell(None) == "-" and tables.cell(None, 0.1) == "- (paper 0.1)"
    assert tables.cell(HALF) == "0.5 [0.25, 0.75]"


def test_a_listed_row_has_a_number_with_its_interval_in_each_cell():
    table = tables.listed({"start": {"a": HALF, "b": None}, "end": {"a": HALF}}, of="model")
    assert list(table.columns) == ["model", "a", "b"] and list(table["model"]) == ["start", "end"]
    assert table["a"][0] == "0.5 [0.25, 0.75]" and table["b"][0] == "-"
