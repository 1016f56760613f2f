"""What trainings cost: the FLOPs of all products, counted on one step of each, forward and backward."""

from collections.abc import Callable
from copy import deepcopy
from math import ceil

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mglib.config import TrainConfig
from mglib.data.splits import Pairs
from mglib.experiments import ablations
from mglib.experiments.ablations import Parts
from mglib.model import prompts
from mglib.model.blip2 import KEYWORDS, text_batch
from mglib.study import stages
from mglib.study.lineage import Stage1
from mglib.study.study import Study


def step_flops(study: Study, module: nn.Module, pairs: Pairs, collate: Callable, size: int) -> int:
    """Count one step on the first pairs; what `module` holds as trained decides what the backward pass is."""
    batch = {
        name: value.to(study.device) for name, value in collate([pairs[row] for row in range(size)]).items()
    }
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        torch.manual_seed(study.seed)
        module(batch)["loss"].backward()
    module.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def before_stage1(study: Study, base: Stage1) -> int:
    """Count what the base's Q-Former cost before stage 1: both steps of BLIP-2, all their batches.

    The caption LM's own training is not in it: it reads no pictures, and stands for a LM that is given.
    """
    config, blip2 = study.profile.pretrain, base.blip2
    tokenizer = blip2.language.tokenizer
    pairs = Pairs("tokens", base.tokens["train"], base.splits["train"].captions)
    represent = deepcopy(blip2.representation).requires_grad_(True)
    write = deepcopy(blip2.model)
    for part in (write.qformer, write.projection):
        part.requires_grad_(True)
    slots, longest = write.qformer.config.queries, config.generative.max_answer
    layouts = (
        lambda captions: text_batch(tokenizer, captions, config.max_text),
        stages.picture_layout(blip2.language, KEYWORDS, slots, longest),
    )
    total = 0
    for module, layout, run in zip(
        (represent, write), layouts, (config.representation, config.generative), strict=True
    ):
        total += run.steps * step_flops(study, module, pairs, pairs.collate(layout), run.batch_size)
    return total


def arm_step(study: Study, name: str, parts: Parts, config: TrainConfig) -> int:
    """Count one step of an arm of the ablation."""
    model = ablations.untrained(study, name, parts)
    pairs = Pairs("tokens", parts.tokens, parts.split.captions)
    slots = model.qformer.config.queries
    layout = stages.picture_layout(parts.language, prompts.CAPTION, slots, config.max_answer)
    return step_flops(study, model, pairs, pairs.collate(layout), config.batch_size)


def equal_steps(study: Study, base: Stage1, parts: Parts) -> int:
    """Return after how many steps the arm without a Q-Former has cost what the base and its Q-Former have."""
    config = study.profile.ablation.train
    spent = before_stage1(study, base) + config.steps * arm_step(study, "base", parts, config)
    return ceil(spent / arm_step(study, "no_qformer", parts, config))
