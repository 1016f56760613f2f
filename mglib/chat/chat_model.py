"""The model that is talked to, with its template and preprocessing, as it was trained and kept on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from mglib.config import Asked, VisionConfig
from mglib.evals.generate import decoding_configs
from mglib.model.decoding import Decoding
from mglib.model.decoding import greedy as likeliest
from mglib.model.dialogue import VICUNA_CHAT, Turns, turns
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.prompts import VICUNA, template
from mglib.model.vision import preprocess
from mglib.paths import CACHE, sha256, shown
from mglib.profiles import own_name
from mglib.settings import Settings
from mglib.study.stage1 import join_parts
from mglib.study.study import Study
from mglib.training.checkpoint import restore
from mglib.weights import chosen
from mglib.weights.lora import lora_weights
from mglib.weights.official import load_projection
from mglib.weights.saved import LORA, WEIGHTS, from_pretrained, read_config
from mglib.weights.tensors import hash_tensors, load_weights, save_weights

SHOWN = ("memes", "dishes", "products", "landscapes")  # kinds of special pictures among the examples


@dataclass(frozen=True, kw_only=True)
class ChatModel:
    """A model together with how it is talked to and how it wants its pictures."""

    model: MiniGPT4
    turns: Turns
    vision: VisionConfig
    decoding: Decoding = field(default_factory=Decoding)  # as the profile chose it on val, or officially
    origin: dict[str, Any] = field(default_factory=dict)  # the run that trained it
    language: str = "a language model without a name"
    language_id: str = ""  # the same wherever the language model's files are; "": `language`
    trained: str = "weights of no file"  # what was trained, as `hashed` names it

    @torch.inference_mode()
    def queries(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Encode pictures up to the Q-Former's output: (B, Q, D_q)."""
        pixels = torch.stack([preprocess(picture, self.vision) for picture in pictures])
        return self.model.queries({"pixels": pixels.to(self.model.projection.weight.device)})

    def weights(self) -> str:
        """Say which weights answer, and where they compute."""
        device = self.model.projection.weight.device
        precision = str(self.model.language.model.dtype).removeprefix("torch.")
        profile = self.origin.get("profile", "without a name")
        return f"profile {profile}, {self.trained} with {self.language}, on {device} in {precision}"

    @cached_property
    def name(self) -> str:
        """Name the model by its content, wherever its files are and whatever computes it."""
        parts = trained_weights(self.model) | lora_weights(self.model.language)
        key = hash_tensors(parts)[:12]
        return (
            f"{self.origin.get('profile', 'no profile')}, weights {key}, {self.language_id or self.language}"
        )

    def decoding_with(self, *, greedy: bool, tokens: int | None, beams: int, seed: int) -> Decoding:
        """Return the model's own decoding, or that of the likeliest tokens, with these limits."""
        tokens = tokens or Decoding.max_new_tokens
        own = likeliest(tokens) if greedy else replace(self.decoding, max_new_tokens=tokens, seed=seed)
        return replace(own, beams=beams)

    def sees(self, image: Image.Image, name: str) -> str:
        """Say of a picture what was read, and what `preprocess` makes of it."""
        side = self.vision.image_size
        return (
            f"{name}, read as {image.width} x {image.height} pixels; the model sees the whole of it resized "
            f"to a square of {side} x {side}"
        )


def trained_weights(model: MiniGPT4) -> dict[str, Tensor]:
    """Return what is trained here: the Q-Former and the projection."""
    named = model.named_parameters()
    return {name: value for name, value in named if name.startswith(("qformer.", "projection."))}


def belongs_to(chat_model: ChatModel) -> dict[str, Any]:
    """Describe what a projection is trained for: language model, template, all widths, and its run."""
    projection = chat_model.model.projection
    return {
        "language": chat_model.language_id or chat_model.language,
        "template": chat_model.turns.first.name,
        "queries": chat_model.model.qformer.config.queries,
        "widths": [projection.in_features, projection.out_features],
        **chat_model.origin,
    }


def save_chat_model(path: Path, chat_model: ChatModel) -> None:
    """Keep what was trained here in one file, with what it belongs to."""
    save_weights(path, trained_weights(chat_model.model), belongs_to(chat_model))


def restore_chat_model(path: Path, chat_model: ChatModel) -> None:
    """Fill Q-Former and projection from a file of `save_chat_model`.

    Raises ValueError when they were trained with another language model, another template, or the weights of
    another run: the model would answer nonsense without any warning.
    """
    _, about = load_weights(path)
    ours = belongs_to(chat_model)
    wrong = [name for name in ours if about.get(name) != ours[name]]
    if wrong:
        differ = "; ".join(f"{name}: {about.get(name)!r}, not {ours[name]!r}" for name in wrong)
        raise ValueError(
            f"{path.name} was trained for something else ({differ}). Its answers would be nonsense: take the "
            "profile that it was trained with, or train the projection again with this one."
        )
    restore(chat_model.model, path)


def hashed(*files: Path) -> str:
    """Name files by their path and the beginning of their SHA-256."""
    return " and ".join(f"{shown(file)} (SHA-256 {sha256(file)[:12]})" for file in files)


