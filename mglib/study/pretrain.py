"""Train BLIP-2 mini (`make pretrain`): its language model, then its Q-Former in two steps.

It learns from a world of its own, which stage 1 never sees. A stopped training resumes where it was. The
result is a release: a folder that every run starts from, as the paper starts from BLIP-2.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from mglib.data.splits import Pairs, Split, web_split
from mglib.data.text import shuffled_keywords
from mglib.model import prompts
from mglib.model.blip2 import (
    KEYWORDS,
    Representation,
    WriteFromKeywords,
    caption_language,
    text_batch,
    train_tokenizer,
)
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.qformer import standardise
from mglib.paths import CACHE, hash_json, sha256, write_json, write_text
from mglib.study.blip2 import CARD, LOG, TOKENIZER, TRAININGS
from mglib.study.stage1 import attach, first, picture_layout
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.training.checkpoint import under
from mglib.training.feature_cache import Features
from mglib.weights import sources
from mglib.weights.tensors import load_weights, save_weights
from mglib.world.build import build
from mglib.world.scene import PRETRAIN

COLUMNS = ("step", "loss", "contrast", "matching", "generation", "samples_per_second")
LOGGED_EVERY = 10


def pictures(study: Study) -> Split:
    """Return the pictures that BLIP-2 mini learns from, drawn if needed; each has several captions."""
    world = study.world_config
    folder = CACHE / f"{PRETRAIN}-{hash_json(asdict(world))}"
    build(world, font=sources.font(), folder=folder, splits=(PRETRAIN,))
    return web_split(folder / PRETRAIN)


class KeywordPairs(Dataset):
    """Captions, cut to their first `longest` words, with at most `most` of their keywords, shuffled."""

    def __init__(self, captions: Sequence[str], *, longest: int, most: int, seed: int) -> None:
        self.captions = [" ".join(caption.split()[:longest]) for caption in captions]
        self.most, self.seed = most, seed

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> tuple[str, str]:
        caption = self.captions[index]
        return shuffled_keywords(caption, f"{self.seed}/{index}", self.most), caption


def keyword_layout(
    tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]], *, max_answer: int
) -> dict[str, Tensor]:
    """Lay out keywords, each followed by its caption."""
    questions, answers = zip(*rows, strict=True)
    return prompts.training_batch(tokenizer, KEYWORDS, questions, answers, queries=0, max_answer=max_answer)


def caption_lm(study: Study, split: Split) -> tuple[Language, Trained]:
    """Train BLIP-2 mini's language model to write the captions from shuffled keywords, then freeze it."""
    config, queries = study.pretraining.caption_lm, study.profile.qformer.queries
    captions = [caption for said in split.references for caption in said]
    tokenizer = train_tokenizer(captions, config.vocabulary)
    language = caption_language(config, tokenizer, seed=study.seed, attention=study.attention)
    writer = WriteFromKeywords(language)

    trained = train(
        study,
        writer,
        KeywordPairs(captions, longest=config.train.max_answer, most=queries, seed=study.seed),
        partial(keyword_layout, tokenizer, max_answer=config.train.max_answer),
        config.train,
        "caption-lm",
        captions=hash_json(captions),
        tokenizer=tokenizer.backend_tokenizer.to_str(),
    )
    return language, trained


