"""Stage 1 changed: other parts (Table 4), lessons in questions (ICLR Table 7), fewer steps (ICLR Table 8)."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas

from mglib import metrics
from mglib.evals import coverage
from mglib.experiments import ablations, lora, stage1
from mglib.experiments.ablations import Parts
from mglib.experiments.exams import Way
from mglib.metrics import Counts, Estimate
from mglib.model.minigpt4 import MiniGPT4
from mglib.study.stage1 import Stage1
from mglib.study.stage2 import with_own_projection
from mglib.study.study import Study
from mglib.training.checkpoint import restore
from mglib.training.loop import kept

Log = list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The trained arms of the ablation; without a budget *base* is stage 1's own model, alone."""

    models: dict[str, MiniGPT4]
    logs: dict[str, Log]


def parts_of(base: Stage1) -> Parts:
    """Return what all arms start from."""
    return Parts(
        qformer=base.model.qformer,
        language=base.language,
        split=base.splits["train"],
        tokens=base.tokens["train"],
    )


def train(study: Study, base: Stage1) -> Arms:
    """Train every arm."""
    if study.profile.ablation is None:
        return Arms(models={"base": base.model}, logs={})
    parts, models, logs = parts_of(base), {}, {}
    for name in ablations.ARMS:
        config = ablations.settings(study.profile.ablation, name)
        models[name], run = ablations.arm(study, name, parts, config)
        logs[name] = run.log
    return Arms(models=models, logs=logs)


def rates(study: Study, base: Stage1) -> pandas.DataFrame:
    """Try every arm at each rate in a short run: its loss a caption token on val."""
    parts, steps = parts_of(base), study.profile.ablation.rate_steps
    return pandas.DataFrame(
        {"arm": name, "lr": rate, "steps": steps, **metrics.columns("loss", loss)}
        for name in ablations.ARMS
        for rate, loss in ablations.grid(study, name, parts, base.splits["val"], base.tokens["val"]).items()
    )


def captions(study: Study, base: Stage1, models: Mapping[str, MiniGPT4], count: int) -> dict[str, list[str]]:
    """Let each arm caption the first test pictures, in the form that all of them were trained in."""
    tokens = [base.tokens[study.tests[0]][row] for row in range(count)]
    return {
        name: stage1.captions(study, model, ablations.queries(model, tokens), what=name)
        for name, model in models.items()
    }


# --- ICLR Table 7 ---


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """Stage 1's model as *base*, and as *lora* what learnt from questions, where the profile has a budget."""

    models: dict[str, MiniGPT4]
    log: Log
    questions: int  # there are to learn from
    drawn: int  # were learnt from


def from_questions(study: Study, base: Stage1, way: Way) -> Learnt:
    """Train the language model's updates and the projection on questions, asked as they will be."""
    models, config = {"base": base.model}, study.profile.lora
    if config is None:
        return Learnt(models=models, log=[], questions=0, drawn=0)
    asked = lora.lessons(study.exam(study.questioned["train"]), seed=study.seed)
    models["lora"], run = lora.learn(
        study,
        base.model,
        base.trained.state,
        base.queries["train"],
        asked,
        template=way.template,
        prompt=way.prompt,
    )
    drawn = config.train.steps * config.train.batch_size
    return Learnt(models=models, log=run.log, questions=len(asked), drawn=drawn)


# --- ICLR Table 8 ---


@dataclass(frozen=True)
class Course:
    """What captions cover after each kept part of stage 1, by percent of its steps."""

    covered: dict[int, Counts]
    texts: dict[int, list[str]]

    def estimates(self) -> dict[str, dict[str, Estimate | None]]:
        """Return references covered and words for each part."""
        return {
            str(share): {
                "references_covered": counts.estimate(),
                "words": coverage.lengths(self.texts[share]).estimate(),
            }
            for share, counts in self.covered.items()
        }

    def gains(self) -> dict[str, dict[str, Estimate | None]]:
        """Return what each part still lacks of the whole, paired."""
        return {
            f"gained_from_{share}": {"references_covered": metrics.paired(self.covered[100], counts)}
            for share, counts in self.covered.items()
            if share < 100
        }

    def table(self, paper: Mapping[str, float]) -> pandas.DataFrame:
        """Write a line for each part, with the paper's value and its first caption."""
        lines = [
            {
                "% of stage 1": share,
                **metrics.columns("references covered", counts.estimate()),
                "paper": paper.get(str(share)),
                "first caption": self.texts[share][0],
            }
            for share, counts in self.covered.items()
        ]
        return pandas.DataFrame(lines)


def along(study: Study, base: Stage1) -> Course:
    """Caption the first test pictures with each projection that stage 1 kept; empty without a judge."""
    split = study.tests[0]
    count = min(len(base.splits[split]), study.profile.evaluation.along_pictures)
    shown = [base.queries[split][place] for place in range(count)]
    references, known = base.splits[split].references[:count], study.judge(split)
    model = with_own_projection(base.model)
    found = Course({}, {})
    for state in kept(base.trained.folder) if known else ():
        share = round(100 * restore(model, state)["step"] / study.profile.stage1.steps)
        found.texts[share] = stage1.captions(study, model, shown, what=f"{share} % of stage 1")
        found.covered[share] = coverage.references_covered(found.texts[share], references, known)
    return found
