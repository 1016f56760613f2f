"""The card's bench at tiny size: what it counts, what it writes as it goes, what it says when it cannot."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tiny_release import tiny_profile
from transformers import LlamaConfig

from mglib.__main__ import main
from mglib.fullscale import bench, card, ratios
from mglib.fullscale import random_model as random_models
from mglib.fullscale import record as records
from mglib.fullscale.card import Card, Extent, Subject, fitting
from mglib.fullscale.random_model import (
    DESCRIBE,
    LONGEST,
    layouts,
    memory_tokenizer,
    random_model,
    sample_batch,
)
from mglib.fullscale.record import Log, Measured, Task
from mglib.model import decoding, prompts
from mglib.paper_profiles import VICUNA_7B
from mglib.paths import ROOT
from mglib.profiles import MINI, SMOKE
from mglib.study import flops
from mglib.study.flops import build, cost

CPU = torch.device("cpu")
EXTENT = Extent(side=64, copied=1 << 16, rounds=1, tokens=4)


@pytest.fixture
def tiny():
    """Return a profile of the paper's shape whose vocabulary holds the tokenizer's ids."""
    profile = tiny_profile(len(memory_tokenizer()))
    return replace(profile, stage1=replace(profile.stage1, batch_size=8))


@pytest.fixture
def small(tiny, monkeypatch):
    """Return a profile of mini's kind: a small world, and queries that are kept."""
    shape = LlamaConfig(**vars(tiny.release.llama))  # without a release it is a Llama of its own
    monkeypatch.setattr(flops, "SMOLLM2", shape)
    return replace(tiny, name="tiny-mini", release=None, world=SMOKE.world)


@pytest.fixture
def here():
    return Card(
        device=CPU,
        dtype=torch.float32,
        name="a card",
        memory=None,
        ceiling=1e9,
        bandwidth=1e9,
        extent=EXTENT,
    )


@pytest.fixture
def of(tiny, here):
    return Subject.of(tiny, here)


