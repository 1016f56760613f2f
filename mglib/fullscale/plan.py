"""What the paper's size needs, before hours are spent: `make plan`.

Hours are estimated from counted FLOPs at the share of an A100's peak that the paper's own ten hours imply:
they are not measured.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import pandas
import torch

from mglib.config import Profile, TrainConfig
from mglib.fullscale.counts import FEWER, Memory, counted, memory, parameters
from mglib.model import device as devices
from mglib.paper_profiles import GPUS, STAGE2_AS_PUBLISHED, STAGE2_AS_WRITTEN, VICUNA_7B

PICTURE = 25_000  # bytes of a web picture as JPEG at 224 to 256 pixels, and its texts, about
# The paper (section 3.1): about ten hours on four A100s, which is 36 pairs a second on each. Assumed to be
# for 7B; if they were for 13B, the implied share of the peak would be larger and all estimates shorter.
PAPER_HOURS = 10.0
FEWER_BITS = (
    "Fewer bits: `pip install bitsandbytes`, and BITS=8 or BITS=4 with PROFILE; parts of a step of stage "
    "2: `accumulate` in its stage2. Where nothing fits, take a smaller LANGUAGE, or the profile mini."
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One accelerator; its speeds and price are given for an A100 alone."""

    name: str
    memory: float  # bytes
    share: float = 0.9  # of it that is left for tensors: a card's context and allocator take a tenth
    width: int = 2  # bytes of a frozen weight that is not quantised (`mglib.model.device.frozen_dtype`)
    flops: float = 0.0  # a second, bfloat16, by its data sheet
    bandwidth: float = 0.0  # bytes a second from its memory
    dollars: float = 0.0  # an hour: an assumption, prices move

    @property
    def usable(self) -> float:
        return self.share * self.memory


A100 = Machine(name="A100 80 GB", memory=80e9, flops=312e12, bandwidth=2.0e12, dollars=2.0)
CARDS = tuple(Machine(name=f"card, {size} GB", memory=size * 1e9) for size in (8, 12, 16, 24, 48, 80))
# Apple's GPU may take about two thirds of the unified memory (Metal's `recommendedMaxWorkingSetSize`; larger
# machines allow three quarters).
APPLE = tuple(
    Machine(name=f"Apple, {size} GB", memory=size * 1e9, share=2 / 3, width=4) for size in (16, 32, 64)
)


def here() -> Machine | None:
    """Return this machine's GPU; None if there is none."""
    found = devices.pick()
    if found.type == "cpu":
        return None
    name, width = f"here, {devices.processor(found)}", devices.frozen_dtype(found).itemsize
    if found.type == "cuda":
        return Machine(name=name, memory=torch.cuda.get_device_properties(found).total_memory, width=width)
    return Machine(name=name, memory=torch.mps.recommended_max_memory(), share=1.0, width=width)


# --- what fits ---


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a task fits a machine."""

    bits: int
    held: float  # bytes
    accumulate: int = 1  # parts of a step

    def __str__(self) -> str:
        found = f"{self.bits} bits, {self.held / 1e9:.1f} GB"
        return found if self.accumulate == 1 else f"{found}, ACCUMULATE={self.accumulate}"


def named_bits(chosen: Profile) -> int | None:
    """Return the bits in which a profile's language model is held; None: as many as fit."""
    named = chosen.release and chosen.release.quantised
    return int(named.removesuffix("bit")) if named else None


