"""What the paper's size costs on one card, measured with random weights: encoding, both stages, answering,
the language model quantised, a run of mini, and transformers' BLIP-2 trained the usual way beside ours.

Each measurement is written to runs/gpu.json when it is made. One that fails or for which no time is left is
named there with the reason, and the others go on.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from torch import Tensor

from mglib.config import Profile, WorldConfig
from mglib.fullscale.random_model import (
    DESCRIBE,
    Layout,
    layouts,
    pictures,
    quantised,
    random_model,
    sample_batch,
)
from mglib.fullscale.record import Log, Measured, Task
from mglib.fullscale.timing import Comparison, Ratio, compare, seconds
from mglib.fullscale.usual import beside_ours, blip2_queries, usual_step
from mglib.model import device as devices
from mglib.model import prompts
from mglib.model.decoding import answer, greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.paths import RUNS
from mglib.profiles import MINI
from mglib.study.flops import build, cost
from mglib.study.machine import processor
from mglib.training.loop import make_optimizers, train_step
from mglib.weights.vicuna import Precision

RECORD = RUNS / "gpu.json"
PICTURES, BEAMS = (1, 16), (1, 5)  # asked about at once, and how many beams look for the answer
PEER = "transformers' BLIP-2"
PRECISIONS: tuple[Precision, ...] = ("8bit", "4bit")


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is measured; the defaults take a large card about five minutes."""

    side: int = 8_192  # of the square matrices whose product tells the ceiling
    copied: int = 1 << 30  # bytes whose copy tells the memory's speed
    rounds: int = 5
    tokens: int = 64  # of an answer
    limit: float = 420.0  # seconds after which nothing is begun, so that all ends within eight minutes


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is measured on, and how fast it is at best."""

    device: torch.device
    dtype: torch.dtype  # of frozen weights, and of products in training
    name: str
    memory: int | None  # bytes; None where the processor has none of its own
    ceiling: float  # FLOP a second
    bandwidth: float  # bytes a second, read and written
    extent: Extent

    @property
    def bf16(self) -> bool:
        """Whether products in training run in bfloat16."""
        return self.dtype == torch.bfloat16

    @classmethod
    def measure(cls, device: torch.device, extent: Extent) -> "Card":
        """Find out the card's ceilings by one large product and one large copy, best of ten."""
        dtype = devices.frozen_dtype(device)
        matrix = torch.randn(extent.side, extent.side, device=device).to(dtype)
        block = torch.zeros(extent.copied, dtype=torch.uint8, device=device)
        other = torch.empty_like(block)
        products = min(seconds(lambda: matrix @ matrix) for _ in range(10))
        copies = min(seconds(lambda: other.copy_(block)) for _ in range(10))
        return cls(
            device=device,
            dtype=dtype,
            name=processor(device),
            memory=own_memory(device),
            ceiling=2 * extent.side**3 / products,
            bandwidth=2 * extent.copied / copies,
            extent=extent,
        )


def own_memory(device: torch.device) -> int | None:
    """Return the bytes of a card's own memory."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with random weights on a card, and what its measurements are filed under."""

    name: str
    profile: Profile
    model: MiniGPT4
    card: Card

    @classmethod
    def of(cls, profile: Profile, card: Card, precision: Precision | None = None) -> "Subject":
        """Build a profile's model, its language model in 8 or 4 bits if a `precision` says so."""
        tidy()
        model = random_model(profile, card.device, card.dtype)
        if precision is None:
            return cls(name=profile.name, profile=profile, model=model, card=card)
        name = f"{profile.name} in {precision}"
        return cls(name=name, profile=profile, model=quantised(model, precision), card=card)


# --- timing ---


def timed(
    work: Callable[[], object], card: Card, *, flops: float | None = None, count: int, **about: Any
) -> Measured:
    """Call once to warm up and then `rounds` times; `count` units and `flops` are one call's."""
    tidy()
    work()
    middle = statistics.median(seconds(work) for _ in range(card.extent.rounds))
    return Measured(
        rate=count / middle,
        seconds=middle,
        share=None if flops is None else flops / middle / card.ceiling,
        peak=torch.cuda.max_memory_allocated() if card.memory else None,
        **about,
    )


