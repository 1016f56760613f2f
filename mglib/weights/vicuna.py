"""Vicuna, LLaMA-2-chat and the like: merging deltas into LLaMA, and loading at a size that fits a GPU."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from mglib.model.device import frozen_dtype
from mglib.model.language import Language
from mglib.paths import new_folder
from mglib.weights.files import read_folder
from mglib.weights.official import dropped, listed

Quantised = Literal["8bit", "4bit"]
BITS: dict[Quantised, dict[str, Any]] = {
    "8bit": {"load_in_8bit": True},  # the official demo's `low_resource`
    "4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}
# Buffers that old releases saved as weights; transformers computes them.
BUFFERS = ("model.layers.*.self_attn.rotary_emb.inv_freq",)
LAST_NORM = "model.norm.weight"
# The two matrices with a row for each token: Vicuna v0 added a row for its padding token.
BY_TOKEN = ("model.embed_tokens.weight", "lm_head.weight")


def merge_delta(base: Path, delta: Path, merged: Path) -> None:
    """Write LLaMA (`base`) plus Vicuna's `delta`, both transformers folders, as a third one in the delta's
    dtype.

    Only the merged model is held in memory, and an interruption leaves no partial folder. Raises ValueError
    if the two do not belong together, and like `files.read_folder`.
    """
    ours, theirs = (
        {name: value for name, value in read_folder(folder).items() if not dropped(name, BUFFERS)}
        for folder in (base, delta)
    )
    if odd := sorted(ours.keys() ^ theirs.keys()):
        raise ValueError(f"{delta} is no delta for {base}: only one of them has {listed(odd)}.")
    if LAST_NORM in ours and (is_delta(ours[LAST_NORM]) or not is_delta(theirs[LAST_NORM])):
        raise ValueError(
            f"{delta} is no delta, or {base} is no whole model: a delta's {LAST_NORM} is near 0, a whole "
            "model's is not. Take LLaMA itself as base and Vicuna's delta, not Vicuna."
        )
    with new_folder(merged) as built:
        copy_settings(delta, built)
        save_torch_state_dict({name: add(name, ours[name], theirs[name]) for name in theirs}, built)


def is_delta(last_norm: Tensor) -> bool:
    """Return whether a model is a delta, whose last norm is near 0, rather than a whole model."""
    return bool(last_norm.float().abs().mean() < 0.1)


def add(name: str, old: Tensor, change: Tensor) -> Tensor:
    """Return one merged weight; raises ValueError when the shapes differ by more than added tokens."""
    if name in BY_TOKEN and old.shape[1] == change.shape[1] and len(old) < len(change):
        # Vicuna v0 has 32001 tokens, LLaMA 32000: the delta holds the whole of the added row.
        old = torch.cat([old, old.new_zeros(len(change) - len(old), old.shape[1])])
    if old.shape != change.shape:
        raise ValueError(
            f"{name} is {tuple(old.shape)} in the base and {tuple(change.shape)} in the delta: take base and "
            "delta of the same size (7B or 13B) and version."
        )
    return (old.float() + change.float()).to(change.dtype)


def copy_settings(delta: Path, built: Path) -> None:
    """Copy a delta's configuration and tokenizer; raises FileNotFoundError when it has none."""
    files = {file.name: file for ending in ("json", "model") for file in delta.glob(f"*.{ending}")}
    if "config.json" not in files or not files.keys() & {"tokenizer.model", "tokenizer.json"}:
        raise FileNotFoundError(
            f"{delta} has no config.json or no tokenizer: download all of its files. LLaMA's own tokenizer "
            "will not do for Vicuna v0, which knows one token more."
        )
    for name, file in files.items():
        if not name.endswith(".index.json"):
            shutil.copyfile(file, built / name)


def load_language(
    folder: Path, *, dtype: torch.dtype, quantised: Quantised | None = None, attention: str = "sdpa"
) -> Language:
    """Load a transformers folder of a chat model in `dtype`, or `quantised` to save memory.

    A 7B model takes about 27 GB in float32, 13.5 in float16 and bfloat16, 7 in 8 bits and 4 in 4 bits (13B:
    twice that), activations and key-value cache not counted. Raises ValueError when tokenizer and weights do
    not belong together or a package is missing.
    """
    if not (folder / "tokenizer.json").exists():
        require("sentencepiece", f"the tokenizer in {folder}, a tokenizer.model,")
    language = read(folder, dtype=dtype, quantised=quantised, attention=attention)
    norm = dict(language.model.named_parameters()).get(LAST_NORM)
    if norm is not None and is_delta(norm):
        raise ValueError(
            f"{folder} holds a delta and no whole model (the weights of {LAST_NORM} are near 0): merge it "
            "with LLaMA first (mglib.weights.vicuna.merge_delta)."
        )
    rows, tokens = len(language.model.get_input_embeddings().weight), len(language.tokenizer)
    if tokens > rows or rows == tokens + 1:  # extra rows are padding, but one alone is Vicuna v0's
        raise ValueError(
            f"The model in {folder} has embeddings for {rows} tokens, its tokenizer knows {tokens}: take "
            "them from the same release. Vicuna v0 has a padding token that LLaMA has not: merge its delta "
            "again, or copy the delta's tokenizer files into the folder."
        )
    return language


def read(folder: Path, *, dtype: torch.dtype, quantised: Quantised | None, attention: str) -> Language:
    """Read a transformers folder, unchecked; raises like `quantisation`."""
    options = quantisation(quantised) if quantised else {"dtype": dtype}
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, **options)
    return Language(model=model, tokenizer=AutoTokenizer.from_pretrained(folder))


def quantisation(quantised: Quantised) -> dict[str, Any]:
    """Return the options of `from_pretrained` for quantised weights, which go straight to the GPU.

    What is not quantised has the dtype of training's matrix products there, since autocast to bfloat16 does
    not mix with float16. Raises ValueError if bitsandbytes is missing.
    """
    require("bitsandbytes", f"loading in {quantised}")
    device = PartialState().device  # this process's own, if several GPUs are visible
    dtype = frozen_dtype(device)
    return {
        "dtype": dtype,
        "quantization_config": BitsAndBytesConfig(**BITS[quantised], bnb_4bit_compute_dtype=dtype),
        "device_map": {"": device},
    }


def require(package: str, what: str) -> None:
    """Raise ValueError with the command that installs an optional package, unless it is installed."""
    if find_spec(package) is None:
        raise ValueError(
            f"{what[0].upper()}{what[1:]} needs the package {package}, which is not installed: run "
            f"`pip install {package}` in this environment and the same command again."
        )
