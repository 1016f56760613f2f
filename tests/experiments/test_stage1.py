"""What notebook 02 measures around stage 1."""

from types import SimpleNamespace

import pytest
import torch

from mglib.experiments import stage1
from mglib.model.language import Language
from mglib.model.prompts import tokenize


@pytest.fixture
def base(llama, tokenizer, captions):
    return SimpleNamespace(
        language=Language(model=llama(), tokenizer=tokenizer),
        splits={"val": SimpleNamespace(captions=tuple(captions))},
    )


@pytest.fixture
def study(train_config):
    profile = SimpleNamespace(qformer=SimpleNamespace(queries=3), stage1=train_config(max_answer=20))
    return SimpleNamespace(profile=profile)


def test_what_is_the_same_in_all_pictures_is_found():
    same = torch.randn(1, 4, 8).expand(50, -1, -1)
    own = torch.randn(50, 4, 8, generator=torch.Generator().manual_seed(0))
    assert stage1.shared_by_pictures(same) == pytest.approx(1)
    assert abs(stage1.shared_by_pictures(own)) < 0.05


def test_the_layout_is_bos_the_queries_the_caption_and_its_end(study, base, tokenizer, captions):
    table = stage1.layout(study, base)
    assert list(table["token"][:4]) == ["'[BOS]'", "(visual)", "(visual)", "(visual)"]
    words = len(tokenize(tokenizer, captions[0]))
    assert list(table["label"] != "-") == [False] * 4 + [True] * (words + 1)
    assert table["label"].iloc[-1] == repr("\n")
