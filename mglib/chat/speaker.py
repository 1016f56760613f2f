"""Who is talked to: a model with its template and preprocessing, kept on disk and loaded again as trained."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from mglib.config import Asked, VisionConfig
from mglib.evals.generate import decoding_configs
from mglib.model.decoding import Decoding
from mglib.model.dialogue import VICUNA_CHAT, Turns, turns
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.prompts import VICUNA, template
from mglib.model.vision import preprocess
from mglib.paths import CACHE, sha256, shown
from mglib.settings import Settings
from mglib.study.stage1 import join_parts
from mglib.study.study import Study
from mglib.training.checkpoint import restore
from mglib.weights.official import load_projection
from mglib.weights.saved import LORA, WEIGHTS, from_pretrained, read_config
from mglib.weights.tensors import load_weights, save_weights

SHOWN = ("memes", "dishes", "products", "landscapes")  # kinds of special pictures among the examples


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A model together with how it is talked to and how it wants its pictures."""

    model: MiniGPT4
    turns: Turns
    vision: VisionConfig
    decoding: Decoding = field(default_factory=Decoding)  # as the profile chose it on val, or officially
    origin: dict[str, Any] = field(default_factory=dict)  # the run that trained it
    language: str = "a language model without a name"
    trained: str = "weights of no file"  # what was trained, told by `hashed`

    @torch.inference_mode()
    def queries(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Encode pictures up to the Q-Former's output: (B, Q, D_q)."""
        pixels = torch.stack([preprocess(picture, self.vision) for picture in pictures])
        return self.model.queries({"pixels": pixels.to(self.model.projection.weight.device)})

    def weights(self) -> str:
        """Say which weights speak, and where they compute."""
        device = self.model.projection.weight.device
        precision = str(self.model.language.model.dtype).removeprefix("torch.")
        profile = self.origin.get("profile", "without a name")
        return f"profile {profile}, {self.trained} with {self.language}, on {device} in {precision}"

    def sees(self, image: Image.Image, name: str) -> str:
        """Say of a picture what was read, and what `preprocess` makes of it."""
        side = self.vision.image_size
        return (
            f"{name}, read as {image.width} x {image.height} pixels; the model sees the whole of it resized "
            f"to a square of {side} x {side}"
        )


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
    """Keep what was trained here, Q-Former and projection, in one file, with what they belong to and the run
    that trained them.
    """
    weights = {
        name: value
        for name, value in speaker.model.named_parameters()
        if name.startswith(("qformer.", "projection."))
    }
    save_weights(path, weights, {**belongs_to(speaker, language), **speaker.origin})


def restore_speaker(path: Path, speaker: Speaker, *, language: str) -> None:
    """Fill Q-Former and projection from a file of `save_speaker`.

    Raises ValueError when they were trained with another language model, another template, or the weights of
    another run: the model would answer nonsense without any warning.
    """
    _, about = load_weights(path)
    ours = {**belongs_to(speaker, language), **speaker.origin}
    wrong = [name for name in ours if about.get(name) != ours[name]]
    if wrong:
        told = "; ".join(f"{name}: {about.get(name)!r}, not {ours[name]!r}" for name in wrong)
        raise ValueError(
            f"{path.name} was trained for something else ({told}). Its answers would be nonsense: take the "
            "profile that it was trained with, or train the projection again with this one."
        )
    restore(speaker.model, path)


def hashed(*files: Path) -> str:
    """Name files by their path and the beginning of their SHA-256."""
    return " and ".join(f"{shown(file)} (SHA-256 {sha256(file)[:12]})" for file in files)


def speaker_file(profile: str) -> Path:
    """Where a profile's trained speaker is kept for the terminal."""
    return CACHE / "chat" / f"{profile}.safetensors"


def load(settings: Settings, projection: Path | None = None) -> Speaker:
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
    file = speaker_file(settings.name)
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
    speaker = speaker_of(study, model.to(study.device).eval())
    restore_speaker(file, speaker, language=study.profile.language.name)
    return replace(speaker, trained=hashed(file))


def load_folder(settings: Settings, folder: Path) -> Speaker:
    """Join a profile's frozen parts with what was trained between them and kept in a folder."""
    saved = read_config(folder)
    run = saved.get("run")
    if not run:
        raise ValueError(f"{folder} does not say which run it is of: export or fine-tune it again.")
    if run["profile"] != settings.name:
        raise ValueError(f"{folder} belongs to the profile {run['profile']} and not to {settings.name}.")
    study = Study.open(replace(settings, seed=run["seed"], weights=run["weights"]))
    parts = frozen(study)
    speaker = speaker_of(study, assemble(**parts))
    name, template = study.profile.language.name, speaker.turns.first
    model = from_pretrained(folder, **parts, name=name, template=template)
    files = [folder / WEIGHTS, *([folder / LORA] if "lora" in saved else [])]
    return replace(speaker, model=model.eval().requires_grad_(False), trained=hashed(*files))


def frozen(study: Study) -> dict[str, nn.Module]:
    """Load what a study never trains from stage 1 on: `vision`, `qformer` and `language`."""
    return {"vision": study.vision(), "qformer": study.frozen_qformer(), "language": study.language()}


def load_official(settings: Settings, projection: Path) -> Speaker:
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
    name, model = study.profile.language.name, join_parts(study)
    load_projection(model.projection, projection, trained_with=name, language=name)
    return replace(speaker_of(study, model.eval().requires_grad_(False)), trained=hashed(projection))


def examples(settings: Settings) -> dict[str, Path]:
    """Return a few pictures to begin with, by what they show: the first ones of the small world's `val`."""
    study = Study.open(settings)
    if not study.special_tests:
        return {}
    names = {"a scene": "val", **{kind: f"{kind}_val" for kind in SHOWN}}
    found = {name: sorted((study.world / split / "images").glob("*.jpg")) for name, split in names.items()}
    return {name: files[0] for name, files in found.items() if files}


def speaker_of(study: Study, model: MiniGPT4) -> Speaker:
    """Talk to a study's model in its profile's template; with Vicuna as the official chat does."""
    tokenizer = model.language.tokenizer
    first = template(study.profile.language.template, tokenizer)
    spoken = VICUNA_CHAT if first == VICUNA else turns(first, tokenizer)
    origin = {
        "profile": study.profile.name,
        "seed": study.seed,
        "weights": study.weights,
        "vision": sha256(study.vision_state),
    }
    way = dict(study.profile.evaluation.abilities).get("minigpt4", Asked()).decoding
    return Speaker(
        model=model,
        turns=spoken,
        vision=study.profile.vision,
        decoding=decoding_configs(Decoding.max_new_tokens, seed=study.seed)[way],
        origin=origin,
        language=study.profile.language.name,
    )
