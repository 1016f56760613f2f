"""Training state on disk: whole or not at all, and never put into a model that it does not fit."""

import pytest
import torch
from torch import nn

from mglib.training import checkpoint
from mglib.weights import tensors


def network(width=4, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))


def adam(module):
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return optimizer


def test_weights_and_their_description_come_back(tmp_path):
    module = network()
    tensors.save_weights(tmp_path / "a.safetensors", checkpoint.trainable(module), {"step": 7, "of": "ü"})
    weights, about = tensors.load_weights(tmp_path / "a.safetensors")
    assert about == {"step": 7, "of": "ü"}
    assert weights.keys() == dict(module.named_parameters()).keys()
    assert all(torch.equal(weights[name], value) for name, value in module.named_parameters())


def test_restoring_fills_the_stored_parameters_and_leaves_the_others(tmp_path):
    source, target = network(), network(seed=1)
    own = target[0].weight.clone()
    tensors.save_weights(tmp_path / "a", {"2.weight": source[2].weight}, {"step": 1})
    assert checkpoint.restore(target, tmp_path / "a") == {"step": 1}
    assert torch.equal(target[2].weight, source[2].weight) and torch.equal(target[0].weight, own)


def torn(path):
    path.write_bytes(path.read_bytes()[:-40])


def empty(path):
    path.write_bytes(b"")


def other_format(path):
    torch.save({"0.weight": torch.zeros(4, 3)}, path)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("harm", [torn, empty, other_format, remove])
def test_a_file_that_is_no_checkpoint_is_named_with_advice(tmp_path, harm):
    path = tmp_path / "latest.safetensors"
    tensors.save_weights(path, checkpoint.trainable(network()), {})
    harm(path)
    with pytest.raises(
        ValueError, match=r"latest\.safetensors is .*Delete it and run the same command again"
    ):
        tensors.load_weights(path)


def test_weights_of_another_shape_are_refused_and_nothing_is_copied(tmp_path):
    tensors.save_weights(tmp_path / "a", checkpoint.trainable(network(width=5, seed=1)), {})
    target, before = network(), network()
    with pytest.raises(ValueError, match=r"of shape \(5.*\), this model has \(4.*belong to another model"):
        checkpoint.restore(target, tmp_path / "a")
    assert all(torch.equal(p, q) for p, q in zip(target.parameters(), before.parameters(), strict=True))


def test_an_unknown_name_is_refused_and_nothing_is_copied(tmp_path):
    weights = {"0.weight": torch.ones(4, 3), "projection.weight": torch.ones(2)}
    tensors.save_weights(tmp_path / "a", weights, {})
    target, before = network(), network()
    with pytest.raises(ValueError, match=r"projection\.weight .*no such parameter.*another model"):
        checkpoint.restore(target, tmp_path / "a")
    assert torch.equal(target[0].weight, before[0].weight)


def test_a_training_state_comes_back_whole(tmp_path):
    module, again = network(), network(seed=1)
    optimizer = adam(module)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        checkpoint.save_state(tmp_path / "latest", module, [optimizer], step=3)
        expected = torch.rand(4)
        torch.manual_seed(6)
        fresh = torch.optim.AdamW(again.parameters(), lr=0.1)
        assert checkpoint.load_state(tmp_path / "latest", again, [fresh]) == (3, [])
        assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), again.parameters(), strict=True))
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            assert torch.equal(fresh.state_dict()["state"][index][key], value)


def test_a_training_state_of_another_shape_is_refused(tmp_path):
    module, other = network(), network(width=5)
    checkpoint.save_state(tmp_path / "latest", module, [adam(module)], step=3)
    with pytest.raises(ValueError, match="another model"):
        checkpoint.load_state(tmp_path / "latest", other, [torch.optim.AdamW(other.parameters())])


def test_a_failed_saving_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors.save_weights(path, {"x": torch.ones(2)}, {"step": 1})
    whole = path.read_bytes()
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError):  # safetensors refuses tensors that share memory
        tensors.save_weights(path, {"x": shared, "y": shared}, {"step": 2})
    assert path.read_bytes() == whole and [file.name for file in tmp_path.iterdir()] == [path.name]
