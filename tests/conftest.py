"""Tiny parts for the tests: a tokenizer of 300 tokens, models of width 48 and less, pictures of 64 pixels."""

import gc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import tiny_languages
import torch
from tiny_world import small_world
from torch import nn
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from mglib.config import CaptionLMConfig, PretrainConfig, QFormerConfig, TrainConfig, VisionConfig
from mglib.model.blip2 import Representation, train_tokenizer
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.qformer import QFormer
from mglib.model.vision import Vision
from mglib.paths import CACHE

pytest_plugins = ["browsers"]

CAPTIONS = (
    "a red bus on the street",
    "two dogs in the park",
    "a cat under a table",
    "three birds over the sea",
    "a boat",
    "an old bicycle by the wall",
    "a dog and a cat on the grass",
    "one green apple on a plate",
)


@pytest.fixture(scope="session")
def captions() -> list[str]:
    """Return eight different captions."""
    return list(CAPTIONS)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer as `mglib.model.blip2` trains it; padding has the id 0."""
    return train_tokenizer(CAPTIONS, 300)


@pytest.fixture(scope="session")
def smollm2() -> PreTrainedTokenizerFast:
    """Return the real language model's tokenizer."""
    folders = [file.parent for file in sorted((CACHE / "smollm2-135m").glob("*/tokenizer.json"))]
    if not folders:
        pytest.skip("SmolLM2's tokenizer is not in data/cache: run `python -m mglib weights --profile smoke`")
    return AutoTokenizer.from_pretrained(folders[0])


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """Return the folder of a small world that is only read."""
    return small_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def llama(tokenizer) -> Callable[..., LlamaForCausalLM]:
    """Return a function that builds a tiny Llama."""
    return partial(tiny_languages.llama, len(tokenizer), **tiny_languages.ends(tokenizer))


@pytest.fixture
def language(llama, tokenizer) -> Language:
    """Return a tiny language model."""
    return Language(model=llama(), tokenizer=tokenizer)


@pytest.fixture(scope="session")
def vision_config() -> VisionConfig:
    """Return a one-block encoder's configuration: 4 x 4 patches pooled 2 x 2, so five tokens of width 64."""
    return VisionConfig(timm_name="test_vit", width=64, image_size=64, patch_size=16, depth=1, pool=2)


@pytest.fixture(scope="session")
def qformer() -> Callable[..., QFormer]:
    """Return a function that builds a Q-Former of three queries, 32 wide, that reads tokens 64 wide."""

    def build(*, vocabulary: int = 0, seed: int = 0, attention: str = "sdpa") -> QFormer:
        config = QFormerConfig(width=32, layers=2, heads=4, queries=3, vocabulary=vocabulary)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            built = QFormer(config=config, vision_width=64, attention=attention)
            nn.init.normal_(built.query_tokens)  # far apart, so that queries differ
        return built

    return build


@pytest.fixture(scope="session")
def model(llama, qformer, tokenizer, vision_config) -> Callable[..., MiniGPT4]:
    """Return a function that builds a tiny MiniGPT-4 in which only the projection is trained."""

    def build(*, seed: int = 0, language: LlamaForCausalLM | None = None) -> MiniGPT4:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return MiniGPT4(
                vision=Vision(config=vision_config),
                qformer=qformer(seed=seed).eval().requires_grad_(False),
                projection=nn.Linear(32, 48),
                language=Language(model=language or llama(seed=seed), tokenizer=tokenizer),
            )

    return build


@pytest.fixture(scope="session")
def train_config() -> Callable[..., TrainConfig]:
    """Return a function that fills in the settings of a short training."""

    def build(**changes) -> TrainConfig:
        settings = {"steps": 10, "batch_size": 3, "lr": 1e-2, "min_lr": 1e-3, "warmup_steps": 2}
        return TrainConfig(**{**settings, "save_every": 5, **changes})

    return build


@pytest.fixture(scope="session")
def pretrain_config(train_config) -> PretrainConfig:
    """Return the settings of a tiny BLIP-2."""
    return PretrainConfig(
        max_text=24,
        embedding=16,
        caption_lm=CaptionLMConfig(vocabulary=300, width=48, layers=1, heads=4, train=train_config()),
        representation=train_config(),
        generative=train_config(),
    )


@pytest.fixture(scope="session")
def representation(qformer, tokenizer, pretrain_config) -> Callable[..., Representation]:
    """Return a function that builds a tiny first stage of BLIP-2, or an instance of a derived class."""

    def build(kind: type[Representation] = Representation, *, seed: int = 0) -> Representation:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return kind(
                qformer=qformer(vocabulary=len(tokenizer), seed=seed),
                tokenizer=tokenizer,
                config=pretrain_config,
            )

    return build


@pytest.fixture
def random() -> torch.Generator:
    """Return a new generator with seed 0 for each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def descend():
    """Return a function that trains a module on one batch and returns its losses."""

    def run(module, batch, steps, lr=1e-2):
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=lr)
        losses = []
        for _ in range(steps):
            output = module(batch)
            loss = output["loss"] / output["count"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector off the objects that the imports create: they are many and stay alive."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests first, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
