"""What stage 1 changes: the model's answers over training and against controls, and the faults that remain
(notebook 02; paper, sections 3.1 and 3.2).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas
from torch import Tensor

from mglib import frame, metrics
from mglib.config import Stage1Trial, TrainConfig
from mglib.evals import generate
from mglib.evals.failures import DESCRIBE, Detector, cut, truths
from mglib.experiments import abilities
from mglib.mentions import object_counts
from mglib.metrics import Counts
from mglib.model import prompts
from mglib.model.decoding import Decoding, greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.study.models import prompted_stage1
from mglib.study.stage1 import Stage1, init_model, random_model, train_stage1
from mglib.study.study import Study
from mglib.study.train import Trained
from mglib.training.checkpoint import restore
from mglib.training.loop import kept

FAULTS = {"repetition": "repetition", "fragment": "fragment", "drift": "off-topic"}  # ours -> the detector's


def layout(study: Study, base: Stage1) -> pandas.DataFrame:
    """Return the language model's input for the first picture of val, one row per position."""
    batch = prompts.training_batch(
        base.language.tokenizer,
        prompts.CAPTION,
        [prompts.IMAGE],
        base.splits["val"].captions[:1],
        queries=study.profile.qformer.queries,
        max_answer=study.profile.stage1.max_answer,
    )
    ids, slots, labels = (batch[name][0].tolist() for name in ("ids", "slots", "labels"))

    def shown(token: int) -> str:
        return "-" if token == prompts.IGNORE else repr(base.language.tokenizer.decode([token]))

    read = ["(visual)" if slot else shown(token) for token, slot in zip(ids, slots, strict=True)]
    counted = list(map(shown, labels))
    table = {"position": range(len(ids)), "token read": read, "label (counts in the loss)": counted}
    return pandas.DataFrame(table)


def caption_loss(
    study: Study, model: MiniGPT4, shown: list[Tensor], captions: list[str] | tuple[str, ...]
) -> Counts:
    """Return the loss per caption token of pictures, (Q, D_q) each, laid out as in stage 1."""
    most, size = study.profile.stage1.max_answer, study.profile.evaluation.batch_size
    return Counts(*generate.losses(model, shown, captions, prompts.CAPTION, max_answer=most, batch_size=size))


def captions(study: Study, model: MiniGPT4, shown: list[Tensor], *, what: str) -> list[str]:
    """Let a model caption pictures greedily."""
    settings = study.profile.evaluation
    decoding = greedy(settings.max_new_tokens)
    return generate.answers(
        model, shown, prompts.CAPTION, prompts.IMAGE, decoding, what=what, batch_size=settings.batch_size
    )


# --- The choice of start, rate and steps ---


def trials(study: Study, base: Stage1) -> pandas.DataFrame:
    """Run stage 1 in full from each start, at each rate and length that the profile compares, and evaluate on
    val; repeat the profile's own choice and the best other one from two further seeds.
    """
    tried = study.profile.stage1_trials
    own = [of_trial(study, one) is study for one in tried]
    first = pandas.DataFrame([evaluated(study, base, one) for one in tried])
    best = first["chair_i"].astype(float).mask(own).nsmallest(1).index
    finalists = [one for place, one in enumerate(tried) if own[place] or place in best]
    further = [replace(study, seed=study.seed + k) for k in (1, 2)]
    again = [evaluated(another, base, one) for another in further for one in finalists]
    return pandas.concat([first, pandas.DataFrame(again)], ignore_index=True)


def evaluated(study: Study, base: Stage1, one: Stage1Trial) -> dict[str, str | float | None]:
    """Train one of the profile's trials and return its row of the table."""
    parts = base.model.qformer, base.language, base.splits["train"], base.queries["train"]
    model, _ = train_stage1(of_trial(study, one), *parts)
    return {
        "start": start_name(one.warm_start),
        "lr": one.lr,
        "steps": one.steps,
        "seed": study.seed,
        **seen_on_val(study, base, model),
    }


def at_rate(config: TrainConfig, rate: float) -> TrainConfig:
    """Return the settings at another learning rate, decaying to a tenth of it; unchanged at their own."""
    return config if rate == config.lr else replace(config, lr=rate, min_lr=rate / 10)


