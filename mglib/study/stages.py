"""The trainings of the study in their order; each returns the trained part, its log and the file it is kept
in.

A training that was already done with the same settings and data is loaded, one that was stopped goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from mglib.config import TrainConfig
from mglib.data.splits import Pairs, Split
from mglib.keys import code_key
from mglib.model import device, prompts
from mglib.model.blip2 import (
    KEYWORDS,
    Representation,
    WriteFromKeywords,
    caption_language,
    shuffled_keywords,
    text_batch,
    train_tokenizer,
)
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, init_projection
from mglib.model.qformer import QFormer
from mglib.model.vision import Vision
from mglib.paths import content_key, sha256
from mglib.study.study import Study, freeze
from mglib.training.feature_cache import Features
from mglib.training.loop import Stream, fit, kept
from mglib.weights.tensors import digest, load_weights


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
    code = code_key(fit, *kinds, type(data), *([collate] if collate else []))
    start = digest(without_backbones(module))
    return study.folder(what, replace(config, accumulate=1), start, code, *depends)


def without_backbones(module: nn.Module) -> list[nn.Parameter]:
    """Return all weights but those of a frozen encoder or language model, which files and settings name."""
    backbones = (part for part in module.modules() if isinstance(part, Language | Vision))
    frozen = {id(p) for part in backbones for p in part.parameters() if not p.requires_grad}
    return [p for p in module.parameters() if id(p) not in frozen]


class KeywordPairs(Dataset):
    """Captions, cut to their first `longest` words, with their shuffled keywords."""

    def __init__(self, captions: Sequence[str], *, longest: int, seed: int) -> None:
        self.captions = [" ".join(caption.split()[:longest]) for caption in captions]
        self.seed = seed

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[str, str]:
        return shuffled_keywords(self.captions[index], f"{self.seed}/{index}"), self.captions[index]


def keyword_layout(
    tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]], *, max_answer: int
) -> dict[str, Tensor]:
    """Lay out keywords and the captions behind them."""
    questions, answers = zip(*rows, strict=True)
    return prompts.training_batch(tokenizer, KEYWORDS, questions, answers, queries=0, max_answer=max_answer)


def caption_lm(study: Study, captions: Sequence[str]) -> tuple[Language, Trained]:
    """Train BLIP-2 mini's language model to write the training captions from shuffled keywords, then freeze
    it.
    """
    config = study.profile.pretrain.caption_lm
    tokenizer = train_tokenizer(captions, config.vocabulary)
    language = caption_language(config, tokenizer, seed=study.seed, attention=device.attention(study.device))
    writer = WriteFromKeywords(language)

    trained = train(
        study,
        writer,
        KeywordPairs(captions, longest=config.train.max_answer, seed=study.seed),
        partial(keyword_layout, tokenizer, max_answer=config.train.max_answer),
        config.train,
        "caption-lm",
        config,
        content_key(captions),
    )
    freeze(writer, trained.state)
    return language, trained


def representation(
    study: Study, tokenizer: PreTrainedTokenizerFast, split: Split, tokens: Features
) -> tuple[Representation, Trained]:
    """Train a Q-Former with BLIP-2's three objectives on pictures and their web captions."""
    config = study.profile.pretrain
    with torch.random.fork_rng():
        torch.manual_seed(study.seed)
        module = Representation(qformer=study.qformer(text_branch=True), tokenizer=tokenizer, config=config)
    module.qformer.standardise(tokens.batch(range(0, len(tokens), max(1, len(tokens) // 256))))
    pairs = Pairs("tokens", tokens, split.captions)
    collate = pairs.collate(partial(text_batch, tokenizer, longest=config.max_text))
    trained = train(
        study,
        module,
        pairs,
        collate,
        config.representation,
        "representation",
        study.profile.qformer,
        config.max_text,
        config.embedding,
        split.key(),
        content_key(split.captions),
        sha256(study.vision_state),
    )
    freeze(module, trained.state)
    return module, trained


def generative(
    study: Study, start: Trained, language: Language, writer: Trained, split: Split, tokens: Features
) -> tuple[MiniGPT4, Trained]:
    """Train the Q-Former and a projection through the frozen caption LM: BLIP-2 mini.

    The model has the very shape of MiniGPT-4; what differs is its language model and what is trained.
    """
    config = study.profile.pretrain.generative
    qformer = study.qformer()
    take_over(qformer, start)
    model = attach(study, qformer, language, tokens)
    pairs = Pairs("tokens", tokens, split.captions)
    collate = pairs.collate(
        picture_layout(language, KEYWORDS, study.profile.qformer.queries, config.max_answer)
    )
    trained = train(
        study,
        model,
        pairs,
        collate,
        config,
        "generative",
        sha256(start.state),
        sha256(writer.state),
        split.key(),
        content_key(split.captions),
    )
    freeze(model, trained.state)
    return model, trained


@dataclass(frozen=True)
class Blip2:
    """BLIP-2 mini and the trainings that it comes from."""

    language: Language
    writer: Trained
    representation: Representation
    represented: Trained
    model: MiniGPT4
    generated: Trained


def blip2(study: Study, split: Split, tokens: Features) -> Blip2:
    """Make BLIP-2 mini: its language model, then its Q-Former in two steps (notebook 01 shows each)."""
    language, writer = caption_lm(study, split.captions)
    module, represented = representation(study, language.tokenizer, split, tokens)
    model, generated = generative(study, represented, language, writer, split, tokens)
    return Blip2(language, writer, module, represented, model, generated)


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
    model = attach(study, qformer.requires_grad_(False), language, queries)
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
        content_key(split.captions),
    )
    freeze(model, trained.state)
    return model, trained


def attach(study: Study, qformer: QFormer, language: Language, inputs: Features) -> MiniGPT4:
    """Join a Q-Former to a language model by a fresh projection; `inputs` are tokens or queries of some
    pictures.
    """
    projection = nn.Linear(study.profile.qformer.width, language.width)
    some = torch.stack([inputs[index] for index in range(min(64, len(inputs)))])
    model = MiniGPT4(vision=nn.Identity(), qformer=qformer, projection=projection, language=language)
    with torch.no_grad():
        # Rows of D_q are queries already; rows of D_v still have to go through the Q-Former.
        outputs = some if some.shape[1] == qformer.config.queries else qformer(some)
    init_projection(projection, outputs, language.model.get_input_embeddings().weight, seed=study.seed)
    return model.to(study.device)


def take_over(qformer: QFormer, start: Trained) -> None:
    """Fill a Q-Former without text branch from BLIP-2's representation learning, whose text parts are
    dropped.
    """
    weights, _ = load_weights(start.state)
    prefix = "qformer."
    state = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    own = qformer.state_dict()
    qformer.load_state_dict({name: state[name] for name in own}, strict=True)


def picture_layout(
    language: Language, form: prompts.Template, queries: int, max_answer: int
) -> Callable[[list[str]], dict[str, Tensor]]:
    """Return what lays out captions behind a picture alone."""

    def layout(captions: list[str]) -> dict[str, Tensor]:
        return prompts.training_batch(
            language.tokenizer,
            form,
            [prompts.IMAGE] * len(captions),
            captions,
            queries=queries,
            max_answer=max_answer,
        )

    return layout
