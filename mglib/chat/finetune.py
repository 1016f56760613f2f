"""`make finetune`: stage 2's training on your own pictures, from the model of `make chat` to a folder that
`make chat` can load. What is trained, for how long and in how much memory is printed before it begins.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import pandas
import torch
from accelerate.utils import send_to_device
from torch import Tensor

from mglib.chat.answer import answer
from mglib.chat.chat_model import ChatModel, chat_model_of, load, save, trained_folder
from mglib.config import LoRAConfig, Profile, TrainConfig
from mglib.data.own import SHAPES, AnsweredPicture, read_own
from mglib.data.pictures import print_files_used
from mglib.data.quarantine import Quarantine
from mglib.data.splits import Split, batched, file_split
from mglib.errors import needed
from mglib.evals.generate import losses
from mglib.experiments.lora import Answered, Asked, answering
from mglib.keys import hash_source
from mglib.metrics import Counts, paired
from mglib.model.decoding import greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import CAPTION, answer_tokens, template
from mglib.model.vision import Vision, preprocess
from mglib.paths import CACHE, RUNS, hash_json, read_jsonl, sha256
from mglib.settings import Settings
from mglib.study.machine import here, peak_bytes
from mglib.study.models import INSTRUCTIONS
from mglib.study.stage1 import finished_stage1, join_parts, stage1_pairs
from mglib.study.stage2 import replaying
from mglib.study.study import Study
from mglib.study.train import training_run
from mglib.training.checkpoint import trainable
from mglib.training.early_stopping import fit_with_early_stopping
from mglib.training.feature_cache import cached
from mglib.weights.lora import lora_weights, with_lora
from mglib.weights.saved import CONFIG, lora_config, read_config
from mglib.weights.tensors import hash_tensors

HELD_OUT = 10  # every tenth picture is held out
LOOKS = 10  # evaluations of the held-out loss, evenly spaced over the training
PATIENCE = 3  # evaluations without a lower loss
BAD = 0.25  # share of the pairs that may be unusable
SHOWN = 5  # held-out pictures whose answers are shown
PRINTED = 20  # faults; the file lists all
WATCHED = 100  # pairs of stage 1 whose loss is monitored, none of them replayed
RISE = 0.02  # of that loss, above which a remedy is printed
SLOWER = 0.5  # of stage 2's rate: the largest of 1, 1/2 and 1/3 at which mini reliably forgets nothing on val
LORA_RATE = 1e-4  # if the profile has no rate of its own


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """The user's own pairs for training: each picture once, and the questions about them."""

    files: tuple[Path, ...]
    pictures: Split
    learnt: tuple[Asked, ...]  # each the index of a picture, a question, an answer
    held: tuple[Asked, ...]

    @property
    def shown(self) -> tuple[Asked, ...]:
        """The first question about each of the first held-out pictures."""
        first = {index: (index, question, said) for index, question, said in reversed(self.held)}
        return tuple(sorted(first.values()))[:SHOWN]

    def ask(self, chat_model: ChatModel, tokens: int) -> list[str]:
        """Return a model's greedy answers to the questions in `shown`."""
        files = [self.files[index] for index, _, _ in self.shown]
        return answer(chat_model, files, [question for _, question, _ in self.shown], greedy(tokens))


def own_data(pairs: Sequence[AnsweredPicture], *, seed: int) -> OwnData:
    """Hold out every tenth picture with all its questions; a picture without a question gets one of stage
    2's, drawn by the seed. Identical files count once. Raises ValueError for fewer than two pictures.
    """
    hash_of = {pair.file: sha256(pair.file) for pair in pairs}
    file_of = {digest: file for file, digest in reversed(hash_of.items())}
    files = tuple(sorted(file_of.values()))
    if len(files) < 2:
        raise ValueError("At least two different pictures are needed: one to learn from, one held out.")
    index = {hash_of[file]: number for number, file in enumerate(files)}
    rows: list[Asked] = []
    for pair in pairs:
        drawn = random.Random(f"{seed}/{hash_of[pair.file]}").choice(INSTRUCTIONS)
        rows.append((index[hash_of[pair.file]], pair.question or drawn, pair.answer))
    held = range(0, len(files), HELD_OUT)
    return OwnData(
        files=files,
        pictures=file_split("own", files, [""] * len(files)),
        learnt=tuple(row for row in rows if row[0] not in held),
        held=tuple(row for row in rows if row[0] in held),
    )


