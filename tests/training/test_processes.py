"""Several processes train as one does: the same losses and weights, each sample once, one writer."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from data_files import jpeg, write_shard
from two_processes import PARTS, WHOLE, run, samples

from mglib.config import TrainConfig
from mglib.paths import ROOT
from mglib.training.loop import kept, own_stream, share

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

NAMES = [f"sample {number:03d}" for number in range(41)]  # one is left when five steps of eight are done


def write_web(folder: Path) -> None:
    folder.mkdir(parents=True)
    for shard, first in enumerate((0, 15, 22)):
        rows = NAMES[first : (15, 22, 41)[shard]]
        pairs = [(f"{shard:05d}{number:04d}", jpeg("red", (8, 8)), name) for number, name in enumerate(rows)]
        write_shard(folder / f"{shard:05d}.tar", pairs)


def start(folder: Path, processes: int) -> list[dict]:
    """Run two_processes.py on `processes` gloo processes and return what each saw."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "ACCELERATE_USE_CPU": "true",
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, str(ROOT / "tests" / "two_processes.py"), str(folder), str(processes)]
    started = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        errors = started.communicate(timeout=400)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == 0, errors[-4000:]
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(processes)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    write_web(folder / "web")
    return folder, start(folder, 2)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return folder, run(samples(), WHOLE, folder)


def same(mine, theirs):
    for name in ("loss", "grad_norm", "lr"):
        assert [line[name] for line in mine["log"]] == pytest.approx(
            [line[name] for line in theirs["log"]], rel=2e-4
        ), name
    torch.testing.assert_close(
        torch.tensor(mine["weight"]), torch.tensor(theirs["weight"]), atol=2e-5, rtol=2e-4
    )


def steps(seen: list[list], parts: int) -> list[list]:
    """Return the sorted samples of each step, over all processes and parts."""
    rounds = [list(chain(*together)) for together in zip(*seen, strict=True)]
    return [
        sorted(chain.from_iterable(rounds[first : first + parts])) for first in range(0, len(rounds), parts)
    ]


# --- one process in parts ---


def test_accumulated_parts_are_the_big_batch_though_answers_differ_in_length(tmp_path, one):
    parts = run(samples(), PARTS, tmp_path)
    same(parts, one[1])
    assert steps([parts["seen"]], 2) == steps([one[1]["seen"]], 1)
    assert len(parts["seen"]) == 2 * len(one[1]["seen"]) == 10
    # The mean of the parts' means would be a different number.
    lengths = [len(samples()[number][1]) for number in one[1]["seen"][0]]
    assert sum(lengths[:4]) != sum(lengths[4:])


# --- two processes ---


@pytest.mark.parametrize(("name", "parts"), [("whole", 1), ("parts", 2)])
def test_two_processes_are_one(two, one, name, parts):
    seen = two[1]
    for process in seen:
        same(process[name], one[1])
    assert steps([process[name]["seen"] for process in seen], parts) == steps([one[1]["seen"]], 1)


def test_only_the_main_process_writes(two):
    folder, _ = two
    assert (folder / "whole-0" / "latest.safetensors").exists() and not (folder / "whole-1").exists()
    assert [path.name for path in kept(folder / "parts")] == ["step-000005.safetensors"]


def test_one_process_finds_what_two_have_finished(two):
    folder, seen = two
    found = run(samples(), WHOLE, folder / "parts", die_at=0)
    assert found["seen"] == [] and found["log"] == seen[0]["parts"]["log"]
    assert found["weight"] == seen[0]["parts"]["weight"]


# --- the stream ---


def test_two_processes_stream_each_sample_once(two):
    runs = [process["stream"] for process in two[1]]
    seen = [list(chain.from_iterable(each["seen"])) for each in runs]
    assert not set(seen[0]) & set(seen[1])
    # An epoch is 41 samples: each process makes eleven batches of its half and has done ten.
    assert len(seen[0]) + len(seen[1]) == len(set(seen[0] + seen[1])) and set(seen[0] + seen[1]) < set(NAMES)
    assert [line["loss"] for line in runs[0]["log"]] == [line["loss"] for line in runs[1]["log"]]
    assert runs[0]["weight"] == runs[1]["weight"]


@pytest.mark.parametrize(
    ("whole", "broken", "resumed"),
    [("parts", "broken", "resumed"), ("stream", "stream_broken", "stream_resumed")],
)
def test_two_stopped_processes_go_on_exactly(two, whole, broken, resumed):
    for process in two[1]:
        assert process[broken]["seen"][:4] + process[resumed]["seen"] == process[whole]["seen"]
        assert process[resumed]["weight"] == process[whole]["weight"]


def test_a_stream_goes_on_with_as_many_processes_alone(tmp_path):
    one = type("One", (), {"process_index": 0, "num_processes": 1})()
    assert own_stream([{"step": 3}], one, "stage1") == {"step": 3}
    with pytest.raises(ValueError, match=r"stage1 was begun with 2 processes .* not with 1"):
        own_stream([{}, {}], one, "stage1")


# --- cutting a batch ---


def test_a_batch_that_cannot_be_cut_is_named():
    config = TrainConfig(steps=5, batch_size=8, lr=1.0, min_lr=1.0, warmup_steps=1, accumulate=3)
    with pytest.raises(ValueError, match="A batch of 8 cannot be cut evenly for 1 processes with 3 parts"):
        share(config, 1)
    assert share(PARTS, 2) == 2 and share(WHOLE, 1) == 8
