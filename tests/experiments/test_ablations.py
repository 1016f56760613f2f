"""The arms of the ablation: each trains what it says, at its own rate, and reads every picture; and what
fewer steps of stage 1 cover.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tidy import values
from tiny_parts import SHORT, another, kept, tiny_study
from tiny_texts import split_of
from torch import nn

from mglib.config import AblationConfig
from mglib.experiments import ablations
from mglib.experiments.ablations import ARMS, Slowly
from mglib.model.decoding import answer, greedy
from mglib.model.prompts import CAPTION, IMAGE
from mglib.study.study import Study
from mglib.training.checkpoint import trainable
from mglib.weights.tensors import save_weights

arms = pytest.mark.parametrize("name", ARMS)


@pytest.fixture
def study(tmp_path, monkeypatch, vision_config):
    return tiny_study(tmp_path, monkeypatch, vision_config)


def with_ablation(study, config):
    return another(study, profile=replace(study.profile, ablation=config))


@pytest.fixture
def tokens(tmp_path):
    """Vision tokens of eight pictures: CLS and four patches, 64 wide."""
    random = torch.Generator().manual_seed(1)  # 0 would repeat the projection's draws
    return kept(tmp_path / "tokens", list(torch.randn(8, 5, 64, generator=random)))


@pytest.fixture
def base(language, captions, tokens, model):
    split = split_of("train", captions)
    names = ("train", "val", "test_seen")
    whole = model()
    return SimpleNamespace(
        model=whole,
        language=language,
        splits=dict.fromkeys(names, split),
        tokens=dict.fromkeys(names, tokens),
        queries={"train": list(whole.qformer(torch.stack(list(tokens))).detach())},
        trained=SimpleNamespace(log=[{"lr": SHORT.min_lr}]),
    )


TRAINED = {
    "base": {"projection.weight", "projection.bias"},
    "no_qformer": {"projection.weight", "projection.bias"},
    "three_layers": {f"projection.{n}.{part}" for n in range(3) for part in ("weight", "bias")},
}


@arms
def test_an_arm_trains_what_it_says_and_begins_with_the_spread_of_words(study, base, name):
    model = ablations.init_arm(study, name, base)
    trained = set(trainable(model))
    if name == "qformer_tuned":
        assert {one for one in trained if not one.startswith("qformer.offsets.")} == TRAINED["base"]
        assert len(trained) == 2 + len(list(base.model.qformer.parameters()))
    else:
        assert trained == TRAINED[name]
    with torch.no_grad():
        visual = model.projection(torch.stack(ablations.queries(model.qformer, base.tokens["train"])))
    words = base.language.model.get_input_embeddings().weight
    assert visual.std().item() == pytest.approx(words.std().item(), rel=0.25)


@arms
def test_an_arm_learns_and_then_answers_about_every_picture(study, base, tokens, name):
    before = {key: weight.clone() for key, weight in base.model.qformer.named_parameters()}
    config = replace(study.profile.stage1, steps=30, muon=True)
    model, trained = ablations.train_arm(study, name, base, config)
    assert trained.log[-1]["loss"] < 0.8 * trained.log[0]["loss"]
    assert trainable(model) == {}
    read = ablations.queries(model.qformer, tokens, batch_size=3)
    assert len(read) == 8 and read[0].shape[0] == model.qformer.config.queries
    said = answer(model, {"queries": torch.stack(read)}, CAPTION, [IMAGE] * 8, greedy(4))
    assert len(said) == 8
    # The Q-Former that all arms share has not changed.
    assert all(torch.equal(before[key], weight) for key, weight in base.model.qformer.named_parameters())


def test_the_tuned_q_former_has_moved_is_a_plain_one_again_and_is_loaded_when_done(study, base, tokens):
    config = study.profile.stage1
    (model, trained), (again, same) = (
        ablations.train_arm(study, "qformer_tuned", base, config) for _ in range(2)
    )
    assert type(model.qformer) is type(base.model.qformer) and same == trained
    read, before = (
        torch.stack(ablations.queries(model.qformer, tokens)),
        base.model.qformer(tokens.batch(range(8))),
    )
    assert not torch.allclose(read, before, atol=1e-4)
    assert torch.equal(read, torch.stack(ablations.queries(again.qformer, tokens)))


def test_without_a_q_former_channels_are_standardised_and_the_class_token_is_not_seen(study, base, tokens):
    model = ablations.init_arm(study, "no_qformer", base)
    some = tokens.batch(range(8)).float()
    seen = model.qformer.ln_vision(some).flatten(0, 1)
    assert torch.allclose(seen.std(0), torch.ones(64), atol=1e-3) and seen.mean(0).abs().max() < 1e-4
    other = some.clone()
    other[:, 0] += 1
    assert torch.equal(model.qformer(some), model.qformer(other))


class Part(nn.Linear):
    config = None


def test_a_slow_part_starts_as_it_was_and_moves_a_share_as_far_as_a_free_one(random):
    inputs = torch.randn(4, 5, generator=random)
    free, held = Part(5, 3), Part(5, 3)
    held.load_state_dict(free.state_dict())
    start, slow = free.weight.detach().clone(), Slowly(held, share=0.1)
    assert torch.equal(slow(inputs), free(inputs))
    for module in (free, slow):
        optimizer = torch.optim.AdamW(
            [p for p in module.parameters() if p.requires_grad], lr=0.01, weight_decay=0
        )
        module(inputs).pow(2).sum().backward()
        optimizer.step()
    moved, slowly = free.weight.detach() - start, slow.merged().weight - start
    assert torch.allclose(slowly, 0.1 * moved, atol=1e-6) and moved.abs().min() > 0.009


def test_every_arm_is_trained_at_its_own_rate_or_the_common_one_or_not_at_all(study, base):
    assert ablations.arms(with_ablation(study, None), base) == ({"base": base.model}, {})
    study = with_ablation(study, replace(study.profile.ablation, lrs=(("three_layers", 1e-3),)))
    models, logs = ablations.arms(study, base)
    assert list(models) == list(logs) == list(ARMS) and models["base"] is base.model
    last = {name: log[-1]["lr"] for name, log in logs.items()}
    assert last["three_layers"] == pytest.approx(0.1 * last["no_qformer"])
    assert last["no_qformer"] == last["qformer_tuned"]
    said = ablations.captions(study, base, models, 3)
    assert {len(texts) for texts in said.values()} == {3}


def test_every_arm_is_tried_at_each_rate_on_val(study, base):
    study = with_ablation(study, AblationConfig(rates=(1e-9, 1e-2), rate_steps=3))
    tried = ablations.rates(study, base)
    assert list(tried) == ["arm", "lr", "steps", "loss", "low", "high", "n"]
    assert tried["arm"].tolist() == [name for name in ARMS[1:] for _ in range(2)]
    assert set(tried["steps"]) == {3} and set(tried["n"]) == {8}
    best = tried.loc[tried.groupby("arm")["loss"].idxmin()]
    assert best["lr"].tolist() == [1e-2] * 3


def test_each_kept_part_of_stage_1_captions_by_itself_and_is_compared_with_the_whole(
    study, base, monkeypatch, tmp_path, captions
):
    folder, model = tmp_path / "stage1", base.model
    for step in (3, 6):
        weights = {f"projection.{n}": step * w.detach() for n, w in model.projection.named_parameters()}
        save_weights(folder / f"step-{step:06d}.safetensors", weights, {"step": step})
    shown = list(torch.randn(8, 3, 32, generator=torch.Generator().manual_seed(2)))
    base.queries, base.trained = {"test_seen": shown}, SimpleNamespace(folder=folder)
    base.splits["test_seen"] = replace(base.splits["test_seen"], references=tuple((c,) for c in captions))
    texts = {"50": "a dog", "100": "two dogs run"}
    said = iter([text] * len(captions) for text in texts.values())
    drawn = []

    def caption(study, model, queries, what):
        drawn.append(model.projection.weight.clone())
        return next(said)

    monkeypatch.setattr(ablations.stage1, "captions", caption)
    monkeypatch.setattr(Study, "judge", lambda study, split: lambda answer, text: answer == texts["100"])
    found, rest = ablations.saturation(study, base)
    assert torch.allclose(2 * drawn[0], drawn[1])
    assert values(found) == {
        "t8.references_covered.50": 0, "t8.words.50": 2, "t8.references_covered.100": 1, "t8.words.100": 3,
    }  # fmt: skip
    names = [f"t8.references_covered.{name}" for name in ("gained_from_50", "quarter_minus_gain")]
    assert list(values(rest).items()) == list(zip(names, (1, -1), strict=True))
    monkeypatch.setattr(Study, "judge", lambda study, split: None)
    assert all(one.empty for one in ablations.saturation(study, base))
