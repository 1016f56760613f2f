"""Web pairs in webdataset shards, as img2dataset writes them (LAION, CC, SBU, and the small world's)."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset
from PIL import Image


def shards(folder: Path) -> list[Path]:
    """Return the tar files of a folder in order; raises FileNotFoundError when there are none."""
    files = sorted(folder.glob("*.tar"))
    if not files:
        raise FileNotFoundError(
            f"There are no .tar shards in {folder}. Build the small world with `make reproduce "
            "NOTEBOOKS=01`, or put shards written by img2dataset there."
        )
    return files


def samples(files: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield each sample's raw parts (`jpg`, `json`, `txt`, `__key__`) in the order of the files."""
    pipeline = webdataset.WebDataset([str(file) for file in files], shardshuffle=False, empty_check=False)
    yield from pipeline


def captions(files: list[Path]) -> list[tuple[str, str]]:
    """Return every sample's caption and the SHA-256 of its picture's bytes, without decoding the picture."""
    return [
        (json.loads(sample["json"])["caption"], hashlib.sha256(sample["jpg"]).hexdigest())
        for sample in samples(files)
    ]


def images(files: list[Path]) -> Iterator[Image.Image]:
    """Decode every picture, in order; raises OSError naming the sample when one is broken."""
    for sample in samples(files):
        try:
            yield Image.open(io.BytesIO(sample["jpg"])).convert("RGB")
        except OSError as error:
            raise OSError(
                f"Picture {sample['__key__']} of {sample['__url__']} is broken: {error}. Build the data "
                "again, or remove the sample from its shard."
            ) from error
