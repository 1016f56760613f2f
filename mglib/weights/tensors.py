"""Our own tensors on disk, one safetensors file with a JSON description; and hashes of their content."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mglib.paths import atomic_write


def hash_tensors(tensors: Mapping[Any, Tensor]) -> str:
    """Return the SHA-256 of the names, types, shapes and values of tensors.

    Unlike a file's hash it does not change with the version of the library that writes the file.
    """
    whole = sha256()
    for name, value in sorted(tensors.items()):
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        whole.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()


def require_content(state: Mapping[str, Tensor], pinned: str, *, origin: str) -> None:
    """Raise RuntimeError unless `state` has the `pinned` hash that converting `origin` should give."""
    found = hash_tensors(state)
    if found != pinned:
        raise RuntimeError(
            f"Converting {origin} gave other numbers than it should ({found[:12]}, pinned "
            f"{pinned[:12]}): install requirements.lock and run the same command again."
        )


def save_weights(path: Path, weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and a JSON description of them into one file, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_weights`; raises ValueError with advice when it is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a readable checkpoint ({error}). Delete it and run the same command again: "
            "training resumes from the last good state."
        ) from error
