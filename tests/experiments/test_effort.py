"""Counted FLOPs: they are those of the products, and equal effort is equal."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_parts import kept, tiny_study
from torch import nn

from mglib.data.splits import Pairs, Split
from mglib.experiments import ablations, effort
from mglib.experiments.ablations import Parts
from mglib.model.language import Language
from mglib.weights.tensors import save_weights


@pytest.fixture
def study(tmp_path, monkeypatch, vision_config, pretrain_config):
    study = tiny_study(tmp_path, monkeypatch, vision_config)
    return replace_profile(study, pretrain=pretrain_config)


def replace_profile(study, **changes):
    other = replace(study, profile=replace(study.profile, **changes))
    other.__dict__.update(device=study.device, dtype=study.dtype, vision_state=study.vision_state)
    return other


@pytest.fixture
def base(tmp_path, captions, representation, model):
    """What is left of stage 1: BLIP-2's parts, eight pictures and their captions."""
    random = torch.Generator().manual_seed(1)
    tokens = kept(tmp_path / "tokens", list(torch.randn(8, 5, 64, generator=random)))
    hashes = tuple(map(str, range(len(captions))))
    split = Split(name="train", hashes=hashes, captions=tuple(captions), images=lambda: iter(()))
    writer = model()
    writer.requires_grad_(False)
    return SimpleNamespace(
        blip2=SimpleNamespace(
            language=writer.language, model=writer, representation=representation().requires_grad_(False)
        ),
        tokens={"train": tokens},
        splits={"train": split},
    )


@pytest.fixture
def parts(base, qformer, llama, tokenizer, tmp_path):
    reader, state = qformer().eval(), tmp_path / "qformer.safetensors"
    save_weights(state, dict(reader.named_parameters()), {})
    language = Language(model=llama(), tokenizer=tokenizer)
    split, tokens = base.splits["train"], base.tokens["train"]
    return Parts(qformer=reader, state=state, language=language, split=split, tokens=tokens)


class Line(nn.Module):
    """One product, behind another that is or is not trained."""

    def __init__(self, *, first_too: bool) -> None:
        super().__init__()
        self.first = nn.Linear(64, 32, bias=False).requires_grad_(first_too)
        self.second = nn.Linear(32, 8, bias=False)

    def forward(self, batch):
        return {"loss": self.second(self.first(batch["tokens"])).sum()}


@pytest.mark.parametrize("first_too", [False, True])
def test_flops_are_two_a_weight_forward_and_as_many_for_each_gradient(study, base, first_too):
    pairs, module = (
        Pairs("tokens", base.tokens["train"], base.splits["train"].captions),
        Line(first_too=first_too),
    )
    collate = pairs.collate(lambda captions: {})

    def floats(rows):
        return {name: value.float() for name, value in collate(rows).items()}

    rows, first, second = 3 * 5, 2 * 64 * 32, 2 * 32 * 8
    forward, weights = first + second, second + (first if first_too else 0)
    through = second if first_too else 0  # the first layer's gradient passes the second
    expected = rows * (forward + weights + through)
    assert effort.step_flops(study, module, pairs, floats, 3) == expected
    assert module.second.weight.grad is None


def test_pretraining_costs_what_its_steps_cost_and_leaves_the_models_alone(study, base):
    spent = effort.before_stage1(study, base)
    config = study.profile.pretrain
    none = replace(config, generative=replace(config.generative, steps=0))
    twice = replace(
        none, representation=replace(config.representation, steps=2 * config.representation.steps)
    )
    first = effort.before_stage1(replace_profile(study, pretrain=none), base)
    assert 0 < first < spent
    assert effort.before_stage1(replace_profile(study, pretrain=twice), base) == 2 * first
    for module in (base.blip2.representation, base.blip2.model):
        assert not any(weight.requires_grad or weight.grad is not None for weight in module.parameters())


def test_equal_steps_cost_what_base_and_pretraining_cost(study, base, parts):
    config = study.profile.ablation.train
    steps = effort.equal_steps(study, base, parts)
    cost = effort.arm_step(study, "no_qformer", parts, config)
    spent = effort.before_stage1(study, base) + config.steps * effort.arm_step(study, "base", parts, config)
    assert (steps - 1) * cost < spent <= steps * cost
    assert steps > config.steps


def test_an_arm_that_trains_more_costs_more(study, parts):
    config = study.profile.ablation.train
    cost = {name: effort.arm_step(study, name, parts, config) for name in ablations.ARMS}
    assert cost["qformer_tuned"] > cost["base"] and cost["three_layers"] > cost["base"]