def tidy() -> None:
    """Give back what nothing holds any more, and count the peak from here on."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def fitting(size: int, measure: Callable[[int], Measured]) -> Measured:
    """Measure with `size` samples at once or, where the card cannot hold them, with half as many, ..."""
    while True:
        try:
            return measure(size)
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2


# --- training ---


def step(of: Subject, layout: Layout, batch: dict[str, Tensor]) -> Callable[[], object]:
    """Return one step of the training loop on a batch that is on the card."""
    accelerator = Accelerator(cpu=of.card.device.type == "cpu", mixed_precision="no")
    optimizers = make_optimizers(of.model, layout.config, torch.bfloat16 if of.card.bf16 else torch.float32)
    run, *optimizers = accelerator.prepare(of.model, *optimizers)
    return lambda: train_step(run, optimizers, [batch], layout.config, 0, accelerator, bf16=of.card.bf16)


def training(of: Subject, what: str) -> Measured:
    """Measure a stage with the longest answers."""
    layout, shapes = layouts(of.profile)[what], build(of.profile)
    config = layout.config

    def measure(size: int) -> Measured:
        batch = sample_batch(of.profile, layout, size, of.card.device)
        text = batch["ids"].shape[1] - of.profile.qformer.queries
        sample = cost(shapes, of.profile, text=text, answer=config.max_answer)
        flops = size * (sample.flops if "pixels" in batch else sample.read)
        work = step(of, layout, batch)
        return timed(
            work, of.card, flops=flops, count=size, model=of.name, what=what, unit="samples", at_once=size
        )

    found = fitting(layout.at_once, measure)
    return replace(found, whole=config.steps * config.batch_size / found.rate)


def encoding(of: Subject) -> Measured:
    """Measure pictures on their way to the projection, in the precisions in which features are kept."""
    look = cost(build(of.profile), of.profile, text=2, answer=1).look

    def measure(size: int) -> Measured:
        pixels = pictures(of.profile, size, of.card.device)

        @torch.inference_mode()
        def work() -> None:
            tokens = of.model.vision(pixels)
            with torch.autocast(of.card.device.type, torch.bfloat16, enabled=of.card.bf16):
                of.model.qformer(tokens)

        about = {"model": of.name, "what": "pictures", "unit": "pictures", "at_once": size}
        return timed(work, of.card, flops=size * look, count=size, **about)

    found = fitting(layouts(of.profile)["stage 1"].at_once, measure)
    if of.profile.world is None:
        return found
    return replace(found, whole=drawn_pictures(of.profile.world) / found.rate)


def drawn_pictures(world: WorldConfig) -> int:
    """Count the pictures that a run of a small world looks at."""
    tests = world.test_seen + world.test_new_pairs + world.test_new_objects
    return world.train + world.pool + world.val + tests


# --- the peer ---


def peer(of: Subject) -> Iterator[Task]:
    """Train transformers' BLIP-2 the usual way on the same language model: alone, then in turns with ours.

    Our encoder stays on the card meanwhile and counts in its peak.
    """
    theirs, layout = beside_ours(of.profile, of.model, of.card.dtype), layouts(of.profile)["stage 1"]
    as_theirs = replace(of.profile, qformer=blip2_queries(of.profile))
    optimizer = torch.optim.AdamW(theirs.language_projection.parameters())

    def usual(batch: dict[str, Tensor]) -> None:
        usual_step(theirs, batch, batch["pixels"])
        optimizer.step()
        optimizer.zero_grad()

    def alone(size: int) -> Measured:
        work = partial(usual, sample_batch(as_theirs, layout, size, of.card.device))
        about = {"model": PEER, "what": "stage 1", "unit": "samples", "at_once": size}
        return timed(work, of.card, count=size, **about)

    def in_turns() -> Ratio:
        both = Comparison(
            name=f"a step of stage 1: {PEER} / ours",
            other=partial(usual, sample_batch(as_theirs, layout, layout.at_once, of.card.device)),
            ours=step(of, layout, sample_batch(of.profile, layout, layout.at_once, of.card.device)),
        )
        return compare(both, rounds=of.card.extent.rounds, ceiling=of.card.ceiling)

    yield Task(name=f"{PEER}: stage 1", run=partial(fitting, layout.at_once, alone))
    yield Task(name=f"{PEER} beside ours", run=in_turns)


# --- answering ---


def answering(of: Subject, rows: int, beams: int) -> Measured:
    """Measure whole answers about so many pictures, looking at them included."""
    work = writing(of, rows, beams=beams, tokens=of.card.extent.tokens)
    with passes(of.model) as counted:
        work()
    about = {"model": of.name, "what": asked(rows, beams), "unit": "tokens", "at_once": rows}
    found = timed(work, of.card, count=sum(counted) // beams, **about)
    read = len(counted) * read_bytes(of.model) / found.seconds
    return replace(found, share=read / of.card.bandwidth)


def asked(rows: int, beams: int) -> str:
    """Name one way of answering."""
    return f"answers about {rows}, beam {beams}"


def first_token(of: Subject) -> Measured:
    """Measure how long a person waits for the first token about a picture."""
    about = {"model": of.name, "what": "first token", "unit": "answers", "at_once": 1}
    return timed(writing(of, 1, beams=1, tokens=1), of.card, count=1, **about)


def writing(of: Subject, rows: int, *, beams: int, tokens: int) -> Callable[[], object]:
    """Return what writes an answer about each of some pictures, greedily or with beams."""
    pixels, queries = pictures(of.profile, rows, of.card.device), of.profile.qformer.queries
    form, questions = layouts(of.profile)["stage 2"].template, [DESCRIBE] * rows
    if beams == 1:
        return lambda: answer(of.model, {"pixels": pixels}, form, questions, greedy(tokens))
    laid = prompts.generation_batch(of.model.language.tokenizer, form, questions, queries=queries)
    batch = {"pixels": pixels, **{name: value.to(of.card.device) for name, value in laid.items()}}

    @torch.inference_mode()
    def search() -> None:
        of.model.language.model.generate(
            inputs_embeds=of.model.embed(batch),
            attention_mask=batch["mask"],
            num_beams=beams,
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
        )

    return search


@contextmanager
def passes(model: MiniGPT4) -> Iterator[list[int]]:
    """List the rows of each pass through the language model meanwhile: each row brings one token."""
    rows: list[int] = []
    hook = model.language.model.get_decoder().register_forward_hook(
        lambda module, given, result: rows.append(len(result.last_hidden_state))
    )
    try:
        yield rows
    finally:
        hook.remove()


def read_bytes(model: MiniGPT4) -> int:
    """Return the bytes of the language model's weights, which each pass reads."""
    return sum(weight.numel() * weight.itemsize for weight in model.language.parameters())


