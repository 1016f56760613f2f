"""What stage 2 changes: the loss on held-out texts, and Table 3's failures before and after (notebook 04;
paper, sections 3.3 and 4.3.1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean as mean

import pandas
import torch
from PIL import Image

from mglib import frame, metrics
from mglib.errors import needed
from mglib.evals import generate
from mglib.evals.failures import DESCRIBE, KINDS, POEM, Detector, failed, kappa, read_labels, verdict
from mglib.experiments import abilities
from mglib.experiments.stage1 import along, at_rate, detected, loss_table
from mglib.metrics import Counts
from mglib.model.decoding import Decoding, greedy, row_seed
from mglib.model.dialogue import reply, turns
from mglib.study import display_names
from mglib.study.models import PromptedModel, prompted_blip2, prompted_stage1
from mglib.study.stage1 import Stage1
from mglib.study.stage2 import Stage2Data, train_stage2, with_own_projection
from mglib.study.study import Study
from mglib.study.train import Trained
from mglib.world.scene import read_scenes

REQUESTS = {"describe": DESCRIBE, "poem": POEM}
LESSONS = {
    "curated": "curated",
    "locna": "Localized Narratives",
    "oracle": "true descriptions",
    "official": "official curated pairs",
}
VARIANTS = ("locna", "oracle", "blip2_ft")  # of stage 2, if a profile has their texts or baseline


# --- The loss on held-out texts ---


def overview(lessons: Mapping[str, Stage2Data]) -> pandas.DataFrame:
    """Return how many texts of each kind there are and how long they are."""
    rows = []
    for name, lesson in lessons.items():
        texts = lesson.texts + lesson.held_texts
        row = {"texts": LESSONS[name], "pictures": len(texts), "of these held out": len(lesson.held_texts)}
        length = mean(len(metrics.words(text)) for text in texts)
        rows.append({**row, "words a text": length, "the first": texts[0]})
    return pandas.DataFrame(rows)


def held_out_loss(study: Study, prompted: PromptedModel, lesson: Stage2Data) -> Counts:
    """Count the loss per token on the held-out texts."""
    counts = generate.losses(
        prompted.model,
        lesson.held_queries,
        lesson.held_texts,
        prompted.template,
        max_answer=study.profile.stage2.max_answer,
        batch_size=study.profile.evaluation.batch_size // 4,
        question=prompted.questions[0],
    )
    return Counts(*counts)


def rates(study: Study, base: Stage1, lesson: Stage2Data) -> pandas.DataFrame:
    """Train stage 2 at each rate of the profile and evaluate on val: both tasks of Table 3, and Table 1.

    `balance` is the mean of three shares: sampled descriptions and poems that do not fail, and items of
    Table 1 that answers fulfil. The loss on held-out texts is no criterion: they are descriptions only, and
    the rate that fits them best turns every answer into one.
    """
    before, own, rows = prompted_stage1(study, base), study.profile.stage2, []
    for rate in study.profile.stage2_rates:
        config = at_rate(own, rate)
        what = "minigpt4" if config == own else "rate"  # the study's own training is not repeated
        tried, _ = train_stage2(study, before, lesson, what=what, config=config)
        loss = needed(held_out_loss(study, tried, lesson).estimate(), "held-out texts").value
        seen = seen_on_val(study, base, tried)
        rows.append({"lr": rate, "steps": config.steps, **seen, "loss": loss})
    return pandas.DataFrame(rows)


def seen_on_val(study: Study, base: Stage1, model: PromptedModel) -> dict[str, float]:
    """Return a model's failure rates and Table 1 scores on val, and their balance (see `rates`)."""
    found = {}
    for task, way in (("describe", ""), ("poem", ""), ("describe", "greedy")):
        said = answer(study, base, model, "val", task, way, "on val")
        found[f"failed {said.asked}"] = needed(said.failed.estimate(), "answers").value
    found |= abilities.as_minigpt4(study, base, model)
    good = [1 - found[f"failed {each}, sampled"] for each in ASKED.values()]
    return {"balance": (sum(good) + found["items"]) / 3, **found}


def checkpoint_curve(
    study: Study, before: PromptedModel, lesson: Stage2Data, trained: Trained
) -> pandas.DataFrame:
    """Return the held-out loss at the start and at each checkpoint that training kept."""
    model = replace(before, model=with_own_projection(before.model))
    return loss_table({when: held_out_loss(study, model, lesson) for when in along(model.model, trained)})


@dataclass(frozen=True)
class Variant:
    """A model before and after stage 2 on the texts of one kind."""

    before: PromptedModel
    after: PromptedModel
    texts: str  # of LESSONS


