"""Speed: `make bench` builds a profile's whole model with random weights, which cost the time and memory of
trained ones, and measures its speed here: pictures, both stages, answers, and the same work done the usual
way, by transformers' BLIP-2 in the same shapes.

It needs no files, no network, and only the packages torch, transformers, timm, safetensors, accelerate and
typer: copied to a rented GPU machine, this folder runs `python -m mglib bench --profile vicuna-7b`.
"""

import gc
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import find_executable_batch_size as at_most  # as many samples as a card holds
from torch import Tensor
from torch.utils.benchmark import Timer
from transformers import AutoModelForImageTextToText, Blip2ForConditionalGeneration, DynamicCache

from mglib.config import Profile, QFormerConfig, TrainConfig
from mglib.fullscale.counts import PROMPT, build, cost
from mglib.model import device as devices
from mglib.model.decoding import Steps, greedy
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import IGNORE
from mglib.model.qformer import QFormer
from mglib.paper_profiles import GPUS
from mglib.paths import RUNS, write_json
from mglib.settings import Settings
from mglib.study.machine import here, peak_bytes
from mglib.training.loop import Run, make_optimizers, train_step
from mglib.weights.export import blip2_config
from mglib.weights.vicuna import BITS, Quantised, quantisation

ROUNDS = 5  # of a comparison, in which both ways take turns

Row = dict[str, Any]  # one measurement, as it is written
Work = Callable[[], object]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """A profile's model with random weights, what it runs on, and how long it is measured."""

    name: str
    profile: Profile
    model: MiniGPT4
    device: torch.device
    dtype: torch.dtype  # of frozen weights, and of matrix products in training
    ceiling: float  # FLOP a second of a large matrix product
    bandwidth: float  # bytes a second that a large copy reads and writes
    seconds: float  # for which each measurement is repeated
    tokens: int  # of an answer

    @property
    def bf16(self) -> bool:
        """Whether matrix products in training run in bfloat16."""
        return self.dtype == torch.bfloat16


# --- the model and its batches ---


def random_model(chosen: Profile, device: torch.device, dtype: torch.dtype) -> MiniGPT4:
    """Build a profile's model on a device, its encoder and language model in `dtype`, as in a study."""
    model = build(chosen, device)
    model.vision.to(dtype)
    model.language.to(dtype)
    model.language.model.set_attn_implementation(devices.attention(device))
    return model.eval()


def quantised(model: MiniGPT4, bits: Quantised) -> MiniGPT4:
    """Return the model with its language model in 8 or 4 bits, loaded as from a folder; raises RuntimeError
    if bitsandbytes is missing.
    """
    whole = model.language.model
    loaded = type(whole).from_pretrained(
        None, config=whole.config, state_dict=whole.state_dict(), **quantisation(bits)
    )
    return model.sharing(language=Language(model=loaded, tokenizer=None))


def stages(chosen: Profile) -> dict[str, tuple[TrainConfig, int, int]]:
    """Return each stage's settings, its tokens of text with the longest answer, and the samples of a step on
    one card: for the paper's stage 1, one GPU's share of four.
    """
    first, second = chosen.stage1, chosen.stage2
    share = first.batch_size // (1 if chosen.release is None else GPUS)
    return {
        "stage 1": (first, 1 + first.max_answer, share),
        "stage 2": (second, PROMPT + second.max_answer, second.batch_size),
    }


def pictures(of: Subject, size: int) -> Tensor:
    """Return `size` random pictures as the encoder takes them, (B, 3, S, S)."""
    side = of.profile.vision.image_size
    return torch.randn(size, 3, side, side, device=of.device)


