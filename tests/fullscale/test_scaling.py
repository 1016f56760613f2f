"""docs/scaling.md says what `mglib.fullscale.plan` computes, and nothing else."""

import json

import pytest

from mglib.fullscale import counts, scaling
from mglib.paper_profiles import VICUNA_7B


def test_the_document_holds_the_computed_tables():
    text = scaling.DOCUMENT.read_text(encoding="utf-8")
    assert scaling.with_tables(text) == text, "run `python -m mglib.fullscale.scaling`"
    with pytest.raises(ValueError, match="has no markers <!-- growth:start --> and"):
        scaling.with_tables("nothing")


def test_the_papers_run_takes_the_papers_hours():
    rows = scaling.growth().set_index("stage 1 of")
    assert rows["FLOP"]["mini"] == rows["FLOP"].min()
    assert rows["A100 hours"]["vicuna-7b"] / 4 == pytest.approx(10)  # that is how it is calibrated
    assert 0.1 < scaling.utilisation() < 0.6
    pair = counts.counted(VICUNA_7B).first
    # Forward and backward through 6.7 billion frozen weights, 65 tokens: two FLOPs each, twice.
    assert pair.read == pytest.approx(4 * 6.5e9 * 65, rel=0.1)
    # 0.99 billion weights on 257 tokens, forward alone.
    assert pair.look == pytest.approx(2 * 0.99e9 * 257, rel=0.1)
    # Tokens of all pictures would be terabytes.
    assert rows["vision tokens if kept, GB"]["vicuna-7b"] == pytest.approx(5.12e6 * 257 * 1408 * 2 / 1e9)


def test_what_was_measured_is_compared_with_the_plan(tmp_path):
    file, model = tmp_path / "bench.json", counts.counted(VICUNA_7B)
    entry = {"processor": "a card", "ceiling": 1e15, "bandwidth": 2e12}
    rate = 2 * 1e15 * scaling.utilisation() / model.first.flops
    held = counts.memory(VICUNA_7B, 16)
    peak = 1.15 * held.training(held.first, 16)
    words = 16 * 2e12 / held.language
    stage, answers = ({"unit": unit, "at_once": 16} for unit in ("samples", "tokens"))
    rows = [
        {"model": "vicuna-7b", "what": "stage 1", "rate": rate, "peak": peak, **stage},
        {"model": "vicuna-7b", "what": "answers about 16", "rate": words, "peak": 1e9, **answers},
        {"model": "vicuna-7b in 4bit", "what": "stage 1", "rate": 500.0, "peak": 2e9, **stage},
    ]
    file.write_text(json.dumps({"vicuna-7b": {**entry, "measured": rows}}))
    stage, answers, few = scaling.measured(json.loads(file.read_text())).to_dict("records")
    assert stage["measured / predicted"] == "**2.00**" and stage["GB, measured / predicted"] == "1.15"
    assert answers["measured / predicted"] == "1.00" and answers["GB, measured / predicted"] == "-"
    assert few["measured / predicted"] == few["GB, measured / predicted"] == "-"
    shown = scaling.contents(file)["measured"]
    assert "| a card | vicuna-7b in 4bit | stage 1, 16 at once | 500 samples | - | 2 | - |" in shown
