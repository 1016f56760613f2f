"""The projection's start by regression: it maps pictures to the words of their captions."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_languages import write
from torch import nn

from mglib.model.prompts import tokenize
from mglib.paths import ROOT
from mglib.training.warm_start import caption_vectors, warm_start
from mglib.weights import chosen

FLOAT32 = {"dtype": torch.float32, "quantised": None, "attention": "sdpa"}
WORDS = ["boat", "dog", "bus", "park", "sea", "street"]


def embedding(language, word):
    ids = tokenize(language.tokenizer, f" {word}")
    return language.model.get_input_embeddings().weight[ids].mean(0)


def test_a_caption_is_the_mean_of_its_content_words_the_rarer_the_heavier(language):
    vectors, told = caption_vectors(language, ["a boat", "a boat and the dog", "it is there", "a boat"])
    assert told.tolist() == [True, True, False, True]
    boat, dog = embedding(language, "boat"), embedding(language, "dog")
    often, rare = torch.tensor([4 / 3, 4.0]).log()
    torch.testing.assert_close(vectors[0], boat)
    torch.testing.assert_close(vectors[1], (often * boat + rare * dog) / (often + rare))
    assert not vectors[2].any()


def scenes(count, seed):
    """Pictures that hold two of the words each, as directions of the queries, and their captions."""
    random = torch.Generator().manual_seed(seed)
    held = [torch.randperm(len(WORDS), generator=random)[:2].tolist() for _ in range(count)]
    directions = torch.randn(len(WORDS), 32, generator=torch.Generator().manual_seed(9))
    mean = 5 * torch.randn(32, generator=torch.Generator().manual_seed(8))  # most of a query is the same
    noise = 0.1 * torch.randn(count, 32, generator=random)
    queries = torch.stack([directions[two].mean(0) for two in held]) + mean + noise
    return queries, [f"a {WORDS[one]} and a {WORDS[other]}" for one, other in held]


def test_a_new_picture_lies_nearest_to_its_own_words(language):
    projection = nn.Linear(32, language.width)
    warm_start(projection, *scenes(300, 0), language, ridge=0.01)
    queries, captions = scenes(50, 1)
    table = torch.stack([embedding(language, word) for word in WORDS])
    centred = table - table.mean(0)
    visual = projection(queries)
    visual = visual - visual.mean(0)
    nearest = (visual @ centred.T).topk(2, dim=1).indices.sort(1).values
    named = [sorted(WORDS.index(word) for word in caption.split() if word in WORDS) for caption in captions]
    assert (nearest == torch.tensor(named)).all(1).float().mean() > 0.9


@pytest.mark.parametrize(("kind", "scale"), [("llama", 1), ("gemma", 48**0.5), ("gemma3_text", 48**0.5)])
def test_visual_tokens_have_the_spread_and_mean_of_words_as_the_decoder_takes_them_in(
    tmp_path, tokenizer, kind, scale
):
    language = chosen.load(write(tmp_path / kind, kind, tokenizer), **FLOAT32)
    projection, (queries, captions) = nn.Linear(32, language.width), scenes(300, 0)
    warm_start(projection, queries, captions, language, ridge=0.1)
    visual = projection(queries)
    spread = scale * language.model.get_input_embeddings().weight.std()
    torch.testing.assert_close((visual - visual.mean(0)).std(), spread, rtol=1e-3, atol=0)
    words, _ = caption_vectors(language, captions)
    torch.testing.assert_close(visual.mean(0), words.mean(0), rtol=0, atol=1e-4)


def sums() -> str:
    """Return the exact sums of some captions' vectors, as text."""
    table = SimpleNamespace(weight=torch.randn(99, 4, generator=torch.Generator().manual_seed(0)))
    model = SimpleNamespace(get_input_embeddings=lambda: table, device="cpu")
    language = SimpleNamespace(
        tokenizer=lambda text, **_: {"input_ids": [len(text)]},
        model=model,
        embed=lambda ids: table.weight[ids],
    )
    captions = [" ".join(chr(97 + (i * j) % 26) * (j + 2) for j in range(9)) for i in range(40)]
    return str(caption_vectors(language, captions)[0].double().sum(1).tolist())


def test_another_process_starts_from_the_same_numbers():
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # another one than this process's
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
    said = subprocess.run(
        [sys.executable, "-c", "import test_warm_start; print(test_warm_start.sums())"],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == sums() and len(sums()) > 100


def test_captions_without_words_are_refused(language):
    with pytest.raises(ValueError, match="nothing to start from"):
        warm_start(nn.Linear(32, language.width), torch.randn(2, 32), ["it is", "a the"], language, ridge=0.1)
