"""Stage 1 from web shards: what a profile does that is made from published files.

Nothing is kept on disk on the way: five million pictures' vision tokens would be terabytes.
"""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor, nn

from mglib.config import TrainConfig
from mglib.data.mixture import Mixture, Row, Source
from mglib.data.quarantine import Quarantine
from mglib.model import prompts
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.vision import preprocess
from mglib.paths import CACHE, DOWNLOADS, sha256
from mglib.study.stages import Trained, picture_layout, train, training_folder
from mglib.study.study import PublishedStudy, Study, freeze
from mglib.training.loop import share
from mglib.weights.official import load_projection
from mglib.weights.tensors import save_weights


def assembled(study: Study, vision: nn.Module, qformer: nn.Module, language: Language) -> MiniGPT4:
    """Join published parts by a fresh projection.

    It is drawn from the seed as PyTorch does by default, as in the paper; at this length no other start is
    needed (`mglib.model.minigpt4.init_projection`).
    """
    with torch.random.fork_rng():
        torch.manual_seed(study.seed)
        model = assemble(vision=vision, qformer=qformer, language=language)
    model.projection.to(study.device)  # the parts are there already, and quantised ones cannot be moved
    return model


def published(study: PublishedStudy) -> MiniGPT4:
    """Load the published encoder, Q-Former and language model and join them."""
    return assembled(study, study.vision(), study.released_qformer(), study.language())


def counts(name: str) -> Path:
    """Where it is kept how many samples each shard of a source holds."""
    return CACHE / "web" / f"{name}.json"


def open_sources(study: Study) -> list[Source]:
    """Open the profile's shards, which counts them where that was not done."""
    return [
        Source.open(web.name, str(DOWNLOADS / web.shards), weight=web.weight, counts=counts(web.name))
        for web in study.profile.release.web
    ]


def sources(study: Study) -> list[Source]:
    """Open the profile's shards in every process: the main one first, the others read its counts."""
    with PartialState().main_process_first():
        return open_sources(study)


def mixture(study: Study, language: Language, config: TrainConfig, found: list[Source]) -> Mixture:
    """Return this process's share of the pairs, as batches for the model."""
    state, vision = PartialState(), study.profile.vision
    layout = picture_layout(language, prompts.CAPTION, study.profile.qformer.queries, config.max_answer)

    def collate(rows: list[Row]) -> dict[str, Tensor]:
        pictures, captions = zip(*rows, strict=True)
        pixels = torch.stack([preprocess(picture, vision) for picture in pictures])  # (B, 3, S, S)
        return {"pixels": pixels, **layout(list(captions))}

    return Mixture(
        sources=found,
        collate=collate,
        quarantine=Quarantine(CACHE / "web" / f"{study.profile.name}-bad-{state.process_index}.jsonl"),
        batch_size=share(config, state.num_processes),
        seed=study.seed,
        rank=state.process_index,
        ranks=state.num_processes,
        workers=study.profile.release.readers,
    )


def depends(study: Study, model: MiniGPT4, found: list[Source]) -> list:
    """Return what the result of stage 1 hangs on besides its settings: parts, published files and pairs."""
    release = study.profile.release
    files = [DOWNLOADS / name for name in (release.vision, release.qformer) if name is not None]
    return [
        asdict(study.profile.vision),
        asdict(study.profile.qformer),
        [(file.name, file.stat().st_size) for file in files],
        model.language.settings(),
        [(source.name, source.counts, source.weight) for source in found],
    ]


def stage1(
    study: PublishedStudy, *, accumulate: int = 1, model: MiniGPT4 | None = None
) -> tuple[MiniGPT4, Trained]:
    """Train the projection of `model` (default: fresh) on the mixture, in as many processes as were launched.

    A finished run is found by its settings, files and pairs, however many processes it had; one that was
    stopped goes on with as many as it was begun with. The order of the pairs hangs on their number.
    """
    config = replace(study.profile.stage1, accumulate=accumulate)
    model, found = model or published(study), sources(study)
    stream = mixture(study, model.language, config, found)
    trained = train(study, model, stream, None, config, "stage1", *depends(study, model, found))
    freeze(model, trained.state)
    return model, trained


def after_stage1(study: PublishedStudy) -> tuple[MiniGPT4, Trained]:
    """Return the model after stage 1, for the notebooks: as `make train` left it; if it left nothing, with
    the authors' projection where that file is there (the shortcut); else trained here.
    """
    model, official = published(study), study.profile.release.projection
    if official and (DOWNLOADS / official).is_file() and not finished(study, model):
        return model, shortcut(study, model, DOWNLOADS / official)
    return stage1(study, model=model)


def finished(study: Study, model: MiniGPT4) -> bool:
    """Tell whether stage 1 was trained to its end; where no shard was ever counted, it was not."""
    if not all(counts(web.name).exists() for web in study.profile.release.web):
        return False
    config, found = study.profile.stage1, sources(study)
    stream = mixture(study, model.language, config, found)
    folder = training_folder(study, model, stream, None, config, "stage1", *depends(study, model, found))
    return (folder / weights_name(config.steps)).exists()


def weights_name(step: int) -> str:
    """Return the name of the file that holds the weights after a step (`training.loop.kept` finds it)."""
    return f"step-{step:06d}.safetensors"


def shortcut(study: Study, model: MiniGPT4, official: Path) -> Trained:
    """Fill the projection from the authors' file and keep it as a training would, without a log.

    The file does not say which language model it was trained with: the profile names both.
    """
    name, steps = study.profile.language.name, study.profile.stage1.steps
    load_projection(model.projection, official, trained_with=name, language=name)
    folder = CACHE / "trained" / f"stage1-official-{sha256(official)[:16]}"
    weights = {f"projection.{part}": value for part, value in model.projection.named_parameters()}
    save_weights(folder / weights_name(steps), weights, {"step": steps, "from": official.name})
    model.eval().requires_grad_(False)
    return Trained(folder, [])
