"""BLIP-2 mini is made, released and read again; what is damaged or foreign is refused."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from tiny_parts import another

from mglib.config import WorldConfig
from mglib.data.splits import Pairs
from mglib.study import pretrain
from mglib.study import study as studies
from mglib.study.blip2 import CARD, TRAININGS
from mglib.study.pretrain import KeywordPairs
from mglib.weights.tensors import load_weights

WORLD = WorldConfig(train=1, pool=1, val=1, test_seen=1, test_new_pairs=1, test_new_objects=1)


@pytest.fixture
def taught(tiny, split, tmp_path, monkeypatch):
    """Return a tiny study whose release has its own folder."""
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    monkeypatch.setattr(pretrain, "pictures", lambda study: split)
    return another(tiny, profile=replace(tiny.profile, world=WORLD))


@pytest.fixture
def made(taught, tmp_path):
    folder = tmp_path / "data" / taught.profile.pretrain.release
    pretrain.pretrain(taught, folder, {"machine": "a processor"})
    return folder


def test_a_release_is_read_as_it_was_made(taught, made, split):
    found = taught.blip2
    assert len(found.language.tokenizer) == len(found.representation.words.weight)
    for module, training in ((found.representation, "representation"), (found.model, "generative")):
        kept, _ = load_weights(made / TRAININGS[training])
        own = dict(module.named_parameters())
        assert kept and all(torch.equal(own[name], value.float()) for name, value in kept.items())
        assert all(value.dtype == torch.float16 for value in kept.values())
    for module in (found.representation, found.model, found.language):
        assert not module.training and not any(p.requires_grad for p in module.parameters())
    tokens = torch.randn(2, taught.profile.vision.tokens, taught.profile.vision.width)
    assert found.model.qformer(tokens).shape == (2, 3, 32)
    assert list(found.logs) == list(TRAININGS)
    assert all(lines[0]["step"] == 1 and lines[0]["loss"] > 0 for lines in found.logs.values())
    assert found.logs["representation"][0]["contrast"] > 0 and "contrast" not in found.logs["generative"][0]


def test_the_card_says_what_it_was_made_from(taught, made, split):
    card = json.loads((made / CARD).read_text())
    assert (card["machine"], card["pictures"]) == ("a processor", len(split))
    assert card["captions"] == 2 * len(split)
    assert [card["trainings"][name]["steps"] for name in TRAININGS] == [1, 1, 1]
    assert card["config"]["pretrain"] == json.loads(json.dumps(asdict(taught.profile.pretrain)))
    assert {path.name for path in made.iterdir()} == {*card["sha256"], CARD, "README.md"}
    assert "1 steps of 4" in (made / "README.md").read_text()


def test_what_was_made_is_not_made_again(taught, made, monkeypatch):
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    monkeypatch.setattr("mglib.training.loop.train_step", None)  # a single step would fail
    pretrain.pretrain(taught, made, {"machine": "a processor"})
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


def test_the_other_seeds_start_from_the_same_release(taught, made):
    one, two = taught.blip2.model, another(taught, seed=1).blip2.model
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_a_damaged_release_is_refused(taught, made):
    file = made / "generative.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="PRETRAIN=1"):
        assert taught.blip2
    file.unlink()
    with pytest.raises(ValueError, match=r"generative.safetensors is absent"):
        assert taught.blip2


def test_a_release_behind_another_encoder_is_refused(taught, made):
    other = replace(taught, weights="hub")
    with pytest.raises(ValueError, match="PRETRAIN=1 WEIGHTS=hub"):
        assert other.blip2


def test_each_caption_of_a_picture_is_a_sample():
    pairs = Pairs("tokens", [0, 1], [("a", "b"), ("c",)])
    assert [pairs[row] for row in range(len(pairs))] == [(0, "a"), (0, "b"), (1, "c")]


def test_keywords_come_from_the_caption_that_is_to_be_written():
    rows = KeywordPairs(["a red bus in the park by the sea"] * 50, longest=4, most=16, seed=0)
    assert len(rows) == 50 and all(caption == "a red bus in" for _, caption in rows)
    assert {word for keywords, _ in rows for word in keywords.split()} == {"red", "bus"}
    assert rows[7] == rows[7] and len({keywords for keywords, _ in rows}) > 10
