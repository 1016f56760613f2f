"""Stage 1 (paper, section 3.2): the projection alone is trained, between frozen parts.

A drawn profile caches the features of its pictures on disk; one made from published files streams its pairs
from web shards, since the vision tokens of five million pictures would take terabytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from mglib.config import TrainConfig
from mglib.data.mixture import Mixture, Row, Source
from mglib.data.quarantine import Quarantine, keep
from mglib.data.shards import decodable
from mglib.data.splits import Pairs, Split, pair_split
from mglib.keys import hash_source
from mglib.model import prompts
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble, init_projection
from mglib.model.qformer import QFormer
from mglib.model.vision import Vision, preprocess
from mglib.paths import CACHE, DOWNLOADS, hash_json, sha256
from mglib.study.study import Study
from mglib.study.train import Trained, train, training_run
from mglib.training.feature_cache import Features
from mglib.training.loop import share
from mglib.training.warm_start import warm_start, word_vectors
from mglib.weights.official import load_projection
from mglib.weights.tensors import hash_tensors, save_weights


@dataclass(frozen=True, kw_only=True)
class Stage1:
    """MiniGPT-4 after stage 1, and what it was made from; splits, tokens and queries by split name."""

    splits: dict[str, Split]
    vision: Vision
    tokens: dict[str, Features]  # (N, D_v) per picture
    queries: dict[str, Features]  # (Q, D_q) per picture
    language: Language
    model: MiniGPT4
    trained: Trained

    @classmethod
    def of(cls, study: Study, *names: str) -> "Stage1":
        """Make everything up to stage 1, with features of the named splits and, if not streamed, `train`."""
        study.draw()
        vision, qformer, language = study.vision(), study.frozen_qformer(), study.language()
        splits = {name: study.split(name) for name in (names if study.streams else ("train", *names))}
        tokens = {name: study.tokens(split, vision) for name, split in splits.items()}
        queries = {name: study.queries(split, tokens[name], qformer) for name, split in splits.items()}
        if study.streams:
            model = join(study, vision, qformer, language)
            trained = finished_stage1(study, model) or train_streamed(study, model)
        else:
            model, trained = train_stage1(study, qformer, language, splits["train"], queries["train"])
        return cls(
            splits=splits,
            vision=vision,
            tokens=tokens,
            queries=queries,
            language=language,
            model=model,
            trained=trained,
        )


def init_model(study: Study, base: Stage1) -> MiniGPT4:
    """Return the model as it was before the first step of stage 1."""
    if study.streams:
        return random_model(study, base)
    captions = base.splits["train"].captions
    return with_warm_start(study, base.model.qformer, base.language, base.queries["train"], captions)


def random_model(study: Study, base: Stage1) -> MiniGPT4:
    """Return the model with a random projection: a control."""
    if study.streams:
        return join(study, base.vision, base.model.qformer, base.language)
    return attach(study, base.model.qformer, base.language, first(base.queries["train"]))


# --- Drawn profiles: features are cached ---


def train_stage1(
    study: Study,
    qformer: QFormer,
    language: Language,
    split: Split,
    queries: Features,
    config: TrainConfig | None = None,
) -> tuple[MiniGPT4, Trained]:
    """Train the projection alone, from the frozen Q-Former into the frozen language model."""
    config = config or study.profile.stage1
    model = with_warm_start(study, qformer.requires_grad_(False), language, queries, split.captions)
    pairs = Pairs("queries", queries, split.captions)
    collate = pairs.collate(
        picture_layout(language, prompts.CAPTION, study.profile.qformer.queries, config.max_answer)
    )
    trained = train(
        study,
        model,
        pairs,
        collate,
        config,
        "stage1",
        start=origin(study, qformer, with_warm_start),
        pictures=split.key(),
        captions=hash_json(split.captions),
        vision=sha256(study.vision_state),
    )
    return model, trained


def origin(study: Study, qformer: nn.Module, make: Callable[..., MiniGPT4]) -> str:
    """Return the key of a training's start: what `make` computes it from, apart from the training pairs."""
    return hash_json([hash_tensors(qformer.state_dict()), study.profile.warm_start, hash_source(make)])


def behind_weaker(study: Study, base: Stage1) -> tuple[Study, Stage1]:
    """Return the study with its profile's weaker language model, and stage 1 trained with it on the same
    pairs; both unchanged if the profile names none.
    """
    weaker = study.profile.weak_language
    if weaker is None:
        return study, base
    weak = replace(study, profile=replace(study.profile, language=weaker))
    pairs = base.splits["train"], base.queries["train"]
    model, trained = train_stage1(weak, base.model.qformer, weak.language(), *pairs)
    return weak, replace(base, language=model.language, model=model, trained=trained)


def with_warm_start(
    study: Study,
    qformer: nn.Module,
    language: Language,
    queries: Sequence[Tensor],
    captions: Sequence[str],
) -> MiniGPT4:
    """Return the model at the start of stage 1: its projection is random or, if the profile says so, fitted
    by regression from the Q-Former's outputs for the pictures, (Q, D_q) each, to their captions.
    """
    model = attach(study, qformer, language, first(queries))
    if study.profile.warm_start is not None:
        means = torch.stack([rows.float().mean(0) for rows in queries])  # (P, D_q)
        warm_start(model.projection, means, captions, language, ridge=study.profile.warm_start)
    return model


