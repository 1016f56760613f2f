"""The model behind the chat, with its template and preprocessing, as trained and kept on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mglib.config import Asked, LoRAConfig, VisionConfig
from mglib.evals.generate import decoding_configs
from mglib.model.decoding import Decoding
from mglib.model.decoding import greedy as likeliest
from mglib.model.dialogue import VICUNA_CHAT, Turns, turns
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import VICUNA, template
from mglib.model.vision import preprocess
from mglib.paths import CACHE, RESULTS, sha256, shown
from mglib.profiles import own_name
from mglib.settings import Settings
from mglib.study.stage1 import join_parts
from mglib.study.study import Study
from mglib.weights import chosen
from mglib.weights.lora import lora_weights
from mglib.weights.official import load_projection
from mglib.weights.saved import LORA, WEIGHTS, from_pretrained, read_config, save_pretrained
from mglib.weights.tensors import hash_tensors

MODEL = "model"  # the folder of a published run that is used if nothing was trained here
SHOWN = ("memes", "dishes", "products", "landscapes")  # kinds of special pictures among the examples


@dataclass(frozen=True, kw_only=True)
class ChatModel:
    """A model together with its chat template, its preprocessing and its decoding."""

    model: MiniGPT4
    turns: Turns
    vision: VisionConfig
    decoding: Decoding = field(default_factory=Decoding)  # the profile's choice on val, or the official one
    origin: dict[str, Any] = field(default_factory=dict)  # the run that trained it
    language: str = "a language model without a name"
    language_id: str = "no name"  # the same wherever the language model's files are
    trained: str = "weights of no file"  # the files of the trained weights, as `hashed` names them

    @torch.inference_mode()
    def queries(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Encode pictures up to the Q-Former's output: (B, Q, D_q)."""
        pixels = torch.stack([preprocess(picture, self.vision) for picture in pictures])
        return self.model.queries({"pixels": pixels.to(self.model.projection.weight.device)})

    def weights(self) -> str:
        """Describe the weights in use, their device and their precision."""
        device = self.model.projection.weight.device
        precision = str(self.model.language.model.dtype).removeprefix("torch.")
        profile = self.origin.get("profile", "without a name")
        return f"profile {profile}, {self.trained} with {self.language}, on {device} in {precision}"

    @cached_property
    def name(self) -> str:
        """Name the model by its content, independent of file locations and device."""
        named = self.model.named_parameters()
        trained = {name: value for name, value in named if name.startswith(("qformer.", "projection."))}
        key = hash_tensors(trained | lora_weights(self.model.language))[:12]
        return f"{self.origin.get('profile', 'no profile')}, weights {key}, {self.language_id}"

    def decoding_with(self, *, greedy: bool, tokens: int | None, beams: int, seed: int) -> Decoding:
        """Return the model's own decoding, or greedy decoding, with these settings."""
        tokens = tokens or Decoding.max_new_tokens
        own = likeliest(tokens) if greedy else replace(self.decoding, max_new_tokens=tokens, seed=seed)
        return replace(own, beams=beams)

    def sees(self, image: Image.Image, name: str) -> str:
        """Describe a picture as read, and what `preprocess` makes of it."""
        side = self.vision.image_size
        seen = f"the model sees the whole of it resized to a square of {side} x {side}"
        return f"{name}, read as {image.width} x {image.height} pixels; {seen}"


def hashed(*files: Path) -> str:
    """Name files by their path and the beginning of their SHA-256."""
    return " and ".join(f"{shown(file)} (SHA-256 {sha256(file)[:12]})" for file in files)


def language_id(study: Study) -> str:
    """Name a study's language model: the profile's own by its name, any other by its content."""
    own = study.profile.language.name
    return own if study.chosen_language is None else chosen.identity(study.chosen_language)


def kept_folder(study: Study) -> Path:
    """Return the folder in which a study's trained model is kept for the chat."""
    other = "" if study.chosen_language is None else f"-{language_id(study)}"
    return CACHE / "chat" / f"{own_name(study.profile)}{other}"