def start(settings: Settings, projection: Path | None) -> ChatModel:
    """Return the model to start from: the given one, else the profile's own after stage 2, else published
    parts after stage 1. Nothing is trained: raises FileNotFoundError with the command that makes what is
    missing.
    """
    study = Study.open(settings)
    if projection is not None or trained_folder(study) or study.has_blip2:
        return load(settings, projection)
    model = join_parts(study)
    if finished_stage1(study, model) is None:
        raise FileNotFoundError(
            f"There is no stage 1 of {settings.name} to start from: `{settings.command('train')}` trains it, "
            "or name a file or folder with PROJECTION=."
        )
    return chat_model_of(study, model.eval())


def finetune_config(profile: Profile, count: int, *, lora: bool, replay: bool) -> TrainConfig:
    """Return stage 2's settings for `count` pairs: as many samples as the profile's stage 2 reads, but each
    pair at least once, and with `replay` at a lower rate. With `lora`, the low-rank updates' rate, and AdamW.
    """
    base = profile.stage2
    batch = min(base.batch_size, count)
    steps = -(-max(base.steps * base.batch_size, count) // batch)
    part = SLOWER if replay else 1
    changed = replace(
        base,
        lr=part * base.lr,
        min_lr=part * base.min_lr,
        steps=steps,
        batch_size=batch,
        warmup_steps=round(base.warmup_steps * steps / base.steps),
        save_every=max(1, steps // LOOKS),
        keep=tuple((look + 1) / LOOKS for look in range(LOOKS)),
    )
    if not lora:
        return changed
    rates = profile.lora.train if profile.lora else replace(base, lr=LORA_RATE, min_lr=LORA_RATE / 10)
    return replace(changed, lr=rates.lr, min_lr=rates.min_lr, muon=False)


def to_train(
    model: MiniGPT4, known: LoRAConfig | None, profile: Profile, config: TrainConfig, *, lora: bool, seed: int
) -> tuple[MiniGPT4, LoRAConfig | None]:
    """Return the model with only the weights to train unfrozen, and the settings of its low-rank updates;
    `known` are those of existing updates, which are trained further with `lora` and stay frozen without.
    """
    model.requires_grad_(False)
    model.projection.requires_grad_(True)
    for weight in lora_weights(model.language).values():
        weight.requires_grad_(lora)
    if not lora:
        return model, known
    updates = replace(known or profile.lora or LoRAConfig(train=config), train=config)
    there = {name.rpartition(".")[2] for name, _ in model.language.named_modules()}
    if absent := {*updates.targets} - there:
        raise ValueError(
            f"This language model has no layers named {', '.join(sorted(absent))}, to which LORA adds "
            "updates: fine-tune without LORA."
        )
    return (model if known else with_lora(model, updates, seed=seed)), updates


def kept_queries(study: Study, chat_model: ChatModel, split: Split) -> Sequence[Tensor]:
    """Return the Q-Former's output for each picture, (Q, D_q), cached as all features are."""
    qformer = chat_model.model.qformer
    code, weights = hash_source(preprocess, Vision, type(qformer)), hash_tensors(qformer.state_dict())
    folder = study.features_folder("queries", split, "from pictures", code, weights)
    what = f"pictures of {split.name}"
    return cached(folder, split.images, len(split), chat_model.queries, what=what, batch_size=8)


def beyond(study: Study, count: int) -> Split | None:
    """Return pairs of stage 1 that come after the first `count`, or None if no more are on disk."""
    longer, shorter = stage1_pairs(study, count + WATCHED), stage1_pairs(study, count)
    if longer is None or shorter is None:
        return None
    read = set(zip(shorter.hashes, shorter.captions, strict=True))
    new = [pair not in read for pair in zip(longer.hashes, longer.captions, strict=True)]
    if not any(new):
        return None
    return replace(
        longer,
        hashes=tuple(compress(longer.hashes, new)),
        captions=tuple(compress(longer.captions, new)),
        images=lambda: compress(longer.images(), new),
    )


def retention(study: Study, chat_model: ChatModel, watched: Split) -> Counts:
    """Return the loss of each monitored caption of stage 1, in stage 1's form, over its tokens."""
    seen = kept_queries(study, chat_model, watched)
    model, longest = chat_model.model, study.profile.stage1.max_answer
    return Counts(*losses(model, seen, watched.captions, CAPTION, max_answer=longest, batch_size=8))


def seconds_a_step(model: MiniGPT4, batch: dict[str, Tensor], study: Study) -> float:
    """Time one forward and backward pass, after a warm-up; no weight or gradient changes."""
    for _ in range(2):
        began = time.monotonic()
        with torch.autocast(study.device.type, torch.bfloat16, enabled=study.bf16):
            output = model(send_to_device(batch, study.device))
        output["loss"].backward()
        model.zero_grad(set_to_none=True)
        output["loss"].item()  # waits for a GPU
    return time.monotonic() - began


def finetune(
    settings: Settings,
    data: Path | None,
    out: Path | None = None,
    *,
    projection: Path | None = None,
    lora: bool = False,
    replay: bool = True,
) -> pandas.DataFrame:
    """Fine-tune on the user's own pictures into the folder `out`, and print and return the answers before and
    after.

    A stopped run resumes with the same command; a finished one is not trained again. Raises FileExistsError
    if `out` holds another model.
    """
    if data is None:
        raise ValueError(f"No pictures are named: make finetune DATA=folder. DATA is {SHAPES}.")
    out = out or RUNS / f"{settings.name}-{data.stem}{'-lora' if lora else ''}"
    quarantine = Quarantine(CACHE / "own" / f"{hash_json(data.resolve())}-bad.jsonl", share=BAD)
    used: set[Path] = set()
    pairs = list(quarantine.sift(read_own(data, used)))
    print(f"{data}: {len(pairs):,} answers about {len({pair.file for pair in pairs}):,} pictures")
    print("".join(f"  {fault}\n" for fault in list(quarantine.faults)[:PRINTED]), end="")
    print_files_used(data, used)
    first = start(settings, projection)
    study = Study.open(replace(settings, seed=first.origin["seed"], weights=first.origin["weights"]))
    own = own_data(pairs, seed=study.seed)
    config = finetune_config(study.profile, len(own.learnt), lora=lora, replay=replay)
    print(cut_off(first, pairs, config.max_answer), end="")
    known = lora_config(read_config(projection)) if projection and projection.is_dir() else None
    model, known = to_train(first.model, known, study.profile, config, lora=lora, seed=study.seed)
    again = stage1_pairs(study, config.steps * config.batch_size) if replay else None
    watched = beyond(study, config.steps * config.batch_size)
    announce(study, model, own, again, config, lora=lora, replay=replay)
    began = time.monotonic()
    rows = [
        {"picture": own.files[index].name, "question": asked, "given": said}
        for index, asked, said in own.shown
    ]
    table = pandas.DataFrame(rows).assign(before=own.ask(first, config.max_answer))
    loss = retention(study, first, watched) if watched else None
    last = replace(first, model=model)
    name = learn(study, last, own, again, config, out)
    save(last, out, lora=known, training=name, data=data.name)
    table["after"] = own.ask(last, config.max_answer)
    if watched and loss:
        print(forgotten(loss, retention(study, last, watched), replay=replay))
    minutes = (time.monotonic() - began) / 60
    print(f"It took {minutes:.1f} min and at most {peak_bytes(study.device) / 1e9:.1f} GB.")
    for line in table.to_dict("records"):
        print("\n" + "\n".join(f"{name:>9}: {text}" for name, text in line.items()))
    print(f"\nTalk with it: {settings.command('chat', PROJECTION=out, IMAGE='picture.jpg')}")
    return table


def cut_off(chat_model: ChatModel, pairs: Sequence[AnsweredPicture], longest: int) -> str:
    """Return a warning about answers of which only the beginning is learnt or said: those with more than
    `longest` tokens, and those that contain an end symbol, at which this model stops.
    """
    tokenizer, end = chat_model.model.language.tokenizer, chat_model.turns.first.end
    long = sum(len(answer_tokens(tokenizer, pair.answer, end)) > longest for pair in pairs)
    said = f"{long} answers are longer than {longest} tokens, of which no more is learnt: split them.\n"
    ends = chat_model.turns.ends(tokenizer)
    found = [(end, pair) for pair in pairs for end in dict.fromkeys(ends) if end in pair.answer]
    lines = [f"  {pair.file}: {pair.answer[:80]!r} holds {end}\n" for end, pair in found[:PRINTED]]
    head = (
        f"{len(found)} answers hold a symbol that ends an answer: what comes after it is learnt, but the "
        "model stops there when it speaks. Take it out:\n"
    )
    return (said if long else "") + (head + "".join(lines) if found else "")


def announce(
    study: Study,
    model: MiniGPT4,
    own: OwnData,
    again: Split | None,
    config: TrainConfig,
    *,
    lora: bool,
    replay: bool,
) -> None:
    """Print what will be trained and on what."""
    count = sum(weight.numel() for weight in trainable(model).values())
    if again is not None:
        others = f"each step replays as many pairs of stage 1, out of {len(again):,}, against forgetting"
    elif replay:
        others = "no pairs of stage 1 are on disk: none is replayed, and more is forgotten"
    else:
        others = "nothing of stage 1 is replayed, as in the paper's stage 2: more is forgotten"
    print(
        f"to be trained: the projection{' and low-rank updates of the language model' if lora else ''}, "
        f"{count:,} weights of {study.profile.name}, on {len(own.learnt):,} answers; {len(own.held):,} are "
        f"held out\n{others}\nat most {config.steps:,} steps of {config.batch_size} answers, until the "
        f"held-out loss has not fallen for {PATIENCE} looks of {LOOKS}\nthis machine: {here()}",
        flush=True,
    )


def learn(
    study: Study, chat_model: ChatModel, own: OwnData, again: Split | None, config: TrainConfig, out: Path
) -> str:
    """Train a model, leave its best weights in it, and print the losses; returns the training's name, by
    which a finished one is recognised in `out`.
    """
    model = chat_model.model
    queries = kept_queries(study, chat_model, own.pictures)
    form = template(study.profile.language.template, model.language.tokenizer)
    rows = Answered(queries, own.learnt)
    collate = asked = answering(model, form, "{}", config.max_answer)
    depends: dict[str, object] = {
        "pictures": hash_tensors(dict(enumerate(queries))),
        "learnt": own.learnt,
        "held": own.held,
    }
    if again is not None:
        seen = kept_queries(study, chat_model, again)
        collate = replaying(study, model, asked, seen, again.captions)
        depends |= {"replayed": again.captions, "replayed_pictures": hash_tensors(dict(enumerate(seen)))}
    held_rows = Answered(queries, own.held)
    batches = [
        asked([held_rows[place] for place in places])
        for places in batched(range(len(own.held)), config.batch_size)
    ]
    depends |= {"lora": hash_tensors(lora_weights(model.language)), "wording": form, "patience": PATIENCE}
    run = training_run(study, model, rows, collate, config, "finetune", **depends)
    folder = run.folder
    if (out / CONFIG).exists() and read_config(out).get("run", {}).get("training") != folder.name:
        raise FileExistsError(f"{out} holds another model: choose another OUT, or move it away.")
    step = seconds_a_step(model, collate([rows[index] for index in range(config.batch_size)]), study)
    print(
        f"a step takes {step:.1f} s: all of them at most {config.steps * step / 60:.1f} min, in about "
        f"{peak_bytes(study.device) / 1e9:.1f} GB",
        flush=True,
    )
    looks = fit_with_early_stopping(model, rows, collate, run, held_out=batches, patience=PATIENCE)
    model.requires_grad_(False)
    show_losses(looks, read_jsonl(folder / "log.jsonl"))
    return folder.name


def show_losses(looks: Sequence[dict[str, float]], log: Sequence[dict[str, float]]) -> None:
    """Print the held-out loss at each evaluation, the mean training loss since the previous one, and which
    weights are kept.
    """
    table = pandas.DataFrame(looks).rename(columns={"loss": "held out"})
    steps = pandas.DataFrame(log)
    look = pandas.cut(steps["step"], table["step"], labels=table["step"][1:])
    table.insert(1, "training loss", table["step"].map(steps.groupby(look, observed=True)["loss"].mean()))
    print(table.to_string(index=False, float_format="{:.3f}".format, na_rep="-"))
    best = min(looks, key=lambda look: look["loss"])
    if best["step"] == 0:
        print("The held-out answers did not become likelier: what is kept is the model as it was.")
    else:
        print(f"The weights after step {best['step']} are kept: held-out loss {best['loss']:.3f}.")


def forgotten(before: Counts, after: Counts, *, replay: bool) -> str:
    """Return how the loss of the monitored captions changed, and what to do if it rose."""
    first = needed(before.estimate(), "captions of stage 1")
    change = needed(paired(after, before), "captions of stage 1")
    said = (
        f"{first.n} captions of stage 1 that were not learnt here: loss {first.value:.3f} before, changed by "
        f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]."
    )
    if change.value <= RISE:
        return said
    remedy = (
        "compare it with LORA=1, or with fewer answers of one kind, before you keep it"
        if replay
        else "leave REPLAY=0 out: pairs of stage 1 are then replayed"
    )
    return f"{said}\nThat is a rise of more than {RISE}, so something is forgotten: {remedy}."
