"""The command behind `make train`: nothing starts before everything is there."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_parts import in_folder
from tiny_release import tiny_profile, write_release

from mglib import settings
from mglib.__main__ import main
from mglib.fullscale import launch, preflight
from mglib.paths import ROOT
from mglib.weights.tensors import load_weights


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Let nothing be missing, and only note what would be trained."""
    begun = []

    def train(study, model, *, accumulate):
        begun.append((study.profile.name, study.seed, accumulate))
        return SimpleNamespace(log=[{"loss": 1.25}], state=tmp_path / "step-000006.safetensors")

    monkeypatch.setattr(launch, "missing", lambda profile: [])
    monkeypatch.setattr(launch, "gaps", lambda profile: [])
    monkeypatch.setattr(launch, "join_parts", lambda study: None)
    monkeypatch.setattr(launch, "train_streamed", train)
    return begun


@pytest.mark.parametrize(("check", "passed"), [("missing", 1), ("gaps", 0)])
def test_what_is_missing_is_reported_before_anything_is_loaded(trained, monkeypatch, capsys, check, passed):
    monkeypatch.setattr(launch, check, lambda profile: [f"{profile.name} lacks x.pth.", "Fetch it."])
    assert main(["train", "--profile", "vicuna-7b"]) == 1 and trained == []
    assert capsys.readouterr().err == "vicuna-7b lacks x.pth.\nFetch it.\n"
    assert main(["train", "--profile", "vicuna-7b", "--allow-missing"]) == passed


def test_stage_2_is_a_notebooks(trained, capsys):
    assert main(["train", "--profile", "vicuna-7b", "--stage", "2"]) == 1 and trained == []
    said = capsys.readouterr().err
    assert "make reproduce PROFILE=vicuna-7b NOTEBOOKS='03 04'" in said
    assert "make finetune PROFILE=vicuna-7b DATA=downloads/cc_sbu_align REPLAY=0" in said


def test_stage_1_is_trained_with_the_settings_that_were_given(trained, capsys):
    arguments = ["--stage", "1", "--profile", "vicuna-13b", "--seed", "3", "--accumulate", "2"]
    assert main(["train", *arguments]) == 0 and trained == [("vicuna-13b", 3, 2)]
    assert "loss 1.250, weights in " in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--gpus", "--accumulate"])
def test_less_than_one_is_refused(trained, option):
    assert main(["train", "--profile", "vicuna-7b", option, "0"]) == 2 and trained == []


def test_several_gpus_are_so_many_processes(trained, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(launch, "open_sources", lambda study: asked.append("counted"))

    def run(command, check):
        asked.append(command)
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(launch.subprocess, "run", run)
    assert main(["train", "--profile", "vicuna-7b", "--gpus", "4", "--accumulate", "2"]) == 7
    assert asked[0] == "counted" and trained == []  # before any other process exists
    assert "--nproc-per-node=4" in asked[1] and asked[1][asked[1].index("mglib") + 1] == "train"
    assert {"--profile=vicuna-7b", "--gpus=1", "--seed=0", "--accumulate=2"} <= set(asked[1])
    assert main(["train", "--profile", "vicuna-7b", "--gpus", "8"]) == 1 and len(asked) == 2  # no counting
    assert capsys.readouterr().err == "This machine has 4 GPUs: take GPUS=4, or more ACCUMULATE.\n"


# What each process runs: the command itself, on a tiny release in a folder of its own.
TINY = """
import pathlib, sys
from pytest import MonkeyPatch
from test_launch import run_tiny
sys.exit(run_tiny(MonkeyPatch(), pathlib.Path(sys.argv[1]), int(sys.argv[2])))
"""


def run_tiny(monkeypatch, folder, vocabulary):
    """Run the command on the release in a folder."""
    in_folder(monkeypatch, folder)
    monkeypatch.setattr(launch, "missing", lambda profile: preflight.missing(profile, folder / "downloads"))
    monkeypatch.setattr(settings, "profile", lambda name, **_: tiny_profile(vocabulary))
    return main(["train", "--profile", "vicuna-7b"])


def test_two_processes_run_the_whole_command_and_one_finds_what_they_did(
    tmp_path, llama, tokenizer, captions, monkeypatch, capsys
):
    write_release(tmp_path / "downloads", llama(), tokenizer, captions)
    (tmp_path / "tiny.py").write_text(TINY)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]),
        "OMP_NUM_THREADS": "1",
    }
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *several, str(tmp_path / "tiny.py"), str(tmp_path), str(len(tokenizer))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert run_tiny(monkeypatch, tmp_path, len(tokenizer)) == 0
    assert capsys.readouterr().out == done.stdout and done.stdout.count("stage 1 is finished") == 1
    (state,) = tmp_path.glob("cache/trained/stage1-*/latest.safetensors")
    _, about = load_weights(state)
    assert about["step"] == 6 and len(about["streams"]) == 2