def attach(study: Study, qformer: QFormer, language: Language, queries: Tensor) -> MiniGPT4:
    """Join a Q-Former to a language model by a random projection, drawn from the seed and scaled to the
    `queries` of some pictures, (P, Q, D_q).
    """
    model = assemble(vision=nn.Identity(), qformer=qformer, language=language)
    init_projection(model.projection, queries, word_vectors(language), seed=study.seed)
    return model.to(study.device)


def first(features: Sequence[Tensor]) -> Tensor:
    """Return the features of the first pictures, which set the scale of a projection."""
    return torch.stack([features[index] for index in range(min(64, len(features)))])


def picture_layout(
    language: Language, template: prompts.Template, queries: int, max_answer: int
) -> Callable[[list[str]], dict[str, Tensor]]:
    """Return a function that lays out captions after a picture alone."""

    def layout(captions: list[str]) -> dict[str, Tensor]:
        return prompts.training_batch(
            language.tokenizer,
            template,
            [prompts.IMAGE] * len(captions),
            captions,
            queries=queries,
            max_answer=max_answer,
        )

    return layout


# --- Published profiles: pairs are streamed ---


def join(study: Study, vision: nn.Module, qformer: nn.Module, language: Language) -> MiniGPT4:
    """Join parts by a projection that PyTorch initialises from the seed, as in the paper, whose training is
    long enough to need no other start (`mglib.model.minigpt4.init_projection`).
    """
    with torch.random.fork_rng():
        torch.manual_seed(study.seed)
        model = assemble(vision=vision, qformer=qformer, language=language)
    model.projection.to(study.device)  # the other parts are there; quantised ones cannot be moved
    return model


def join_parts(study: Study) -> MiniGPT4:
    """Load a study's encoder, Q-Former and language model and join them by a random projection."""
    return join(study, study.vision(), study.frozen_qformer(), study.language())


def shard_counts(name: str) -> Path:
    """Return the file with the number of samples in each shard of a source."""
    return CACHE / "web" / f"{name}.jsonl"


def open_sources(study: Study) -> list[Source]:
    """Open the profile's shards in every process, the main one first; it counts their samples if needed."""
    with PartialState().main_process_first():
        return [
            Source.open(
                web.name, str(DOWNLOADS / web.shards), weight=web.weight, counts=shard_counts(web.name)
            )
            for web in study.release.web
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
        workers=study.release.readers,
    )


def streamed(study: Study, model: MiniGPT4, accumulate: int = 1) -> dict[str, Any]:
    """Return the arguments of stage 1's training on the mixture, with what its result depends on: the
    encoder's file and the pairs.
    """
    config, found = replace(study.profile.stage1, accumulate=accumulate), open_sources(study)
    vision = study.vision_state
    return {
        "study": study,
        "module": model,
        "data": mixture(study, model.language, config, found),
        "collate": None,
        "config": config,
        "what": "stage1",
        "vision": [asdict(study.profile.vision), vision.name, vision.stat().st_size],
        "pairs": [(source.name, source.counts, source.weight) for source in found],
    }


def train_streamed(study: Study, model: MiniGPT4, *, accumulate: int = 1) -> Trained:
    """Train the projection of `model` on the mixture, in as many processes as were launched.

    A finished run is found by its settings, files and pairs, whatever its number of processes; a stopped one
    resumes only with the number that it was started with, on which the order of the pairs depends.
    """
    return train(**streamed(study, model, accumulate))


def finished_stage1(study: Study, model: MiniGPT4) -> Trained | None:
    """Load stage 1 into the model as `make train` left it, else the authors' projection if its file is there
    (the shortcut); None if neither is.
    """
    steps, official = study.profile.stage1.steps, study.release.projection
    counted = all(shard_counts(web.name).exists() for web in study.release.web)  # else it was never started
    if counted and training_run(**streamed(study, model)).weights(steps).exists():
        return train_streamed(study, model)
    if official and (DOWNLOADS / official).is_file():
        return shortcut(study, model, DOWNLOADS / official)
    return None


def shortcut(study: Study, model: MiniGPT4, official: Path) -> Trained:
    """Load the projection from the authors' file and save it as a training would, without a log."""
    steps = study.profile.stage1.steps
    load_projection(model.projection, official)
    folder = CACHE / "trained" / f"stage1-official-{sha256(official)[:16]}"
    weights = {f"projection.{part}": value for part, value in model.projection.named_parameters()}
    save_weights(folder / f"step-{steps:06d}.safetensors", weights, {"step": steps, "from": official.name})
    model.eval().requires_grad_(False)
    return Trained(folder, [])


# --- Its pairs, read again ---


def stage1_pairs(study: Study, count: int) -> Split | None:
    """Return about `count` readable pairs, the first of each source by its weight; None without any."""
    sources = study.stage1_shards()
    whole = sum(weight for _, weight in sources)
    found = [
        pair
        for files, weight in sources
        for pair in islice(keep(decodable(files), []), max(1, round(count * weight / whole)))
    ]
    return pair_split("stage1", found, lambda: found) if found else None