def language_id(study: Study) -> str:
    """Name a study's language model: another than its profile's own by its content, wherever it is."""
    own = study.profile.language.name
    return own if study.chosen_language is None else chosen.identity(study.chosen_language)


def kept_file(study: Study) -> Path:
    """Where a study's trained model is kept for the terminal."""
    other = "" if study.chosen_language is None else f"-{language_id(study)}"
    return CACHE / "chat" / f"{own_name(study.profile)}{other}.safetensors"


def load(settings: Settings, projection: Path | None = None) -> ChatModel:
    """Load a profile's model as it was trained and kept, with the seed and the pretrained weights of its run;
    or with another `projection`: a folder of `make finetune` or `make export`, or an official .pth file
    beside the published parts.

    Raises FileNotFoundError where nothing is kept, ValueError where parts do not belong together, and as
    `Settings.found`.
    """
    if projection is not None and projection.is_dir():
        return load_folder(settings, projection)
    if projection is not None:
        return load_official(settings, projection)
    file = kept_file(Study.open(settings))
    if not file.exists():
        raise FileNotFoundError(
            f"No trained projection of the profile {settings.name} is kept yet: "
            f"`{settings.command('reproduce')}` trains and keeps it. With an official one: "
            f"`{settings.command('chat', PROJECTION='file.pth')}`."
        )
    _, about = load_weights(file)
    if not {"seed", "weights"} <= about.keys():
        raise ValueError(
            f"{file} does not say which run it is of: "
            f"`{settings.command('reproduce', NOTEBOOKS='04')}` keeps it again."
        )
    study = Study.open(replace(settings, seed=about["seed"], weights=about["weights"]))
    model = assemble(vision=study.vision(), qformer=study.qformer(), language=study.language())
    chat_model = chat_model_of(study, model.to(study.device).eval())
    restore_chat_model(file, chat_model)
    return replace(chat_model, trained=hashed(file))


def load_folder(settings: Settings, folder: Path) -> ChatModel:
    """Join a profile's frozen parts with what was trained between them and kept in a folder."""
    saved = read_config(folder)
    run = saved.get("run")
    if not run:
        raise ValueError(f"{folder} does not say which run it is of: export or fine-tune it again.")
    if run["profile"] != (own := own_name(settings.found())):
        raise ValueError(f"{folder} belongs to the profile {run['profile']} and not to {own}.")
    study = Study.open(replace(settings, seed=run["seed"], weights=run["weights"]))
    parts = frozen(study)
    chat_model = chat_model_of(study, assemble(**parts))
    name, template = chat_model.language_id, chat_model.turns.first
    model = from_pretrained(folder, **parts, name=name, template=template)
    files = [folder / WEIGHTS, *([folder / LORA] if "lora" in saved else [])]
    return replace(chat_model, model=model.eval().requires_grad_(False), trained=hashed(*files))


def frozen(study: Study) -> dict[str, nn.Module]:
    """Load what a study never trains from stage 1 on: `vision`, `qformer` and `language`."""
    return {"vision": study.vision(), "qformer": study.frozen_qformer(), "language": study.language()}


def load_official(settings: Settings, projection: Path) -> ChatModel:
    """Join the published parts of a profile with a projection of the official code."""
    study = Study.open(settings)
    if study.has_blip2:
        raise ValueError(
            f"{projection} is no folder, and the profile {settings.name} trains its own projection: "
            "PROJECTION is a folder of `make finetune` or `make export`, or the file of a published profile, "
            "as in `make chat PROFILE=vicuna-7b PROJECTION=file.pth IMAGE=picture.jpg`."
        )
    if study.chosen_language is not None:
        raise ValueError(
            f"A published projection belongs to its own language model and not to {study.chosen_language}: "
            "leave LANGUAGE or PROJECTION out; `make train` trains one for another language model."
        )
    model = join_parts(study)
    load_projection(model.projection, projection)
    return replace(chat_model_of(study, model.eval().requires_grad_(False)), trained=hashed(projection))


def examples(settings: Settings) -> dict[str, Path]:
    """Return a few pictures to begin with, by what they show: the first ones of the small world's `val`."""
    study = Study.open(settings)
    if not study.special_tests:
        return {}
    names = {"a scene": "val", **{kind: f"{kind}_val" for kind in SHOWN}}
    found = {name: sorted((study.world / split / "images").glob("*.jpg")) for name, split in names.items()}
    return {name: files[0] for name, files in found.items() if files}


def chat_model_of(study: Study, model: MiniGPT4) -> ChatModel:
    """Talk to a study's model in its profile's template; with Vicuna as the official chat does."""
    tokenizer = model.language.tokenizer
    first = template(study.profile.language.template, tokenizer)
    spoken = VICUNA_CHAT if first == VICUNA else turns(first, tokenizer)
    origin = {
        "profile": own_name(study.profile),
        "seed": study.seed,
        "weights": study.weights,
        "vision": sha256(study.vision_state),
    }
    way = dict(study.profile.evaluation.abilities).get("minigpt4", Asked()).decoding
    return ChatModel(
        model=model,
        turns=spoken,
        vision=study.profile.vision,
        decoding=decoding_configs(Decoding.max_new_tokens, seed=study.seed)[way],
        origin=origin,
        language=study.profile.language.name,
        language_id=language_id(study),
    )
