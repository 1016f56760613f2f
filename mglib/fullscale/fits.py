"""What fits a small machine: a profile's bytes part by part, and in how many bits its language model can be
held for talking and for both stages.

Weights, cache and activations are counted on the modules on torch's meta device, as in
`mglib.fullscale.plan`. Unmeasured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from transformers import DynamicCache
from transformers.pytorch_utils import Conv1D

from mglib.config import Profile, TrainConfig
from mglib.model import device
from mglib.model.decoding import Decoding
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.paper_profiles import STAGE2_AS_WRITTEN
from mglib.study.flops import PROMPT, Cost, build, stage_cost
from mglib.study.machine import processor

FEWER = (8, 4)  # bits, by bitsandbytes
BLOCK = 64  # weights that share a scale in 4 bits


@dataclass(frozen=True, kw_only=True)
class Room:
    """The memory of one machine that tensors may fill."""

    name: str
    memory: float  # bytes
    share: float  # of it that is left to tensors
    width: int  # bytes of a frozen weight that is not quantised (`mglib.model.device.frozen_dtype`)

    @property
    def usable(self) -> float:
        return self.share * self.memory


def card(gigabytes: float) -> Room:
    """Return a card of NVIDIA's, of which context and allocator take a tenth."""
    return Room(name=f"card, {gigabytes:g} GB", memory=gigabytes * 1e9, share=0.9, width=2)


def apple(gigabytes: float) -> Room:
    """Return a machine of Apple's, whose GPU may take about two thirds of the common memory (Metal's
    `recommendedMaxWorkingSetSize`; larger machines allow three quarters).
    """
    return Room(name=f"Apple, {gigabytes:g} GB", memory=gigabytes * 1e9, share=2 / 3, width=4)


ROOMS = (*map(card, (8, 12, 16, 24, 48, 80)), *map(apple, (16, 32, 64)))


def here() -> Room | None:
    """Return this machine's GPU; None where there is none."""
    found = device.pick()
    if found.type == "cuda":
        memory, share = torch.cuda.get_device_properties(found).total_memory, 0.9
    elif found.type == "mps":
        memory, share = torch.mps.recommended_max_memory(), 1.0
    else:
        return None
    width = device.frozen_dtype(found).itemsize
    return Room(name=f"here, {processor(found)}", memory=memory, share=share, width=width)


# --- bytes ---


def language_bytes(language: Language, bits: int, width: int) -> float:
    """Return the bytes of a language model's weights in so many bits.

    With 8 or 4 of them the matrices of its blocks are quantised, with their scales; embeddings, head, norms
    and biases keep `width` bytes, as transformers has it.
    """
    fewer, held = {id(weight) for weight in matrices(language)}, 0.0
    for weight in language.parameters():
        if bits in FEWER and id(weight) in fewer:
            scales = len(weight) if bits == 8 else weight.numel() / BLOCK
            held += weight.numel() * bits / 8 + 4 * scales
        else:
            held += weight.numel() * width
    return held


def matrices(language: Language) -> list[nn.Parameter]:
    """Return the weights that bitsandbytes takes on: every matrix but the embeddings and the head."""
    head = language.model.get_output_embeddings()
    kinds = (nn.Linear, Conv1D)
    return [part.weight for part in language.modules() if isinstance(part, kinds) and part is not head]


def conversation(language: Language, positions: int) -> DynamicCache:
    """Return the keys and values of one conversation of so many positions, without memory."""
    kept = DynamicCache(config=language.model.config)
    with torch.device("meta"), torch.no_grad():
        language.model.get_decoder()(
            inputs_embeds=language.embed(torch.empty(1, positions, dtype=torch.long)),
            attention_mask=torch.empty(1, 1, positions, positions, dtype=torch.bool),
            past_key_values=kept,
            use_cache=True,
        )
    return kept


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The bytes of a profile's model on a machine, and of what it holds beside its weights."""

    vision: float
    qformer: float
    projection: float
    language: float
    cache: float  # of one conversation of the official length
    working: float  # what a pass holds at once
    first: float  # what the backward pass needs of a pair of stage 1
    second: float  # and of a pair of stage 2

    @property
    def weights(self) -> float:
        return self.vision + self.qformer + self.projection + self.language

    @property
    def talking(self) -> float:
        """One conversation."""
        return self.weights + self.cache + self.working

    def training(self, held: float, samples: int) -> float:
        """A step on so many pairs at once: the projection has a gradient and AdamW's two moments."""
        return self.weights + 3 * self.projection + self.working + held * samples


