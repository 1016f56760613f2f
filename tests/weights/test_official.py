"""Official weights in: names, numbers, sizes, and what is said when a file is not what it should be."""

import os
import pickle
import re
from types import SimpleNamespace

import pytest
import torch
from tiny_languages import llama
from tiny_official import (
    VISION,
    WIDTH,
    blip2_flant5,
    eva_vit_g,
    minigpt4,
    reference_qformer,
    reference_vision,
)
from torch import nn

from mglib.config import QFormerConfig, VisionConfig
from mglib.model.qformer import QFormer
from mglib.model.vision import Vision
from mglib.weights import vicuna
from mglib.weights.files import read_folder, read_state
from mglib.weights.official import load_projection, load_qformer, load_vision


def write(path, value):
    torch.save(value, path)
    return path


@pytest.fixture
def pixels(random):
    return torch.randn(2, 3, 28, 28, generator=random)


# --- numbers: the tokens are those of plain code that reads the official names ---


def test_the_encoder_computes_what_its_file_says(tmp_path, pixels):
    vision = Vision(config=VISION)
    load_vision(vision, write(tmp_path / "eva_vit_g.pth", eva_vit_g()))
    torch.testing.assert_close(vision(pixels), reference_vision(eva_vit_g(), pixels), atol=1e-5, rtol=0)


def test_the_qformer_computes_what_its_file_says(tmp_path, qformer, random):
    built, state = qformer(), blip2_flant5()
    load_qformer(built, write(tmp_path / "blip2.pth", {"model": state}))
    tokens = 3 * torch.randn(2, 5, WIDTH, generator=random)
    torch.testing.assert_close(built(tokens), reference_qformer(state, tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"state_dict": state},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": {f"module._orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    ],
)
def test_a_projection_may_be_wrapped_as_trainers_do(tmp_path, wrap):
    state = minigpt4()["model"]
    torch.save(wrap(state), tmp_path / "a.pth")
    projection = nn.Linear(state["llama_proj.weight"].shape[1], len(state["llama_proj.weight"]))
    load_projection(projection, tmp_path / "a.pth")
    assert torch.equal(projection.weight, state["llama_proj.weight"])
    assert torch.equal(projection.bias, state["llama_proj.bias"])


# --- sizes: the paper's, on the meta device ---


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_papers_parts_have_their_sizes():
    config = VisionConfig(timm_name="eva_giant_patch14_clip_224", width=1408, depth=39, final_norm=False)
    with torch.device("meta"):
        vision, qformer = Vision(config=config), QFormer(config=QFormerConfig(), vision_width=1408)
    assert (count(vision), count(qformer)) == (985_894_528, 105_165_056)
    assert vision.encoder.blocks[0].norm1.eps == 1e-6 and isinstance(vision.encoder.norm, nn.Identity)
    assert qformer.ln_vision.eps == 1e-5 and qformer.bert.layernorm.eps == 1e-12


# --- what does not fit is listed, as the file spells it ---


def test_missing_left_over_and_misshapen_weights_are_listed(tmp_path):
    state = eva_vit_g()
    del state["blocks.1.attn.q_bias"]
    state["blocks.0.attn.k_bias"] = torch.zeros(WIDTH)
    state["pos_embed"] = torch.zeros(1, 17, WIDTH)
    vision = Vision(config=VISION)
    before = vision.encoder.cls_token.clone()
    with pytest.raises(ValueError) as caught:
        load_vision(vision, write(tmp_path / "eva_vit_g.pth", state))
    told = str(caught.value)
    assert "missing: blocks.1.attn.q_bias;" in told
    assert "left over: blocks.0.attn.k_bias;" in told
    assert "of another shape: pos_embed (1, 17, 64) for (1, 5, 64)" in told
    assert torch.equal(vision.encoder.cls_token, before)  # nothing was partly loaded


