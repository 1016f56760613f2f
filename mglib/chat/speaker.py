"""Who is talked to: a model with its template and preprocessing, kept on disk and loaded again as trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mglib.config import VisionConfig
from mglib.model.dialogue import VICUNA_CHAT, Turns, turns
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.prompts import VICUNA, template
from mglib.model.vision import preprocess
from mglib.paths import CACHE
from mglib.study.study import Study
from mglib.training.checkpoint import restore
from mglib.weights.tensors import load_weights, save_weights

SHOWN = ("memes", "dishes", "products", "landscapes")  # kinds of special pictures among the examples


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A model together with how it is talked to and how it wants its pictures."""

    model: MiniGPT4
    turns: Turns
    vision: VisionConfig

    @torch.inference_mode()
    def queries(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Encode pictures up to the Q-Former's output: (B, Q, D_q)."""
        pixels = torch.stack([preprocess(picture, self.vision) for picture in pictures])
        return self.model.queries({"pixels": pixels.to(self.model.projection.weight.device)})


def belongs_to(speaker: Speaker, language: str) -> dict[str, Any]:
    """Describe what a projection is trained for: language model and template by name, all widths."""
    projection = speaker.model.projection
    return {
        "language": language,
        "template": speaker.turns.first.name,
        "queries": speaker.model.qformer.config.queries,
        "widths": [projection.in_features, projection.out_features],
    }


def save_speaker(path: Path, speaker: Speaker, *, language: str) -> None:
    """Keep what was trained here, Q-Former and projection, with what they belong to, in one file."""
    weights = {
        name: value
        for name, value in speaker.model.named_parameters()
        if name.startswith(("qformer.", "projection."))
    }
    save_weights(path, weights, belongs_to(speaker, language))


def restore_speaker(path: Path, speaker: Speaker, *, language: str) -> None:
    """Fill Q-Former and projection from a file of `save_speaker`.

    Raises ValueError when they were trained with another language model or another template: the model would
    answer nonsense without any warning.
    """
    _, about = load_weights(path)
    ours = belongs_to(speaker, language)
    wrong = [name for name in ours if about.get(name) != ours[name]]
    if wrong:
        told = "; ".join(f"{name}: {about.get(name)!r}, not {ours[name]!r}" for name in wrong)
        raise ValueError(
            f"{path.name} was trained for something else ({told}). Its answers would be nonsense: take the "
            "profile that it was trained with, or train the projection again with this one."
        )
    restore(speaker.model, path)


def speaker_file(profile: str) -> Path:
    """Where a profile's trained speaker is kept for the terminal."""
    return CACHE / "chat" / f"{profile}.safetensors"


def load(profile: str) -> Speaker:
    """Load a profile's model as it was trained and kept; raises FileNotFoundError when it was not."""
    study = Study.open(profile, seed=0, weights="wheel")
    file = speaker_file(profile)
    if not file.exists():
        raise FileNotFoundError(
            f"No trained projection of the profile {profile} is kept yet: `make reproduce PROFILE={profile}` "
            "trains and keeps it."
        )
    model = assemble(vision=study.vision(), qformer=study.qformer(), language=study.language())
    speaker = speaker_of(study, model.to(study.device).eval())
    restore_speaker(file, speaker, language=study.profile.language.name)
    return speaker


def examples(profile: str) -> dict[str, Path]:
    """Return a few pictures to begin with, by what they show: the first ones of the small world's `val`."""
    study = Study.open(profile, seed=0, weights="wheel")
    if study.profile.world is None:
        return {}
    names = {"a scene": "val", **{kind: f"{kind}_val" for kind in SHOWN}}
    found = {name: sorted((study.world / split / "images").glob("*.jpg")) for name, split in names.items()}
    return {name: files[0] for name, files in found.items() if files}


def speaker_of(study: Study, model: MiniGPT4) -> Speaker:
    """Talk to a study's model in its profile's template; with Vicuna as the official chat does."""
    tokenizer = model.language.tokenizer
    first = template(study.profile.language.template, tokenizer)
    spoken = VICUNA_CHAT if first == VICUNA else turns(first, tokenizer)
    return Speaker(model=model, turns=spoken, vision=study.profile.vision)
