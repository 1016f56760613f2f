"""The plan: what it counts is what the formulas say, fewer bits are named only where needed, and each missing
file is named.
"""

import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from tiny_languages import FAMILIES, write
from tiny_release import LLAMA, tiny_profile, write_release

from mglib import settings
from mglib.__main__ import main
from mglib.config import LanguageConfig
from mglib.fullscale import counts, plan, preflight
from mglib.fullscale.counts import PROMPT, memory
from mglib.fullscale.plan import Fit, Machine, fitting
from mglib.model.language import Language
from mglib.paper_profiles import VICUNA_7B, VICUNA_13B
from mglib.weights import vicuna


@pytest.fixture
def tiny(tokenizer):
    return tiny_profile(len(tokenizer))


@pytest.fixture
def downloads(tmp_path, tiny, llama, tokenizer, captions):
    write_release(tmp_path, llama(), tokenizer, captions)
    return tmp_path


def with_language(profile, path):
    return replace(profile, language=LanguageConfig(name="own", width=0, template="chat", place=str(path)))


def room(memory, width=2):
    return Machine(name="a card", memory=memory, share=1.0, width=width)


# --- what is counted ---


@pytest.mark.parametrize(("profile", "trained"), [(VICUNA_7B, 3_149_824), (VICUNA_13B, 3_937_280)])
def test_the_papers_model_has_the_papers_parameters(profile, trained):
    model = counts.build(profile)
    assert {weight.untyped_storage().device.type for weight in model.parameters()} == {"meta"}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    # Two matrices with a row for each of the 32,001 tokens, and the blocks and norms between them.
    llama = profile.release.llama
    D, hidden, layers = llama.hidden_size, llama.intermediate_size, llama.num_hidden_layers
    blocks = layers * (4 * D * D + 3 * D * hidden + 2 * D) + D
    assert counts.parameters(model.language) == 2 * 32_001 * D + blocks


def test_flops_are_two_a_weight_and_token_forward_and_as_many_backward(tiny):
    cost = counts.cost(counts.build(tiny), tiny, text=20, answer=8)
    tokens, D, layers = 20 + 3, 48, 2
    blocks = layers * (4 * D * D + 3 * D * 96)
    attention = layers * 2 * 2 * tokens * tokens * D
    forward = 2 * blocks * tokens + attention + 2 * 8 * D * tiny.release.llama.vocab_size
    project = 3 * 2 * 32 * D  # forward; backward needs the weight's gradient and no other
    # Backward through frozen weights costs as much as forward; attention's recomputes its scores: 2.5 times.
    assert cost.read == pytest.approx(2 * forward + 1.5 * attention + 2 * project, rel=0.03)
    assert cost.look > 0 and cost.flops == cost.look + cost.read


def test_longer_texts_cost_more_and_hold_more_and_weights_are_no_activations(tiny):
    model = counts.build(tiny)
    short, long = (counts.cost(model, tiny, text=n, answer=8) for n in (20, 80))
    assert long.read > 3 * short.read and long.look == short.look
    assert 3 * short.activations < long.activations < 8 * short.activations
    stored = sum(p.numel() * p.itemsize for p in model.language.parameters())
    assert short.activations < 2 * stored  # of one sample: with the weights' views it would be more


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
    assert counts.language_bytes(language, 16, 2) == whole
    assert counts.language_bytes(language, 8, 2) == whole - matrices + 4 * sum(map(len, blocks))
    assert counts.language_bytes(language, 4, 2) == whole - 1.5 * matrices + 4 * matrices / 64


def test_the_papers_model_is_as_large_as_its_files():
    held = {bits: memory(VICUNA_7B, bits) for bits in (16, 8, 4)}
    assert held[16].language == pytest.approx(13.48e9, rel=0.01)
    assert held[8].language == pytest.approx(7.0e9, rel=0.01)
    assert 3.5e9 < held[4].language < 4.3e9
    assert held[16].vision == pytest.approx(1.97e9, rel=0.01)
    # 32 blocks, keys and values of 4096 for each position, two bytes each.
    assert held[16].cache == 32 * 2 * 4096 * (32 + PROMPT + 300) * 2


def test_wider_weights_hold_more_but_for_what_is_in_float32_anyway(tiny):
    two, four = (memory(tiny, 8 * width, width) for width in (2, 4))
    for name in ("vision", "language", "cache", "working", "first", "second"):
        assert getattr(four, name) == 2 * getattr(two, name)
    assert (four.qformer, four.projection) == (two.qformer, two.projection)


# --- what fits, and for how long ---


def test_a_task_has_the_most_bits_that_fit(tiny):
    for bits, fewer in ((16, 8), (8, 4), (4, None)):
        held = memory(tiny, bits).talking
        assert fitting(tiny, room(held))["talk"] == Fit(bits=bits, held=held)
        less = fitting(tiny, room(held - 1))["talk"]
        assert (less and less.bits) == fewer
    found = fitting(tiny, room(memory(tiny, 4).talking))
    assert found["talk"].bits == 4 and found["stage 1"] is found["stage 2"] is None


