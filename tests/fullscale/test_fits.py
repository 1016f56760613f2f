"""What fits a small machine: bytes are what the formulas say, and fewer bits are named only where needed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_languages import FAMILIES, write
from tiny_release import tiny_profile

from mglib.config import LanguageConfig
from mglib.fullscale import fits, plan
from mglib.fullscale.fits import Room
from mglib.model.language import Language
from mglib.paper_profiles import VICUNA_7B
from mglib.study import flops
from mglib.study.flops import PROMPT


@pytest.fixture
def tiny(tokenizer):
    return tiny_profile(len(tokenizer))


def with_language(profile, place):
    return replace(profile, language=LanguageConfig(name="own", width=0, template="chat", place=str(place)))


def room(memory, width=2):
    return Room(name="a card", memory=memory, share=1.0, width=width)


# --- bytes ---


@pytest.mark.parametrize("tied", [True, False])
def test_fewer_bits_are_for_the_blocks_matrices_alone(llama, tokenizer, tied):
    model = llama()
    if tied:
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    language = Language(model=model, tokenizer=tokenizer)
    every = {id(weight): weight for weight in model.parameters()}
    head = {id(model.model.embed_tokens.weight), id(model.lm_head.weight)}
    blocks = [weight for key, weight in every.items() if weight.ndim == 2 and key not in head]
    whole = 2 * sum(weight.numel() for weight in every.values())
    matrices = sum(weight.numel() for weight in blocks)
    assert fits.language_bytes(language, 16, 2) == whole
    assert fits.language_bytes(language, 8, 2) == whole - matrices + 4 * sum(map(len, blocks))
    assert fits.language_bytes(language, 4, 2) == whole - 1.5 * matrices + 4 * matrices / 64


def test_the_papers_model_is_as_large_as_its_files():
    held = {bits: fits.parts(VICUNA_7B, bits, 2) for bits in (16, 8, 4)}
    assert held[16].language == pytest.approx(13.48e9, rel=0.01)
    assert held[8].language == pytest.approx(7.0e9, rel=0.01)
    assert 3.5e9 < held[4].language < 4.3e9
    assert held[16].vision == pytest.approx(1.97e9, rel=0.01)
    # 32 blocks, keys and values of 4096 for each position, two bytes each.
    assert held[16].cache == 32 * 2 * 4096 * (32 + PROMPT + 300) * 2


def test_wider_weights_hold_more_but_for_what_is_in_float32_anyway(tiny):
    two, four = (fits.parts(tiny, 8 * width, width) for width in (2, 4))
    for name in ("vision", "language", "cache", "working", "first", "second"):
        assert getattr(four, name) == 2 * getattr(two, name)
    assert (four.qformer, four.projection) == (two.qformer, two.projection)


# --- what fits ---


def test_a_task_has_the_most_bits_that_fit(tiny):
    for bits, fewer in ((16, 8), (8, 4), (4, None)):
        held = fits.parts(tiny, bits, 2).talking
        assert fits.fitting(tiny, room(held))["talk"] == fits.Fit(bits=bits, held=held)
        less = fits.fitting(tiny, room(held - 1))["talk"]
        assert (less and less.bits) == fewer


def test_a_step_is_cut_before_bits_are(tiny):
    held = fits.parts(tiny, 16, 2)
    one = fits.fitting(tiny, room(held.training(held.first, 1)))["stage 1"]
    assert (one.bits, one.accumulate) == (16, tiny.stage1.batch_size)
    whole = fits.fitting(tiny, room(held.training(held.first, tiny.stage1.batch_size)))["stage 1"]
    assert (whole.bits, whole.accumulate) == (16, 1)
    assert str(one).endswith(f"ACCUMULATE={tiny.stage1.batch_size}") and "ACCUMULATE" not in str(whole)


def test_training_takes_more_than_talking_of_the_same_bits(tiny):
    held = fits.parts(tiny, 4, 2)
    found = fits.fitting(tiny, room(held.talking))
    assert found["talk"].bits == 4 and found["stage 1"] is found["stage 2"] is None


def test_apples_gpu_holds_whole_weights_in_float32_and_not_all_memory(tiny):
    assert fits.fitting(tiny, fits.apple(16))["talk"].bits == 32
    assert fits.apple(48).usable == pytest.approx(32e9)


def test_small_cards_hold_seven_billion_weights_in_few_bits():
    bits = {each.name: fits.fitting(VICUNA_7B, each) for each in map(fits.card, (8, 12, 16, 24))}
    talk = [found["talk"].bits for found in bits.values()]
    assert talk == [4, 8, 8, 16]
    assert bits["card, 24 GB"]["stage 1"].bits == 16


def test_named_bits_are_taken_whatever_would_fit(tiny, monkeypatch, capsys):
    few = replace(tiny, release=replace(tiny.release, quantised="4bit"))
    assert {fit.bits for fit in fits.fitting(few, room(1e12)).values()} == {4}
    less = room(fits.parts(few, 4, 2).talking - 1)
    assert fits.fitting(few, less)["talk"] is None
    monkeypatch.setattr(plan, "utilisation", lambda: 0.25)
    monkeypatch.setattr(plan, "profile", lambda name: few)
    monkeypatch.setattr(plan, "missing", lambda chosen: [])
    assert plan.main(["--profile", "vicuna-7b@4bit"]) == 0
    shown = capsys.readouterr().out
    assert "in 4 bits and not in 16 as above" in shown
    assert "make train STAGE=1 PROFILE=vicuna-7b BITS=4 GPUS=4" in shown


# --- this machine ---


def test_this_machine_is_told_by_its_gpu(monkeypatch):
    monkeypatch.setattr(fits, "processor", lambda _: "a GPU")
    monkeypatch.setattr(fits.device, "frozen_dtype", lambda _: torch.float16)
    monkeypatch.setattr(fits.device, "pick", lambda: torch.device("cuda"))
    properties = SimpleNamespace(total_memory=12e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert fits.here() == Room(name="here, a GPU", memory=12e9, share=0.9, width=2)
    monkeypatch.setattr(fits.device, "frozen_dtype", lambda _: torch.float32)
    monkeypatch.setattr(fits.device, "pick", lambda: torch.device("mps"))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 21e9)
    assert fits.here() == Room(name="here, a GPU", memory=21e9, share=1.0, width=4)
    monkeypatch.setattr(fits.device, "pick", lambda: torch.device("cpu"))
    assert fits.here() is None


# --- another language model ---


@pytest.mark.parametrize("kind", FAMILIES)
def test_another_language_model_is_counted_from_its_configuration_alone(tmp_path, tiny, tokenizer, kind):
    folder = write(tmp_path / kind, kind, tokenizer)
    (folder / "model.safetensors").unlink()
    chosen = with_language(tiny, folder)
    language = flops.build(chosen).language
    assert language.model.config.model_type == kind and language.width == 48
    held, heads = fits.parts(chosen, 16, 2), 4 if kind == "gpt_neox" else 2
    assert held.cache == 2 * 2 * heads * 12 * (tiny.qformer.queries + PROMPT + 300) * 2
    assert held.language > fits.parts(chosen, 8, 2).language > fits.parts(chosen, 4, 2).language
    assert flops.cost(flops.build(chosen), chosen, text=20, answer=8).read > 0


def test_the_plan_is_that_of_the_other_language_model(tmp_path, tiny, tokenizer, monkeypatch, capsys):
    folder = write(tmp_path / "own", "qwen2", tokenizer)
    monkeypatch.setattr(plan, "utilisation", lambda: 0.25)
    monkeypatch.setattr(plan, "profile", lambda name: with_language(tiny, folder))
    monkeypatch.setattr(plan, "here", lambda: room(1e9))
    monkeypatch.setattr(plan, "missing", lambda chosen: [])
    assert plan.main(["--profile", f"vicuna-7b+{folder}"]) == 0
    shown = capsys.readouterr().out
    count = flops.parameters(flops.build(with_language(tiny, folder)).language)
    assert f"{'language model':16} {count:>15,} parameters" in shown
    assert f"make train STAGE=1 PROFILE=vicuna-7b LANGUAGE={folder}" in shown
    assert "BITS=8 or BITS=4" in shown
    assert fits.fitting(with_language(tiny, folder), room(1)) == dict.fromkeys(["talk", "stage 2", "stage 1"])
    small = room(fits.parts(with_language(tiny, folder), 8, 2).talking)
    assert fits.fitting(with_language(tiny, folder), small)["talk"].bits == 8
    assert "card, 8 GB     16 bits, 0.0 GB" in shown and "\n  a card" in shown


def test_a_language_model_that_cannot_be_had_or_talked_to_is_told(tmp_path, tiny, tokenizer, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert plan.main(["--profile", f"vicuna-7b+{empty}"]) == 1
    assert f"The configuration of {empty} could not be had" in capsys.readouterr().err
    tokenizer.save_pretrained(tmp_path / "base")
    assert any("no chat template" in fault for fault in plan.missing(with_language(tiny, tmp_path / "base")))
    spoken = write(tmp_path / "spoken", "llama", tokenizer)
    assert not any("chat" in fault for fault in plan.missing(with_language(tiny, spoken)))