@cache
def costs(chosen: Profile) -> tuple[MiniGPT4, Cost, Cost, DynamicCache]:
    """Return a profile's model, what a pair of each stage costs, and a conversation's keys and values."""
    model = build(chosen)
    positions = chosen.qformer.queries + PROMPT + Decoding.max_new_tokens
    first = stage_cost(model, chosen, chosen.stage1)
    second = stage_cost(model, chosen, STAGE2_AS_WRITTEN, prompt=PROMPT)
    return model, first, second, conversation(model.language, positions)


def parts(chosen: Profile, bits: int, width: int) -> Parts:
    """Count a profile's parts: Q-Former and projection are in float32, the rest has `width` bytes."""
    model, first, second, kept = costs(chosen)
    blocks, largest = len(kept.layers), max(weight.numel() for weight in matrices(model.language))
    return Parts(
        vision=width * sum(weight.numel() for weight in model.vision.parameters()),
        qformer=4 * sum(weight.numel() for weight in model.qformer.parameters()),
        projection=4 * sum(weight.numel() for weight in model.projection.parameters()),
        language=language_bytes(model.language, bits, width),
        cache=width * sum(layer.keys.numel() + layer.values.numel() for layer in kept.layers),
        # A pass holds about two blocks at a time, and a quantised matrix is unpacked where it is used.
        working=2 * second.activations / blocks * width / 2 + (width * largest if bits in FEWER else 0),
        first=first.activations * width / 2,
        second=second.activations * width / 2,
    )


# --- what fits ---


def fewest_parts(
    fixed: float, sample: float, config: TrainConfig, room: float, *, gpus: int = 1
) -> int | None:
    """Return the fewest parts (`accumulate`) of a step that fit beside `fixed` bytes; None if one sample does
    not.
    """
    for number in range(1, config.batch_size // gpus + 1):
        samples, rest = divmod(config.batch_size, gpus * number)
        if not rest and fixed + sample * samples <= room:
            return number
    return None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a task fits a machine."""

    bits: int
    held: float  # bytes
    accumulate: int = 1

    def __str__(self) -> str:
        told = f"{self.bits} bits, {self.held / 1e9:.1f} GB"
        return told if self.accumulate == 1 else f"{told}, ACCUMULATE={self.accumulate}"


def named_bits(chosen: Profile) -> int | None:
    """Return the bits in which a profile's language model is held; None: as many as can be."""
    named = chosen.release and chosen.release.quantised
    return int(named.removesuffix("bit")) if named else None


def fitting(chosen: Profile, room: Room) -> dict[str, Fit | None]:
    """Return how a machine can talk and train with a profile, each with the most bits that fit, or with those
    that the profile names; None: not at all.
    """
    named = named_bits(chosen)
    every = (named,) if named else (8 * room.width, *FEWER)
    found: dict[str, Fit | None] = {"talk": None, "stage 2": None, "stage 1": None}
    for bits in every:
        for task, fit in fits(chosen, room, parts(chosen, bits, room.width), bits):
            found[task] = found[task] or fit
    return found


def fits(chosen: Profile, room: Room, held: Parts, bits: int) -> Iterator[tuple[str, Fit]]:
    """Yield the tasks that fit in so many bits."""
    if held.talking <= room.usable:
        yield "talk", Fit(bits=bits, held=held.talking)
    stages = {"stage 2": (STAGE2_AS_WRITTEN, held.second), "stage 1": (chosen.stage1, held.first)}
    for task, (config, sample) in stages.items():
        number = fewest_parts(held.training(sample, 0), sample, config, room.usable)
        if number is not None:
            samples = config.batch_size // number
            yield task, Fit(bits=bits, held=held.training(sample, samples), accumulate=number)
