"""Ratios of paired runs."""

from dataclasses import replace

from mglib.fullscale import timing
from mglib.fullscale.timing import Comparison


def test_a_ratio_is_the_median_of_paired_ones_with_our_seconds_and_share(monkeypatch):
    monkeypatch.setattr(timing, "seconds", lambda work: work() or next(taken))
    calls = []
    plain, ours = (lambda: calls.append("plain")), (lambda: calls.append("ours"))
    monkeypatch.setattr(timing, "tqdm", lambda items, **about: items)
    taken = iter([2.0, 1.0, 6.0, 2.0, 4.0, 2.0])
    one = Comparison(name="a name", other=plain, ours=ours, work=3.0)
    found = timing.compare(one, rounds=3, ceiling=5.0)
    assert (found.ratio, found.low, found.high, found.seconds, found.share) == (2.0, 2.0, 3.0, 2.0, 0.3)
    words = " ".join(str(found).split())
    assert words == "a name 2.00x (2.00 to 3.00) 2.000 s 0.30 of the ceiling"
    assert calls == ["plain", "ours"] * 4
    taken = iter([2.0, 1.0])
    unknown = timing.compare(replace(one, work=None), rounds=1, ceiling=5.0)
    assert unknown.share is None and "ceiling" not in str(unknown)
