"""Tables of estimates: what is published of each cell, and how it is written."""

import pandas
import pytest

from mglib.metrics import Counts, Estimate
from mglib.paper import PAPER
from mglib.repro import tables
from mglib.repro.report import Report, numbers
from mglib.settings import Settings

HALF = Estimate(0.5, 0.25, 0.75, 8)


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setattr("mglib.repro.report.display", lambda shown: None)
    return Report(Settings(), notebook="05_eval", runs=tmp_path)


def test_estimates_are_those_of_the_named_measures():
    counted = {"one": {"a": Counts([1, 0], [1, 1]), "b": Counts([0, 0], [0, 0])}}
    assert tables.estimates(counted)["one"]["b"] is None
    assert list(tables.estimates(counted, "a")["one"]) == ["a"]
    assert tables.estimates(counted, "a")["one"]["a"].value == 0.5


def test_a_table_can_be_turned_over():
    rows = {"one": {"a": HALF, "b": None}, "two": {"a": None}}
    assert tables.by_measure(rows) == {"a": {"one": HALF, "two": None}, "b": {"one": None}}
    assert tables.by_measure(rows, "b") == {"b": {"one": None}}


def test_points_have_both_measures_above_zero():
    none = Estimate(0.0, 0.0, 0.0, 8)
    rows = {"good": {"x": HALF, "y": none}, "short": {"x": none, "y": HALF}, "empty": {"x": HALF, "y": None}}
    assert tables.pairs(rows, "x", "y") == {"good": (HALF, none)}


def test_the_papers_points_and_rows_go_by_name():
    assert tables.paper_pairs(["long"], "length", "chair_i", prefix="t5") == {"long": (175.0, 0.096)}
    assert tables.paper("t8.references_covered")["10"] == 1.62 and tables.paper("t8") == {}
    assert tables.quoted("length") == {"llava": {"length": None}, "mplug_owl": {"length": None}}


def test_plain_values_stand_beside_the_papers():
    rows = {"base": {"gqa": HALF, "other": HALF}, "chance": {"gqa": None, "other": HALF}}
    found = tables.values(rows, prefix="t4")
    exact = "GQA, exact match"
    assert list(found) == ["row", exact, f"{exact}, paper", "other"]
    assert found[f"{exact}, paper"][0] == PAPER["t4.gqa.base"] and found[exact][0] == 0.5
    assert found.loc[1, [exact, f"{exact}, paper"]].isna().all()


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
    assert list(table.iloc[:, 0]) == ["MiniGPT-4, long", "LLaVA, quoted"]
    assert table["CHAIR_i"][0] == f"0.5 [0.25, 0.75] (paper {PAPER['t5.chair_i.long']:.3g})"


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
