"""What stage 2 changes: the loss on held-out texts, and Table 3's failures before and after (notebook 04;
paper, sections 3.3 and 4.3.1).
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas

from mglib import metrics
from mglib.evals import generate
from mglib.evals.failures import DESCRIBE, KINDS, POEM, Detector, agreement, cut, read_labels, truths
from mglib.experiments.ablations import trial
from mglib.experiments.stage1 import after, loss_table
from mglib.metrics import Counts, Estimate
from mglib.model.decoding import Decoding, greedy
from mglib.study import display_names
from mglib.study.models import PromptedModel, prompted_blip2, prompted_stage1
from mglib.study.stage1 import Stage1
from mglib.study.stage2 import Stage2Data, train_stage2, with_own_projection
from mglib.study.study import Study
from mglib.study.train import Trained
from mglib.training.checkpoint import restore
from mglib.training.loop import kept

TASKS = {"describe": DESCRIBE, "poem": POEM}
LESSONS = {
    "curated": "curated",
    "no_critic": "curated without a critic",
    "locna": "Localized Narratives",
    "oracle": "true descriptions",
    "official": "official curated pairs",
}
LABELS = {
    "describe": "descriptions",
    "poem": "poems",
    "": "sampled",
    ".greedy": "greedy",
    ".penalty": "greedy with penalty 1.2",
}
FORM = {
    "words": "words an answer",
    "distinct1": "share of different words in an answer",
    "distinct2": "share of different pairs of neighbouring words in an answer",
}
MEASURES = {
    "words": lambda text: len(metrics.words(text)),
    "distinct1": lambda text: metrics.distinct(text, 1),
    "distinct2": lambda text: metrics.distinct(text, 2),
}


def ways(study: Study) -> dict[str, Decoding]:
    """Return how Table 3's answers are decoded, by the ending of a number's name.

    Officially; greedily; and greedily with a repetition penalty of 1.2.
    """
    longest = study.profile.evaluation.failure_tokens
    return {
        "": Decoding(max_new_tokens=longest),
        ".greedy": greedy(longest),
        ".penalty": replace(greedy(longest), repetition_penalty=1.2),
    }


def held_out(study: Study, prompted: PromptedModel, lesson: Stage2Data) -> Estimate | None:
    """Return the loss per token on the texts that were kept back."""
    counts = generate.losses(
        prompted.model,
        lesson.held_queries,
        lesson.held_texts,
        prompted.template,
        max_answer=study.profile.stage2.max_answer,
        batch_size=study.profile.evaluation.batch_size // 4,
        question=prompted.questions[0],
    )
    return Counts(*counts).estimate()


def overview(lessons: dict[str, Stage2Data]) -> pandas.DataFrame:
    """Return how many texts of each kind there are and how long they are."""
    rows = []
    for name, lesson in lessons.items():
        texts = lesson.texts + lesson.held_texts
        length = metrics.mean([len(metrics.words(text)) for text in texts])
        row = {"texts": LESSONS[name], "pictures": len(texts), "of these held out": len(lesson.held_texts)}
        rows.append({**row, "words a text": length.value, "the first": texts[0]})
    return pandas.DataFrame(rows)


def rates(study: Study, before: PromptedModel, lesson: Stage2Data) -> pandas.DataFrame:
    """Compare rates on the hold-out in short runs."""
    config, steps, rows = study.profile.stage2, study.profile.stage2_rate_steps, []
    for rate in study.profile.stage2_rates:
        short = replace(trial(config, rate, steps), keep=(1.0,))
        tried, _ = train_stage2(study, before, lesson, what="rate", config=short)
        loss = held_out(study, tried, lesson)
        rows.append({"lr": rate, "steps": steps, **metrics.columns("loss", loss)})
    return pandas.DataFrame(rows)


def along(study: Study, before: PromptedModel, lesson: Stage2Data, trained: Trained) -> pandas.DataFrame:
    """Return the loss on the hold-out at the start and at each step whose weights were kept."""
    losses = {after(0): held_out(study, before, lesson)}
    model = replace(before, model=with_own_projection(before.model))
    for state in kept(trained.folder):
        step = restore(model.model, state)["step"]
        losses[after(step)] = held_out(study, model, lesson)
    return loss_table(losses)


def label(name: str) -> str:
    """Say in words whose answers "task.when" with the ending of a decoding are."""
    task, when, way = parts(name)
    return f"{LABELS[task]}, {LABELS[way]}, {when}"


def parts(name: str) -> tuple[str, str, str]:
    """Take "task.when" with the ending of a decoding apart."""
    task, when, *way = name.split(".")
    return task, when, ".".join(["", *way])


def reading_order(name: str) -> tuple[int, int, bool]:
    """Return where answers stand: by task, then by decoding, those before stage 2 first."""
    task, when, way = parts(name)
    return list(TASKS).index(task), list(LABELS).index(way), when == "after"


@dataclass(frozen=True)
class Table3:
    """Answers by "task.when" and way of decoding, with the failures of each answer."""

    answers: dict[str, list[str]]
    failures: dict[str, list[set[str]]]
    scenes: Path | None

    def failed(self) -> dict[str, Estimate | None]:
        """Return the share of answers that failed at all."""
        return {
            name: metrics.mean([float(bool(each)) for each in every]) for name, every in self.failures.items()
        }

    def cuts(self) -> dict[str, Estimate | None]:
        """Return the share that failed before less that after, paired, by "task" and way of decoding."""
        failed = {
            name: metrics.each([float(bool(one)) for one in every]) for name, every in self.failures.items()
        }
        return {
            name.replace(".before", ""): metrics.paired(one, failed[name.replace(".before", ".after")])
            for name, one in failed.items()
            if ".before" in name
        }

    def kinds(self) -> pandas.DataFrame:
        """Return the share of answers with each kind of failure, before and after below each other.

        Drift is left out where it cannot be told; only poems are asked for verse.
        """
        judged = [kind for kind in KINDS if self.scenes or kind != "off-topic"]
        rows = []
        for name in sorted(self.failures, key=reading_order):
            every = self.failures[name]
            row = {kind: sum(kind in each for each in every) / len(every) for kind in judged}
            if not name.startswith("poem"):
                row["no-verse"] = math.nan
            rows.append({"answers": label(name), "failed": sum(map(bool, every)) / len(every), **row})
        return pandas.DataFrame(rows)

    def style(self) -> dict[str, Estimate | None]:
        """Return the mean of each measure of the answers' form, by "measure.answers"."""
        return {
            f"{measure}.{name}": metrics.mean([value(text) for text in texts])
            for measure, value in MEASURES.items()
            for name, texts in self.answers.items()
        }


