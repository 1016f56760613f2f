"""A small world on disk for the tests that need its questions and relations."""

from pathlib import Path

import pytest

from mglib.config import WorldConfig
from mglib.paths import CACHE
from mglib.world.build import build

SMALL = WorldConfig(
    train=60, pool=2, val=40, test_seen=2, test_new_pairs=2, test_new_objects=2, special_val=1, special_test=1
)


def small_world(folder: Path) -> Path:
    """Build the world in a folder, or skip the test where the pictures' font is absent."""
    font = CACHE / "openmoji" / "glyf_colr0.ttf"
    if not font.exists():
        pytest.skip(
            "the OpenMoji font is not in data/cache/openmoji: run `python -m mglib weights --profile smoke`"
        )
    build(SMALL, font=font, folder=folder, processes=1)
    return folder