def test_only_the_block_behind_the_last_and_the_head_are_dropped(tmp_path):
    state = {**eva_vit_g(), "norm.weight": torch.ones(WIDTH), "head.bias": torch.ones(3)}
    load_vision(Vision(config=VISION), write(tmp_path / "good.pth", state))
    state["blocks.4.norm1.weight"] = torch.ones(WIDTH)
    with pytest.raises(ValueError, match=re.escape("(left over: blocks.4.norm1.weight)")):
        load_vision(Vision(config=VISION), write(tmp_path / "bad.pth", state))


def test_the_projection_of_another_size_is_named_by_its_model(tmp_path):
    place = write(tmp_path / "pretrained_minigpt4.pth", minigpt4(width=5120))
    with pytest.raises(ValueError, match=r"5120 numbers \(13B\).* 4096 numbers \(7B\)"):
        load_projection(nn.Linear(32, 4096), place)


# --- files that are something else ---


class Evil:
    def __reduce__(self):
        return os.system, ("touch was_here",)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = write(tmp_path / "evil.pth", {"model": {"query_tokens": Evil()}})
    with pytest.raises(
        ValueError, match=r"refused: loading it would run code of its own \((posix|nt)\.system\)"
    ):
        read_state(place)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.warns(UserWarning, match="pickle protocol"), pytest.raises(ValueError, match="refused"):
        read_state(tmp_path / "bare.pth")
    assert not (tmp_path / "was_here").exists()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 2043249920\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (LFS, "git-LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html><title>Google Drive</title></html>", "web page saved under this name"),
        (b"", "is empty"),
        (b"hello " * 50, "cut off or not a file of torch.save"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path, content, told):
    (tmp_path / "eva_vit_g.pth").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_state(tmp_path / "eva_vit_g.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_named(tmp_path, zipped):
    whole = tmp_path / "whole.pth"
    torch.save(eva_vit_g(), whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    (tmp_path / "part.pth").write_bytes(content[: int(0.99 * len(content))])
    with pytest.raises(ValueError, match=r"cut off .*download it again"):
        read_state(tmp_path / "part.pth")
    assert read_state(whole).keys() == eva_vit_g().keys()


def test_a_file_without_a_state_dict_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no state dict"):
        read_state(write(tmp_path / "a.pth", {"model": {"epoch": 3}}))


@pytest.mark.parametrize(("content", "told"), [(b"\x00" * 100, "is damaged"), (LFS, "git-LFS pointer")])
def test_a_safetensors_file_that_is_none_is_named(tmp_path, content, told):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_folder(tmp_path)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there: download it"):
        read_state(tmp_path / "eva_vit_g.pth")
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        read_folder(tmp_path)
    (tmp_path / "consolidated.00.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"as Meta gives it.*convert_llama_weights_to_hf"):
        read_folder(tmp_path)


# --- Vicuna: delta merge ---


def write_shards(folder, state, number):
    """Write .bin shards as the releases of 2023 did."""
    folder.mkdir()
    for i in range(number):
        file = f"pytorch_model-{i + 1:05}-of-{number:05}.bin"
        write(folder / file, {name: state[name] for name in sorted(state)[i::number]})


@pytest.fixture
def vicuna_v0(tmp_path, tokenizer):
    """Write LLaMA and a delta with one more token, and return the original Vicuna."""
    base, target = llama(299, seed=0), llama(300, seed=1)
    old, new = base.state_dict(), target.state_dict()
    base.save_pretrained(tmp_path / "llama")
    delta = {}
    for name, value in new.items():
        delta[name] = value.clone()
        delta[name][: len(old[name])] -= old[name]  # the added row is whole in the delta
    delta["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    write_shards(tmp_path / "delta", delta, 3)
    target.config.save_pretrained(tmp_path / "delta")
    tokenizer.save_pretrained(tmp_path / "delta")
    return target


def test_a_delta_put_onto_llama_gives_vicuna_back(tmp_path, vicuna_v0):
    vicuna.merge_delta(tmp_path / "llama", tmp_path / "delta", tmp_path / "vicuna")
    language = vicuna.load_language(tmp_path / "vicuna", dtype=torch.float32)
    state = language.model.state_dict()
    assert state.keys() == vicuna_v0.state_dict().keys()
    for name, value in vicuna_v0.state_dict().items():
        torch.testing.assert_close(state[name], value, atol=1e-6, rtol=0)
    assert language.width == 48 and not any(p.requires_grad for p in language.parameters())


def test_half_precision_deltas_stay_in_half_precision():
    merged = vicuna.add("model.norm.weight", torch.tensor([1.0, 2.0]), torch.tensor([0.5, -2.0]).half())
    assert merged.dtype == torch.float16 and merged.tolist() == [1.5, 0]


def test_a_whole_vicuna_in_the_place_of_its_delta_is_refused(tmp_path, vicuna_v0, tokenizer):
    vicuna_v0.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"a delta's model\.norm\.weight is near 0"):
        vicuna.merge_delta(tmp_path / "llama", tmp_path / "whole", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_delta_in_the_place_of_a_model_is_refused(tmp_path, tokenizer):
    delta = llama(300, seed=0)
    delta.load_state_dict({name: 0.01 * value for name, value in delta.state_dict().items()})
    delta.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a delta and no whole model"):
        vicuna.load_language(tmp_path, dtype=torch.float32)


def test_a_delta_of_another_model_or_without_a_tokenizer_is_refused(tmp_path, vicuna_v0):
    llama(299, seed=0, width=24).save_pretrained(tmp_path / "wider")
    with pytest.raises(ValueError, match=r"take base and delta of the same size \(7B or 13B\)"):
        vicuna.merge_delta(tmp_path / "wider", tmp_path / "delta", tmp_path / "vicuna")
    write_shards(tmp_path / "other", {"model.norm.weight": torch.ones(48)}, 1)
    with pytest.raises(ValueError, match=r"no delta for .*lm_head\.weight"):
        vicuna.merge_delta(tmp_path / "other", tmp_path / "delta", tmp_path / "vicuna")
    (tmp_path / "delta" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer: download all of its files"):
        vicuna.merge_delta(tmp_path / "llama", tmp_path / "delta", tmp_path / "vicuna")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "llama", "other", "wider"]


# --- language models: vocabulary, precision ---


def test_a_vocabulary_that_does_not_fit_is_named(tmp_path, tokenizer):
    tokens = len(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    for size in (tokens, tokens + 64):  # 64: padded for speed
        llama(size, seed=0).save_pretrained(tmp_path)
        vicuna.load_language(tmp_path, dtype=torch.float32)
    for size in (tokens - 1, tokens + 1):
        llama(size, seed=0).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=rf"{size} tokens, its tokenizer knows {tokens}: .*same release"):
            vicuna.load_language(tmp_path, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_quantised_weights_go_to_the_card_of_their_process(monkeypatch, dtype):
    place = torch.device("cuda", 1)
    monkeypatch.setattr(vicuna, "find_spec", lambda package: object())
    monkeypatch.setattr(vicuna, "PartialState", lambda: SimpleNamespace(device=place))
    monkeypatch.setattr(vicuna, "frozen_dtype", lambda place: dtype)
    eight, four = (vicuna.quantisation(bits) for bits in ("8bit", "4bit"))
    for asked in (eight, four):  # what is not quantised has the precision of training's products
        assert asked["device_map"] == {"": place}
        assert asked["dtype"] == asked["quantization_config"].bnb_4bit_compute_dtype == dtype
    assert eight["quantization_config"].load_in_8bit and not eight["quantization_config"].load_in_4bit
    assert four["quantization_config"].load_in_4bit


def test_a_missing_package_is_named_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setattr(vicuna, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"Loading in 8bit needs .*`pip install bitsandbytes`"):
        vicuna.quantisation("8bit")
    with pytest.raises(ValueError, match="`pip install sentencepiece`"):
        vicuna.load_language(tmp_path, dtype=torch.float32)