def variants(study: Study, base: Stage1, lessons: Mapping[str, Stage2Data]) -> dict[str, Variant]:
    """Train on every kind of text, and BLIP-2 on the curated ones (sections 4.3.2 and 4.3.3)."""
    before = prompted_stage1(study, base)
    plans = {"minigpt4" if kind == "curated" else kind: (before, kind) for kind in lessons}
    if study.has_blip2:
        plans["blip2_ft"] = (prompted_blip2(study.blip2), "curated")
    return {
        name: Variant(start, train_stage2(study, start, lessons[kind], what=name)[0], kind)
        for name, (start, kind) in plans.items()
    }


def losses(
    study: Study, variants: Mapping[str, Variant], lessons: Mapping[str, Stage2Data]
) -> pandas.DataFrame:
    """Return the loss per token on the held-out texts of each variant's kind, before stage 2 and after it."""
    found = []
    for name, one in variants.items():
        note = f"per token of held-out texts ({LESSONS[one.texts]})"
        note += "; evaluation only" if name == "oracle" else ""
        for when, model in {"before": one.before, "after": one.after}.items():
            system = join("" if name == "minigpt4" else name, "before" if when == "before" else "")
            loss = held_out_loss(study, model, lessons[one.texts])
            rows = frame.rows("stage2", {system: {"loss": loss}}, note=note)
            found.append(rows.assign(model=name, when=when))
    reason = "real pictures have no such texts or baseline here"
    for name in [name for name in VARIANTS if name not in variants]:
        rows = frame.absent("stage2", "loss", reason, system=name)
        found.append(rows.assign(model=name, when="after"))
    return frame.concat(*found)


# --- Table 3 ---

ASKED = {"describe": "descriptions", "poem": "poems"}
DECODED = {"": "sampled", "greedy": "greedy", "penalty": "greedy with penalty 1.2"}
LESS = {"cut": "before minus after", "half": "half of before minus after"}
ORACLE = "text_oracle"  # the language model, which reads the truth in words


def decoding_configs(study: Study) -> dict[str, Decoding]:
    """Return Table 3's decodings: official sampling, greedy, and greedy with a repetition penalty."""
    longest = study.profile.evaluation.failure_tokens
    return {
        "": Decoding(max_new_tokens=longest),
        "greedy": greedy(longest),
        "penalty": replace(greedy(longest), repetition_penalty=1.2),
    }


@dataclass(frozen=True)
class Answers:
    """A model's answers to one request under one decoding, before or after stage 2, with their failures."""

    task: str  # of REQUESTS
    decoding: str  # of DECODED
    when: str  # before, after or ORACLE
    texts: Sequence[str]
    failures: Sequence[set[str]]  # of KINDS

    @property
    def asked(self) -> str:
        """What was asked for and how it was decoded, in words."""
        return f"{ASKED[self.task]}, {DECODED[self.decoding]}"

    @property
    def failed(self) -> Counts:
        """Count the answers that fail in any way."""
        return metrics.each([float(bool(one)) for one in self.failures])


