"""A finished training is found by another process, even if everything irrelevant to it has changed."""

import os
import subprocess
import sys
from copy import deepcopy

import pytest
from tiny_release import noise, write_release

from mglib.paths import ROOT

FIRST = {"MGLIB_PRECISION": "float32", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
OTHERWISE = {
    "MGLIB_PRECISION": "float32",
    "PYTHONHASHSEED": "2",
    "OMP_NUM_THREADS": "2",
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "POSIX",  # so files are read as ASCII unless an encoding is given
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}


@pytest.mark.slow
def test_a_training_is_found_at_any_time_and_place_but_not_in_another_precision(
    tmp_path, llama, tokenizer, captions
):
    dated = deepcopy(tokenizer)
    dated.chat_template = (
        "{{ strftime_now('%d %b %Y') }}{% for turn in messages %}: {{ turn['content'] }}{% endfor %}"
    )
    write_release(tmp_path / "downloads", llama(), dated, captions)
    for number in range(4):
        place = tmp_path / "own" / ("above", "below")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(noise(number))
        (place / f"{number}.txt").write_text(f"{captions[number]}, café", encoding="utf-8")

    def learn(name, environment, *words):
        """Train in a new folder and environment; return the cached folders, logs, weights and output."""
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "one_training.py"), str(tmp_path), *words],
            cwd=tmp_path / name,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        weights = (tmp_path / name / "learnt" / "projection.safetensors").read_bytes()
        kept = {path for path in (tmp_path / "cache").glob("*/*") if path.is_dir()}
        logs = {path: path.read_bytes() for path in (tmp_path / "cache" / "trained").glob("*/log.jsonl")}
        return kept, logs, weights, done.stdout

    kept, logs, weights, said = learn("first", FIRST)
    assert len(logs) == 1 and "in float32" in said
    again = learn("otherwise", OTHERWISE, "later")
    assert again[:3] == (kept, logs, weights)
    _, others, _, said = learn("other", {**FIRST, "MGLIB_PRECISION": "bfloat16"})
    assert "in bfloat16" in said and len(others) == 2 and others.items() > logs.items()
