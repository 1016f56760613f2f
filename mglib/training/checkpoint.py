"""Training state on disk: one safetensors file with the trained weights, optimizer and RNG state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mglib.weights.tensors import load_weights, save_weights


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def copy_weights(weights: Mapping[str, Tensor], module: nn.Module, *, origin: Path | str) -> None:
    """Copy weights into the module's parameters of the same names.

    Raises ValueError when a name is unknown or a shape differs: such weights belong to another model.
    """
    own = dict(module.named_parameters())
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            found = tuple(own[name].shape) if name in own else "no such parameter"
            raise ValueError(
                f"{origin} holds {name} of shape {tuple(tensor.shape)}, this model has {found}: the "
                "weights belong to another model. Train them again with this profile."
            )
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def restore(module: nn.Module, path: Path) -> dict[str, Any]:
    """Copy a file's weights into the module's parameters; returns their description. Raises as
    `copy_weights`.
    """
    weights, about = load_weights(path)
    copy_weights(weights, module, origin=path.name)
    return about


def freeze(module: nn.Module, path: Path) -> nn.Module:
    """Load stored weights into a module and freeze it."""
    restore(module, path)
    return module.eval().requires_grad_(False)


def in_order(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """Return the parameters of an optimizer by name, in the order in which it numbers them."""
    names = {id(parameter): name for name, parameter in trainable(module).items()}
    return {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}


def save_state(
    path: Path,
    module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    step: int,
    streams: Sequence[dict[str, Any]] = (),
) -> None:
    """Write everything needed to resume a training exactly after `step` steps.

    `streams` holds the state of each process's data stream; without streams the step is enough.
    """
    state = {f"model.{name}": parameter for name, parameter in trainable(module).items()}
    for optimizer in optimizers:
        names = list(in_order(module, optimizer))
        for index, values in optimizer.state_dict()["state"].items():
            state |= {
                f"optimizer.{names[index]}.{key}": torch.as_tensor(value) for key, value in values.items()
            }
    state["generator"] = torch.get_rng_state()
    save_weights(path, state, {"step": step, **({"streams": list(streams)} if streams else {})})


def load_state(
    path: Path, module: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[int, list[dict[str, Any]]]:
    """Restore a training state; returns the number of steps done and the `streams`.

    Raises ValueError for the state of another model.
    """
    state, about = load_weights(path)
    weights = under(state, "model.")
    if weights.keys() != trainable(module).keys():
        raise ValueError(
            f"{path} holds a training state of another model: delete it and run the same command again."
        )
    copy_weights(weights, module, origin=path)
    for optimizer in optimizers:
        values = {
            index: under(state, f"optimizer.{name}.")
            for index, name in enumerate(in_order(module, optimizer))
        }
        optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(state["generator"])
    return about["step"], about.get("streams", [])


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
