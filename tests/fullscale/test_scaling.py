"""docs/scaling.md says what `mglib.fullscale.plan` computes, and nothing else."""

import json

import pytest

from mglib.fullscale import scaling


def test_the_document_holds_the_computed_tables():
    text = scaling.DOCUMENT.read_text(encoding="utf-8")
    assert scaling.with_tables(text) == text, "run `python -m mglib.fullscale.scaling`"


def test_more_pairs_are_more_of_everything():
    rows = {rung.name: scaling.flops(rung) for rung in scaling.RUNGS}
    assert rows["mini"] < rows["vicuna-7b"] < rows["vicuna-13b"] < rows["LAION-400M, vicuna-13b"]
    model, pair = scaling.counted(scaling.VICUNA_7B)
    # Forward and backward through 6.7 billion frozen weights, 65 tokens: two FLOPs each, twice.
    assert pair.read == pytest.approx(4 * 6.5e9 * 65, rel=0.1)
    # 0.99 billion weights on 257 tokens, forward alone.
    assert pair.look == pytest.approx(2 * 0.99e9 * 257, rel=0.1)
    assert scaling.weight_bytes(model) == pytest.approx(2 * (6.74e9 + 0.99e9) + 4 * 0.105e9, rel=0.01)


def test_the_papers_run_takes_the_papers_hours():
    paper = next(rung for rung in scaling.RUNGS if rung.name == "vicuna-7b")
    assert scaling.hours(scaling.flops(paper), gpus=4) == pytest.approx(10)  # that is how it is calibrated
    assert 0.1 < scaling.utilisation() < 0.6


def test_the_plot_shows_each_rung():
    axes = scaling.plot().axes
    assert [axis.get_ylabel() for axis in axes] == ["FLOP", "bytes", "dollars"]
    assert all(len(line.get_xdata()) == len(scaling.RUNGS) for axis in axes for line in axis.lines)


def test_what_was_measured_stands_in_the_document_where_it_was(tmp_path):
    text = scaling.DOCUMENT.read_text(encoding="utf-8")
    assert "Nothing of this size has been measured yet" in scaling.with_tables(text, tmp_path / "gpu.json")
    entry = {"card": "a card", "memory": 80e9, "ceiling": 1e15, "bandwidth": 2e12, "measured": []}
    row = {"model": "mini", "what": "stage 1", "unit": "samples", "rate": 500.0, "at_once": 16, "peak": 2e9}
    record = {"vicuna-7b": {**entry, "measured": [row]}}
    (tmp_path / "gpu.json").write_text(json.dumps(record))
    shown = scaling.with_tables(text, tmp_path / "gpu.json")
    assert "| a card | mini | stage 1, 16 at once | samples a second | 500 | - | - |" in shown


def test_a_document_without_markers_is_refused():
    with pytest.raises(ValueError, match="has no markers <!-- growth:start --> and"):
        scaling.with_tables("nothing")
