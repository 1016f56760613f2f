"""Before hours are spent: `make plan PROFILE=vicuna-7b` builds everything without
weights or memory, checks what has to be on disk, and prints what a run would cost. It changes nothing.

FLOPs, parameters and activations are counted on the modules themselves, on torch's meta device. Hours follow
from them by the share of an A100's peak that the paper's own ten hours imply: they are estimates, unmeasured.
"""

import sys
from dataclasses import dataclass
from functools import cache

from mglib.config import Profile, TrainConfig
from mglib.evals.pope import PAIRS, WAYS
from mglib.fullscale.fits import FEWER, ROOMS, fewest_parts, fitting, here, named_bits, parts
from mglib.fullscale.preflight import missing, remarks, require_full_size
from mglib.model.minigpt4 import MiniGPT4
from mglib.paper_profiles import GPUS, STAGE2_AS_PUBLISHED, STAGE2_AS_WRITTEN, VICUNA_7B
from mglib.settings import Settings
from mglib.study.flops import PROMPT, Cost, build, parameters, stage_cost, training_bytes, weight_bytes


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One accelerator."""

    name: str
    flops: float  # a second, bfloat16, as its maker says
    memory: float  # bytes
    bandwidth: float  # bytes a second from its memory
    dollars: float  # an hour: an assumption, prices move


A100 = Machine(name="A100 80 GB", flops=312e12, memory=80e9, bandwidth=2.0e12, dollars=2.0)

# The paper (section 3.1): about ten hours on four A100, which are 36 pairs a second on each. Taken to be
# 7B's; were they 13B's, the share of the peak that follows would be larger and all estimates shorter.
PAPER_HOURS = 10.0
COCO = 5_000  # pictures of val2017
CHOICE_QUESTIONS = 1_145  # of A-OKVQA's val, with choices and, mostly, without
GQA_PICTURES, GQA_QUESTIONS = 398, 32  # of testdev balanced, and about so many questions a picture
ALIGNED = 3_439  # pairs of the authors' cc_sbu_align
FEWER_BITS = (
    "Fewer bits: `pip install bitsandbytes`, and BITS=8 or BITS=4 beside PROFILE; parts of a step of stage "
    "2: `accumulate` in its stage2. Where nothing fits, take a smaller LANGUAGE, or the profile mini."
)
PICTURE = 25_000  # bytes of a web picture as JPEG at 224 to 256 pixels, and its texts, about


# --- the model on the meta device ---


@cache
def counted(chosen: Profile) -> tuple[MiniGPT4, Cost]:
    """Return a profile's model and what one pair of stage 1 costs."""
    model = build(chosen)
    return model, stage_cost(model, chosen, chosen.stage1)


# --- what it takes ---


@cache
def utilisation() -> float:
    """Return the share of an A100's peak that the paper's stage 1 made use of."""
    (_, pair), stage = counted(VICUNA_7B), VICUNA_7B.stage1
    flops = pair.flops * stage.steps * stage.batch_size
    return flops / (PAPER_HOURS * 3600 * GPUS * A100.flops)


def hours(flops: float, *, gpus: int = 1, machine: Machine = A100) -> float:
    """Return the hours that so many FLOPs take at the paper's share of the peak; linear in the GPUs."""
    return flops / (machine.flops * utilisation() * gpus) / 3600


def writing_hours(
    model: MiniGPT4, *, answers: int, tokens: int, batch: int, machine: Machine = A100
) -> float:
    """Return the hours that generation takes when a batch reads all weights from memory for each token."""
    weights = sum(p.numel() * p.itemsize for p in model.language.parameters())
    return answers / batch * tokens * weights / machine.bandwidth / 3600


def parts_needed(
    model: MiniGPT4, sample: Cost, config: TrainConfig, gpus: int, machine: Machine = A100
) -> int | None:
    """Return the fewest parts (`accumulate`) that fit nine tenths of a card; None if one sample does not."""
    fixed = training_bytes(model, sample, 0)
    return fewest_parts(fixed, sample.activations, config, 0.9 * machine.memory, gpus=gpus)


def kept_bytes(chosen: Profile, pictures: int) -> float:
    """Return the bytes of all vision tokens of so many pictures in bfloat16."""
    return 2.0 * pictures * chosen.vision.tokens * chosen.vision.width