def installed_alone(folder, *names):
    """Link what these packages need into a folder, and nothing else that is installed here."""
    waiting, seen = list(names), set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        try:
            found = distribution(name)
        except PackageNotFoundError:  # what another platform needs
            continue
        if name in seen:
            continue
        seen.add(name)
        needed = map(Requirement, found.requires or [])
        waiting += [each.name for each in needed if not each.marker or each.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
    return seen


# --- what is measured ---


def test_all_of_it_is_measured_and_written(tiny, small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(card.devices, "frozen_dtype", lambda _: torch.float32)
    monkeypatch.setattr(card, "find_spec", lambda name: None)
    file = tmp_path / "gpu.json"
    file.write_text('{"another": {"card": "kept"}}')
    assert card.run(tiny, CPU, beside=small, extent=EXTENT, file=file) == 0
    record = json.loads(file.read_text())
    assert record["another"] == {"card": "kept"} and set(record) == {"another", "tiny-paper"}
    entry = record["tiny-paper"]
    assert entry["ceiling"] > 0 and entry["bandwidth"] > 0 and entry["memory"] is None
    rows = {(row["model"], row["what"]): row for row in entry["measured"]}
    ways = {f"answers about {rows}, beam {beams}" for rows in (1, 16) for beams in (1, 5)}
    assert {what for model, what in rows if model == "tiny-paper"} == {
        "pictures", "stage 1", "stage 2", "first token", *ways
    }  # fmt: skip
    assert {what for model, what in rows if model == "tiny-mini"} == {"pictures", "stage 1", "stage 2"}
    assert ("transformers' BLIP-2", "stage 1") in rows and len(entry["ratios"]) == 1
    assert all(row["rate"] > 0 and row["peak"] is None for row in rows.values())
    assert set(entry["left_out"]) == {"tiny-paper in 8bit", "tiny-paper in 4bit"}
    first, world = rows["tiny-paper", "stage 1"], rows["tiny-mini", "pictures"]
    assert first["at_once"] == 2 and first["whole"] * first["rate"] == pytest.approx(6 * 8)
    assert world["whole"] * world["rate"] == pytest.approx(128 + 16 + 12 + 3 * 8)
    assert "bitsandbytes is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("profile", "first", "second"), [(VICUNA_7B, (64, 32), (12, 160)), (MINI, (16, 20), (12, 160))]
)
def test_batches_have_the_official_shapes(profile, first, second):
    profile = replace(profile, vision=replace(profile.vision, image_size=28))
    for layout, (at_once, answer) in zip(layouts(profile).values(), (first, second), strict=True):
        batch = sample_batch(profile, layout, 2, CPU)
        assert layout.at_once == at_once and (batch["labels"] >= 0).sum(1).tolist() == [answer] * 2
        assert batch["slots"].sum(1).tolist() == [profile.qformer.queries] * 2 and batch["mask"].all()
        assert ("pixels" in batch) == (profile.release is not None) != ("queries" in batch)


def test_the_tokenizer_is_about_as_long_winded_as_a_real_one(smollm2):
    for text in (LONGEST, prompts.VICUNA.prompt(DESCRIBE)):
        ours, theirs = (len(prompts.tokenize(each, text)) for each in (memory_tokenizer(), smollm2))
        assert 0.6 * theirs < ours < 1.4 * theirs


def test_a_random_model_is_the_planned_one_with_weights(tiny):
    planned, model = build(tiny), random_model(tiny, CPU, torch.bfloat16)
    wanted = {name: (p.shape, p.dtype, p.requires_grad) for name, p in planned.named_parameters()}
    assert {name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()} == wanted
    assert all(p.isfinite().all() for p in model.parameters()) and not model.training
    halves = random_model(tiny, CPU, torch.float16)
    assert halves.language.model.dtype == torch.float16 and halves.projection.weight.dtype == torch.float32


def test_a_step_is_the_loops_and_turns_the_projection_alone(of, tiny):
    before = {name: p.clone() for name, p in of.model.named_parameters()}
    layout = layouts(tiny)["stage 1"]
    work = card.step(of, layout, sample_batch(tiny, layout, 2, CPU))
    assert work()["loss"] > 0
    changed = {name for name, p in of.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"projection.weight", "projection.bias"}


@pytest.mark.parametrize("beams", [1, 5])
def test_tokens_are_counted_where_they_are_made(of, beams, monkeypatch):
    monkeypatch.setattr(decoding, "has_ended", lambda *_: False)
    with card.passes(of.model) as rows:
        card.writing(of, 3, beams=beams, tokens=4)()
    assert sum(rows) // beams == 3 * 4


def test_the_share_of_an_answer_is_of_the_memorys_speed(of, monkeypatch):
    monkeypatch.setattr(decoding, "has_ended", lambda *_: False)
    monkeypatch.setattr(card, "seconds", lambda work: 2.0)
    found = card.answering(of, 3, 1)
    assert found.rate == 3 * 4 / 2.0 and found.at_once == 3
    weights = sum(p.numel() * 4 for p in of.model.language.parameters())
    assert found.share == pytest.approx(4 * weights / 2.0 / 1e9)


def test_the_share_of_a_stage_is_of_the_ceiling(of, small, monkeypatch):
    monkeypatch.setattr(card, "seconds", lambda work: 2.0)
    sample = cost(build(of.profile), of.profile, text=21 + 24, answer=24)
    found = card.training(of, "stage 2")
    assert found.share == pytest.approx(2 * sample.flops / 2.0 / 1e9, rel=0.1)
    kept = card.training(replace(of, profile=small), "stage 2")
    assert kept.share == pytest.approx(2 * sample.read / 2.0 / 1e9, rel=0.1) and kept.share < found.share


def test_a_card_that_is_too_small_gets_half(here):
    tried = []

    def measure(size):
        tried.append(size)
        if size > 3:
            raise torch.cuda.OutOfMemoryError("full")
        return size

    assert fitting(16, measure) == 2 and tried == [16, 8, 4, 2]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fitting(1, lambda size: measure(4))


def test_fewer_bits_come_the_way_that_published_weights_do(tiny, here, monkeypatch):
    asked = []
    monkeypatch.setattr(
        random_models, "options", lambda precision: asked.append(precision) or {"dtype": torch.bfloat16}
    )
    of = Subject.of(tiny, here, "8bit")
    assert of.name == "tiny-paper in 8bit" and asked == ["8bit"]
    assert (
        of.model.language.model.dtype == torch.bfloat16
        and of.model.vision.encoder.pos_embed.dtype == torch.float32
    )
    whole = random_model(tiny, CPU, torch.bfloat16)
    again = random_models.quantised(whole, "4bit")
    state = again.language.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.language.model.state_dict().items())
    assert again.projection is whole.projection and again.projection.weight.requires_grad