def trained_folder(study: Study) -> Path | None:
    """Return the folder of a study's trained model: the one trained here, else the published one, or None."""
    own = study.chosen_language is None
    published = [RESULTS / own_name(study.profile) / MODEL] if own else []
    return next((folder for folder in (kept_folder(study), *published) if folder.exists()), None)


def keep(study: Study, model: MiniGPT4) -> Path:
    """Keep a study's trained model for the chat; returns its folder."""
    save(chat_model_of(study, model), folder := kept_folder(study))
    return folder


def save(chat_model: ChatModel, folder: Path, *, lora: LoRAConfig | None = None, **run: Any) -> None:
    """Write the trained weights into a folder that `load` takes, with the run that trained them and any
    further details of it.
    """
    save_pretrained(
        chat_model.model,
        folder,
        language=chat_model.language_id,
        template=chat_model.turns.first,
        lora=lora,
        run={**chat_model.origin, **run},
    )


def load(settings: Settings, projection: Path | None = None) -> ChatModel:
    """Load a profile's model as trained here, else as published, with the seed and the pretrained weights of
    its run; or with another `projection`: a folder of `make finetune` or `make export`, or an official .pth
    file, which is joined with the published parts.

    Raises FileNotFoundError if there is no trained model, ValueError if parts do not belong together, and as
    `Settings.found`.
    """
    if projection is None:
        study = Study.open(settings)
        projection = trained_folder(study)
        if projection is None:
            chat = settings.command("chat", PROJECTION="file.pth", IMAGE="picture.jpg")
            official = "" if study.has_blip2 else f" With an official one: `{chat}`."
            raise FileNotFoundError(
                f"There is no trained projection of the profile {settings.name} yet: "
                f"`{settings.command('reproduce')}` trains and keeps it.{official}"
            )
    return (load_folder if projection.is_dir() else load_official)(settings, projection)


def load_folder(settings: Settings, folder: Path) -> ChatModel:
    """Join a profile's frozen parts with the trained weights in a folder."""
    saved = read_config(folder)
    run = saved.get("run")
    if not run:
        raise ValueError(f"{folder} does not say which run it is of: export or fine-tune it again.")
    if run["profile"] != (own := own_name(settings.found())):
        raise ValueError(f"{folder} belongs to the profile {run['profile']} and not to {own}.")
    study = Study.open(replace(settings, seed=run["seed"], weights=run["weights"]))
    language = study.language()
    model = from_pretrained(
        folder,
        vision=study.vision(),
        qformer=study.frozen_qformer(),
        language=language,
        name=language_id(study),
        template=turns_of(study, language).first,
    )
    files = [folder / WEIGHTS, *([folder / LORA] if "lora" in saved else [])]
    return replace(chat_model_of(study, model.eval().requires_grad_(False)), trained=hashed(*files))


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
    """Return a few example pictures by what they show, the first of the small world's `val` splits."""
    study = Study.open(settings)
    if not study.special_tests:
        return {}
    names = {"a scene": "val", **{kind: f"{kind}_val" for kind in SHOWN}}
    found = {name: sorted((study.world / split / "images").glob("*.jpg")) for name, split in names.items()}
    return {name: files[0] for name, files in found.items() if files}


def turns_of(study: Study, language: Language) -> Turns:
    """Return the chat template of a study's language model: its profile's, or Vicuna's official one."""
    first = template(study.profile.language.template, language.tokenizer)
    return VICUNA_CHAT if first == VICUNA else turns(first, language.tokenizer)


def chat_model_of(study: Study, model: MiniGPT4) -> ChatModel:
    """Return a study's model for the chat, with the decoding that its profile chose on val."""
    way = dict(study.profile.evaluation.abilities).get("minigpt4", Asked()).decoding
    return ChatModel(
        model=model,
        turns=turns_of(study, model.language),
        vision=study.profile.vision,
        decoding=decoding_configs(Decoding.max_new_tokens, seed=study.seed)[way],
        origin={"profile": own_name(study.profile), "seed": study.seed, "weights": study.weights},
        language=study.profile.language.name,
        language_id=language_id(study),
    )
