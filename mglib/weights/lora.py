"""Low-rank updates of the language model (LoRA, Hu et al. 2021): injected and collected."""

from copy import deepcopy

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from mglib.config import LoRAConfig
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4

MARK = ".lora_"  # in the names of the updates


def with_lora(model: MiniGPT4, config: LoRAConfig, *, seed: int) -> MiniGPT4:
    """Return a model that is the same at first and in which projection and low-rank updates are trained.

    The given model stays as it is: only frozen weights are shared with it. The updates are kept in float32.
    """
    shared = {id(weight): weight for weight in model.language.parameters()}
    shared[id(model.language.tokenizer)] = model.language.tokenizer
    language: Language = deepcopy(model.language, shared)
    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets), lora_dropout=0.0
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, language.model)
    for name, weight in language.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.float()
    model.qformer.requires_grad_(False)
    return model.sharing(projection=deepcopy(model.projection).requires_grad_(True), language=language)


def lora_weights(language: nn.Module) -> dict[str, nn.Parameter]:
    """Return the low-rank updates of a language model by name, empty if it has none."""
    return {name: weight for name, weight in language.named_parameters() if MARK in name}
