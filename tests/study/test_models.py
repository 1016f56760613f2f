"""What a model is asked, what is held out, and where its questions come from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_release import tiny_profile, write_coco_val, write_questions

from mglib.data.released import TEST, VAL
from mglib.model import prompts
from mglib.model.prompts import CAPTION, VICUNA
from mglib.profiles import MINI
from mglib.study import stage2
from mglib.study import study as studies
from mglib.study.models import PromptedModel, overview
from mglib.study.stage2 import held_out_split, stage2_data
from mglib.study.study import Study


def test_a_model_is_asked_after_the_picture_or_shown_it_alone():
    silent = PromptedModel(model=None, template=CAPTION, wording=prompts.IMAGE)
    assert not silent.reads and silent.questions == (silent.question("What?"),) == (prompts.IMAGE,)
    one = PromptedModel(model=None, template=VICUNA)
    assert one.reads and one.question("What?") == prompts.with_image("What?")
    assert len(one.questions) == len(set(one.questions)) == 4


def test_every_tenth_text_is_held_out_with_its_picture():
    texts = [f"text {row}" for row in range(21)]
    found = held_out_split(list(range(21)), texts)
    assert found.held_queries == [0, 10, 20] and found.held_texts == ["text 0", "text 10", "text 20"]
    assert found.texts == [f"text {row}" for row in found.queries] and len(found.texts) == 18


def test_a_variant_learns_from_the_kept_pictures_that_have_its_texts(monkeypatch):
    kept = ["1", "3"]  # the ids of the pictures whose texts are kept; special ones have no other texts
    described = [SimpleNamespace(description=SimpleNamespace(image_id=one)) for one in "123"]
    curation = SimpleNamespace(pictures=described)
    monkeypatch.setattr(stage2, "curation_of", lambda *_: (curation, kept))
    pairs = {one: SimpleNamespace(file=Path(one), answer=f"text {one}") for one in "123"}
    monkeypatch.setattr(stage2, "read_cc_sbu_align", lambda ids: [pairs[one] for one in ids])
    monkeypatch.setattr(stage2, "strict", list)
    monkeypatch.setattr(Study, "pool_texts", lambda study: {"locna": {3: "told 3"}})
    base = SimpleNamespace(queries={"pool": [1, 2, 3]})
    monkeypatch.setattr(stage2, "held_out_split", lambda *both: both)
    study = Study.of(MINI, seed=0, weights="wheel")
    assert stage2_data(study, base) == {
        "curated": ([1, 3], ["text 1", "text 3"]),
        "locna": ([3], ["told 3"]),
    }


@pytest.fixture
def release(tmp_path, monkeypatch, captions):
    write_coco_val(tmp_path / "coco", captions)
    write_questions(tmp_path)
    monkeypatch.setattr(studies, "DOWNLOADS", tmp_path)
    return Study.of(tiny_profile(300), seed=0, weights="wheel")


def test_published_questions_are_about_the_pictures_of_their_split(release):
    assert release.questioned == {"train": VAL, "val": VAL, "test": TEST}
    for name, graph in ((VAL, 4), (TEST, 4)):
        exam, split = release.exam(name), release.split(name)
        assert len(exam.choice) == 6 and len(exam.graph) == graph
        assert {place for place, _ in (*exam.choice, *exam.graph)} == set(range(len(split)))


def test_an_evaluation_reads_special_pictures_where_there_are_some(release):
    assert release.evaluated == ("val", "pool", *release.tests, VAL, TEST)
    drawn = Study.of(MINI, seed=0, weights="wheel").evaluated
    assert {"test_seen", "train", "notes_test"} < set(drawn) and "memes_val" not in drawn


def test_the_overview_shows_how_a_question_reaches_a_model(model):
    one = PromptedModel(model=model(), template=VICUNA)
    silent = PromptedModel(model=model(), template=CAPTION, wording=prompts.IMAGE)
    found = overview({"chat": one, "captions": silent})
    assert "QUESTION" in found["asked"][0] and "QUESTION" not in found["asked"][1]
    million = sum(weight.numel() for weight in one.model.language.parameters()) / 1e6
    assert found["its language model"].tolist() == [f"{million:.1f} million parameters"] * 2
