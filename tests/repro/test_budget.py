"""What a run is said to cost: every notebook, in proportion to the work, and counted as it is done."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mglib.profiles import MINI, SMOKE, VICUNA_7B
from mglib.repro import budget, tuning
from mglib.study.flops import Sizes
from mglib.study.machine import Machine
from mglib.training.muon import Muon, newton_schulz_flops

CPU = Machine(processor="a CPU", threads=2, gflops={"float32": 100.0, "bfloat16": 1.0}, dtype="float32")


def test_every_notebook_has_its_share_and_every_kind_a_rate():
    parts = budget.parts(MINI)
    assert {part.notebook for part in parts} == {"01", "02", "03", "04", "05", "06"}
    assert {part.kind for part in parts} == set(budget.SHARES)
    assert all(part.flops > 0 for part in parts)


def test_twice_the_steps_cost_twice_as_much():
    longer = replace(MINI, stage1=replace(MINI.stage1, steps=2 * MINI.stage1.steps))
    known, found = (
        {part.what: part.flops for part in budget.parts(profile) if part.notebook == "02"}
        for profile in (MINI, longer)
    )
    assert found.pop("stage 1") == 2 * known.pop("stage 1")
    assert found == known


def test_grids_are_no_part_of_the_notebooks_and_cost_what_is_tried():
    wider = replace(MINI, stage2_rates=MINI.stage2_rates * 2, stage1_trials=MINI.stage1_trials * 2)
    assert budget.parts(wider) == budget.parts(MINI)
    names = tuning.compared(MINI)
    known, found = ({part.what: part.flops for part in budget.tuning(p, names)} for p in (MINI, wider))
    assert {what.partition(":")[0] for what in known} == set(names) and min(known.values()) > 0
    twice = {what for what, flops in found.items() if flops == pytest.approx(2 * known[what])}
    assert twice == {what for what in known if what.startswith(("stage1:", "stage2:"))}
    assert budget.tuning(MINI, ["arms"]) == [
        part for part in budget.tuning(MINI, names) if part.what.startswith("arms:")
    ]


def test_a_machine_of_twice_the_speed_takes_half_the_time_for_products():
    fast = replace(CPU, gflops={"float32": 200.0})
    slow, quick = (budget.seconds(budget.parts(MINI), machine) for machine in (CPU, fast))
    assert slow == pytest.approx(2 * quick)


def test_the_precision_in_use_decides():
    assert CPU.ceiling == 100.0
    assert replace(CPU, dtype="bfloat16").ceiling == 1.0
    assert "float32 is used" in str(CPU) and "bfloat16 1 GFLOP/s" in str(CPU)


def test_smoke_is_a_small_part_of_mini():
    smoke, mini = (sum(part.flops for part in budget.parts(profile)) for profile in (SMOKE, MINI))
    assert smoke < mini / 20


def test_without_a_small_world_nothing_is_said():
    assert budget.parts(VICUNA_7B) == [] and budget.expected(VICUNA_7B, CPU) == {}


def test_reading_and_learning_are_counted_as_torch_counts_them(model):
    tiny = model()
    head = tiny.language.model.get_input_embeddings().weight.numel()
    body = sum(
        part.weight.numel()
        for part in tiny.language.model.get_decoder().modules()
        if isinstance(part, nn.Linear)
    )
    sizes = Sizes(picture=0, look=0, queries=3, body=body, head=head, writer=0, writer_head=0, muon=0)
    embeddings = torch.randn(2, 13, 48, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        hidden = tiny.language(embeddings, torch.ones(2, 13, dtype=torch.bool))
        forward = counter.get_total_flops()
        tiny.language.logits(hidden[:, :4]).sum().backward()
    assert forward == sizes.read(2, 10, 0)  # the counter knows no fused attention either
    assert counter.get_total_flops() == sizes.learn(2, 10, 4)


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_muons_products_are_counted_as_torch_counts_them(shape):
    weight = nn.Parameter(torch.ones(shape))
    weight.grad = torch.ones(shape)
    with FlopCounterMode(display=False) as counter:
        Muon([weight], lr=0.1, weight_decay=0.0, dtype=torch.float32).step()
    assert counter.get_total_flops() == newton_schulz_flops(*shape)