# --- what is measured ---


def stages(of: Subject) -> Iterator[Task]:
    """Both stages."""
    for what in layouts(of.profile):
        yield Task(name=f"{of.name}: {what}", run=partial(training, of, what))


def answers(of: Subject, beams: tuple[int, ...]) -> Iterator[Task]:
    """The first token, then whole answers."""
    yield Task(name=f"{of.name}: first token", run=partial(first_token, of))
    for beam, rows in product(beams, PICTURES):
        yield Task(name=f"{of.name}: {asked(rows, beam)}", run=partial(answering, of, rows, beam))


def whole(profile: Profile, card: Card) -> Iterator[Task]:
    """A profile as it is, with its peer."""
    of = Subject.of(profile, card)
    yield Task(name=f"{of.name}: pictures", run=partial(encoding, of))
    yield from stages(of)
    yield from answers(of, BEAMS)
    yield from peer(of)
    if card.device.type == "cuda":
        yield Task(name="pinned memory", run=partial(moving, profile, card))


def in_bits(profile: Profile, card: Card, precision: Precision) -> Iterator[Task]:
    """A profile with its language model in fewer bits."""
    of = Subject.of(profile, card, precision)
    yield from stages(of)
    yield from answers(of, BEAMS[:1])


def small(profile: Profile, card: Card) -> Iterator[Task]:
    """A run of a small profile: its pictures, then both stages from their queries."""
    of = Subject.of(profile, card)
    yield Task(name=f"{of.name}: pictures", run=partial(encoding, of))
    yield from stages(of)


def moving(profile: Profile, card: Card) -> Ratio:
    """Bring a batch of pictures to the card, from ordinary memory and from pinned."""
    layout = layouts(profile)["stage 1"]
    batch = sample_batch(profile, layout, layout.at_once, torch.device("cpu"))
    pinned = {name: value.pin_memory() for name, value in batch.items()}
    both = Comparison(
        name="a batch of stage 1 to the card: ordinary memory / pinned",
        other=lambda: [value.to(card.device) for value in batch.values()],
        ours=lambda: [value.to(card.device, non_blocking=True) for value in pinned.values()],
    )
    return compare(both, rounds=card.extent.rounds, ceiling=card.ceiling)


def run(
    profile: Profile,
    device: torch.device,
    *,
    beside: Profile = MINI,
    extent: Extent | None = None,
    file: Path = RECORD,
) -> int:
    """Measure a profile on a card, and a run of the small one `beside` it; returns 1 if something broke."""
    start, extent = time.perf_counter(), extent or Extent()
    card = Card.measure(device, extent)
    about = {
        "card": card.name,
        "memory": card.memory,
        "dtype": str(card.dtype).removeprefix("torch."),
        "ceiling": card.ceiling,
        "bandwidth": card.bandwidth,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": date.today().isoformat(),
    }
    print(f"{profile.name} on {card.name}: {card.ceiling / 1e12:,.3g} TFLOP/s in {about['dtype']}, ", end="")
    print(f"{card.bandwidth / 1e9:,.0f} GB/s", flush=True)
    log = Log(file=file, profile=profile.name, about=about, limit=extent.limit, start=start)
    log.follow(profile.name, whole(profile, card))
    log.follow(beside.name, small(beside, card))
    for precision in PRECISIONS:
        if find_spec("bitsandbytes") is None:
            log.leave_out(f"{profile.name} in {precision}", "bitsandbytes is not installed")
        else:
            log.follow(f"{profile.name} in {precision}", in_bits(profile, card, precision))
    return int(log.broken)
