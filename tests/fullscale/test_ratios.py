"""What mini's ratios compare does the same work both ways."""

import torch

from mglib.fullscale import ratios
from mglib.profiles import MINI
from mglib.study.study import Study


def test_both_muons_step_one_matrix_of_the_same_shape():
    study = Study.of(MINI, seed=0, weights="wheel")
    study.__dict__.update(device=torch.device("cpu"), dtype=torch.bfloat16)
    theirs, ours = ratios.muons(study)
    shapes = []
    for optimizer in (theirs, ours):
        (parameter,) = optimizer.param_groups[0]["params"]
        before = parameter.detach().clone()
        optimizer.step()
        assert not torch.equal(before, parameter)
        shapes.append(tuple(parameter.shape))
    assert shapes == [(1536, 384)] * 2