def trial(config: TrainConfig, rate: float, steps: int) -> TrainConfig:
    """Return the settings of a short run at one rate, with the whole schedule scaled down."""
    warmup = config.warmup_steps * steps // config.steps
    return replace(at_rate(config, rate), steps=steps, warmup_steps=warmup)


def of_trial(study: Study, one: Stage1Trial) -> Study:
    """Return the study with a trial in place of its stage 1; the study itself if they are the same."""
    profile, config = study.profile, study.profile.stage1
    if (one.warm_start, one.lr, one.steps) == (profile.warm_start, config.lr, config.steps):
        return study
    run = replace(trial(config, one.lr, one.steps), keep=(1.0,))
    return replace(study, profile=replace(profile, warm_start=one.warm_start, stage1=run))


def start_name(warm_start: float | None) -> str:
    """Name a start: its regression's penalty, or *random*."""
    return "random" if warm_start is None else f"{warm_start:g}"


def seen_on_val(study: Study, base: Stage1, model: MiniGPT4) -> dict[str, float | None]:
    """Return scores of a model's captions of val, its loss on the web captions, CHAIR_i of its descriptions,
    and the share of Table 1's items that its answers fulfil.

    Captions and descriptions are greedy; descriptions are asked for in the chat template, as after stage 1.
    """
    settings, val, shown = study.profile.evaluation, base.splits["val"], list(base.queries["val"])
    said, words = captions(study, model, shown, what="captions of val"), study.vocabulary()
    scores = object_counts([words.mentions(text) for text in said], val.objects)
    few, prompted = shown[: settings.fault_pictures], replace(prompted_stage1(study, base), model=model)
    described = prompted.answers(
        few, DESCRIBE, greedy(settings.long_tokens), batch_size=settings.batch_size, what="descriptions"
    )
    at_length = object_counts([words.mentions(text) for text in described], val.objects[: len(few)])
    found = {
        "loss": caption_loss(study, model, shown, val.captions),
        **{name: scores[name] for name in ("mention_precision", "mention_recall")},
        "description_chair_i": at_length["chair_i"],
    }
    return {
        **metrics.columns("chair_i", scores["chair_i"].estimate()),
        **{name: one.value if (one := counts.estimate()) else None for name, counts in found.items()},
        **abilities.as_minigpt4(study, base, prompted),
    }


# --- What the training does ---


def checkpoint_curve(study: Study, base: Stage1) -> tuple[dict[str, list[str]], pandas.DataFrame]:
    """Follow the projection from its start through the checkpoints that training kept.

    Returns captions of the first pictures of val by checkpoint, and the loss on all of val, one row per
    checkpoint.
    """
    val, queries = base.splits["val"], list(base.queries["val"])
    few = queries[: study.profile.evaluation.shown]
    model, said, losses = init_model(study, base), {}, {}
    for when in along(model, base.trained):
        said[when] = captions(study, model, few, what=f"captions {when}")
        losses[when] = caption_loss(study, model, queries, val.captions)
    return said, loss_table(losses)


def along(model: MiniGPT4, trained: Trained) -> Iterator[str]:
    """Load each checkpoint of a training into its untrained model in turn, and yield when it was saved."""
    yield "at the start"
    for state in kept(trained.folder):
        yield f"after {restore(model, state)['step']:,} steps"


def loss_table(losses: Mapping[str, Counts]) -> pandas.DataFrame:
    """Return losses with their intervals, one row per checkpoint."""
    name = "loss of a token, nats"
    lines = [{"weights": when, **metrics.columns(name, loss.estimate())} for when, loss in losses.items()]
    return pandas.DataFrame(lines).rename(columns=metrics.INTERVAL)


# --- Controls ---

CONTROLS = {  # by the ending of a number's name
    "": "trained",
    "start": "start by regression, no gradient step",
    "untrained": "random projection",
    "shuffled": "another picture of the split",
    "drop": "own minus another picture",
    "of_captions": "what the web captions name",
}


