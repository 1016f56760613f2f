"""Stage 1 from web shards: what a profile does that is made from published files.

Nothing is kept on disk on the way: five million pictures' vision tokens would be terabytes (`mglib.plan`).
"""

from dataclasses import asdict, replace

import torch
from accelerate import PartialState
from torch import Tensor, nn

from mglib import prompts
from mglib.config import TrainConfig
from mglib.data.mixture import Mixture, Row, Source
from mglib.data.quarantine import Quarantine
from mglib.language import Language
from mglib.model import MiniGPT4
from mglib.paths import CACHE, DOWNLOADS
from mglib.stages import Trained, picture_layout, train
from mglib.study import Study, freeze
from mglib.train import share
from mglib.vision import preprocess


def assemble(study: Study) -> MiniGPT4:
    """Join the published encoder, Q-Former and language model by a fresh projection.

    It is drawn from the seed as PyTorch does by default, as in the paper; at this length no other start is
    needed (`mglib.model.init_projection`).
    """
    language = study.language()
    with torch.random.fork_rng():
        torch.manual_seed(study.seed)
        projection = nn.Linear(study.profile.qformer.width, language.width)
    return MiniGPT4(
        vision=study.vision(),
        qformer=study.released_qformer(),
        projection=projection.to(study.device),
        language=language,
    )


def sources(study: Study) -> list[Source]:
    """Open the profile's shards; the main process counts them first, the others read its counts."""
    with PartialState().main_process_first():
        return [
            Source.open(
                web.name,
                str(DOWNLOADS / web.shards),
                weight=web.weight,
                counts=CACHE / "web" / f"{web.name}.json",
            )
            for web in study.profile.release.web
        ]


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


def stage1(study: Study, *, accumulate: int = 1) -> tuple[MiniGPT4, Trained]:
    """Train the projection alone on the mixture, in as many processes as were launched.

    A finished run is found by its settings, files and pairs, however many processes it had; one that was
    stopped goes on with as many as it was begun with. The order of the pairs hangs on their number.
    """
    config = replace(study.profile.stage1, accumulate=accumulate)
    model, found, release = assemble(study), sources(study), study.profile.release
    files = [DOWNLOADS / name for name in (release.vision, release.qformer) if name is not None]
    trained = train(
        study,
        model,
        mixture(study, model.language, config, found),
        None,
        config,
        "stage1",
        asdict(study.profile.vision),
        asdict(study.profile.qformer),
        [(file.name, file.stat().st_size) for file in files],
        model.language.settings(),
        [(source.name, source.counts, source.weight) for source in found],
    )
    freeze(model, trained.state)
    return model, trained
