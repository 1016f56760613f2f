"""Predicted beside measured: the plan's own numbers on a card with measured ceilings."""

import pytest
from tiny_release import tiny_profile

from mglib.fullscale import compared, plan
from mglib.study.flops import PROMPT, build, stage_cost

CARD = {"card": "a card", "memory": 80e9, "ceiling": 1e12, "bandwidth": 1e9}


@pytest.fixture
def tiny(monkeypatch):
    profile = tiny_profile(400)
    monkeypatch.setattr(compared, "profile", {profile.name: profile}.get)
    monkeypatch.setattr(plan, "utilisation", lambda: 0.25)
    return profile


def row(what, rate, *, model="tiny-paper", at_once=4, peak=None):
    return {"model": model, "what": what, "unit": "things", "rate": rate, "at_once": at_once, "peak": peak}


def lines(*rows):
    found = compared.beside({"tiny-paper": {**CARD, "measured": list(rows)}})
    return found.to_dict("records")


def test_a_rate_stands_beside_what_its_work_takes_at_the_papers_share(tiny):
    model = build(tiny)
    first = stage_cost(model, tiny, tiny.stage1)
    second = stage_cost(model, tiny, tiny.stage2, prompt=PROMPT)
    for what, work in {"pictures": first.look, "stage 1": first.flops, "stage 2": second.flops}.items():
        (found,) = lines(row(what, 2 * 0.25e12 / work))
        assert found["measured / predicted"] == "**2.00**" and found["in"] == "things a second"


def test_answers_are_bound_by_the_memory(tiny):
    weights = sum(p.numel() * p.itemsize for p in build(tiny).language.parameters())
    for beams in (1, 5):
        (found,) = lines(row(f"answers about 4, beam {beams}", 4 * 1e9 / weights))
        assert found["measured / predicted"] == "1.00"


def test_a_steps_memory_is_compared_too(tiny):
    model = build(tiny)
    held = plan.training_bytes(model, stage_cost(model, tiny, tiny.stage1), 4)
    _, found = lines(row("stage 1", 1.0, peak=1.15 * held))
    assert found["in"] == "GB at most" and found["measured / predicted"] == "1.15"


def test_what_the_plan_says_nothing_of_has_no_prediction(tiny):
    others = [row("stage 1", 1.0, model=name, peak=1) for name in ("tiny-paper in 8bit", "mini")]
    found = lines(row("first token", 1.0, peak=1), *others)
    assert [each["predicted"] for each in found] == ["-"] * 3


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.0, "1.00"), (1.19, "1.19"), (1.21, "**1.21**"), (0.79, "**0.79**"), (0.81, "0.81")]
)
def test_more_than_a_fifth_is_marked(ratio, text):
    assert compared.marked(ratio) == text
