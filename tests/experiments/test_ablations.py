"""The arms of the ablation: each trains what it says, at its own rate, and reads every picture."""

from dataclasses import replace

import pytest
import torch
from tiny_parts import kept, tiny_study
from torch import nn

from mglib import profiles
from mglib.config import ConcatConfig
from mglib.data.splits import Split
from mglib.experiments import ablations
from mglib.experiments.ablations import ARMS, Parts, Slowly, ThreeLinear
from mglib.model.decoding import answer, greedy
from mglib.model.language import Language
from mglib.model.prompts import CAPTION, IMAGE
from mglib.training.checkpoint import trainable

arms = pytest.mark.parametrize("name", ARMS)


@pytest.fixture
def study(tmp_path, monkeypatch, vision_config):
    return tiny_study(tmp_path, monkeypatch, vision_config)


@pytest.fixture
def tokens(tmp_path):
    """Vision tokens of eight pictures: CLS and four patches, 64 wide."""
    random = torch.Generator().manual_seed(1)  # 0 would draw what the projection is drawn from
    return kept(tmp_path / "tokens", list(torch.randn(8, 5, 64, generator=random)))


@pytest.fixture
def split(captions):
    hashes = tuple(map(str, range(len(captions))))
    return Split(name="train", hashes=hashes, captions=tuple(captions), images=lambda: iter(()))


@pytest.fixture
def parts(qformer, llama, tokenizer, split, tokens, tmp_path):
    reader = qformer().eval()
    language = Language(model=llama(), tokenizer=tokenizer)
    return Parts(qformer=reader, language=language, split=split, tokens=tokens)


TRAINED = {
    "base": {"projection.weight", "projection.bias"},
    "no_qformer": {"projection.weight", "projection.bias"},
    "three_layers": {f"projection.{n}.{part}" for n in range(3) for part in ("weight", "bias")},
}


@arms
def test_an_arm_trains_what_it_says(study, parts, name):
    trained = set(trainable(ablations.untrained(study, name, parts)))
    if name == "qformer_tuned":
        assert {one for one in trained if not one.startswith("qformer.offsets.")} == TRAINED["base"]
        assert len(trained) == 2 + len(list(parts.qformer.parameters()))
    else:
        assert trained == TRAINED[name]


@arms
def test_an_arm_learns_and_then_answers_about_every_picture(study, parts, tokens, split, name):
    config = replace(study.profile.ablation.train, steps=30, muon=True)
    model, trained = ablations.arm(study, name, parts, config)
    assert trained.log[-1]["loss"] < 0.8 * trained.log[0]["loss"]
    assert trainable(model) == {}
    read = ablations.queries(model, tokens, batch_size=3)
    assert len(read) == 8 and read[0].shape[0] == model.qformer.config.queries
    said = answer(model, {"queries": torch.stack(read)}, CAPTION, [IMAGE] * 8, greedy(4))
    assert len(said) == 8


@arms
def test_visual_tokens_begin_with_the_spread_of_words(study, parts, name):
    model = ablations.untrained(study, name, parts)
    with torch.no_grad():
        visual = model.projection(torch.stack(ablations.queries(model, parts.tokens)))
    words = parts.language.model.get_input_embeddings().weight
    assert visual.std().item() == pytest.approx(words.std().item(), rel=0.25)


def test_the_shared_q_former_is_as_it_was_after_all_arms(study, parts):
    before = {name: weight.clone() for name, weight in parts.qformer.named_parameters()}
    config = replace(study.profile.ablation.train, steps=2, warmup_steps=1)
    for name in ARMS:
        ablations.arm(study, name, parts, config)
    assert all(torch.equal(before[name], weight) for name, weight in parts.qformer.named_parameters())


def test_the_tuned_q_former_has_moved_and_is_a_plain_one_again(study, parts, tokens):
    model, _ = ablations.arm(study, "qformer_tuned", parts, study.profile.ablation.train)
    assert type(model.qformer) is type(parts.qformer)
    read, before = torch.stack(ablations.queries(model, tokens)), parts.qformer(tokens.batch(range(8)))
    assert not torch.allclose(read, before, atol=1e-4)


