"""Training state on disk: written atomically, and never loaded into a model that it does not fit."""

import pytest
import torch
from torch import nn

from mglib.training import checkpoint
from mglib.weights import tensors


def network(width=4, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))


def test_restoring_fills_the_stored_parameters_and_leaves_the_others(tmp_path):
    source, target = network(), network(seed=1)
    own = target[0].weight.clone()
    tensors.save_weights(tmp_path / "a", {"2.weight": source[2].weight}, {"step": 1, "of": "ü"})
    assert checkpoint.restore(target, tmp_path / "a") == {"step": 1, "of": "ü"}
    assert torch.equal(target[2].weight, source[2].weight) and torch.equal(target[0].weight, own)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b""),
        lambda path: torch.save({"0.weight": torch.zeros(4, 3)}, path),
        lambda path: path.unlink(),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named_with_advice(tmp_path, harm):
    path = tmp_path / "latest.safetensors"
    tensors.save_weights(path, checkpoint.trainable(network()), {})
    harm(path)
    with pytest.raises(
        ValueError, match=r"latest\.safetensors is .*Delete it and run the same command again"
    ):
        tensors.load_weights(path)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (
            {"2.bias": torch.ones(1), "0.weight": torch.ones(5, 3)},
            r"of shape \(5, 3\), this model has \(4, 3\)",
        ),
        ({"2.bias": torch.ones(1), "projection.weight": torch.ones(2)}, "this model has no such parameter"),
    ],
)
def test_weights_of_another_model_are_refused_and_nothing_is_copied(tmp_path, weights, told):
    tensors.save_weights(tmp_path / "a", weights, {})
    target = network()
    with pytest.raises(ValueError, match=rf"{told}.*belong to another model"):
        checkpoint.restore(target, tmp_path / "a")
    assert torch.equal(target[2].bias, network()[2].bias)


def test_a_training_state_that_lacks_a_weight_is_refused(tmp_path):
    checkpoint.save_state(tmp_path / "latest", nn.Linear(3, 4), [], step=3)
    with pytest.raises(ValueError, match="another model"):
        checkpoint.load_state(tmp_path / "latest", network(), [])


def test_a_failed_saving_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors.save_weights(path, {"x": torch.ones(2)}, {"step": 1})
    whole = path.read_bytes()
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError):  # safetensors refuses tensors that share memory
        tensors.save_weights(path, {"x": shared, "y": shared}, {"step": 2})
    assert path.read_bytes() == whole and [file.name for file in tmp_path.iterdir()] == [path.name]