def test_a_step_is_cut_before_bits_are(tiny):
    held, size = memory(tiny, 16), tiny.stage1.batch_size
    for parts in (1, 2, size):
        fit = fitting(tiny, room(held.training(held.first, size // parts)))["stage 1"]
        assert (fit.bits, fit.accumulate) == (16, parts)
        assert str(fit).endswith(f"ACCUMULATE={parts}") == (parts > 1)


def test_small_machines_hold_seven_billion_weights_in_few_bits(tiny):
    bits = [fitting(VICUNA_7B, card)["talk"].bits for card in plan.CARDS[:4]]
    assert bits == [4, 8, 8, 16] and fitting(VICUNA_7B, plan.CARDS[3])["stage 1"].bits == 16
    assert fitting(tiny, plan.APPLE[0])["talk"].bits == 32  # whole weights are float32 there
    assert plan.APPLE[0].usable == pytest.approx(16e9 * 2 / 3)


def test_this_machine_is_its_gpu(monkeypatch):
    monkeypatch.setattr(plan.devices, "processor", lambda _: "a GPU")
    monkeypatch.setattr(plan.devices, "frozen_dtype", lambda _: torch.float32)
    monkeypatch.setattr(plan.devices, "pick", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=12e9))
    assert plan.here() == Machine(name="here, a GPU", memory=12e9, share=0.9, width=4)
    monkeypatch.setattr(plan.devices, "pick", lambda: torch.device("mps"))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 21e9)
    assert plan.here() == Machine(name="here, a GPU", memory=21e9, share=1.0, width=4)
    monkeypatch.setattr(plan.devices, "pick", lambda: torch.device("cpu"))
    assert plan.here() is None


def test_hours_follow_from_the_share_of_the_peak_and_words_from_the_memory(tiny, monkeypatch):
    monkeypatch.setattr(plan, "utilisation", lambda: 0.25)
    assert plan.hours(312e12 * 0.25 * 3600) == pytest.approx(1)
    assert plan.hours(312e12 * 0.25 * 3600, gpus=4) == pytest.approx(0.25)
    weights = sum(p.numel() * 2 for p in counts.build(tiny).language.parameters())
    assert plan.tokens_a_second(tiny, 4) == pytest.approx(4 * 2e12 / weights)


# --- another language model ---


@pytest.mark.parametrize("kind", FAMILIES)
def test_another_language_model_is_counted_from_its_configuration_alone(tmp_path, tiny, tokenizer, kind):
    folder = write(tmp_path / kind, kind, tokenizer)
    (folder / "model.safetensors").unlink()
    chosen = with_language(tiny, folder)
    assert counts.counted(chosen).model.language.model.config.model_type == kind
    held, heads = memory(chosen, 16), 4 if kind == "gpt_neox" else 2
    assert held.cache == 2 * 2 * heads * 12 * (tiny.qformer.queries + PROMPT + 300) * 2
    assert held.language > memory(chosen, 8).language > memory(chosen, 4).language


def test_a_language_model_that_cannot_be_had_or_talked_to_is_named(tmp_path, tiny, tokenizer, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["plan", "--language", str(tmp_path / "empty")]) == 1
    assert f"The configuration of {tmp_path / 'empty'} could not be fetched" in capsys.readouterr().err
    tokenizer.save_pretrained(tmp_path / "base")
    faults = preflight.missing(with_language(tiny, tmp_path / "base"))
    assert any("no chat template" in fault for fault in faults)
    chats = write(tmp_path / "chats", "llama", tokenizer)
    assert not any("chat" in fault for fault in preflight.missing(with_language(tiny, chats)))


# --- what is missing ---


def test_a_whole_folder_lacks_nothing(tiny, downloads):
    assert preflight.missing(tiny, downloads) == []
    assert preflight.remarks(tiny, downloads) == []
    (downloads / tiny.release.projection).unlink()
    (remark,) = preflight.remarks(tiny, downloads)
    assert tiny.release.projection in remark and "shortcut" in remark
    assert preflight.missing(tiny, downloads) == []


def test_an_empty_folder_lacks_everything(tiny, tmp_path):
    faults = "\n".join(preflight.missing(tiny, tmp_path / "none"))
    for name in (
        "eva_vit_g.pth",
        "blip2_pretrained",
        "tiny-vicuna",
        "2 of the 2 shards of laion",
        "filter_cap",
        "aokvqa_v1p0_val.json",
        "testdev_balanced_questions.json",
    ):
        assert name in faults
    assert "of the pool" not in faults  # its shards are among those of stage 1
    assert not (tmp_path / "none").exists()


def test_the_pools_own_shards_are_missed(tiny, downloads):
    other = replace(tiny, release=replace(tiny.release, pool="pool/00000.tar"))
    (fault,) = preflight.missing(other, downloads)
    assert "1 of the 1 shards of the pool" in fault


def test_shards_are_what_is_there_and_gaps_are_named(tiny, downloads):
    (downloads / "laion" / "00001.tar").rename(downloads / "laion" / "00004.tar")
    shutil.copy(downloads / "laion" / "00004.tar", downloads / "laion" / "00002.tar")
    assert preflight.missing(tiny, downloads) == []
    (number,), (gap,) = preflight.remarks(tiny, downloads), preflight.gaps(tiny, downloads)
    assert number.startswith("3 shards of laion are there") and number.endswith("names 2.")
    assert gap.startswith("2 shards between others of laion are not there, the first is ")
    assert "00001.tar" in gap and "ALLOW_MISSING=1" in gap


def test_the_plan_does_not_promise_a_training_that_a_gap_stops(monkeypatch, capsys):
    gap = "2 shards between others are not there."
    monkeypatch.setattr(preflight, "missing", lambda profile: [])
    for found, ready in (([gap], False), ([], True)):
        monkeypatch.setattr(preflight, "gaps", lambda profile, found=found: found)
        assert preflight.check(settings.Settings(profile="vicuna-7b")) is ready
        shown = capsys.readouterr()
        assert ("Everything is there" in shown.out) is ready and (gap in shown.err) is not ready


def test_what_is_something_else_is_named(tiny, downloads):
    (downloads / tiny.release.vision).write_text("version https://git-lfs.github.com/spec/v1\n")
    (downloads / tiny.release.language / "config.json").write_text(
        json.dumps({**asdict(LLAMA), "vocab_size": 5})
    )
    shutil.rmtree(downloads / "laion")
    lfs, other, shards = preflight.missing(tiny, downloads)
    assert "git-LFS pointer" in lfs and "describes another model (vocab_size 5 for" in other
    assert shards.startswith("2 of the 2 shards of laion")


def test_a_language_model_without_its_weights_is_named(tiny, downloads):
    (weights,) = (downloads / tiny.release.language).glob("model*.safetensors")
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    (pointer,) = preflight.missing(tiny, downloads)
    weights.unlink()
    (nothing,) = preflight.missing(tiny, downloads)
    assert "git-LFS pointer" in pointer and "holds no weights" in nothing


def test_fewer_bits_want_their_package(tiny, downloads, monkeypatch):
    few = replace(tiny, release=replace(tiny.release, quantised="4bit"))
    monkeypatch.setattr(vicuna, "find_spec", lambda package: None)
    assert preflight.missing(tiny, downloads) == []
    (fault,) = preflight.missing(few, downloads)
    assert "`pip install bitsandbytes`" in fault


# --- the command ---


@pytest.mark.parametrize("whole", [True, False])
def test_the_command_prints_the_plan_and_names_what_is_missing(tiny, monkeypatch, capsys, whole):
    few = replace(tiny, release=replace(tiny.release, quantised="4bit"))
    monkeypatch.setattr(plan, "utilisation", lambda: 0.25)
    monkeypatch.setattr(settings, "profile", lambda name, **_: few)
    monkeypatch.setattr(plan, "here", lambda: room(memory(few, 4).talking - 1))
    monkeypatch.setattr(preflight, "missing", lambda chosen: [] if whole else ["x.pth is not there."])
    monkeypatch.setattr(preflight, "remarks", lambda chosen: ["y.pth may be wanted."])
    assert main(["plan", "--bits", "4", "--language", "folder"]) == (0 if whole else 1)
    shown = capsys.readouterr()
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "stage 1 6 of 4 4 0.0 0 0 1 1" in lines and "Unmeasured" in shown.out
    assert "the language model in 4 bits (" in shown.out and "BITS=8 or BITS=4" in shown.out
    assert any(line.startswith("card, 8 GB 4 bits, 0.0 GB") for line in lines)
    assert any(line.startswith("a card - ") for line in lines)
    assert ("make train PROFILE=vicuna-7b LANGUAGE=folder BITS=4 GPUS=4" in shown.out) == whole
    assert shown.err == ("" if whole else "x.pth is not there.\n") + "y.pth may be wanted.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plan", "--profile", "mini"], "take one of vicuna-7b, vicuna-13b, llama2-7b"),
        (["train", "--profile", "mini"], "take one of vicuna-7b, vicuna-13b, llama2-7b"),
        (["plan", "--bits", "3"], "BITS=8 or BITS=4"),
    ],
)
def test_a_profile_without_published_files_has_no_plan_and_no_training(capsys, words, sentence):
    assert main(words) == 1
    assert sentence in capsys.readouterr().err