# --- what is written, and when ---


def found(what):
    return Measured(model="m", what=what, unit="u", rate=1.0, seconds=1.0, at_once=1, share=0.5, peak=1)


def test_each_result_is_written_when_it_is_there(tmp_path, capsys):
    log = Log(file=tmp_path / "gpu.json", profile="p", about={"card": "c"}, limit=1e9)

    def written():
        return json.loads(log.file.read_text())["p"]

    def broken():
        assert [row["what"] for row in written()["measured"]] == ["one"]
        raise RuntimeError("no kernel")

    tasks = [("one", lambda: found("one")), ("two", broken), ("three", lambda: found("three"))]
    log.follow("m", (Task(name=name, run=run) for name, run in tasks))
    assert [row["what"] for row in written()["measured"]] == ["one", "three"]
    assert written()["left_out"] == {"two": "RuntimeError: no kernel"} and log.broken
    assert "two is left out: RuntimeError: no kernel" in capsys.readouterr().out


def test_a_model_that_cannot_be_built_is_told_and_the_next_goes_on(tmp_path):
    def unbuilt():
        raise torch.cuda.OutOfMemoryError("full")
        yield

    log = Log(file=tmp_path / "gpu.json", profile="p", about={}, limit=1e9)
    log.follow("large", unbuilt())
    log.follow("small", iter([Task(name="one", run=lambda: found("one"))]))
    assert log.left_out == {"large": "OutOfMemoryError: full"} and len(log.measured) == 1


def test_nothing_is_begun_when_the_time_is_over(tmp_path, monkeypatch):
    now = iter([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    monkeypatch.setattr(records.time, "perf_counter", lambda: next(now))
    log = Log(file=tmp_path / "gpu.json", profile="p", about={}, limit=2, start=0)
    log.follow("m", (Task(name=name, run=lambda: found("x")) for name in ("one", "two", "three")))
    assert len(log.measured) == 1 and log.left_out == {"two and what follows": "no time was left"}
    log.follow("next", iter([Task(name="four", run=lambda: found("x"))]))
    assert log.left_out["next"] == "no time was left" and not log.broken


# --- how it is started ---


def test_the_profile_decides_what_is_measured(monkeypatch, capsys):
    begun = []
    monkeypatch.setattr(ratios, "run", lambda chosen: begun.append(chosen.name))
    monkeypatch.setattr(card, "run", lambda chosen, place: begun.append((chosen.name, place.type)) or 0)
    monkeypatch.setattr(bench.device, "pick", lambda: CPU)
    assert main(["bench"]) == 0 and begun == ["mini"]
    assert main(["bench", "--profile", "vicuna-7b"]) == 1 and len(begun) == 1
    assert "vicuna-7b is measured on an NVIDIA card, and there is none here" in capsys.readouterr().err
    monkeypatch.setattr(bench.device, "pick", lambda: torch.device("cuda"))
    assert main(["bench", "--profile", "llama2-7b"]) == 0 and begun[1:] == [("llama2-7b", "cuda")]


@pytest.mark.slow
def test_a_bare_machine_is_enough(tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    linked = installed_alone(packages, "torch", "transformers", "timm", "safetensors", "accelerate")
    assert {"numpy", "pillow", "tokenizers"} < linked and not {
        "pandas",
        "webdataset",
        "matplotlib",
        "peft",
    } & linked
    paths = os.pathsep.join(map(str, (packages, ROOT, ROOT / "tests")))
    command = [
        sys.executable,
        "-S",
        "-P",
        str(ROOT / "tests" / "bare_machine.py"),
        str(tmp_path / "gpu.json"),
    ]
    environment = {"PYTHONPATH": paths, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    entry = json.loads((tmp_path / "gpu.json").read_text())["tiny-paper"]
    assert len(entry["measured"]) == 12 and set(entry["left_out"]) == {
        "tiny-paper in 8bit",
        "tiny-paper in 4bit",
    }
