"""Reading of published weights without running any code from their files."""

import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")


@contextmanager
def hub_errors(name: str, instead: str) -> Iterator[None]:
    """Turn whatever the hub's library raises into RuntimeError.

    Its errors change with the HTTP library beneath it, and the advice is the same for all of them.
    """
    try:
        yield
    except Exception as error:
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RuntimeError(
            f"{name} could not be fetched from the Hugging Face hub ({first}). Check the name, the "
            f"connection and HF_HUB_OFFLINE, or {instead}."
        ) from error


def not_weights(path: Path) -> str | None:
    """Return what a file is instead of weights, judging by its first bytes, or None."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        return "is a git-LFS pointer, not the weights: run `git lfs pull` in its folder."
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page saved under this name: open the link in a browser and download the file itself."
    if not head:
        return "is empty: download it again."
    if head.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        return f"is cut off after {path.stat().st_size:,} bytes: download it again."
    return None


def read_file(path: Path) -> Any:
    """Read a safetensors file, or one of `torch.save` with `weights_only=True`; tensors stay on disk until
    they are used.

    Raises FileNotFoundError, or ValueError with the next step if the file is something else, is cut off, or
    would run code.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: download it (mglib/weights/official.py says from where) and give its path."
        )
    if problem := not_weights(path):
        raise ValueError(f"{path} {problem}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): download it again.") from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{path} was refused: loading it would run code of its own "
            f"({named[1] if named else 'an unknown pickle instruction'}). Weights need none: take the file "
            "from its official source, or save its state dict alone."
        ) from error
    except Exception as error:  # what else torch.load raises is not documented
        raise ValueError(
            f"{path} is cut off or not a file of torch.save ({type(error).__name__}): download it again."
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a .pth file, alone or under "model" or "state_dict", without the prefixes of
    DataParallel and torch.compile. Raises like `read_file`.
    """
    state = read_file(path)
    for key in ("model", "state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict: it is not one of the official weights.")
    return {WRAPPERS.sub("", name): value for name, value in state.items()}


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Return all weights of a transformers folder; raises like `read_file`."""
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        none = f"{folder} holds no weights: neither model*.safetensors nor pytorch_model*.bin is there."
        if any(folder.glob("consolidated.*.pth")):
            none = (
                f"{folder} holds a LLaMA as Meta gives it (consolidated.*.pth). Convert it where "
                "`pip install transformers==4.44.2 torch accelerate sentencepiece` was run, with `python -m "
                "transformers.models.llama.convert_llama_weights_to_hf --model_size 7B --input_dir "
                f"{folder} --output_dir {folder}-hf` (later releases left this out), and name {folder}-hf."
            )
        raise FileNotFoundError(none)
    return {name: value for file in files for name, value in read_file(file).items()}