def test_an_arm_that_is_done_is_loaded_and_the_same(study, parts, tokens):
    first, trained = ablations.arm(study, "qformer_tuned", parts, study.profile.ablation.train)
    again, same = ablations.arm(study, "qformer_tuned", parts, study.profile.ablation.train)
    assert same == trained
    for one, other in zip(ablations.queries(first, tokens), ablations.queries(again, tokens), strict=True):
        assert torch.equal(one, other)


def test_an_unknown_arm_is_met_by_the_known_ones(study, parts):
    with pytest.raises(ValueError, match=r"Unknown arm 'four'.*no_qformer"):
        ablations.untrained(study, "four", parts)


def test_without_a_q_former_channels_are_standardised_and_the_class_token_is_not_seen(study, parts, tokens):
    model = ablations.untrained(study, "no_qformer", parts)
    some = tokens.batch(range(8)).float()
    seen = model.qformer.ln_vision(some).flatten(0, 1)
    assert torch.allclose(seen.std(0), torch.ones(64), atol=1e-3) and seen.mean(0).abs().max() < 1e-4
    other = some.clone()
    other[:, 0] += 1
    assert torch.equal(model.qformer(some), model.qformer(other))


def test_mini_has_sixteen_visual_tokens_without_a_q_former():
    vision = profiles.MINI.vision
    config = ConcatConfig(tokens=vision.tokens, vision_width=vision.width)
    assert (config.queries, config.width) == (16, 4 * 384)


def test_three_layers_are_linear(random):
    three = ThreeLinear.behind(nn.Linear(6, 8), seed=0)
    a, b = torch.randn(2, 6, generator=random)
    assert torch.allclose(three(a + b) + three(torch.zeros(6)), three(a) + three(b), atol=1e-5)
    assert sum(isinstance(layer, nn.Linear) for layer in three) == len(three) == 3


class Part(nn.Linear):
    config = None


def test_a_slow_part_moves_a_share_as_far_as_a_free_one(random):
    inputs = torch.randn(4, 5, generator=random)
    free, held = Part(5, 3), Part(5, 3)
    held.load_state_dict(free.state_dict())
    start, slow = free.weight.detach().clone(), Slowly(held, share=0.1)
    for module in (free, slow):
        optimizer = torch.optim.AdamW(
            [p for p in module.parameters() if p.requires_grad], lr=0.01, weight_decay=0
        )
        module(inputs).pow(2).sum().backward()
        optimizer.step()
    moved, slowly = free.weight.detach() - start, slow.merged().weight - start
    assert torch.allclose(slowly, 0.1 * moved, atol=1e-6) and moved.abs().min() > 0.009


def test_a_slow_part_starts_as_it_was_pretrained(qformer, random):
    part, tokens = qformer().eval(), torch.randn(2, 5, 64, generator=random)
    expected = part(tokens)
    assert torch.equal(Slowly(part, share=0.1)(tokens), expected)


def test_each_rate_of_the_grid_is_tried_on_val(study, parts, split, tokens):
    tried = ablations.grid(study, "base", parts, split, tokens)
    assert set(tried) == {1e-3, 1e-2} and all(estimate.n == 8 for estimate in tried.values())


def test_an_arm_has_the_common_settings_or_a_rate_of_its_own(study):
    config = replace(study.profile.ablation, lrs=(("no_qformer", 5e-3),))
    own = ablations.settings(config, "no_qformer")
    assert (own.steps, own.lr, own.min_lr) == (6, 5e-3, 5e-4)
    assert ablations.settings(config, "base") is config.train


def test_a_trial_is_the_whole_schedule_in_small(study):
    config = replace(study.profile.ablation.train, steps=100, warmup_steps=10)
    short = ablations.trial(config, 5e-3, 20)
    assert (short.steps, short.warmup_steps, short.lr, short.min_lr) == (20, 2, 5e-3, 5e-4)