def texts(of: Subject, size: int, text: int, *, answer: int = 0, queries: int | None = None) -> Batch:
    """Return `size` rows of random words as `MiniGPT4` takes them: a picture's slots, then `text` tokens, of
    which the last `answer` carry labels.
    """
    slots = queries or of.profile.qformer.queries
    places = torch.arange(slots + text, device=of.device).expand(size, -1)
    # The last token of the vocabulary marks pictures for transformers' BLIP-2.
    words = of.model.language.model.config.vocab_size - 1
    ids = torch.randint(words, places.shape, device=of.device)
    batch = {"ids": ids, "mask": torch.ones_like(ids), "slots": places < slots}
    if answer:
        batch["labels"] = ids.where(places >= slots + text - answer, IGNORE)
    return batch


def samples(of: Subject, stage: str, size: int) -> Batch:
    """Return samples of a stage: pictures if the profile streams them, otherwise cached queries."""
    config, text, _ = stages(of.profile)[stage]
    batch = texts(of, size, text, answer=config.max_answer)
    if of.profile.release is not None:
        return {"pixels": pictures(of, size), **batch}
    qformer = of.profile.qformer
    return {"queries": torch.randn(size, qformer.queries, qformer.width, device=of.device), **batch}


# --- timing ---


def seconds(work: Work, at_least: float) -> float:
    """Return the median seconds of a call, repeated for `at_least` seconds after a warm-up."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=at_least).median


def measured(of: Subject, what: str, unit: str, work: Work, *, at_once: int, count: int, least: float) -> Row:
    """Measure a call that makes `count` units and takes `least` seconds at the processor's ceiling: its rate,
    its share of the ceiling, and the peak memory, on a CPU that of the whole process so far.
    """
    release_memory()
    taken = seconds(work, of.seconds)
    row = {"model": of.name, "what": what, "unit": unit, "at_once": at_once, "rate": count / taken}
    return row | {"seconds": taken, "share": least / taken, "peak": peak_bytes(of.device)}


def compared(of: Subject, name: str, usual: Work, ours: Work) -> Row:
    """Time the usual way and ours in turns; returns the median ratio, the range, and our seconds."""
    release_memory()
    pairs = [(seconds(usual, of.seconds / 10), seconds(ours, of.seconds / 10)) for _ in range(ROUNDS)]
    ratios = [slow / fast for slow, fast in pairs]
    return {
        "name": f"{name}: transformers' BLIP-2 / ours",
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "seconds": statistics.median(fast for _, fast in pairs),
    }


def release_memory() -> None:
    """Free unreferenced memory, and reset a card's peak."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# --- ours ---


def encoding(of: Subject, size: int) -> Row:
    """Measure the path of pictures up to the projection."""
    pixels = pictures(of, size)

    @torch.inference_mode()
    def work() -> None:
        tokens = of.model.vision(pixels)
        with torch.autocast(of.device.type, torch.bfloat16, enabled=of.bf16):
            of.model.qformer(tokens)

    least = size * cost(build(of.profile), of.profile, text=2, answer=1).look / of.ceiling
    return measured(of, "pictures", "pictures", work, at_once=size, count=size, least=least)


def step(of: Subject, stage: str, size: int) -> Work:
    """Return one step of the training loop."""
    config, batch = stages(of.profile)[stage][0], samples(of, stage, size)
    accelerator = Accelerator(cpu=of.device.type == "cpu", mixed_precision="no")
    optimizers = make_optimizers(of.model, config, torch.bfloat16 if of.bf16 else torch.float32)
    model, *optimizers = accelerator.prepare(of.model, *optimizers)
    run = Run(config=config, folder=RUNS, seed=0, device=of.device, bf16=of.bf16)
    return partial(train_step, model, optimizers, [batch], run, 0, accelerator)


def training(of: Subject, stage: str, size: int) -> Row:
    """Measure a stage with the longest answers."""
    config, text, _ = stages(of.profile)[stage]
    sample = cost(build(of.profile), of.profile, text=text, answer=config.max_answer)
    flops = sample.read if of.profile.release is None else sample.flops
    work = step(of, stage, size)
    return measured(of, stage, "samples", work, at_once=size, count=size, least=size * flops / of.ceiling)