def step_fit(
    held: Memory, sample: float, config: TrainConfig, room: float, bits: int, gpus: int = 1
) -> Fit | None:
    """Return a step in the fewest parts (`accumulate`) that fit `room` bytes; None if one sample does not."""
    for number in range(1, config.batch_size // gpus + 1):
        samples, rest = divmod(config.batch_size, gpus * number)
        if not rest and (whole := held.training(sample, samples)) <= room:
            return Fit(bits=bits, held=whole, accumulate=number)
    return None


def fitting(chosen: Profile, machine: Machine) -> dict[str, Fit | None]:
    """Return how a machine can talk and train with a profile, each with the most bits that fit, or with those
    that the profile names; None: not at all.
    """
    named = named_bits(chosen)
    found: dict[str, Fit | None] = {"talk": None, "stage 2": None, "stage 1": None}
    for bits in (named,) if named else (8 * machine.width, *FEWER):
        held, room = memory(chosen, bits, machine.width), machine.usable
        fits = {
            "talk": Fit(bits=bits, held=held.talking) if held.talking <= room else None,
            "stage 2": step_fit(held, held.second, STAGE2_AS_WRITTEN, room, bits),
            "stage 1": step_fit(held, held.first, chosen.stage1, room, bits),
        }
        found = {task: found[task] or fit for task, fit in fits.items()}
    return found


# --- hours ---


@cache
def utilisation() -> float:
    """Return the share of an A100's peak that the paper's stage 1 achieved."""
    stage = VICUNA_7B.stage1
    flops = counted(VICUNA_7B).first.flops * stage.steps * stage.batch_size
    return flops / (PAPER_HOURS * 3600 * GPUS * A100.flops)


def hours(flops: float, *, gpus: int = 1, machine: Machine = A100) -> float:
    """Return the hours that `flops` FLOPs take at the paper's share of the peak; linear in the GPUs."""
    return flops / (machine.flops * utilisation() * gpus) / 3600


def tokens_a_second(chosen: Profile, answers: int, machine: Machine = A100) -> float:
    """Return the tokens a second of `answers` answers at once: each token reads all weights from memory."""
    bits = named_bits(chosen) or 16
    return answers * machine.bandwidth / memory(chosen, bits).language


# --- tables ---


def parts(chosen: Profile) -> pandas.DataFrame:
    """Return the size of each part and of what is held besides, in bfloat16 or as named."""
    model, whole = counted(chosen).model, memory(chosen, 16)
    rows = [
        ("encoder, frozen", parameters(model.vision), whole.vision),
        ("Q-Former, frozen, float32", parameters(model.qformer), whole.qformer),
        ("projection, trained, float32", parameters(model.projection), whole.projection),
        ("language model, frozen", parameters(model.language), whole.language),
        *((f"language model in {bits} bits", "", memory(chosen, bits).language) for bits in FEWER),
        ("a conversation's keys and values", "", whole.cache),
        ("a pair of stage 1, backward", "", whole.first),
        ("a pair of stage 2, backward", "", whole.second),
    ]
    return pandas.DataFrame(
        {"part": name, "parameters": f"{count:,}" if count else "", "GB": f"{held / 1e9:.3f}"}
        for name, count, held in rows
    )


def trainings(chosen: Profile) -> pandas.DataFrame:
    """Return what each stage takes on one A100 and on four, a row each; `-` if no sample fits."""
    bits, found, rows = named_bits(chosen) or 16, counted(chosen), []
    held = memory(chosen, bits)
    stages = {
        "stage 1": (chosen.stage1, found.first, held.first),
        "stage 2 (as written)": (STAGE2_AS_WRITTEN, found.second, held.second),
        "stage 2 (as published)": (STAGE2_AS_PUBLISHED, found.second, held.second),
    }
    for (name, (config, pair, sample)), gpus in product(stages.items(), (1, GPUS)):
        row = {"training": name, "steps": f"{config.steps:,} of {config.batch_size}", "GPUs": gpus}
        if fit := step_fit(held, sample, config, A100.usable, bits, gpus):
            time = hours(pair.flops * config.steps * config.batch_size, gpus=gpus)
            row |= {
                "hours": f"{time:,.1f}",
                "dollars": f"{time * gpus * A100.dollars:,.0f}",
                "GB": f"{fit.held / 1e9:.0f}",
                "samples at once": str(config.batch_size // gpus // fit.accumulate),
                "ACCUMULATE": str(fit.accumulate),
            }
        rows.append(row)
    return pandas.DataFrame(rows).fillna("-")


def fits(chosen: Profile, machines: tuple[Machine, ...] = (*CARDS, *APPLE)) -> pandas.DataFrame:
    """Return how each machine can talk and train with a profile; `-` if it cannot."""
    return pandas.DataFrame(
        {"machine": machine.name, **{task: str(fit or "-") for task, fit in fitting(chosen, machine).items()}}
        for machine in machines
    )


def plan(chosen: Profile) -> str:
    """Return a profile's plan: its parts, what the stages take, and what fits which machine."""
    first, stage, named = counted(chosen).first, chosen.stage1, named_bits(chosen)
    shards, looked = stage.steps * stage.batch_size * PICTURE / 1e9, 1 / (3600 * hours(first.look))
    answers = chosen.evaluation.batch_size
    machines = tuple(filter(None, (*CARDS, *APPLE, here())))
    sections = [
        f"{chosen.name}: every part was built on the meta device and one sample passed through.",
        parts(chosen).to_string(index=False),
        f"A pair of stage 1 takes {first.flops / 1e12:.2f} TFLOP ({first.look / first.flops:.0%} before the "
        f"projection); {shards:,.0f} GB of shards are read. On {A100.name}:",
        trainings(chosen).to_string(index=False),
        f"Notebooks (one process each, on one GPU): {looked:,.0f} pictures a second looked at, "
        f"{tokens_a_second(chosen, answers):,.0f} tokens a second written, {answers} answers at once.",
        f"What fits, the language model in {f'{named} bits' if named else 'as many bits as can be'} "
        "(on Apple's GPU whole weights are float32):",
        fits(chosen, machines).to_string(index=False),
        FEWER_BITS,
        f"Estimates from FLOPs at {utilisation():.0%} of the peak of an {A100.name}, the share that the "
        "paper's ten hours imply; longest answers; memory without the allocator's reserve. Unmeasured.",
    ]
    return "\n\n".join(sections)
