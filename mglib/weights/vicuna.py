"""Vicuna, LLaMA-2-chat and their kin: released deltas put onto LLaMA, and loading in what fits a card."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from mglib.model.device import frozen_dtype
from mglib.model.language import Language
from mglib.paths import new_folder, write_json
from mglib.weights.files import Shards, locate
from mglib.weights.official import dropped, listed

Precision = Literal["fp32", "fp16", "bf16", "8bit", "4bit"]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Buffers that old releases kept as weights; transformers computes them.
BUFFERS = ("model.layers.*.self_attn.rotary_emb.inv_freq",)
LAST_NORM = "model.norm.weight"
# The two matrices with a row for each token: Vicuna v0 added a row for its padding token.
BY_TOKEN = ("model.embed_tokens.weight", "lm_head.weight")
SETTINGS = ("config.json", "generation_config.json")
TOKENIZER = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def merge_delta(base: str | Path, delta: str | Path, merged: Path) -> None:
    """Write LLaMA (`base`) plus Vicuna's `delta` as a transformers folder `merged` in the delta's dtype.

    Both are folders or "hub:owner/name". Tensors are read one at a time and written by the delta's files, so
    that memory holds one of those; a kill leaves no half folder. Raises ValueError when the two do not belong
    together, and as `Shards`.
    """
    ours, theirs = Shards(base), Shards(delta)
    names = [name for name in theirs.files if not dropped(name, BUFFERS)]
    wanted = {name for name in ours.files if not dropped(name, BUFFERS)}
    if odd := sorted(wanted ^ set(names)):
        raise ValueError(f"{delta} is no delta for {base}: only one of them has {listed(odd)}.")
    require_delta(ours, theirs)
    files = list(dict.fromkeys(theirs.files[name] for name in names))
    index: dict[str, str] = {}
    with new_folder(merged) as built:
        copy_settings(delta, built)
        for number, file in enumerate(files, start=1):
            shard = f"model-{number:05}-of-{len(files):05}.safetensors"
            part = {name: add(ours, theirs, name) for name in names if theirs.files[name] == file}
            save_file(part, built / shard, metadata={"format": "pt"})
            index |= dict.fromkeys(part, shard)
        write_json(built / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def require_delta(base: Shards, delta: Shards) -> None:
    """Raise ValueError where a whole model was given as the delta or a delta as LLaMA."""
    if LAST_NORM not in delta.files or LAST_NORM not in base.files:
        return
    if is_delta(base.get(LAST_NORM)) or not is_delta(delta.get(LAST_NORM)):
        raise ValueError(
            f"{delta.folder} is no delta, or {base.folder} is no whole model: a delta's {LAST_NORM} is near "
            "0, a whole model's is not. Take LLaMA itself as base and Vicuna's delta, not Vicuna."
        )


def is_delta(last_norm: Tensor) -> bool:
    """Tell a difference of two models, whose last norm is near 0, from a whole model."""
    return bool(last_norm.float().abs().mean() < 0.1)


def add(base: Shards, delta: Shards, name: str) -> Tensor:
    """Return one merged weight; raises ValueError when the shapes differ by more than added tokens."""
    old, change = base.get(name), delta.get(name)
    if name in BY_TOKEN and old.shape[1] == change.shape[1] and len(old) < len(change):
        # Vicuna v0 has 32001 tokens, LLaMA 32000: the delta holds the whole of the added row.
        old = torch.cat([old, old.new_zeros(len(change) - len(old), old.shape[1])])
    if old.shape != change.shape:
        raise ValueError(
            f"{name} is {tuple(old.shape)} in {base.folder} and {tuple(change.shape)} in {delta.folder}: "
            "take base and delta of the same size (7B or 13B) and version."
        )
    return (old.float() + change.float()).to(change.dtype).contiguous()


def copy_settings(delta: str | Path, built: Path) -> None:
    """Copy a delta's configuration and tokenizer; raises FileNotFoundError when it has none."""
    copied = set()
    for name in (*SETTINGS, *TOKENIZER):
        try:
            shutil.copyfile(locate(f"{delta}/{name}"), built / name)
            copied.add(name)
        except FileNotFoundError:
            continue
    if "config.json" not in copied or not copied & {"tokenizer.model", "tokenizer.json"}:
        raise FileNotFoundError(
            f"{delta} has no config.json or no tokenizer: download all of its files. LLaMA's own tokenizer "
            "will not do for Vicuna v0, which knows one token more."
        )


