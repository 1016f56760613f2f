"""Replay: stage 1's pairs are found on disk and added to each batch in the form of stage 1."""

from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from data_files import COLOURS, jpeg, write_shard
from tiny_release import tiny_profile

from mglib.experiments.lora import answering
from mglib.model.prompts import IGNORE, VICUNA
from mglib.study import study as studies
from mglib.study.stage1 import stage1_pairs
from mglib.study.stage2 import replaying
from mglib.study.study import Study


def shard(path, captions, *, broken=()):
    """Write a shard of one-coloured pictures; those at the places `broken` are cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [jpeg(COLOURS[number % 3]) for number in range(len(captions))]
    pictures = [one[:-40] if number in broken else one for number, one in enumerate(pictures)]
    write_shard(path, [(f"{number:09d}", pictures[number], said) for number, said in enumerate(captions)])


def test_the_small_world_s_first_good_pairs_are_taken(tiny, tmp_path, monkeypatch, captions):
    monkeypatch.setattr(Study, "world", tmp_path / "world")
    assert stage1_pairs(tiny, 3) is None
    shard(tiny.world / "train" / "00000.tar", captions[:4], broken=[1])
    shard(tiny.world / "train" / "00001.tar", captions[4:])
    found = stage1_pairs(tiny, 4)
    assert found.captions == (captions[0], captions[2], captions[3], captions[4])
    assert found.hashes == tuple(sha256(jpeg(COLOURS[place])).hexdigest() for place in (0, 2, 0, 0))
    assert [image.size for image in found.images()] == [(32, 24)] * 4
    assert len(stage1_pairs(tiny, 100)) == 7


def test_a_release_s_sources_give_as_many_as_they_weigh(tmp_path, monkeypatch, captions):
    monkeypatch.setattr(studies, "DOWNLOADS", tmp_path)
    study = Study.of(tiny_profile(300), seed=0, weights="wheel")
    assert stage1_pairs(study, 4) is None
    shard(tmp_path / "cc_sbu" / "00000.tar", captions)
    assert stage1_pairs(study, 4).captions == tuple(captions[:4])  # a missing source has no weight
    shard(tmp_path / "laion" / "00001.tar", [f"{text} again" for text in captions])
    found = stage1_pairs(study, 8).captions
    assert found == (*(f"{text} again" for text in captions[:7]), captions[0])  # 115 : 14


@pytest.fixture
def laid_out(tiny, model, captions):
    """Return a model, its queries, a function that lays out questions, and the same with replayed pairs."""
    built, generator = model(), torch.Generator().manual_seed(0)
    shape = len(captions), built.qformer.config.queries, built.projection.in_features
    queries = torch.randn(*shape, generator=generator)
    asked = answering(built, VICUNA, "{}", 30)
    whole = replace(tiny, profile=replace(tiny.profile, stage1=replace(tiny.profile.stage1, max_answer=40)))
    return built, queries, asked, replaying(whole, built, asked, queries, captions)


def rows(queries, *answers):
    return [(queries[number], "What is it?", said) for number, said in enumerate(answers)]


def test_below_each_batch_stand_as_many_pairs_in_the_form_of_stage_1(laid_out, captions):
    model, queries, asked, both = laid_out
    new = rows(queries, "a cat", "a boat on the sea and a very old bicycle by the wall", "birds")
    alone, batch = asked(new), both(new)
    decode, tokenizer = model.language.tokenizer.decode, model.language.tokenizer
    assert batch["ids"].shape[0] == 6 and batch["queries"].shape[0] == 6
    length = alone["ids"].shape[1]
    for name in alone:
        assert torch.equal(batch[name][:3, :length] if name != "queries" else batch[name][:3], alone[name])
    for place in range(3, 6):
        ids, slots, labels, mask = (batch[name][place] for name in ("ids", "slots", "labels", "mask"))
        said = decode(ids[labels != IGNORE])
        assert said.endswith("\n") and said[:-1] in captions
        assert torch.equal(batch["queries"][place], queries[captions.index(said[:-1])])
        assert ids[0] == tokenizer.bos_token_id and slots[1 : 1 + queries.shape[1]].all()
        text = mask.bool() & (labels == IGNORE)
        assert text.sum() == 1 + queries.shape[1]  # nothing between the picture and its caption


def test_the_longer_half_changes_the_other_s_loss_by_nothing(laid_out):
    model, queries, asked, both = laid_out
    for answers in (("a cat", "birds"), ("a boat on the sea and a very old bicycle by the wall", "a cat")):
        new = rows(queries, *answers)
        whole, own = both(new), asked(new)
        below = {name: values[2:] for name, values in whole.items()}
        with torch.no_grad():
            parts, together = [model(own), model(below)], model(whole)
        assert together["count"] == sum(part["count"] for part in parts)
        torch.testing.assert_close(together["loss"], sum(part["loss"] for part in parts))


def test_a_batch_draws_the_same_again_and_another_batch_or_seed_others(tiny, laid_out, captions):
    model, queries, asked, both = laid_out
    one, other = rows(queries, *captions[:6]), rows(queries, *captions[1:7])
    assert torch.equal(both(one)["ids"], both(one)["ids"])
    drawn = both(one)["queries"][6:]
    assert not torch.equal(drawn, both(other)["queries"][6:])
    seeded = replaying(replace(tiny, seed=1), model, asked, queries, captions)
    assert not torch.equal(drawn, seeded(one)["queries"][6:])
