"""The bench at tiny size: what it measures and writes, and that both sides of a comparison do the same."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny_release import CONCAT, tiny_profile

from mglib.__main__ import main
from mglib.fullscale import bench
from mglib.fullscale.bench import Subject, random_model, samples, stages
from mglib.fullscale.counts import PROMPT, build, cost
from mglib.paper_profiles import VICUNA_7B
from mglib.paths import ROOT
from mglib.profiles import MINI

CPU = torch.device("cpu")


@pytest.fixture
def tiny():
    profile = tiny_profile(300)
    return replace(profile, stage1=replace(profile.stage1, batch_size=8))


@pytest.fixture
def of(tiny, monkeypatch):
    monkeypatch.setattr(bench, "seconds", lambda work, at_least: work() is not work and 2.0)
    return subject(tiny)


def subject(profile):
    model, speeds = random_model(profile, CPU, torch.float32), {"ceiling": 1e9, "bandwidth": 1e9}
    return Subject(profile.name, profile, model, CPU, torch.float32, **speeds, seconds=0, tokens=4)


def test_all_of_it_is_measured_and_written(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.devices, "frozen_dtype", lambda _: torch.float32)
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    file = tmp_path / "bench.json"
    file.write_text('{"another": {"processor": "kept"}}')
    assert bench.bench(tiny, at_least=0.001, tokens=2, file=file) == 0
    record = json.loads(file.read_text())
    entry = record["tiny-paper"]
    assert record["another"] == {"processor": "kept"} and entry["failed"] == {}
    assert entry["ceiling"] > 0 and entry["bandwidth"] > 0 and entry["gflops"] > 0
    rates = {row["what"]: row["rate"] for row in entry["measured"]}
    answers = {"first token", "answers about 1", "answers about 16"}
    assert set(rates) == {"pictures", "stage 1", "stage 2"} | answers and min(rates.values()) > 0
    names = [each["name"].split(":")[0] for each in entry["ratios"]]
    assert names == ["a step of stage 1 with 2 samples", "answers about 1", "answers about 16"]


def test_what_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def broken():
        raise RuntimeError("no kernel")

    row = {"model": "m", "what": "w", "unit": "u", "at_once": 1, "rate": 1.0, "share": 0.5, "peak": 1}
    monkeypatch.setattr(bench, "random_model", lambda *_: None)
    monkeypatch.setattr(bench, "tasks", lambda of: [("two", broken), ("three", lambda: row)])
    assert bench.bench(MINI, file=tmp_path / "bench.json") == 1
    entry = json.loads((tmp_path / "bench.json").read_text())["mini"]
    assert entry["failed"] == {"two": "RuntimeError: no kernel"} and entry["measured"] == [row]
    assert "two failed: RuntimeError: no kernel" in capsys.readouterr().out


def test_stages_have_the_official_answers_and_one_cards_share():
    assert [(text, size) for _, text, size in stages(VICUNA_7B).values()] == [(33, 64), (PROMPT + 160, 12)]
    assert [(text, size) for _, text, size in stages(MINI).values()] == [(21, 16), (PROMPT + 160, 12)]


def test_a_step_is_the_loops_and_turns_the_projection_alone(of):
    before = {name: p.clone() for name, p in of.model.named_parameters()}
    assert bench.step(of, "stage 1", 2)()["loss"] > 0
    changed = {name for name, p in of.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"projection.weight", "projection.bias"}


def test_shares_are_of_the_ceiling_and_of_answers_of_the_memorys_speed(of):
    sample = cost(build(of.profile), of.profile, text=PROMPT + 24, answer=24)
    assert bench.training(of, "stage 2", 2)["share"] == pytest.approx(2 * sample.flops / 2.0 / 1e9)
    steps = []
    hook = of.model.language.model.get_decoder().register_forward_hook(lambda *_: steps.append(1))
    bench.writing(of, 3, 4)()
    hook.remove()
    found = bench.answering(of, 3, 4)
    weights = sum(p.numel() * 4 for p in of.model.language.parameters())
    assert len(steps) == 4 and found["rate"] == 3 * 4 / 2.0
    assert found["share"] == pytest.approx(4 * weights / 2.0 / 1e9)


def test_fewer_bits_come_the_way_that_published_weights_do(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "quantisation", lambda bits: asked.append(bits) or {"dtype": torch.bfloat16})
    whole = random_model(tiny, CPU, torch.bfloat16)
    few = bench.quantised(whole, "4bit")
    state = few.language.model.state_dict()
    assert asked == ["4bit"] and few.projection is whole.projection and few.projection.weight.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in whole.language.model.state_dict().items())


@pytest.mark.parametrize("kind", ["as the profile's", "of the release"])
def test_the_usual_way_has_the_profiles_shapes(tiny, kind):
    profile = tiny if kind == "as the profile's" else replace(tiny, qformer=CONCAT)
    ours = random_model(profile, CPU, torch.float32)
    theirs = bench.usual_blip2(profile, ours, torch.bfloat16)
    own, shared = (
        model.get_input_embeddings().weight for model in (ours.language.model, theirs.language_model)
    )
    assert shared.data_ptr() == own.data_ptr() and theirs.vision_model.dtype == torch.bfloat16
    attention = [one.config._attn_implementation for one in (ours.language.model, theirs.language_model)]
    assert attention == ["grouped", "sdpa"]
    vision, encoder = theirs.config.vision_config, ours.vision.encoder
    assert (vision.num_hidden_layers, vision.num_attention_heads) == (3, 4)
    assert vision.intermediate_size == encoder.blocks[0].mlp.fc1.out_features != 4 * vision.hidden_size
    wanted = (3, 32) if profile is tiny else (32, 768)
    assert (theirs.config.num_query_tokens, theirs.language_projection.in_features) == wanted
    trained = [name for name, p in theirs.named_parameters() if p.requires_grad]
    assert trained == ["language_projection.weight", "language_projection.bias"]


def test_the_usual_way_has_our_loss_at_equal_weights(of, tiny):
    ours = of.model
    theirs = bench.usual_blip2(tiny, ours, torch.float32)
    theirs.language_projection.load_state_dict(ours.projection.state_dict())
    batch = samples(of, "stage 1", 4)
    pixels = batch.pop("pixels")
    queries = theirs.get_image_features(pixels).qformer_outputs.last_hidden_state.detach()
    output = ours({"queries": queries, **batch})
    loss = theirs(pixel_values=pixels, **bench.as_theirs(theirs, batch)).loss
    assert loss.item() == pytest.approx(output["loss"].item() / output["count"].item(), rel=1e-5)


def test_full_size_is_measured_on_a_card_alone(monkeypatch, capsys):
    begun = []
    monkeypatch.setattr(bench, "bench", lambda chosen: begun.append(chosen.name) or 0)
    monkeypatch.setattr(bench.devices, "pick", lambda: CPU)
    assert main(["bench"]) == 0 and main(["bench", "--profile", "vicuna-7b"]) == 1 and begun == ["mini"]
    assert "vicuna-7b is measured on an NVIDIA card, and there is none here" in capsys.readouterr().err


def test_a_bare_machine_is_enough():
    absent = [
        "onnx",
        "gguf",
        "pandas",
        "webdataset",
        "matplotlib",
        "peft",
        "pydantic",
        "datasets",
        "nbformat",
        "papermill",
    ]
    code = f"import torch._dynamo, sys; sys.modules.update(dict.fromkeys({absent}))"  # torch asks for onnx
    imports = "import mglib.__main__, mglib.fullscale.bench"
    subprocess.run([sys.executable, "-c", f"{code}; {imports}"], cwd=ROOT, check=True)