def load_language(folder: Path, *, precision: Precision, attention: str = "sdpa") -> Language:
    """Load a transformers folder of a chat model as `precision` says.

    A 7B model takes about 27 GB in fp32, 13.5 in fp16 and bf16, 7 in 8 bits and 4 in 4 bits (13B: twice
    that), activations and key-value cache not counted. Raises ValueError when tokenizer and weights do not
    belong together or a package is missing.
    """
    if not (folder / "tokenizer.json").exists():
        require("sentencepiece", f"the tokenizer in {folder}, a tokenizer.model,")
    language = read(folder, precision=precision, attention=attention)
    require_whole(folder, language.model)
    rows = language.model.get_input_embeddings().weight.shape[0]
    require_vocabulary(folder, rows, len(language.tokenizer))
    return language


def read(folder: Path, *, precision: Precision, attention: str) -> Language:
    """Read a transformers folder as `precision` says, unchecked; raises as `options`."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, **options(precision))
    return Language(model=model, tokenizer=AutoTokenizer.from_pretrained(folder))


def require_whole(folder: Path, model: nn.Module) -> None:
    """Raise ValueError where a delta was loaded as a model."""
    norm = dict(model.named_parameters()).get(LAST_NORM)
    if norm is not None and is_delta(norm):
        raise ValueError(
            f"{folder} holds a delta and no whole model (the weights of {LAST_NORM} are near 0): merge it "
            "with LLaMA first (mglib.weights.vicuna.merge_delta)."
        )


def options(precision: Precision) -> dict[str, Any]:
    """Return what `from_pretrained` needs for a precision; quantised weights go to the GPU at once.

    What is not quantised has the precision of training's products there, for autocast to bfloat16 joins no
    float16. Raises ValueError when bitsandbytes is missing, and for an unknown precision.
    """
    if precision in DTYPES:
        return {"dtype": DTYPES[precision]}
    quantised: dict[str, dict[str, Any]] = {
        "8bit": {"load_in_8bit": True},  # the official demo's `low_resource`
        "4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    }
    if precision not in quantised:
        raise ValueError(
            f"Unknown precision {precision!r}: choose one of {', '.join([*DTYPES, *quantised])}."
        )
    require("bitsandbytes", f"loading in {precision}")
    device = PartialState().device  # this process's own, where several GPUs are seen
    dtype = frozen_dtype(device)
    return {
        "dtype": dtype,
        "quantization_config": BitsAndBytesConfig(**quantised[precision], bnb_4bit_compute_dtype=dtype),
        "device_map": {"": device},
    }


def require(package: str, what: str) -> None:
    """Raise ValueError with the command that installs an optional package, unless it is there."""
    if find_spec(package) is None:
        raise ValueError(
            f"{what[0].upper()}{what[1:]} needs the package {package}, which is not installed: run "
            f"`pip install {package}` in this environment and the same command again."
        )


def require_vocabulary(folder: Path, rows: int, tokens: int) -> None:
    """Raise ValueError unless the embedding's `rows` fit the tokenizer's `tokens`.

    More rows than tokens are harmless padding, except for the one of Vicuna v0.
    """
    if tokens > rows or rows == tokens + 1:
        raise ValueError(
            f"The model in {folder} has embeddings for {rows} tokens, its tokenizer knows {tokens}: take "
            "them from the same release. Vicuna v0 has a padding token that LLaMA has not: merge its delta "
            "again, or copy the delta's tokenizer files into the folder."
        )