def writing(of: Subject, rows: int, tokens: int) -> Work:
    """Return a call that encodes pictures and greedily generates `tokens` tokens about each."""
    batch = {"pixels": pictures(of, rows), **texts(of, rows, PROMPT)}

    @torch.inference_mode()
    def work() -> None:
        embedded = of.model.embed(batch)
        steps = Steps(of.model.language, embedded, batch["mask"], greedy(tokens), [0] * rows, DynamicCache())
        for chosen in steps:
            chosen.tolist()  # as when checking for an answer's end

    return work


def answering(of: Subject, rows: int, tokens: int) -> Row:
    """Measure answers; their ceiling is the memory bandwidth, since each token reads all weights."""
    what, work = "first token" if tokens == 1 else f"answers about {rows}", writing(of, rows, tokens)
    weights = sum(weight.numel() * weight.itemsize for weight in of.model.language.parameters())
    least = tokens * weights / of.bandwidth
    return measured(of, what, "tokens", work, at_once=rows, count=rows * tokens, least=least)


# --- the usual way ---


def usual_blip2(chosen: Profile, ours: MiniGPT4, dtype: torch.dtype) -> Blip2ForConditionalGeneration:
    """Return transformers' own BLIP-2 on the device of ours, with random weights in the same shapes (if ours
    has no Q-Former, the release's) and our language model's weights; all is frozen but its projection.

    Its Q-Former attends to every token of the encoder, which ours may pool; its attention is the fused one,
    transformers' default.
    """
    shaped = ours
    if not isinstance(ours.qformer, QFormer):
        with torch.device("meta"):
            shaped = ours.sharing(qformer=QFormer(config=QFormerConfig(), vision_width=chosen.vision.width))
    config = blip2_config(shaped, image_token=ours.language.model.config.vocab_size - 1)  # in no text here
    config.vision_config.initializer_range = 0.02
    with ours.projection.weight.device:
        model = AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation="sdpa"
        ).eval()
    model.language_model.load_state_dict(ours.language.model.state_dict(), assign=True)
    model.requires_grad_(False)
    model.language_projection.requires_grad_(True)
    return model


def as_theirs(theirs: Blip2ForConditionalGeneration, batch: Batch) -> Batch:
    """Return a batch of ours as transformers' BLIP-2 takes it, with an image token in each picture slot."""
    slots = batch["ids"].masked_fill(batch["slots"], theirs.config.image_token_id)
    labels = {"labels": batch["labels"]} if "labels" in batch else {}
    return {"input_ids": slots, "attention_mask": batch["mask"], **labels}