def table3(study: Study, base: Stage1, models: dict[str, PromptedModel]) -> Table3:
    """Let each model describe the first pictures of the first test split and put them into poems."""
    settings, name = study.profile.evaluation, study.tests[0]
    asked = list(base.queries[name])[: settings.failure_pictures]
    answers = {
        f"{task}.{when}{way}": model.answers(
            asked, question, decoding, what=f"{task}.{when}{way}", batch_size=settings.batch_size
        )
        for task, question in TASKS.items()
        for when, model in models.items()
        for way, decoding in ways(study).items()
    }
    scenes = study.scenes(name)
    detector, truth = Detector(study.vocabulary()), truths(base.splits[name], scenes)[: len(asked)]
    longest, tokenizer = settings.failure_tokens, base.language.tokenizer
    failures = {
        name: [
            detector.failures(text, one, poem=name.startswith("poem"), cut=cut(text, tokenizer, longest))
            for text, one in zip(texts, truth, strict=True)
        ]
        for name, texts in answers.items()
    }
    return Table3(answers, failures, scenes)


def detector_agreement(study: Study) -> tuple[Estimate, pandas.DataFrame]:
    """Compare the rules with labelled answers that they were not set on."""
    kappa, counts = agreement(Detector(study.vocabulary()), read_labels("agreement"))
    return kappa, counts.rename(columns="detector: {}".format)


@dataclass(frozen=True)
class Variant:
    """A model after stage 2 on some texts, with what it started from."""

    start: PromptedModel
    model: PromptedModel
    lesson: Stage2Data
    texts: str  # the kind of the lesson


def variants(study: Study, base: Stage1, lessons: dict[str, Stage2Data]) -> dict[str, Variant]:
    """Train on every other kind of texts, and BLIP-2 on the same ones (section 4.3.2 and 4.3.3)."""
    before = prompted_stage1(study, base)
    plans = {kind: (before, kind) for kind in lessons if kind != "curated"}
    if study.has_blip2:
        plans["blip2_ft"] = (prompted_blip2(study.blip2), "curated")
    found = {}
    for name, (start, kind) in plans.items():
        model, _ = train_stage2(study, start, lessons[kind], what=name)
        found[name] = Variant(start, model, lessons[kind], kind)
    return found


def described(
    study: Study, base: Stage1, models: dict[str, PromptedModel], *, count: int
) -> pandas.DataFrame:
    """Let each model describe the first pictures of the first test split, sampled: a row a model."""
    few, size = list(base.queries[study.tests[0]])[:count], study.profile.evaluation.batch_size
    rows = []
    for name, model in models.items():
        texts = model.answers(few, DESCRIBE, ways(study)[""], what=name, batch_size=size)
        said = {f"picture {number}": text for number, text in enumerate(texts, start=1)}
        rows.append({"model": display_names.of(name), **said})
    return pandas.DataFrame(rows)
