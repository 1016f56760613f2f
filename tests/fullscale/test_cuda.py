"""Each code path that differs on a card: at tiny size on the CPU and, if there is a card, on that too."""

import json
from importlib.util import find_spec

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_release import tiny_profile
from torch import nn
from two_processes import WHOLE, Watched, collate, samples

from mglib.fullscale import bench
from mglib.model import prompts
from mglib.model.decoding import Decoding, answer, greedy
from mglib.model.device import frozen_dtype
from mglib.model.minigpt4 import MiniGPT4
from mglib.paths import ROOT
from mglib.training.feature_cache import cached
from mglib.training.loop import Run, fit, make_optimizers
from mglib.training.warm_start import warm_start
from mglib.weights.vicuna import load_language

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def a_card(path: str):
    """Return the card as a test parameter; without a card the test is skipped, naming the path."""
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason=f"no NVIDIA GPU here, to try {path} on")
    return pytest.param(CUDA, marks=[pytest.mark.cuda, absent], id="cuda")


def on_both(path: str) -> pytest.MarkDecorator:
    """Run a test on the CPU and on a card."""
    return pytest.mark.parametrize("place", [pytest.param(CPU, id="cpu"), a_card(path)])


def on_card(path: str, *, proved: str) -> pytest.MarkDecorator:
    """Run a test on a card only: the file `proved` tests the same code on the CPU."""
    assert (ROOT / "tests" / proved).is_file()
    return pytest.mark.parametrize("place", [a_card(path)])


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Let each test choose its device: accelerate keeps a process to the first one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def batch(tokenizer, captions, random):
    """Return four pictures with their captions."""
    laid = prompts.training_batch(
        tokenizer, prompts.CAPTION, [prompts.IMAGE] * 4, captions[:4], queries=3, max_answer=16
    )
    return {"pixels": torch.randn(4, 3, 64, 64, generator=random), **laid}


def moved(batch: dict, place: torch.device) -> dict:
    return {name: value.to(place) for name, value in batch.items()}


def learnt(model: MiniGPT4, batch: dict) -> tuple[float, torch.Tensor]:
    """Return the loss of a batch and the projection's gradient."""
    output = model(batch)
    loss = output["loss"] / output["count"]
    loss.backward()
    return loss.item(), model.projection.weight.grad.cpu()


# --- attention, precisions ---


@on_both("fused attention (sdpa) in encoder, Q-Former and language model")
def test_fused_attention_learns_what_plain_products_do(place, model, qformer, batch):
    plain = model().sharing(qformer=qformer(attention="eager").eval().requires_grad_(False))
    for block in plain.vision.encoder.blocks:
        block.attn.fused_attn = False
    plain.language.model.set_attn_implementation("eager")
    wanted, gradient = learnt(plain, batch)
    fused = model().to(place)
    assert fused.language.model.config._attn_implementation == "sdpa"
    found, theirs = learnt(fused, moved(batch, place))
    assert found == pytest.approx(wanted, rel=1e-4)
    torch.testing.assert_close(theirs, gradient, atol=1e-4, rtol=1e-2)


