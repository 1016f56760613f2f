"""A small fine-tuning in a process of its own (test_found_again.py): `python one_training.py FOLDER [later]`.

`later` simulates another moment: a day years ahead, and folder listings in reverse order.
"""

import datetime
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from tiny_release import tiny_profile
from transformers.utils import chat_template_utils

from mglib.__main__ import main as run
from mglib.chat import chat_model, finetune
from mglib.data import released
from mglib.profiles import PROFILES
from mglib.study import stage1, study

YEARS = 20 * 365 * 24 * 3600 + 12345


class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


class Turned:
    def __init__(self, entries):
        self.entries = list(entries)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.entries:
            raise StopIteration
        return self.entries.pop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def later() -> None:
    """Set the clock forward and reverse every folder listing."""
    now, listed, scanned = time.time, os.listdir, os.scandir
    time.time = lambda: now() + YEARS
    chat_template_utils.datetime = Later  # what `strftime_now` reads
    os.listdir = lambda path=".": listed(path)[::-1]
    os.scandir = lambda path=".": Turned(scanned(path))


def main(folder: Path) -> None:
    for module in (study, stage1):
        module.DOWNLOADS = folder / "downloads"
    for module in (study, stage1, finetune, released, chat_model):
        module.CACHE = folder / "cache"
    profile = tiny_profile(300, template="chat")
    second = replace(profile.stage2, steps=6, batch_size=2, warmup_steps=1)
    PROFILES["tiny-paper"] = replace(profile, stage2=second)
    sys.exit(run(["finetune", "--profile=tiny-paper", f"--data={folder / 'own'}", "--out=learnt"]))


if __name__ == "__main__":
    if "later" in sys.argv:
        later()
    main(Path(sys.argv[1]))