# --- the plan ---


def plan(chosen: Profile, machine: Machine = A100) -> list[str]:
    """Return the lines of a profile's plan."""
    model, first = counted(chosen)
    parts = {"encoder": model.vision, "Q-Former": model.qformer, "language model": model.language}
    lines = [f"{chosen.name}: every part was built on the meta device and one sample passed through."]
    lines += [f"  {name:16} {parameters(part):>15,} parameters, frozen" for name, part in parts.items()]
    lines.append(f"  {'projection':16} {parameters(model.projection):>15,} parameters, trained")
    lines.append(
        f"stage 1: {chosen.stage1.steps:,} steps of {chosen.stage1.batch_size}, "
        f"{first.flops / 1e12:.2f} TFLOP a pair ({first.look / first.flops:.0%} in front of the projection), "
        f"{chosen.stage1.steps * chosen.stage1.batch_size * PICTURE / 1e9:,.0f} GB of shards read"
    )
    lines += training_lines(model, first, chosen.stage1, machine)
    for name, config in {"as written": STAGE2_AS_WRITTEN, "as published": STAGE2_AS_PUBLISHED}.items():
        second = stage_cost(model, chosen, config, prompt=PROMPT)
        lines.append(f"stage 2 ({name}): {config.steps:,} steps of {config.batch_size}")
        lines += training_lines(model, second, config, machine)
    lines += notebook_lines(model, chosen, first, machine)
    lines += fitting_lines(chosen)
    lines.append(
        f"Estimates from FLOPs at {utilisation():.0%} of the peak of an {machine.name}, the share that the "
        "paper's ten hours imply; longest answers; memory without the allocator's reserve. Unmeasured."
    )
    return lines


def fitting_lines(chosen: Profile) -> list[str]:
    """Return what a small machine holds, and what this one can do."""
    whole, *fewer = (parts(chosen, bits, 2) for bits in (16, *FEWER))
    bits = named_bits(chosen)
    held = f"{bits} bits and not in 16 as above" if bits else "as many bits as can be"
    sizes = [f"{held.language / 1e9:.1f} GB in {bits} bits" for bits, held in zip(FEWER, fewer, strict=True)]
    lines = [
        f"in memory: encoder {whole.vision / 1e9:.1f} GB, Q-Former {whole.qformer / 1e9:.2f}, projection "
        f"{whole.projection / 1e9:.3f}, language model {whole.language / 1e9:.1f} ({', '.join(sizes)}); "
        f"a conversation's keys and values {whole.cache / 1e9:.2f}; "
        f"a pair of stage 1 {whole.first / 1e9:.2f}, of stage 2 {whole.second / 1e9:.2f}",
        f"what fits, the language model in {held} (on Apple's GPU whole weights are float32):",
        f"  {'machine':14} {'talk':20} {'stage 2':36} stage 1",
    ]
    found = here()
    for room in (*ROOMS, *([found] if found else [])):
        talk, second, first = (str(fit or "-") for fit in fitting(chosen, room).values())
        lines.append(f"  {room.name:14} {talk:20} {second:36} {first}")
    return [*lines, FEWER_BITS]


