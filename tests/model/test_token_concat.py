"""The variant without a Q-Former: which tokens are joined, and that nothing in it is trained."""

import pytest
import torch
from torch import nn

from mglib.config import ConcatConfig
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import CAPTION, IMAGE, training_batch
from mglib.model.token_concat import Concat

SMALL = ConcatConfig(tokens=9, vision_width=6)


def test_four_neighbours_stand_in_a_row_and_cls_is_dropped(random):
    tokens = torch.randn(2, 9, 6, generator=random)
    joined = Concat(config=SMALL)(tokens)
    seen = (tokens - tokens.mean(-1, keepdim=True)) / (
        tokens.var(-1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    assert joined.shape == (2, 2, 24)
    for place, first in ((0, 1), (1, 5)):
        rows = torch.cat([seen[:, first + number] for number in range(4)], dim=-1)
        torch.testing.assert_close(joined[:, place], rows)


def test_the_papers_size_is_64_rows_of_5632():
    config = ConcatConfig(tokens=257, vision_width=1408)
    with torch.device("meta"):
        assert Concat(config=config)(torch.empty(3, 257, 1408)).shape == (3, 64, 5632)


def test_nothing_in_it_is_trained():
    assert [name for name, weight in Concat(config=SMALL).named_parameters() if weight.requires_grad] == []


def test_patches_that_cannot_be_joined_are_named():
    with pytest.raises(ValueError, match="9 patches cannot be joined by 4"):
        Concat(config=ConcatConfig(tokens=10, vision_width=6))


def test_it_takes_the_q_formers_place(llama, tokenizer, random):
    model = MiniGPT4(
        vision=nn.Identity(),
        qformer=Concat(config=SMALL),
        projection=nn.Linear(24, 48),
        language=Language(model=llama(), tokenizer=tokenizer),
    )
    layout = training_batch(tokenizer, CAPTION, [IMAGE] * 2, ["a dog", "a cat"], queries=2, max_answer=8)
    output = model({"tokens": torch.randn(2, 9, 6, generator=random), **layout})
    (output["loss"] / output["count"]).backward()
    assert model.projection.weight.grad.abs().sum() > 0