def controlled(study: Study, base: Stage1) -> tuple[pandas.DataFrame, dict[str, list[str]]]:
    """Compare the model on the test splits with its controls, which run on the first split only.

    Returns the numbers, including the recall of the web captions themselves, at which recall saturates; and
    the trained model's captions of each split.
    """
    models = {"": base.model, "untrained": random_model(study, base), "shuffled": base.model}
    if study.profile.warm_start is not None:
        models["start"] = init_model(study, base)
    said: dict[str, list[str]] = {}
    words, found = study.vocabulary(), []
    about = f"{study.pictures('test')}, {study.profile.language.name}, greedy"
    for name in study.tests:
        split, rows = base.splits[name], {}
        for control in [one for one in CONTROLS if one in models and (not one or name == study.tests[0])]:
            model, order = models[control], list(range(len(split)))
            if control == "shuffled":
                order = metrics.derangement(len(split))
            shown = [base.queries[name][index] for index in order]
            texts = captions(study, model, shown, what=f"{name} {control}")
            said.setdefault(name, texts)
            rows[control] = {
                "loss": caption_loss(study, model, shown, split.captions),
                **object_counts([words.mentions(text) for text in texts], split.objects),
            }
        notes = {control: f"control: {CONTROLS[control]}" if control else about for control in rows}
        found.append(frame.rows("stage1", rows, remarks=notes, split=name))
        if "shuffled" in rows:
            lost = {
                what: metrics.paired(rows[""][what], rows["shuffled"][what])
                for what in ("mention_precision", "mention_recall")
            }
            note = f"own picture minus another one, paired; {name}"
            found.append(frame.rows("stage1", {"drop": lost}, note=note))
        if any(split.captions):
            named = object_counts([words.mentions(text) for text in split.captions], split.objects)
            own = {"of_captions": {"mention_recall": named["mention_recall"]}}
            note = "what the web captions themselves name: the level at which recall saturates"
            found.append(frame.rows("stage1", own, note=note, split=name))
    return frame.concat(*found), said


# --- Faults ---


def detected(
    study: Study, base: Stage1, split: str, texts: Sequence[str], most: int, *, poem: bool = False
) -> list[set[str]]:
    """Return the failures of each answer about the first pictures of a split; `most` is the token limit."""
    detector, known = Detector(study.vocabulary()), truths(base.splits[split], study.scenes(split))
    return [
        detector.failures(text, truth, poem=poem, cut=cut(text, base.language.tokenizer, most))
        for text, truth in zip(texts, known, strict=False)
    ]


def faults(study: Study, base: Stage1) -> tuple[pandas.DataFrame, dict[str, list[str]]]:
    """Ask for detailed descriptions of val after stage 1 alone: the share of answers with each fault, and the
    answers, by decoding. Drift is left out if there are no scene graphs.
    """
    settings, prompted = study.profile.evaluation, prompted_stage1(study, base)
    longest, asked = settings.long_tokens, list(base.queries["val"])[: settings.fault_pictures]
    known = study.scenes("val") is not None
    texts, shares = {}, {}
    for name, decoding in {"sampled": Decoding(max_new_tokens=longest), "greedy": greedy(longest)}.items():
        texts[name] = prompted.answers(asked, DESCRIBE, decoding, batch_size=settings.batch_size, what=name)
        found = detected(study, base, "val", texts[name], longest)
        shares[name] = {
            f"fault.{fault}": metrics.each([float(kind in each) for each in found])
            for fault, kind in FAULTS.items()
            if known or kind != "off-topic"
        }
    note = f"detailed descriptions on val, chat template, at most {longest} tokens"
    return frame.rows("stage1", shares, note=note), texts


def shared_by_pictures(study: Study, base: Stage1) -> pandas.DataFrame:
    """Return the share of the queries' mean square that is the same in all pictures of val."""
    queries = base.queries["val"].batch(range(len(base.splits["val"]))).float()  # (P, Q, D_q)
    share = 1 - ((queries - queries.mean(0)).square().mean() / queries.square().mean()).item()
    note = "share of the mean square of the queries' values that is the same in all pictures of val"
    return frame.rows("stage1", {"": {"shared_by_pictures": share}}, note=note)


def speed(study: Study, base: Stage1) -> pandas.DataFrame:
    """Return the median speed of training; no number if the projection is the authors' own."""
    if not base.trained.log:
        reason = "the projection is the authors' own: nothing was trained here"
        return frame.absent("stage1", "samples_per_second", reason)
    how = "queries cached" if "train" in base.queries else "pairs streamed"
    note = f"median over steps on {study.device}, {how}; depends on the machine; paper: derived, per A100"
    median = pandas.DataFrame(base.trained.log)["samples_per_second"].median()
    return frame.rows("stage1", {"": {"samples_per_second": median}}, note=note)
