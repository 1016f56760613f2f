"""The trainings of the study in their order; each returns the trained part, its log and the file it is kept
in.

A training that was already done with the same settings and data is loaded, one that was stopped goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mglib.config import TrainConfig
from mglib.data.splits import Pairs, Split
from mglib.keys import hash_source
from mglib.model import prompts
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble, init_projection
from mglib.model.qformer import QFormer
from mglib.model.vision import Vision
from mglib.paths import hash_json, sha256
from mglib.study.study import Study, freeze
from mglib.training.feature_cache import Features
from mglib.training.loop import Stream, fit, kept
from mglib.training.warm_start import warm_start, word_vectors
from mglib.weights.tensors import hash_tensors


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    folder: Path
    log: list[dict[str, float]]

    @property
    def state(self) -> Path:
        """The weights after the last step."""
        return kept(self.folder)[-1]


def train(
    study: Study,
    module: nn.Module,
    data: Dataset | Stream,
    collate: Callable | None,
    config: TrainConfig,
    what: str,
    *depends: object,
) -> Trained:
    """Run `fit` in the folder of this training, or find what it left there; `what` is shown meanwhile."""
    folder = training_folder(study, module, data, collate, config, what, *depends)
    log = fit(
        module.to(study.device),
        data,
        collate,
        config,
        folder,
        seed=study.seed,
        what=what,
        device=study.device,
        bf16=study.bf16,
    )
    return Trained(folder, log)


def training_folder(
    study: Study,
    module: nn.Module,
    data: Dataset | Stream,
    collate: Callable | None,
    config: TrainConfig,
    what: str,
    *depends: object,
) -> Path:
    """Return the folder of a training: found by its settings, the weights that it starts from, the code that
    it runs, and whatever else its result `depends` on, above all what is frozen and what is read.

    In how many parts or processes a step is done does not change the result, and so not the folder either.
    """
    kinds = dict.fromkeys(type(part) for part in module.modules())
    code = hash_source(fit, *kinds, type(data), *([collate] if collate else []))
    start = hash_tensors(without_backbones(module))
    return study.folder(what, replace(config, accumulate=1), start, code, *depends)


def without_backbones(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return all weights but those of a frozen encoder or language model, which files and settings name."""
    backbones = (part for part in module.modules() if isinstance(part, Language | Vision))
    frozen = {id(p) for part in backbones for p in part.parameters() if not p.requires_grad}
    return {name: p for name, p in module.named_parameters() if id(p) not in frozen}


def stage1(
    study: Study,
    qformer: QFormer,
    state: Path,
    language: Language,
    split: Split,
    queries: Features,
    config: TrainConfig | None = None,
) -> tuple[MiniGPT4, Trained]:
    """Train the projection alone, from the frozen Q-Former (kept in `state`) into the frozen language
    model.
    """
    config = config or study.profile.stage1
    model = start(study, qformer.requires_grad_(False), language, split, queries)
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
        sha256(state),
        language.settings(),
        split.key(),
        hash_json(split.captions),
    )
    freeze(model, trained.state)
    return model, trained


def start(study: Study, qformer: QFormer, language: Language, split: Split, queries: Features) -> MiniGPT4:
    """Return the model as stage 1 begins with it: its projection at random or, where the profile says so, by
    regression from the pictures to their captions.
    """
    model = attach(study, qformer, language, first(queries))
    if study.profile.warm_start is not None:
        means = torch.stack([rows.float().mean(0) for rows in queries])  # (P, D_q)
        warm_start(model.projection, means, split.captions, language, ridge=study.profile.warm_start)
    return model


def attach(study: Study, qformer: QFormer, language: Language, queries: Tensor) -> MiniGPT4:
    """Join a Q-Former to a language model by a projection that is drawn from the seed, in the size that suits
    the `queries` of some pictures, (P, Q, D_q).
    """
    model = assemble(vision=nn.Identity(), qformer=qformer, language=language)
    init_projection(model.projection, queries, word_vectors(language), seed=study.seed)
    return model.to(study.device)


def first(features: Features) -> Tensor:
    """Return the features of the first pictures, by which a projection's size is set."""
    return features.batch(range(min(64, len(features))))


def picture_layout(
    language: Language, template: prompts.Template, queries: int, max_answer: int
) -> Callable[[list[str]], dict[str, Tensor]]:
    """Return what lays out captions behind a picture alone."""

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