@on_both("frozen weights in bfloat16 and float16")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_learns_nearly_what_float32_does(place, dtype, model, batch):
    wanted, gradient = learnt(model(), batch)
    half = model().to(place)
    half.vision.to(dtype)
    half.language.to(dtype)
    # As in the loop: autocast if bfloat16 is native, else each part in the precision of its weights.
    with torch.autocast(place.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        found, theirs = learnt(half, moved(batch, place))
    assert half.projection.weight.grad.dtype == torch.float32
    assert found == pytest.approx(wanted, rel=0.03)
    assert nn.functional.cosine_similarity(theirs.flatten(), gradient.flatten(), dim=0) > 0.98


@on_card("decoding, greedy and sampled,", proved="model/test_decoding.py")
@pytest.mark.parametrize("decoding", [greedy(8), Decoding(max_new_tokens=8)], ids=["greedy", "sampled"])
def test_answers_are_those_of_the_cpu(place, decoding, model, batch):
    pixels, asked = batch["pixels"], [prompts.with_image("What is there?")] * 4
    wanted = answer(model(), {"pixels": pixels}, prompts.VICUNA, asked, decoding)
    found = answer(model().to(place), {"pixels": pixels.to(place)}, prompts.VICUNA, asked, decoding)
    assert found == wanted and len("".join(found)) > 0


# --- training ---


@on_both("Muon's products in bfloat16")
def test_muon_steps_in_bfloat16_nearly_as_in_float32(place, train_config, random):
    start, gradient = torch.randn(16, 8, generator=random), torch.randn(16, 8, generator=random)

    def change(where: torch.device, dtype: torch.dtype) -> torch.Tensor:
        layer = nn.Linear(8, 16, bias=False, device=where)
        with torch.no_grad():
            layer.weight.copy_(start)
        layer.weight.grad = gradient.to(where)
        _, muon = make_optimizers(layer, train_config(muon=True), dtype)
        muon.step()
        return layer.weight.detach().cpu() - start

    torch.testing.assert_close(
        change(place, torch.bfloat16), change(CPU, torch.float32), atol=1e-3, rtol=0.05
    )


@on_card("the loop, through accelerate with one process,", proved="training/test_loop.py")
def test_the_loop_trains_and_goes_on_where_it_is_put(place, tmp_path):
    def run(where: torch.device, folder: str, config=WHOLE, bf16=False) -> tuple[list[dict], torch.Tensor]:
        AcceleratorState._reset_state(reset_partial_state=True)
        module = Watched()
        training = Run(config=config, folder=tmp_path / folder, seed=0, device=where, bf16=bf16)
        return fit(module, samples(), collate, training), module.model.projection.weight.detach()

    (wanted, weight), (log, found) = run(CPU, "cpu"), run(place, "there")
    assert [line["loss"] for line in log] == pytest.approx([line["loss"] for line in wanted], rel=1e-3)
    torch.testing.assert_close(found.cpu(), weight, atol=1e-3, rtol=1e-2)
    halves, other = run(place, "halves", bf16=True)
    assert found.device.type == other.device.type == place.type and weight.device.type == "cpu"
    assert [line["loss"] for line in halves] == pytest.approx([line["loss"] for line in wanted], rel=0.05)
    again, same = run(place, "there")  # a finished run is loaded
    assert [line["loss"] for line in again] == [line["loss"] for line in log] and same.equal(found.cpu())


# --- what is loaded and kept ---


@on_both("quantised loading")
@pytest.mark.parametrize(("bits", "alike"), [("8bit", 0.9), ("4bit", 0.3)])
def test_fewer_bits_learn_nearly_the_same(place, bits, alike, tmp_path, model, batch, tokenizer, llama):
    if find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed, by which language models are loaded in 8 and 4 bits")
    llama().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    wanted, gradient = learnt(model(), batch)
    language = load_language(tmp_path, dtype=torch.float32, quantised=bits)
    few = model().sharing(language=language).to(place)
    assert {p.itemsize for name, p in language.named_parameters() if "proj" in name} == {1}
    assert {p.device.type for p in language.parameters()} == {place.type}
    bf16 = frozen_dtype(place) == torch.bfloat16
    with torch.autocast(place.type, torch.bfloat16, enabled=bf16):  # as in the loop
        found, theirs = learnt(few, moved(batch, place))
    assert found == pytest.approx(wanted, rel=0.2)
    assert nn.functional.cosine_similarity(theirs.flatten(), gradient.flatten(), dim=0) > alike


@on_card("features that are computed there and kept here", proved="training/test_feature_cache.py")
def test_kept_features_are_those_of_the_cpu(place, tmp_path, model, batch):
    def kept(where: torch.device) -> torch.Tensor:
        parts = model().to(where)
        features = cached(
            tmp_path / where.type,
            lambda: iter(batch["pixels"]),
            4,
            lambda rows: parts.vision(torch.stack(rows).to(where)),
            what="tokens",
            batch_size=2,
        )
        return features.batch(range(4))

    torch.testing.assert_close(kept(place).float(), kept(CPU).float(), atol=2e-2, rtol=2e-2)


@on_card("the start by regression", proved="training/test_warm_start.py")
def test_the_warm_start_is_that_of_the_cpu(place, model, captions, random):
    means = torch.randn(len(captions), 32, generator=random)

    def started(where: torch.device) -> torch.Tensor:
        there = model().to(where)
        warm_start(there.projection, means, captions, there.language, ridge=0.1)
        return there.projection.weight.detach().cpu()

    torch.testing.assert_close(started(place), started(CPU), atol=1e-3, rtol=1e-2)


# --- the bench ---


@on_card("the bench", proved="fullscale/test_bench.py")
def test_the_bench_measures_the_cards_memory(place, tmp_path):
    file = tmp_path / "bench.json"
    assert bench.bench(tiny_profile(300), at_least=0.01, tokens=4, file=file) == 0
    entry = json.loads(file.read_text())["tiny-paper"]
    assert entry["failed"] == {} and all(row["peak"] > 0 for row in entry["measured"])
