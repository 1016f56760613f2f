"""The chain of curation over a pool of five pictures, with a tiny random model."""

import json
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from data_files import jpeg, write_shard

from mglib.config import CurationConfig, WellFormed
from mglib.curation import describe
from mglib.data.own import read_cc_sbu_align
from mglib.data.quarantine import strict
from mglib.data.shards import read_shards
from mglib.data.splits import web_split
from mglib.experiments.curated import temperatures
from mglib.model.prompts import VICUNA
from mglib.study import curation as module
from mglib.study.curation import curation_of, pool
from mglib.study.stage2 import kept_texts

KEYS = [f"{number:09d}" for number in range(5)]


def rewritten(text):
    """Make a sentence of what a random model said."""
    return f"A picture of {sha256(text.encode()).hexdigest()}."


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return what curation needs of a study; everything is written to the test's folder."""
    folder = tmp_path / "world" / "pool"
    folder.mkdir(parents=True)
    write_shard(folder / "00000.tar", [(key, jpeg((50 * n, 9, 9)), "a wall") for n, key in enumerate(KEYS)])
    monkeypatch.setattr(module, "FOLDER", tmp_path / "curated")
    well_formed = WellFormed(min_words=3, min_sentences=1)
    return SimpleNamespace(
        profile=SimpleNamespace(
            name="tiny",
            language=SimpleNamespace(name="random", template=VICUNA.name),
            curation=CurationConfig(max_new_tokens=6, short=4, batch_size=2, well_formed=well_formed),
        ),
        seed=0,
        weights="none",
        dtype=torch.float32,
        world=tmp_path / "world",
        split=lambda name: web_split(tmp_path / "world" / name),
        pool=lambda: strict(read_shards([folder / "00000.tar"])),
    )


@pytest.fixture
def base(model, random, tmp_path):
    """Return what curation needs of a trained stage 1."""
    state = tmp_path / "stage1.safetensors"
    state.write_bytes(b"weights")
    queries, tokens = list(torch.randn(5, 3, 32, generator=random)), list(torch.zeros(5, 2, 2))
    return SimpleNamespace(
        model=model(),
        trained=SimpleNamespace(state=state),
        queries={"pool": queries, "val": queries},
        tokens={"pool": tokens, "val": tokens},
    )


@pytest.fixture
def run(study, base):
    """Return a function that curates the pool with one model and one set of queries."""
    return lambda rewriter=rewritten: curation_of(study, base, rewriter)


def test_the_pool_becomes_a_folder_that_the_reader_reads(run, study):
    curation, folder = run()
    assert [one.description.image_id for one in curation.pictures] == KEYS
    pairs = list(strict(read_cc_sbu_align(folder)))
    assert [pair.answer for pair in pairs] == [rewritten(one.description.text) for one in curation.pictures]
    pictures = dict(pool(study))
    assert {file.stem: file.read_bytes() for file in (folder / "image").iterdir()} == pictures
    about = json.loads((folder / "card.json").read_text())["about"]
    assert about["rewriter"] == "rewritten" and about["stage 1"] == sha256(b"weights").hexdigest()
    assert about["answers"] == "at most 6 tokens each; continued after 4 or fewer"


def test_a_second_call_finds_everything_again(run, monkeypatch):
    first = run()
    monkeypatch.setattr(describe, "reply", None)
    assert run() == first


def test_other_weights_another_seed_and_other_settings_are_described_anew(run, study, tmp_path):
    said = {tuple(one.description.answers for one in run()[0].pictures)}
    study.seed = 1
    said.add(tuple(one.description.answers for one in run()[0].pictures))
    assert len(said) == 2
    (tmp_path / "stage1.safetensors").write_bytes(b"other weights")
    run()
    study.profile.curation = CurationConfig(
        max_new_tokens=5, batch_size=2, well_formed=study.profile.curation.well_formed
    )
    run()
    assert len(list((tmp_path / "curated").glob("described-*.jsonl"))) == 4


def test_keys_may_be_names_and_stand_in_folders(run, study, tmp_path):
    keys = ["./clip.0001", "a/dog", "b/dog", "photo.png", "x"]
    shard = tmp_path / "world" / "pool" / "00000.tar"
    write_shard(shard, [(key, jpeg((50 * n, 9, 9)), "a wall") for n, key in enumerate(keys)])
    curation, folder = run()
    rows = SimpleNamespace(queries={"pool": list("01234")})
    ids, shown, texts = kept_texts(rows, curation, folder)
    assert ids == ["clip.0001", "a_dog", "b_dog", "photo.png", "x"] and shown == list("01234")
    assert texts == [one.text for one in curation.kept]


def test_nothing_kept_is_told(run):
    with pytest.raises(ValueError, match="Nothing was kept"):
        run(lambda text: "Nothing")


def test_each_temperature_describes_the_same_pictures_and_is_read_by_the_critic(
    study, base, tmp_path, monkeypatch
):
    settings = {"max_new_tokens": 6, "short": 0, "batch_size": 2, "val_pictures": 3}
    study.profile.curation = CurationConfig(temperatures=(1.0, 0.1), **settings)
    study.split = lambda name: web_split(tmp_path / "world" / "pool")
    seen = []

    def critic(tokens, texts):
        seen.append((len(tokens), len(texts)))
        return [[1.0, 0.0] for _ in texts]

    monkeypatch.setattr(module, "critic", lambda *_: critic)
    found = temperatures(study, base)
    assert seen == [(3, 3), (3, 3)]
    assert found[["temperature", "fit", "n"]].to_numpy().tolist() == [[1.0, 0.5, 3], [0.1, 0.5, 3]]