def usual_training(of: Subject, theirs: Blip2ForConditionalGeneration, size: int) -> Row:
    """Compare a step of stage 1: theirs encodes pictures every time and scores all positions."""
    (config, text, _), queries = stages(of.profile)["stage 1"], theirs.config.num_query_tokens
    batch = as_theirs(theirs, texts(of, size, text, answer=config.max_answer, queries=queries))
    pixels = pictures(of, size).to(theirs.dtype)
    optimizer = torch.optim.AdamW(theirs.language_projection.parameters())

    def usual() -> None:
        theirs(pixel_values=pixels, **batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return compared(of, f"a step of stage 1 with {size} samples", usual, step(of, "stage 1", size))


def usual_answering(of: Subject, theirs: Blip2ForConditionalGeneration, rows: int) -> Row:
    """Compare greedy answers: theirs by transformers' own generation."""
    asked = as_theirs(theirs, texts(of, rows, PROMPT, queries=theirs.config.num_query_tokens))
    pixels = pictures(of, rows).to(theirs.dtype)
    length = {"min_new_tokens": of.tokens, "max_new_tokens": of.tokens, "do_sample": False, "pad_token_id": 0}
    usual = partial(theirs.generate, pixel_values=pixels, **asked, **length)
    return compared(of, f"answers about {rows}", usual, writing(of, rows, of.tokens))


# --- the run ---


def tasks(of: Subject) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield a profile's measurements, a full-size one's also in fewer bits if bitsandbytes is installed."""
    share = stages(of.profile)["stage 1"][2]
    yield "pictures", at_most(partial(encoding, of), starting_batch_size=share)
    yield from own_tasks(of)
    theirs = usual_blip2(of.profile, of.model, of.dtype)
    yield "the usual step", at_most(partial(usual_training, of, theirs), starting_batch_size=share)
    for rows in (1, 16):
        yield f"the usual answers about {rows}", partial(usual_answering, of, theirs, rows)
    del theirs
    for bits in BITS if of.profile.release and find_spec("bitsandbytes") else ():
        yield from own_tasks(replace(of, name=f"{of.name} in {bits}", model=quantised(of.model, bits)))


def own_tasks(of: Subject) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield the measurements of one model's training and answers."""
    for stage, (_, _, size) in stages(of.profile).items():
        yield f"{of.name}: {stage}", at_most(partial(training, of, stage), starting_batch_size=size)
    for rows, tokens in ((1, 1), (1, of.tokens), (16, of.tokens)):
        yield f"{of.name}: {tokens} tokens about {rows}", partial(answering, of, rows, tokens)


def ceilings(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Return the FLOP a second of one large matrix product and the bytes a second of one large copy."""
    side, copied = (1_024, 1 << 26) if device.type == "cpu" else (8_192, 1 << 30)
    matrix = torch.randn(side, side, device=device).to(dtype)
    block = torch.zeros(copied, dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    flops = 2 * side**3 / seconds(lambda: matrix @ matrix, 1.0)
    return flops, 2 * copied / seconds(lambda: other.copy_(block), 1.0)


def bench(
    chosen: Profile, *, at_least: float = 2.0, tokens: int = 64, file: Path = RUNS / "bench.json"
) -> int:
    """Measure a profile, each task for `at_least` seconds, and write each result at once to `file`, which has
    an entry for each profile. Returns 1 if a task failed, which the entry names.
    """
    device, machine = devices.pick(), here()
    dtype = devices.frozen_dtype(device)
    torch.manual_seed(0)
    ceiling, bandwidth = ceilings(device, dtype)
    model = random_model(chosen, device, dtype)
    of = Subject(chosen.name, chosen, model, device, dtype, ceiling, bandwidth, at_least, tokens)
    entry: Row = {"date": date.today().isoformat(), **asdict(machine)}
    entry |= {"ceiling": ceiling, "bandwidth": bandwidth}
    entry |= {"torch": torch.__version__, "transformers": transformers.__version__}
    entry |= {"measured": [], "ratios": [], "failed": {}}
    others = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    print(f"{chosen.name} on {machine}; {bandwidth / 1e9:,.3g} GB/s", flush=True)
    for what, task in tasks(of):
        try:
            found = task()
            entry["ratios" if "ratio" in found else "measured"].append(found)
            print(line(found), flush=True)
        except Exception as error:  # the others go on
            entry["failed"][what] = f"{type(error).__name__}: {error}"
            print(f"{what} failed: {entry['failed'][what]}", flush=True)
        write_json(file, {**others, chosen.name: entry})
    return int(bool(entry["failed"]))


def line(found: Row) -> str:
    """Return a measurement as it is printed."""
    if "ratio" in found:
        return f"{found['name']:70} {found['ratio']:5.2f}x  ({found['low']:.2f} to {found['high']:.2f})"
    what = f"{found['model']}: {found['what']}, {found['at_once']} at once"
    return (
        f"{what:70} {found['rate']:10,.2f} {found['unit']} a second, "
        f"{found['share']:.0%} of the ceiling, {found['peak'] / 1e9:.1f} GB"
    )


def run(settings: Settings) -> int:
    """Run `bench`; raises ValueError for a full-size profile without an NVIDIA card."""
    chosen = settings.found()
    if chosen.release is not None and devices.pick().type != "cuda":
        raise ValueError(
            f"{chosen.name} is measured on an NVIDIA card, and there is none here: copy this folder to a "
            "machine that has one, and bring its runs/bench.json back."
        )
    return bench(chosen)
