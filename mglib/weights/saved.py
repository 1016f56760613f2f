"""The project's own format: only what was trained, bound by hashes to the frozen parts around it.

A folder with `projection.safetensors`, `config.json` and, if the language model was trained too, its low-rank
updates in `lora.safetensors`. The frozen parts are gigabytes and are fetched from where they were published;
what is stored about them is enough to detect that they differ.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from mglib.config import LoRAConfig
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.prompts import Template
from mglib.model.vision import Vision
from mglib.paths import sha256, write_json
from mglib.weights.lora import lora_weights, with_lora
from mglib.weights.tensors import hash_tensors, load_weights, save_weights

CONFIG, WEIGHTS, LORA = "config.json", "projection.safetensors", "lora.safetensors"
FORMAT = 1
# What the vision tokens depend on besides the weights.
LOOK = ("image_size", "pool", "mean", "std")


def save_pretrained(
    model: MiniGPT4,
    folder: Path,
    *,
    language: str,
    template: Template,
    lora: LoRAConfig | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write the projection and what it was trained with; `language` is the language model's name, `lora` the
    settings of its low-rank updates, `run` describes the training run.

    An interruption leaves the older files or some that `from_pretrained` refuses. Raises ValueError if the
    model has no image encoder.
    """
    about = frozen_parts(model, language, template)
    save_weights(folder / WEIGHTS, model.projection.state_dict(), {"language": language})
    about |= {"format": FORMAT, "sha256": sha256(folder / WEIGHTS), "run": dict(run or {})}
    if lora is not None:
        save_weights(folder / LORA, dict(lora_weights(model.language)), {"language": language})
        about["lora"] = {"sha256": sha256(folder / LORA), "config": asdict(lora)}
    write_json(folder / CONFIG, about)
    if lora is None:
        (folder / LORA).unlink(missing_ok=True)  # left by an earlier model


def from_pretrained(
    folder: Path,
    *,
    vision: Vision,
    qformer: nn.Module,
    language: Language,
    name: str,
    template: Template,
) -> MiniGPT4:
    """Join frozen parts with a saved projection and any low-rank updates; `name` is the language model's.

    Raises FileNotFoundError or ValueError with the next step if the folder is incomplete or the projection
    was trained with other parts.
    """
    saved = read_config(folder)
    if (trained_with := saved["language"]["name"]) != name:
        raise ValueError(
            f"The projection in {folder} was trained with {trained_with}, this model speaks with {name}: "
            "their word embeddings differ, and the answers would be noise. Load the language model that it "
            "was trained with, or train stage 1 again."
        )
    state, _ = load_weights(folder / WEIGHTS)
    model = assemble(vision=vision, qformer=qformer, language=language)
    require_same_parts(folder, saved, json.loads(json.dumps(frozen_parts(model, name, template))))
    model.projection.load_state_dict(state)
    model.projection.to(language.model.device)
    if config := lora_config(saved):
        model = with_lora(model, config, seed=0)
        updates, _ = load_weights(folder / LORA)
        if updates.keys() != lora_weights(model.language).keys():
            raise ValueError(f"The low-rank updates in {folder / LORA} belong to other layers than these.")
        model.language.load_state_dict(updates, strict=False)
    return model


def lora_config(saved: Mapping[str, Any]) -> LoRAConfig | None:
    """Return the settings of a folder's low-rank updates, if any, from the result of `read_config`."""
    return TypeAdapter(LoRAConfig).validate_python(saved["lora"]["config"]) if "lora" in saved else None


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's description of its weights; raises if a file is missing or does not match it."""
    try:
        saved = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if saved.get("format") != FORMAT:
            raise ValueError(f"{folder / CONFIG} is not of format {FORMAT}: another version wrote it.")
        digests = {WEIGHTS: saved["sha256"]} | ({LORA: saved["lora"]["sha256"]} if "lora" in saved else {})
        others = [name for name, digest in digests.items() if sha256(folder / name) != digest]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} is not there: save the model again, or download the whole folder."
        ) from error
    if others:
        raise ValueError(
            f"{folder / others[0]} is not the file that {CONFIG} was written for: it is damaged, or the "
            "saving was stopped. Save the model again."
        )
    return saved


def frozen_parts(model: MiniGPT4, language: str, template: Template) -> dict[str, Any]:
    """Describe as JSON what a projection was trained with; `language` is the language model's name."""
    if not isinstance(model.vision, Vision):
        raise ValueError(
            "This model was built on cached features and has no image encoder: attach it "
            "(model.vision = study.vision()) and save again."
        )
    look = asdict(model.vision.config)
    return {
        "vision": {"sha256": fingerprint(model.vision.state_dict()), **{name: look[name] for name in LOOK}},
        "qformer": {"sha256": fingerprint(model.qformer.state_dict())},
        "language": {"name": language, "sha256": fingerprint(untouched(model.language.model))},
        "template": asdict(template),
    }


def require_same_parts(folder: Path, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise ValueError naming the frozen parts, if any, in which two descriptions differ."""
    called = {
        "vision": "image encoder or its preprocessing",
        "qformer": "Q-Former",
        "language": "language model's weights",
        "template": "prompt template",
    }
    if other := [what for part, what in called.items() if saved[part] != own[part]]:
        raise ValueError(
            f"The projection in {folder} was trained with another {' and another '.join(other)}: it would "
            "give noise here. Load the parts that it was trained with, or train stage 1 again."
        )


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Return the digest of values rounded to bfloat16.

    Rounded, so that a model has the same digest whether it was loaded in float32 or bfloat16.
    """
    return hash_tensors({name: value.to(torch.bfloat16) for name, value in state.items()})


def untouched(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a language model that neither quantisation nor training changes: word embeddings
    and norms, under the names that they have without low-rank updates.
    """
    vectors = {
        name.replace(".base_layer", ""): value for name, value in model.named_parameters() if value.ndim == 1
    }
    return {"embeddings": model.get_input_embeddings().weight, **vectors}
