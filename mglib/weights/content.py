"""What a conversion must give on any machine: a hash of the tensors themselves."""

import hashlib

import torch


def content(state: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the names, types, shapes and values of a state dict.

    Unlike a file's hash it does not change with the version of the library that writes the file.
    """
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def require_content(state: dict[str, torch.Tensor], pinned: str, *, origin: str) -> None:
    """Raise RuntimeError unless `state` is what the conversion of `origin` gave when it was checked."""
    found = content(state)
    if found != pinned:
        raise RuntimeError(
            f"Converting {origin} gave other numbers than it should ({found[:12]}, pinned "
            f"{pinned[:12]}): install requirements.lock and run the same command again."
        )
