"""Replay: in each step of a later training as many of stage 1's pairs are read again as there are new rows,
so that what is learnt anew does not push out what was known (Robins 1995, rehearsal).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mglib.data.pictures import open_picture
from mglib.data.quarantine import Fault
from mglib.data.shards import WebPair, decode, present, read_shards, shards
from mglib.data.splits import Pairs, Split
from mglib.data.text import clean_caption
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import CAPTION, IGNORE
from mglib.paths import DOWNLOADS, hash_json
from mglib.study.stages import picture_layout
from mglib.study.study import PublishedStudy, Study

FILL = {"ids": 0, "mask": 0, "slots": False, "labels": IGNORE}  # behind a row, as in `training_batch`


def stage1_pairs(study: Study, count: int) -> Split | None:
    """Return the first `count` good pairs of what stage 1 reads, or None where none of it is on disk."""
    try:
        files = (
            published(study) if isinstance(study, PublishedStudy) else [(shards(study.world / "train"), 1)]
        )
    except FileNotFoundError:
        return None
    whole = sum(weight for _, weight in files)
    found = [
        pair for some, weight in files for pair in islice(good(some), max(1, round(count * weight / whole)))
    ]
    if not found:
        return None
    return Split(
        name="stage1",
        hashes=tuple(sha256(pair.picture).hexdigest() for pair in found),
        captions=tuple(clean_caption(pair.caption) for pair in found),
        images=lambda: (open_picture(pair.picture) for pair in found),
    )


def published(study: PublishedStudy) -> list[tuple[list[Path], float]]:
    """Return the shards that are on disk of each source of stage 1, with the source's weight."""
    named = [(present(str(DOWNLOADS / web.shards))[0], web.weight) for web in study.profile.release.web]
    there = [([Path(name) for name in names if Path(name).is_file()], weight) for names, weight in named]
    return [(files, weight) for files, weight in there if files]


def good(files: Sequence[Path]) -> Iterator[WebPair]:
    """Yield the pairs of some shards whose picture can be opened and whose caption says something."""
    for pair in read_shards(files):
        if not isinstance(decode(pair), Fault):
            yield pair


def replaying(
    study: Study,
    model: MiniGPT4,
    collate: Callable[[list], dict[str, Tensor]],
    queries: Sequence[Tensor],
    captions: Sequence[str],
) -> Callable[[list], dict[str, Tensor]]:
    """Return what lays out a batch as `collate` does and below it as many of stage 1's pairs, each in stage
    1's form; `queries` holds their (Q, D_q).

    The draw depends on the seed and on the batch itself, so a training that goes on draws the same.
    """
    pairs = Pairs("queries", queries, captions)
    form = picture_layout(
        model.language, CAPTION, model.qformer.config.queries, study.profile.stage1.max_answer
    )
    again = pairs.collate(form)

    def both(rows: list) -> dict[str, Tensor]:
        new = collate(rows)
        drawn = random.Random(f"{study.seed}/{hash_json(new['ids'].tolist())}")
        return stacked(new, again([pairs[drawn.randrange(len(pairs))] for _ in rows]))

    return both


def stacked(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Any]:
    """Put a batch below another, the shorter one padded on the right."""
    longest = max(one["ids"].shape[1], other["ids"].shape[1])

    def filled(batch: dict[str, Tensor], name: str) -> Tensor:
        rows = batch[name]
        missing = longest - rows.shape[1] if name in FILL else 0
        return nn.functional.pad(rows, (0, missing), value=FILL[name]) if missing else rows

    return {name: torch.cat([filled(one, name), filled(other, name)]) for name in one}
