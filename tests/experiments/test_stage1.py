"""What notebook 02 measures around stage 1."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_parts import SHORT, kept, tiny_study
from tiny_texts import split_of

from mglib.config import EvalConfig, Stage1Trial
from mglib.evals import generate
from mglib.experiments import stage1
from mglib.mentions import Vocabulary
from mglib.metrics import Counts
from mglib.model import device
from mglib.model.prompts import tokenize
from mglib.study.stage1 import train_stage1
from mglib.study.study import Study


@pytest.fixture
def base(language, captions):
    return SimpleNamespace(language=language, splits={"val": SimpleNamespace(captions=tuple(captions))})


@pytest.fixture
def study(train_config):
    profile = SimpleNamespace(qformer=SimpleNamespace(queries=3), stage1=train_config(max_answer=20))
    return SimpleNamespace(profile=profile)


def test_what_is_the_same_in_all_pictures_is_found():
    same = torch.randn(1, 4, 8).expand(50, -1, -1)
    own = torch.randn(50, 4, 8, generator=torch.Generator().manual_seed(0))
    for queries, share in ((same, 1), (own, 0)):
        base = SimpleNamespace(
            queries={"val": SimpleNamespace(batch=lambda rows, kept=queries: kept)}, splits={"val": range(50)}
        )
        assert stage1.shared_by_pictures(None, base)["value"][0] == pytest.approx(share, abs=0.05)


def test_the_layout_is_bos_the_queries_the_caption_and_its_end(study, base, tokenizer, captions):
    table = stage1.layout(study, base)
    token, label = table["token read"], table["label (counts in the loss)"]
    assert list(token[:4]) == ["'[BOS]'", "(visual)", "(visual)", "(visual)"]
    words = len(tokenize(tokenizer, captions[0]))
    assert list(label != "-") == [False] * 4 + [True] * (words + 1)
    assert label.iloc[-1] == repr("\n")


def test_losses_are_listed_by_the_step_of_their_weights(monkeypatch):
    monkeypatch.setattr(stage1, "kept", lambda folder: [folder])
    monkeypatch.setattr(stage1, "restore", lambda model, state: {"step": 1200})
    when = list(stage1.along(None, SimpleNamespace(folder="stage1")))
    assert when == ["at the start", "after 1,200 steps"]
    losses = dict(zip(when, (Counts([5.0] * 8, [1.0] * 8), Counts([0], [0])), strict=True))
    start, end = stage1.loss_table(losses).to_dict("records")
    assert list(start.values()) == ["at the start", 5.0, 5.0, 5.0, 8]
    assert end["weights"] == "after 1,200 steps" and math.isnan(end["to"])


# --- Trials ---


@pytest.fixture
def tried(tmp_path, monkeypatch, vision_config, captions):
    """A study that compares its own stage 1 with another start and with a longer run at another rate."""
    monkeypatch.setattr(device, "pick", lambda: torch.device("cpu"))
    monkeypatch.setattr(device, "frozen_dtype", lambda device: torch.float32)
    trials = (
        Stage1Trial(warm_start=0.1, lr=SHORT.lr, steps=SHORT.steps),
        Stage1Trial(warm_start=None, lr=SHORT.lr, steps=SHORT.steps),
        Stage1Trial(warm_start=0.1, lr=1e-3, steps=2 * SHORT.steps),
    )
    few = EvalConfig(batch_size=4, max_new_tokens=6, fault_pictures=3, long_tokens=6)
    monkeypatch.setattr(Study, "vocabulary", lambda self: Vocabulary({"dog": ["dog", "dogs"]}))
    monkeypatch.setattr(stage1.abilities, "as_minigpt4", lambda *_: {"items": 0.5})
    changes = {"warm_start": 0.1, "stage1_trials": trials, "evaluation": few}
    return tiny_study(tmp_path, monkeypatch, vision_config, **changes)


@pytest.fixture
def parts(tmp_path, captions, model):
    """Return the results of stage 1 that its trials read."""
    whole = model()
    rows = list(torch.randn(8, 3, 32, generator=torch.Generator().manual_seed(1)))
    objects = tuple(frozenset({"dog"}) if "dog" in caption else frozenset() for caption in captions)
    split = split_of("train", captions, objects=objects)
    return SimpleNamespace(
        model=whole,
        language=whole.language,
        splits={"train": split, "val": split},
        queries=dict.fromkeys(("train", "val"), kept(tmp_path / "queries", rows)),
    )


def test_each_trial_is_a_whole_run_and_the_best_and_the_profiles_are_repeated(
    tried, parts, tmp_path, monkeypatch
):
    scores = iter([0.3, 0.1, 0.2, 0.4, 0.4, 0.4, 0.4])
    seen_on_val = stage1.seen_on_val

    def seen(*given):
        return {**seen_on_val(*given), "chair_i": next(scores)}

    monkeypatch.setattr(stage1, "seen_on_val", seen)
    table = stage1.trials(tried, parts)
    assert table["start"].tolist() == ["0.1", "random", "0.1", *["0.1", "random"] * 2]
    assert table["steps"].tolist() == [6, 6, 12, 6, 6, 6, 6]
    assert table["lr"].tolist() == [1e-2, 1e-2, 1e-3, *[1e-2] * 4]
    assert table["seed"].tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert table["loss"].nunique() == 7
    folders = set((tmp_path / "trained").glob("stage1-*"))
    assert len(folders) == 7
    frozen = parts.model.qformer, parts.language, parts.splits["train"], parts.queries["train"]
    for study in (tried, replace(tried, seed=1)):
        own, trained = train_stage1(study, *frozen)
        assert set((tmp_path / "trained").glob("stage1-*")) == folders and trained.log[-1]["step"] == 6
        assert table["loss"][table["seed"] == study.seed].iloc[0] == seen_on_val(tried, parts, own)["loss"]
    assert list(table) == ["start", "lr", "steps", "seed", *seen_on_val(tried, parts, own)]


@pytest.mark.parametrize(
    ("scores", "again"),
    [([0.1, 0.3, 0.2], [0, 2]), ([0.3, 0.1, 0.2], [0, 1]), ([0.1, None, None], [0])],
)
def test_the_profiles_choice_is_compared_with_the_best_other_one(scores, again, tried, parts, monkeypatch):
    given = dict(zip(tried.profile.stage1_trials, scores, strict=True))
    made = []

    def evaluated(study, base, one):
        made.append((study.seed, list(given).index(one)))
        return {"chair_i": given[one]}

    monkeypatch.setattr(stage1, "evaluated", evaluated)
    stage1.trials(tried, parts)
    assert made == [
        *((0, place) for place in range(3)),
        *((seed, place) for seed in (1, 2) for place in again),
    ]


def test_a_finished_training_is_found_where_its_start_is_rounded_otherwise(tried, parts):
    rows = parts.queries["train"]
    other = [row * 1.01 for row in rows]  # as another processor would have computed them
    split, frozen = parts.splits["train"], (parts.model.qformer, parts.language)
    (model, trained), (again, found) = (train_stage1(tried, *frozen, split, seen) for seen in (rows, other))
    assert trained.folder == found.folder
    assert model.projection.weight.equal(again.projection.weight)


def test_a_trial_changes_start_rate_and_length_alone(tried):
    own, random, longer = (stage1.of_trial(tried, one) for one in tried.profile.stage1_trials)
    assert own is tried
    assert random.profile.warm_start is None and random.profile.stage1.keep == (1.0,)
    run = longer.profile.stage1
    assert (run.lr, run.min_lr, run.steps, run.warmup_steps) == (1e-3, 1e-4, 12, 4)
    same = replace(run, lr=SHORT.lr, min_lr=SHORT.min_lr, steps=SHORT.steps, warmup_steps=2, keep=SHORT.keep)
    assert same == SHORT


def test_what_is_seen_on_val_counts_objects(tried, parts, monkeypatch):
    """Every caption names a dog, whether there is one or not; descriptions name nothing."""
    said = iter([["a dog"] * 8, ["nothing"] * 3])
    monkeypatch.setattr(generate, "answers", lambda *given, **how: next(said))
    seen = stage1.seen_on_val(tried, parts, parts.model)
    assert seen["chair_i"] == 6 / 8 == 1 - seen["mention_precision"] and seen["n"] == 8
    assert seen["mention_recall"] == 1 and seen["description_chair_i"] is None