def answers(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> list[Answers]:
    """Let the models `before` and `after` describe the first pictures of the first test split and write poems
    about them, and detect failures.

    If there are scene graphs, *text_oracle* is the language model alone, given the truth in words, sampled.
    """
    split = study.tests[0]
    asked = list(product(REQUESTS, DECODED, models))
    if study.scenes(split) is not None:
        asked += [(task, "", ORACLE) for task in REQUESTS]
    models = {**models, ORACLE: models["before"]}
    return [answer(study, base, models[when], split, task, way, when) for task, way, when in asked]


def answer(
    study: Study, base: Stage1, model: PromptedModel, split: str, task: str, way: str, when: str
) -> Answers:
    """Put one request to a model about the first pictures of a split (the ORACLE reads their truth in words)
    and detect failures.
    """
    settings, decoding = study.profile.evaluation, decoding_configs(study)[way]
    few, size, what = settings.failure_pictures, settings.batch_size, join(task, when, way)
    if when == ORACLE:
        scenes = read_scenes(needed(study.scenes(split), "scene graphs"))[:few]
        said = abilities.in_words(scenes, REQUESTS[task])
        texts = generate.blind_answers(
            model.model, model.template, said, decoding, batch_size=size, what=what
        )
    else:
        queries = list(base.queries[split])[:few]
        texts = model.answers(queries, REQUESTS[task], decoding, batch_size=size, what=what)
    found = detected(study, base, split, texts, settings.failure_tokens, poem=task == "poem")
    return Answers(task, way, when, texts, found)


def failures(study: Study, answers: Sequence[Answers]) -> pandas.DataFrame:
    """Return the share of answers that failed, before and after stage 2, and, paired, before minus after and
    half of before minus after.
    """
    settings, name = study.profile.evaluation, study.tests[0]
    note = f"first {len(answers[0].texts)} of {name}, at most {settings.failure_tokens} tokens; "
    note += "judged by rules, the paper's by people"
    if study.scenes(name) is None:
        note += "; whether an answer keeps to a photograph is not judged"
    before = {one.asked: one.failed for one in answers if one.when == "before"}
    found = []
    for one in answers:
        system = join(one.task, one.when, one.decoding)
        rows = frame.rows("t3", {system: {"failure": one.failed}}, note=note)
        found.append(rows.assign(asked=one.asked, when=one.when))
        if one.when == "after":
            whole = before[one.asked]
            half = Counts([failed / 2 for failed in whole.found], whole.among)
            less = {what: metrics.paired(some, one.failed) for what, some in (("cut", whole), ("half", half))}
            notes = {what: f"{when}, paired; {note}" for what, when in LESS.items()}
            rows = frame.rows("t3", {join(one.task, one.decoding): less}, note=notes)
            found.append(rows.assign(asked=one.asked, when=rows["measure"].map(LESS)))
    return frame.concat(*found)


def failure_kinds(study: Study, answers: Sequence[Answers]) -> pandas.DataFrame:
    """Return the share of answers with each kind of failure, and their mean length.

    *off-topic* is left out if there are no scene graphs; *no-verse* applies to poems only.
    """
    kinds = [kind for kind in KINDS if kind != "off-topic" or study.scenes(study.tests[0])]
    rows = []
    for one in answers:
        row = {kind: mean(kind in each for each in one.failures) for kind in kinds}
        if one.task != "poem":
            row["no-verse"] = math.nan
        words = mean(len(metrics.words(text)) for text in one.texts)
        rows.append({"answers": f"{one.asked}, {one.when}", **row, "words": words})
    return pandas.DataFrame(rows)


def detector_agreement(study: Study) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Compare the rules with held-out labelled answers, failed or not: how often they are wrong, kappa of
    rules and labels, and kappa of the two labelling passes; and counts of both by kind.

    The labels are about drawn scenes; counts are empty if the study has other pictures.
    """
    if study.scenes(study.tests[0]) is None:
        reason = "the labelled answers are about drawn scenes"
        return frame.absent("t3", "detector.kappa", reason), pandas.DataFrame()
    detector, every = Detector(study.vocabulary()), read_labels()
    rows = every[every["split"] == "agreement"]
    ours = [verdict(detector, row) for row in rows.to_dict("records")]
    found, label = failed(ours), failed(rows["label"])
    measured: dict[str, frame.Measured] = {
        "detector.wrong": metrics.each([float(one != two) for one, two in zip(found, label, strict=True)]),
        "detector.kappa": kappa(found, label),
        "labels.kappa": kappa(failed(every["first"]), failed(every["second"])),
    }
    notes = {
        "detector.wrong": "share of labelled answers on val that the rules judge otherwise, failed or not",
        "detector.kappa": "rules against labels of a language model that did not know the condition",
        "labels.kappa": "the two passes of labelling against each other, on all labelled answers",
    }
    labels = rows["label"].reset_index(drop=True)
    counts = pandas.crosstab(labels, pandas.Series(ours, name="rules"))
    return frame.rows("t3", {"": measured}, note=notes), counts.rename(columns="rules: {}".format)


# --- What all variants say ---


def descriptions(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], *, count: int
) -> dict[str, list[str]]:
    """Let each model describe the first pictures of the first test split, sampled: texts by model."""
    queries, size = list(base.queries[study.tests[0]])[:count], study.profile.evaluation.batch_size
    decoding = decoding_configs(study)[""]
    return {
        name: model.answers(queries, DESCRIBE, decoding, what=name, batch_size=size)
        for name, model in display_names.ordered(models).items()
    }


CHAT = ("Describe this image in detail.", "What could I do there?")  # the second without the picture again
CHATS = 10


def chats(study: Study, base: Stage1, model: PromptedModel) -> tuple[list[Image.Image], dict[str, list[str]]]:
    """Ask about the first pictures of the first test split, one question after the other, decoded as the chat
    does; returns the pictures and the answers by question.
    """
    split, tokenizer = study.tests[0], base.language.tokenizer
    way = abilities.asked(study.profile.evaluation, "minigpt4").decoding
    decoding = abilities.decodings(study)[way]
    queries = torch.stack(list(base.queries[split])[:CHATS])
    seeds = [row_seed(study.seed, row) for row in range(len(queries))]
    written = turns(model.template, tokenizer)
    transcripts, said = [""] * len(queries), {}
    for number, question in enumerate(CHAT):
        form = written.following if number else written.first.turn
        asked = question if number else model.question(question)
        transcripts = [before + form.replace("{}", asked) for before in transcripts]
        said[question] = reply(model.model, {"queries": queries}, written, transcripts, decoding, seeds)
        transcripts = [before + text for before, text in zip(transcripts, said[question], strict=True)]
    return base.splits[split].first(len(queries)), said


def join(*parts: str) -> str:
    """Join the parts of a number's name that are not empty."""
    return ".".join(filter(None, parts))
