"""Stage 1 changed: other parts (Table 4), lessons in questions (ICLR Table 7), fewer steps (ICLR Table 8)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import pandas

from mglib import metrics
from mglib.config import TrainConfig
from mglib.evals import coverage
from mglib.experiments import ablations, effort, lora, stage1
from mglib.experiments.ablations import Parts
from mglib.experiments.described import judge
from mglib.experiments.exams import Way
from mglib.metrics import Counts, Estimate
from mglib.model.minigpt4 import MiniGPT4
from mglib.study import finetune, naming
from mglib.study.lineage import Stage1
from mglib.study.study import Study
from mglib.training.checkpoint import restore
from mglib.training.loop import kept

Log = list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Longer:
    """How long the arm without a Q-Former went on, towards what the base and its Q-Former have cost."""

    steps: int
    equal: int  # steps at equal FLOPs
    captions_before: int  # that the base's Q-Former saw before stage 1

    @property
    def share(self) -> float:
        """How much of the way it went."""
        return self.steps / self.equal


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The trained arms of the ablation; without a budget *base* is stage 1's own model, alone."""

    models: dict[str, MiniGPT4]
    logs: dict[str, Log]
    rates: pandas.DataFrame  # that were tried
    longer: Longer | None = None


def parts_of(base: Stage1) -> Parts:
    """Return what all arms start from."""
    return Parts(
        qformer=base.blip2.model.qformer,
        state=base.blip2.state,
        language=base.language,
        split=base.splits["train"],
        tokens=base.tokens["train"],
    )


def train(study: Study, base: Stage1) -> Arms:
    """Train every arm at its own best rate, and the longer one where the profile asks for it."""
    if study.profile.ablation is None:
        return Arms(models={"base": base.model}, logs={}, rates=pandas.DataFrame([]))
    parts, models, logs, lines = parts_of(base), {}, {}, []
    configs: dict[str, TrainConfig] = {}
    for name in ablations.ARMS:
        tried = ablations.grid(study, name, parts, base.splits["val"], base.tokens["val"])
        configs[name] = ablations.best(study, tried)
        models[name], run = ablations.arm(study, name, parts, configs[name])
        logs[name], chosen = run.log, configs[name].lr
        lines += [
            {"arm": naming.name(name), "rate": rate, **asdict(loss), "chosen": rate == chosen}
            for rate, loss in tried.items()
        ]
    arms = Arms(models=models, logs=logs, rates=pandas.DataFrame(lines))
    return with_longer(study, base, arms, configs["no_qformer"]) if study.profile.ablation.longest else arms


def with_longer(study: Study, base: Stage1, arms: Arms, config: TrainConfig) -> Arms:
    """Add an arm without a Q-Former that is given what the base's Q-Former cost, as far as is allowed."""
    parts, name = parts_of(base), "no_qformer_longer"
    equal = effort.equal_steps(study, base, parts)
    steps = min(equal, study.profile.ablation.longest)
    model, run = ablations.arm(study, "no_qformer", parts, replace(config, steps=steps))
    before = ablations.captions_before(study.profile)
    return replace(
        arms,
        models={**arms.models, name: model},
        logs={**arms.logs, name: run.log},
        longer=Longer(steps=steps, equal=equal, captions_before=before),
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
                **asdict(counts.estimate()),
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
    references, known = base.splits[split].references[:count], judge(study, split)
    model = finetune.with_own_projection(base.model)
    found = Course({}, {})
    for state in kept(base.trained.folder) if known else ():
        share = round(100 * restore(model, state)["step"] / study.profile.stage1.steps)
        found.texts[share] = stage1.captions(study, model, shown, what=f"{share} % of stage 1")
        found.covered[share] = coverage.references_covered(found.texts[share], references, known)
    return found
