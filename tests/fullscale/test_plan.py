"""The dry run: what it counts is what the formulas say, and each missing file is named."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from tiny_release import CONCAT, LLAMA, tiny_profile, write_release

from mglib import settings
from mglib.__main__ import main
from mglib.fullscale import plan
from mglib.paper_profiles import VICUNA_7B, VICUNA_13B
from mglib.profiles import MINI
from mglib.study import flops
from mglib.weights import vicuna


@pytest.fixture
def tiny(tokenizer):
    return tiny_profile(len(tokenizer))


@pytest.fixture
def downloads(tmp_path, tiny, llama, tokenizer, captions):
    write_release(tmp_path, llama(), tokenizer, captions)
    return tmp_path


# --- what is counted ---


@pytest.mark.parametrize(("profile", "trained"), [(VICUNA_7B, 3_149_824), (VICUNA_13B, 3_937_280)])
def test_the_papers_model_has_the_papers_parameters(profile, trained):
    model = flops.build(profile)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    assert flops.parameters(model.projection) == trained
    # Two matrices with a row for each of the 32,001 tokens, and the blocks and norms between them.
    llama = profile.release.llama
    D, hidden, layers = llama.hidden_size, llama.intermediate_size, llama.num_hidden_layers
    blocks = layers * (4 * D * D + 3 * D * hidden + 2 * D) + D
    assert flops.parameters(model.language) == 2 * 32_001 * D + blocks


def test_flops_are_two_a_weight_and_token_forward_and_as_many_backward(tiny):
    model = flops.build(tiny)
    cost = flops.cost(model, tiny, text=20, answer=8)
    tokens, D, layers, heads = 20 + 3, 48, 2, 1  # heads cancel out of the products of attention
    blocks = layers * (4 * D * D + 3 * D * 96)
    attention = layers * heads * 2 * 2 * tokens * tokens * D
    forward = 2 * blocks * tokens + attention + 2 * 8 * D * tiny.release.llama.vocab_size
    project = 3 * 2 * 32 * D  # forward; backward needs the weight's gradient and no other
    # Backward through frozen weights costs what forward does; attention's recomputes its scores: 2.5 of it.
    assert cost.read == pytest.approx(2 * forward + 1.5 * attention + 2 * project, rel=0.03)
    assert cost.look > 0 and cost.flops == cost.look + cost.read


def test_longer_texts_cost_more_and_hold_more(tiny):
    model = flops.build(tiny)
    short, long = (flops.cost(model, tiny, text=n, answer=8) for n in (20, 80))
    assert long.read > 3 * short.read and long.look == short.look
    assert 3 * short.activations < long.activations < 8 * short.activations


def test_weights_are_no_activations(tiny):
    model = flops.build(tiny)
    cost = flops.cost(model, tiny, text=20, answer=8)
    stored = sum(p.numel() * p.itemsize for p in model.language.parameters())
    assert cost.activations < 2 * stored  # of one sample: with the weights' views it would be more
    trained = flops.parameters(model.projection) * 4
    others = sum(p.numel() * p.itemsize for p in model.parameters() if not p.requires_grad)
    assert plan.weight_bytes(model) == others + 4 * trained


def test_parts_that_do_not_fit_together_are_named(tiny):
    wrong = replace(tiny, vision=replace(tiny.vision, pool=2))
    with pytest.raises(ValueError, match="mend the profile"):
        flops.cost(flops.build(wrong), tiny, text=20, answer=8)
    other = replace(tiny, language=replace(tiny.language, width=40))
    with pytest.raises(ValueError, match=r"The words are \(1, 1, 48\), the profile says \(1, 1, 40\)"):
        flops.cost(flops.build(other), other, text=20, answer=8)


def test_the_variant_without_a_q_former_is_planned_too(tiny):
    without = replace(tiny, qformer=CONCAT)
    model = flops.build(without)
    assert flops.parameters(model.projection) == 256 * 48 + 48
    assert flops.cost(model, without, text=20, answer=8).look > 0


def test_mini_can_be_compared_with_the_paper():
    model = flops.build(MINI)
    assert flops.parameters(model.projection) == 384 * 576 + 576
    assert flops.stage_cost(model, MINI, MINI.stage1).read > 0


# --- what follows ---


def test_the_papers_ten_hours_come_out(monkeypatch):
    monkeypatch.setattr(plan, "utilisation", lambda: 0.25)
    assert plan.hours(312e12 * 0.25 * 3600) == pytest.approx(1)
    assert plan.hours(312e12 * 0.25 * 3600, gpus=4) == pytest.approx(0.25)


def test_a_card_takes_as_few_parts_as_fit(tiny):
    model = flops.build(tiny)
    sample = flops.cost(model, tiny, text=20, answer=8)
    fixed = plan.weight_bytes(model)
    for held, parts in ((4, 1), (2, 2), (1, 4)):
        card = replace(plan.A100, memory=(fixed + sample.activations * held) / 0.9 + 1)
        assert plan.parts_needed(model, sample, tiny.stage1, 1, card) == parts
    card = replace(plan.A100, memory=fixed / 0.9)
    assert plan.parts_needed(model, sample, tiny.stage1, 1, card) is None


def test_all_vision_tokens_would_be_terabytes():
    assert plan.kept_bytes(VICUNA_7B, 5_000_000) == pytest.approx(3.6e12, rel=0.01)


# --- what is missing ---


def test_a_whole_folder_lacks_nothing(tiny, downloads):
    assert plan.missing(tiny, downloads) == []
    assert plan.missing(MINI, downloads) == []


def test_an_empty_folder_lacks_everything(tiny, tmp_path):
    faults = "\n".join(plan.missing(tiny, tmp_path / "none"))
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
    (fault,) = plan.missing(other, downloads)
    assert "1 of the 1 shards of the pool" in fault


def test_what_can_be_done_without_is_a_remark(tiny, downloads):
    assert plan.remarks(tiny, downloads) == []
    (downloads / tiny.release.projection).unlink()
    (remark,) = plan.remarks(tiny, downloads)
    assert tiny.release.projection in remark and "shortcut" in remark
    assert plan.missing(tiny, downloads) == []


def test_shards_are_what_is_there_and_gaps_are_told(tiny, downloads):
    (downloads / "laion" / "00001.tar").rename(downloads / "laion" / "00004.tar")
    shutil.copy(downloads / "laion" / "00004.tar", downloads / "laion" / "00002.tar")
    assert plan.missing(tiny, downloads) == []
    number, gap = plan.remarks(tiny, downloads)
    assert number.startswith("3 shards of laion are there") and number.endswith("names 2.")
    assert gap.startswith("2 shards between others of laion are not there, the first is ")
    assert "00001.tar" in gap and "ALLOW_MISSING=1" in gap


def test_what_is_something_else_is_named(tiny, downloads):
    (downloads / tiny.release.vision).write_text("version https://git-lfs.github.com/spec/v1\n")
    (downloads / tiny.release.language / "config.json").write_text(
        json.dumps({**asdict(LLAMA), "vocab_size": 5})
    )
    for name in ("00000", "00001"):
        (downloads / "laion" / f"{name}.tar").unlink()
    faults = plan.missing(tiny, downloads)
    assert len(faults) == 3
    assert "git-LFS pointer" in faults[0] and "describes another model (vocab_size 5 for" in faults[1]
    assert faults[2].startswith("2 of the 2 shards of laion")


@pytest.mark.parametrize("whole", [True, False])
def test_the_command_prints_the_plan_and_tells_what_is_missing(tiny, downloads, monkeypatch, capsys, whole):
    before = sorted(path for path in downloads.rglob("*"))
    monkeypatch.setattr(plan, "utilisation", lambda: 0.25)
    monkeypatch.setattr(settings, "profile", lambda name, **_: tiny)
    monkeypatch.setattr(plan, "missing", lambda chosen: [] if whole else ["x.pth is not there."])
    monkeypatch.setattr(plan, "remarks", lambda chosen: ["y.pth may be wanted."])
    assert main(["plan"]) == (0 if whole else 1)
    shown = capsys.readouterr()
    assert "stage 1: 6 steps of 4" in shown.out and "4 GPU" in shown.out and "Unmeasured" in shown.out
    assert ("Everything is there" in shown.out) == whole
    assert shown.err == ("" if whole else "x.pth is not there.\n") + "y.pth may be wanted.\n"
    assert sorted(path for path in downloads.rglob("*")) == before


def test_fewer_bits_want_their_package(tiny, downloads, monkeypatch):
    few = replace(tiny, release=replace(tiny.release, quantised="4bit"))
    monkeypatch.setattr(vicuna, "find_spec", lambda package: None)
    assert plan.missing(tiny, downloads) == []
    (fault,) = plan.missing(few, downloads)
    assert "`pip install bitsandbytes`" in fault
    monkeypatch.setattr(vicuna, "find_spec", lambda package: object())
    assert plan.missing(few, downloads) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--profile", "mini"], "take one of vicuna-7b, vicuna-13b, llama2-7b"),
        (["--bits", "3"], "BITS=8 or BITS=4"),
    ],
)
def test_a_profile_of_wheels_has_no_plan(capsys, words, sentence):
    assert main(["plan", *words]) == 1
    assert sentence in capsys.readouterr().err


def test_no_memory_is_taken_by_a_model_of_13_billion():
    assert all(p.untyped_storage().device.type == "meta" for p in flops.build(VICUNA_13B).parameters())
    assert torch.get_default_device().type == "cpu"