def notebook_lines(model: MiniGPT4, chosen: Profile, sample: Cost, machine: Machine) -> list[str]:
    """Return what each notebook takes after stage 1, on one GPU: a notebook is one process.

    Looked at are all pictures of COCO, the pool and the authors' pairs, written are the answers that the
    notebooks ask for, each as long as it may get; memory is the weights', answers hold little beside them.
    """
    asked, curation, second = chosen.evaluation, chosen.curation, chosen.stage2
    pool, kept = chosen.release.pool_pictures, len(chosen.stage1.keep)

    def writing(answers: int, tokens: int, batch: int) -> float:
        return writing_hours(model, answers=answers, tokens=tokens, batch=batch, machine=machine)

    faults = writing(2 * asked.fault_pictures, asked.fault_tokens, asked.batch_size)
    captions = writing(3 * (COCO - chosen.release.coco.val), asked.max_new_tokens, asked.batch_size)
    losses = (3 * COCO + (kept + 1) * chosen.release.coco.val) * sample.read / 3  # forward alone
    tuned = stage_cost(model, chosen, second, prompt=PROMPT).flops * second.steps * second.batch_size
    spent = {
        "01": hours(COCO * sample.look, machine=machine),
        "02": faults + captions + hours(losses, machine=machine),
        "03": hours(pool * sample.look, machine=machine)
        + writing(pool, curation.max_new_tokens, curation.batch_size),
        # stage 2 on the curated and on the authors' pairs, and eight answers about each picture of Table 3
        "04": hours(2 * tuned + ALIGNED * sample.look, machine=machine)
        + writing(8 * asked.failure_pictures, asked.failure_tokens, asked.batch_size),
    }
    spent |= evaluation_hours(model, chosen, sample, machine)
    lines = ["notebooks, after stage 1 (one process each: on 4 GPUs as long as on 1, three stay idle):"]
    lines += [f"  {name}: {time:6.2f} h" for name, time in spent.items()]
    lines.append(f"  each holds the weights, {weight_bytes(model) / 1e9:.0f} GB, and what a batch needs")
    return lines


def evaluation_hours(model: MiniGPT4, chosen: Profile, sample: Cost, machine: Machine) -> dict[str, float]:
    """Return the hours of notebooks 05 and 06, which train nothing where a profile is made from a release.

    Three models describe the pictures at length and two briefly; of both, yes or no is asked. Questions are
    put four times (twice to the model, and with a blank and another picture), and part of val three times.
    """
    asked = chosen.evaluation
    described = min(asked.described_pictures, COCO - chosen.release.coco.val)
    looked = CHOICE_QUESTIONS + GQA_PICTURES + chosen.release.questions.gqa_val_pictures
    chosen_among = 5 * CHOICE_QUESTIONS  # the options are short: read with their question
    posed = 5 * (CHOICE_QUESTIONS + min(asked.graph_pictures, GQA_PICTURES) * GQA_QUESTIONS)
    polls = 2 * len(WAYS) * 2 * PAIRS * asked.pope_pictures

    def writing(answers: int, tokens: int) -> float:
        return writing_hours(model, answers=answers, tokens=tokens, batch=asked.batch_size, machine=machine)

    read = sample.read / 3  # forward alone, for each prompt
    short = writing(posed + polls, asked.short_tokens)
    tables = writing(3 * described, asked.long_tokens) + writing(2 * described, asked.brief_tokens)
    limits = writing(asked.limit_pictures, asked.limit_tokens + asked.limit_short_tokens)
    return {
        "05": hours(
            looked * sample.look + (5 * described + chosen_among + posed + polls) * read, machine=machine
        )
        + short
        + tables,
        "06": hours(3 * asked.limit_pictures * read, machine=machine) + limits,
    }


def training_lines(model: MiniGPT4, sample: Cost, config: TrainConfig, machine: Machine) -> list[str]:
    """Return what a training takes on one GPU and on four."""
    lines = []
    for gpus in (1, 4):
        if config.batch_size % gpus:
            continue
        parts = parts_needed(model, sample, config, gpus, machine)
        if parts is None:
            lines.append(f"  {gpus} GPU: no sample fits {machine.memory / 1e9:.0f} GB: take BITS=8 or BITS=4")
            continue
        samples = config.batch_size // gpus // parts
        time = hours(sample.flops * config.steps * config.batch_size, gpus=gpus, machine=machine)
        lines.append(
            f"  {gpus} GPU: {time:6.1f} h, {time * gpus * machine.dollars:,.0f} dollars, "
            f"{training_bytes(model, sample, samples) / 1e9:.0f} GB with {samples} samples at once "
            f"(ACCUMULATE={parts})"
        )
    return lines


def show(settings: Settings) -> bool:
    """Print a plan, and on stderr a sentence for each thing that is missing; returns whether none is."""
    require_full_size(settings)
    chosen = settings.found()
    print("\n".join(plan(chosen)))
    faults = missing(chosen)
    for sentence in (*faults, *remarks(chosen)):
        print(sentence, file=sys.stderr)
    if not faults:
        print(f"Everything is there: {settings.command('train', GPUS=4)}")
    return not faults
