"""Weights as others publish them: found on disk or on the hub, and read without running anybody's code."""

import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

HUB = "hub:"  # hub:owner/name/file, and hub:spaces/owner/name/file for a file of a Space
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
INDEXES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)


def locate(file: str | Path) -> Path:
    """Return a file's path; only one that begins with "hub:" is downloaded.

    Raises FileNotFoundError when the file does not exist, RuntimeError when the hub cannot be reached.
    """
    if not str(file).startswith(HUB):
        if not Path(file).is_file():
            raise FileNotFoundError(
                f"{file} is not there: download it (mglib/weights/official.py says from where) and give its "
                "path, or give hub:owner/name/file."
            )
        return Path(file)
    parts = str(file).removeprefix(HUB).split("/")
    kind = "space" if parts[0] == "spaces" else "model"
    owner, name, *rest = parts[1:] if kind == "space" else parts
    try:
        with hub_errors(str(file), "download the file elsewhere and give its path"):
            return Path(hf_hub_download(f"{owner}/{name}", "/".join(rest), repo_type=kind, etag_timeout=10))
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"{file} is not in that repository of the hub.") from error


@contextmanager
def hub_errors(name: str, instead: str) -> Iterator[None]:
    """Turn what the hub's library raises, except for a file that a repository lacks, into RuntimeError.

    Its errors change with the HTTP library beneath it, and the advice is the same for all of them.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RuntimeError(
            f"{name} could not be had from the Hugging Face hub ({first}). Check the name, the connection "
            f"and HF_HUB_OFFLINE, or {instead}."
        ) from error


def read_pth(path: Path, *, mapped: bool = False) -> Any:
    """Read a file of `torch.save` with `weights_only=True`; `mapped` leaves the tensors on disk until used.

    Raises ValueError with the next step when the file is something else, is cut off, or wants to run code.
    """
    if problem := not_weights(path):
        raise ValueError(f"{path} {problem}")
    try:
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{path} was refused: loading it would run code of its own "
            f"({named[1] if named else 'an unknown pickle instruction'}). Weights need none: take the file "
            "from its official source, or save its state dict alone."
        ) from error
    except Exception as error:  # what torch.load raises on other bytes is not documented
        raise ValueError(
            f"{path} is cut off or not a file of torch.save ({type(error).__name__}): download it again."
        ) from error


def not_weights(path: Path) -> str | None:
    """Say what a file is instead of weights, judging by its first bytes."""
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


def read_state(file: str | Path) -> dict[str, Tensor]:
    """Return the state dict of a .pth file, alone or under "model" or "state_dict"; what
    DataParallel and torch.compile put before its names is left out. Raises as `read_pth`.
    """
    path = locate(file)
    state = read_pth(path)
    for key in ("model", "state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict: it is not one of the official weights.")
    return {WRAPPERS.sub("", name): value for name, value in state.items()}


class Shards:
    """The tensors of a transformers folder, on disk or on the hub, read one at a time.

    `files` says in which file each tensor is; only files that are asked for are fetched.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder
        first = self._first()
        if first.suffix == ".json":
            self.files: dict[str, str] = json.loads(first.read_text(encoding="utf-8"))["weight_map"]
        else:
            self.files = dict.fromkeys(_names(first), first.name)

    def _first(self) -> Path:
        for name in INDEXES:
            try:
                return locate(f"{self.folder}/{name}")
            except FileNotFoundError:
                continue
        raise FileNotFoundError(f"{self.folder} holds no weights: none of {', '.join(INDEXES)} is there.")

    def get(self, name: str) -> Tensor:
        """Return one tensor. Raises as `locate` and `read_pth`, ValueError for a damaged safetensors file."""
        path = locate(f"{self.folder}/{self.files[name]}")
        if path.suffix == ".safetensors":
            with opened(path) as file:
                return file.get_tensor(name)
        return _mapped(path)[name]


@contextmanager
def opened(path: Path) -> Iterator[safe_open]:
    """Open a safetensors file; raises ValueError with the next step when it is not one."""
    if problem := not_weights(path):
        raise ValueError(f"{path} {problem}")
    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): download it again.") from error
    with file:
        yield file


def _names(path: Path) -> list[str]:
    if path.suffix == ".safetensors":
        with opened(path) as file:
            return list(file.keys())
    return list(_mapped(path))


@lru_cache(maxsize=2)  # one of the base, one of the delta
def _mapped(path: Path) -> dict[str, Tensor]:
    return read_pth(path, mapped=True)
