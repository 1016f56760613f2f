"""A small world on disk for the tests that need its questions and relations."""

import re
from pathlib import Path

import pytest

from mglib.config import WorldConfig
from mglib.paths import CACHE
from mglib.world import catalog
from mglib.world.build import build

SMALL = WorldConfig(
    train=60, pool=2, val=40, test_seen=2, test_new_pairs=2, test_new_objects=2, special_val=1, special_test=1
)
# Every word for an object that no text of training may name.
NEW = re.compile(
    rf"\b(?:{'|'.join(word for name in catalog.names('new') for word in catalog.THINGS[name].words)})\b", re.I
)


def pictures_font() -> Path:
    """Return the pictures' font, or skip the test where it is absent."""
    font = CACHE / "openmoji" / "glyf_colr0.ttf"
    if not font.exists():
        pytest.skip(
            "the OpenMoji font is not in data/cache/openmoji: run `python -m mglib weights --profile smoke`"
        )
    return font


def small_world(folder: Path) -> Path:
    """Build the world in a folder."""
    build(SMALL, font=pictures_font(), folder=folder, processes=1)
    return folder


def box_holds(a, predicate, b):
    """Judge a relation by boxes [x, y, w, h] alone."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    return {
        "left of": ax + aw < bx,
        "right of": bx + bw < ax,
        "above": ay + ah < by,
        "below": by + bh < ay,
        "in front of": ay + ah > by + bh,
        "behind": ay + ah < by + bh,
    }[predicate]
