"""The bench: ratios of paired runs, and both ways of a comparison do the same work."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mglib.fullscale import bench
from mglib.fullscale.bench import Comparison
from mglib.profiles import MINI
from mglib.study.study import Study


def test_a_ratio_is_the_median_of_paired_ones_with_our_seconds_and_share(monkeypatch):
    monkeypatch.setattr(bench, "seconds", lambda work: work() or next(taken))
    calls = []
    plain, ours = (lambda: calls.append("plain")), (lambda: calls.append("ours"))
    monkeypatch.setattr(bench, "tqdm", lambda items, **about: items)
    taken = iter([2.0, 1.0, 6.0, 2.0, 4.0, 2.0])
    one = Comparison(name="a name", other=plain, ours=ours, work=3.0)
    found = bench.compare(one, rounds=3, ceiling=5.0)
    assert (found.ratio, found.low, found.high, found.seconds, found.share) == (2.0, 2.0, 3.0, 2.0, 0.3)
    assert str(found).split() == [
        "a",
        "name",
        "2.00x",
        "(2.00",
        "to",
        "3.00)",
        "2.000",
        "s",
        "0.30",
        "of",
        "the",
        "ceiling",
    ]
    assert calls == ["plain", "ours"] * 4
    taken = iter([2.0, 1.0])
    unknown = bench.compare(replace(one, work=None), rounds=1, ceiling=5.0)
    assert unknown.share is None and "ceiling" not in str(unknown)


def test_transformers_blip2_has_our_loss_at_equal_weights(model):
    ours = model()
    size = ours.qformer.config
    profile = replace(
        MINI,
        vision=replace(MINI.vision, width=64, image_size=28),
        qformer=replace(MINI.qformer, width=size.width, heads=1, queries=size.queries),
    )
    study = SimpleNamespace(profile=profile, device=torch.device("cpu"), dtype=torch.float32)
    theirs = bench.beside_ours(study, ours)
    pixels = torch.randn(profile.stage1.batch_size, 3, 28, 28)
    batch = bench.caption_batch(study, ours)
    batch["queries"] = theirs.get_image_features(pixels).qformer_outputs.last_hidden_state.detach()
    output = ours(batch)
    loss = bench.usual_step(theirs, batch, pixels)
    assert loss.item() == pytest.approx(output["loss"].item() / output["count"].item(), rel=1e-5)
    learns = {name for name, weight in theirs.named_parameters() if weight.grad is not None}
    assert learns == {"language_projection.weight", "language_projection.bias"}


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