def representation(
    study: Study, tokenizer: PreTrainedTokenizerFast, split: Split, tokens: Features
) -> tuple[Representation, Trained]:
    """Train a Q-Former with BLIP-2's three objectives on pictures and their captions."""
    config = study.pretraining
    with torch.random.fork_rng():
        torch.manual_seed(study.seed)
        module = Representation(qformer=study.qformer(text_branch=True), tokenizer=tokenizer, config=config)
    some = tokens.batch(range(0, len(tokens), max(1, len(tokens) // 256)))
    standardise(module.qformer.ln_vision, some)
    pairs = Pairs("tokens", tokens, split.references)
    collate = pairs.collate(partial(text_batch, tokenizer, longest=config.max_text))
    trained = train(
        study,
        module,
        pairs,
        collate,
        config.representation,
        "representation",
        max_text=config.max_text,
        pictures=split.key(),
        captions=hash_json(split.references),
        vision=sha256(study.vision_state),
    )
    return module, trained


def generative(
    study: Study, start: Trained, language: Language, writer: Trained, split: Split, tokens: Features
) -> tuple[MiniGPT4, Trained]:
    """Train the Q-Former and a projection through the frozen caption LM: BLIP-2 mini.

    The model has the architecture of MiniGPT-4; only its language model and what is trained differ.
    """
    config = study.pretraining.generative
    qformer = study.qformer()
    state = under(load_weights(start.state)[0], "qformer.")  # its text parts are dropped
    qformer.load_state_dict({name: state[name] for name in qformer.state_dict()})
    with torch.no_grad():
        queries = qformer(first(tokens))
    model = attach(study, qformer, language, queries)
    pairs = Pairs("tokens", tokens, split.references)
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
        writer=sha256(writer.state),
        pictures=split.key(),
        captions=hash_json(split.references),
        vision=sha256(study.vision_state),
    )
    return model, trained


def pretrain(study: Study, folder: Path, known: dict[str, Any]) -> None:
    """Make BLIP-2 mini, its language model and then its Q-Former in two steps, and release it in `folder`.

    What is `known` beforehand (the machine) goes into its card.
    """
    split = pictures(study)
    tokens = study.tokens(split, study.vision())
    language, writer = caption_lm(study, split)
    _, represented = representation(study, language.tokenizer, split, tokens)
    _, generated = generative(study, represented, language, writer, split, tokens)
    trained = dict(zip(TRAININGS, (writer, represented, generated), strict=True))
    release(folder, trained, language.tokenizer, {**known, **about(study, split, trained)})


def about(study: Study, split: Split, trained: dict[str, Trained]) -> dict[str, Any]:
    """Return what BLIP-2 mini was made from and how long that took."""
    config = study.pretraining
    runs = (config.caption_lm.train, config.representation, config.generative)
    each = {
        name: {
            "steps": run.steps,
            "batch_size": run.batch_size,
            "minutes": round(sum(run.batch_size / line["samples_per_second"] for line in one.log) / 60, 1),
            "last_loss": one.log[-1]["loss"],
        }
        for (name, one), run in zip(trained.items(), runs, strict=True)
    }
    return {
        "profile": study.profile.name,
        "seed": study.seed,
        "weights": study.weights,
        "pictures": len(split),
        "captions": sum(map(len, split.references)),
        "trainings": each,
        "config": {name: asdict(getattr(study.profile, name)) for name in ("world", "qformer", "pretrain")},
    }


def release(
    folder: Path, trained: dict[str, Trained], tokenizer: PreTrainedTokenizerFast, card: dict[str, Any]
) -> None:
    """Write weights in half precision, tokenizer and log; the card, which names them all, comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    for name, one in trained.items():
        weights, said = load_weights(one.state)
        save_weights(folder / TRAININGS[name], {key: value.half() for key, value in weights.items()}, said)
    write_text(folder / TOKENIZER, tokenizer.backend_tokenizer.to_str())
    write_text(folder / LOG, logged({name: one.log for name, one in trained.items()}))
    write_text(folder / "README.md", page(card))
    files = (*TRAININGS.values(), TOKENIZER, LOG)
    write_json(folder / CARD, {**card, "sha256": {name: sha256(folder / name) for name in files}})


def page(card: dict[str, Any]) -> str:
    """Return the README: what the release is, where it comes from and what it cost."""
    each = [
        f"- {name}: {one['steps']:,} steps of {one['batch_size']}, {one['minutes']:.0f} minutes, last loss "
        f"{one['last_loss']:.3f}"
        for name, one in card["trainings"].items()
    ]
    return PAGE.format(each="\n".join(each), **card)


PAGE = """# BLIP-2 mini

The weights that `make reproduce` starts from, as the paper starts from the BLIP-2 release: a small language
model that writes captions (`caption_lm`), a Q-Former with BLIP-2's text branch (`representation`), and the
Q-Former that MiniGPT-4 takes over, with a projection into the caption model (`generative`). Weights in half
precision, as safetensors; `card.json` holds all settings and the SHA-256 of each file, `log.csv` every tenth
step of each training.

Made by `make pretrain PROFILE={profile}` (seed {seed}) from {pictures:,} drawn pictures with {captions:,}
captions, with the image encoder of `WEIGHTS={weights}`; none of these pictures is in stage 1, `val` or a test
split:

{each}

On: {machine}.

The pictures are made of OpenMoji's emojis (CC BY-SA 4.0), the encoder has DINOv2's architecture
(Apache-2.0). [Notebook 01](../../notebooks/01_encoder.ipynb) evaluates BLIP-2 mini.
"""


def logged(logs: dict[str, list[dict[str, float]]]) -> str:
    """Return every `LOGGED_EVERY`-th step of each training, and the first, as CSV."""
    rows = [
        {"training": name, **{key: round(line[key], 5) for key in COLUMNS if key in line}}
        for name, lines in logs.items()
        for line in lines
        if line["step"] == 1 or line["step"] % LOGGED_EVERY == 0
    ]
    return pandas.DataFrame(rows, columns=["training", *COLUMNS]).to_csv(index=False)
