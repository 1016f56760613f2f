"""The bench: ratios of paired runs, and both ways of a comparison do the same work."""

import torch

from mglib.fullscale import bench
from mglib.profiles import MINI
from mglib.study.study import Study


def test_a_line_holds_the_median_of_paired_ratios_and_our_seconds(monkeypatch):
    monkeypatch.setattr(bench, "seconds", lambda work: work() or next(taken))
    calls = []
    plain, ours = (lambda: calls.append("plain")), (lambda: calls.append("ours"))
    monkeypatch.setattr(bench, "tqdm", lambda items, **about: items)
    taken = iter([2.0, 1.0, 6.0, 2.0, 4.0, 2.0])
    line = bench.compare("a name", plain, ours, rounds=3)
    assert line.split() == ["a", "name", "2.00x", "(2.00", "to", "3.00)", "2.000", "s"]
    assert calls == ["plain", "ours"] * 4


def test_both_muons_step_one_matrix_of_the_same_shape():
    study = Study.of(MINI, seed=0, weights="wheel")
    study.__dict__.update(device=torch.device("cpu"), dtype=torch.bfloat16)
    theirs, ours = bench.muons(study)
    shapes = []
    for optimizer in (theirs, ours):
        (parameter,) = optimizer.param_groups[0]["params"]
        before = parameter.detach().clone()
        optimizer.step()
        assert not torch.equal(before, parameter)
        shapes.append(tuple(parameter.shape))
    assert shapes == [(1536, 384)] * 2
