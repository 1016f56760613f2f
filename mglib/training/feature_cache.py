"""What frozen parts compute is computed once: a memory-mapped cache, named by everything it depends on."""

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

CHUNK = 512  # pictures a file: what a kill loses at most


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


def read_index(index: Path, what: str) -> dict[str, str]:
    """Return the digests of the finished files; none where the index is absent or damaged."""
    if not index.exists():
        return {}
    try:
        digests = json.loads(index.read_text())
    except ValueError:
        digests = None
    if isinstance(digests, dict):
        return digests
    print(f"{what}: index.json is damaged and everything is computed again.")
    return {}


def damaged(file: Path, digests: dict[str, str]) -> bool:
    """Tell whether a finished file is not what it was when it was written."""
    return file.name in digests and (not file.exists() or sha256(file) != digests[file.name])


def cached(
    folder: Path,
    items: Callable[[], Iterator],
    count: int,
    compute: Callable[[list], Tensor],
    *,
    what: str,
    batch_size: int = 32,
) -> Features:
    """Return `compute` of all items, computing only the files that are absent or damaged.

    `folder` is named by the content of the items, the weights, the preprocessing and the precision; `items()`
    starts a new pass over them; `compute` maps a list of items to (len, ...). A damaged or foreign file is
    told of and made again; an interrupted run goes on at its last finished file. A second process that wants
    the same features waits for them.
    """
    files = [folder / f"{number:05d}.npy" for number in range((count + CHUNK - 1) // CHUNK)]
    with locked(folder):
        fill(files, items, count, compute, what=what, batch_size=batch_size)
    return Features(files)


def fill(
    files: list[Path],
    items: Callable[[], Iterator],
    count: int,
    compute: Callable[[list], Tensor],
    *,
    what: str,
    batch_size: int,
) -> None:
    """Compute the files of one folder that are absent or damaged."""
    index = files[0].parent / "index.json"
    digests = read_index(index, what)
    for file in files:
        if damaged(file, digests):
            print(f"{what}: {file.name} is damaged and is computed again.")
            del digests[file.name]
    missing = [number for number, file in enumerate(files) if file.name not in digests]
    if missing:
        bar = tqdm(total=count, desc=what, mininterval=10)
        for number, chunk in enumerate(batched(islice(items(), count), CHUNK)):
            if number in missing:
                write_rows(files[number], chunk, compute, batch_size)
                digests[files[number].name] = sha256(files[number])
                write_json(index, digests)
            bar.update(len(chunk))
        bar.close()


def write_rows(file: Path, chunk: list, compute: Callable[[list], Tensor], batch_size: int) -> None:
    """Compute one file's rows batch by batch and write them."""
    with torch.inference_mode():
        rows = torch.cat([compute(part).to(torch.bfloat16).cpu() for part in batched(chunk, batch_size)])
    with atomic_write(file) as temporary:
        numpy.save(temporary, rows.view(torch.int16).numpy())
