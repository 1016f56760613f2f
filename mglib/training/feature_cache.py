"""A memory-mapped cache of the outputs of frozen parts, keyed by everything they depend on."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy
import torch
from torch import Tensor
from tqdm import tqdm

from mglib.data.splits import batched
from mglib.locks import locked
from mglib.paths import atomic_write, sha256, write_json

CHUNK = 512  # pictures per file: the most that a kill loses
INDEX = "index.json"  # the hash of each finished file


class Features(Sequence[Tensor]):
    """Rows of equal shape, memory-mapped from the files of one cache folder."""

    def __init__(self, files: list[Path]) -> None:
        self.maps = [numpy.load(file, mmap_mode="r") for file in files]
        self.shape = (sum(len(rows) for rows in self.maps), *self.maps[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]  # no slices: see `batch`
        """Return one row in bfloat16."""
        # numpy knows no bfloat16: the files hold its bits as int16.
        return torch.from_numpy(self.maps[index // CHUNK][index % CHUNK].copy()).view(torch.bfloat16)

    def batch(self, indices: Iterable[int]) -> Tensor:
        """Return several rows, stacked."""
        return torch.stack([self[index] for index in indices])


def cached(
    folder: Path,
    items: Callable[[], Iterator],
    count: int,
    compute: Callable[[list], Tensor],
    *,
    what: str,
    batch_size: int = 32,
) -> Features:
    """Return `compute` of all items, computing only the files that are missing or damaged.

    `folder` is keyed by the content of the items, the weights, the preprocessing and the precision; `items()`
    starts a new pass over them; `compute` maps a list of items to (len, ...). A damaged or foreign file is
    reported and recomputed; an interrupted run resumes after its last finished file. A second process that
    needs the same features waits for them.
    """
    files = [folder / f"{number:05d}.npy" for number in range((count + CHUNK - 1) // CHUNK)]
    with locked(folder):
        digests = finished(folder, what)
        missing = {file for file in files if file.name not in digests}
        if missing:
            bar = tqdm(total=count, desc=what, mininterval=10)
            for file, chunk in zip(files, batched(islice(items(), count), CHUNK), strict=True):
                if file in missing:
                    write_rows(file, chunk, compute, batch_size)
                    digests[file.name] = sha256(file)
                    write_json(folder / INDEX, digests)
                bar.update(len(chunk))
            bar.close()
    return Features(files)


def finished(folder: Path, what: str) -> dict[str, str]:
    """Return the hashes of the intact files; damage is reported."""
    try:
        digests = json.loads((folder / INDEX).read_text()) if (folder / INDEX).exists() else {}
    except ValueError:
        print(f"{what}: {INDEX} is damaged and everything is computed again.")
        return {}
    sound = {}
    for name, digest in digests.items():
        if (folder / name).exists() and sha256(folder / name) == digest:
            sound[name] = digest
        else:
            print(f"{what}: {name} is damaged and is computed again.")
    return sound


def write_rows(file: Path, chunk: list, compute: Callable[[list], Tensor], batch_size: int) -> None:
    """Compute one file's rows batch by batch and write them."""
    with torch.inference_mode():
        rows = torch.cat([compute(part).to(torch.bfloat16).cpu() for part in batched(chunk, batch_size)])
    with atomic_write(file) as temporary:
        numpy.save(temporary, rows.view(torch.int16).numpy())
