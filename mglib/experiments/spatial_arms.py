"""The study's arms with and without spatial captions (paper, section 4.5.2): their training, what they are
tested on, and what it costs them (`mglib.experiments.spatial_captions` has the method).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas

from mglib.evals import chair, generate, spatial
from mglib.evals.choices import Scores
from mglib.experiments import spatial_captions, spatial_tests
from mglib.experiments.composition import Described
from mglib.experiments.spatial_captions import Lesson
from mglib.experiments.spatial_tests import Answered
from mglib.metrics import Counts, Estimate, paired
from mglib.model import prompts
from mglib.model.decoding import greedy
from mglib.study.models import PromptedModel, prompted_stage1
from mglib.study.stage1 import Stage1
from mglib.study.study import Study
from mglib.study.train import Trained

COSTS = ("chair_i", "object_recall", "mentions", "loss")


def lesson(study: Study, base: Stage1) -> Lesson:
    """Draw the arms' pictures from those of stage 1, and write both arms' texts."""
    return spatial_captions.lesson(
        base.splits["train"].captions,
        spatial_captions.spatial_phrases(study.world / "train"),
        base.language.tokenizer,
        study.profile.spatial,
        seed=study.seed,
    )


def changed(taught: Lesson) -> pandas.DataFrame:
    """Return a line for each picture whose texts differ, with what either arm reads."""
    texts = zip(taught.rows, *taught.texts.values(), strict=True)
    return pandas.DataFrame(
        [
            {"picture": row, **dict(zip(taught.texts, both, strict=True))}
            for row, *both in texts
            if len({*both}) > 1
        ]
    )


def train(study: Study, base: Stage1, taught: Lesson) -> tuple[dict[str, PromptedModel], dict[str, Trained]]:
    """Train both arms, from stage 1 on; they are asked in the conversation."""
    inputs, asked = [base.queries["train"][row] for row in taught.rows], prompted_stage1(study, base)
    models, runs = {}, {}
    for name, texts in taught.texts.items():
        model, runs[name] = spatial_captions.arm(study, name, base.model, base.trained.state, inputs, texts)
        models[name] = replace(asked, model=model)
    return models, runs


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How often stage 1 and both arms were right, by the test (question, order) and the relation."""

    split: str
    scores: dict[tuple[str, str], dict[str, Scores]]

    def estimates(self) -> dict[str, Estimate | None]:
        """Return accuracies and, paired, treatment less control, by the names of their numbers."""
        found = {}
        for key, each in self.scores.items():
            found |= {number_name(key, name): one.estimate() for name, one in each.items()}
            found[number_name(key, "difference")] = each["treatment"].minus(each["control"])
        return found

    def notes(self) -> dict[str, str]:
        """Say of each number what it is over."""
        found = {}
        for key, each in self.scores.items():
            count = len(each["control"].values)
            note = f"{count} on {self.split}, phrasings absent from training, chance 0.5"
            found |= {number_name(key, name): note for name in each}
            found[number_name(key, "difference")] = "treatment less control, paired"
        return found

    def by_test(self) -> dict[str, dict[str, Estimate | None]]:
        """Return the accuracies of each test and relation, by model."""
        return {
            f"{test}, {spatial_tests.NAMES[relation]}": {name: one.estimate() for name, one in each.items()}
            for (test, relation), each in self.scores.items()
        }


def number_name(key: tuple[str, str], model: str) -> str:
    """Name the number of a test, a relation and a model; the questions need no mark."""
    test, relation = key
    return f"{relation}.{model}" if test == "question" else f"{test}.{relation}.{model}"


def test(study: Study, base: Stage1, models: Mapping[str, PromptedModel], known: Answered) -> Outcome:
    """Put questions and orders to stage 1 and the arms; what stage 1 has answered is `known`."""
    queries, scores = list(base.queries[known.split]), {}
    orders = spatial_captions.statements(study.world / known.split)
    size = study.profile.evaluation.batch_size // 4
    for name, one in models.items():
        asked = known.losses.get(name) or spatial_tests.losses(study, one, queries, known.probes, what=name)
        ordered = spatial_captions.caption_losses(one.model, queries, orders, batch_size=size)
        tests = {"question": (asked, known.probes), "order": (ordered, orders)}
        for test, (found, probes) in tests.items():
            for relation, some in spatial.accuracy(found, probes).items():
                scores.setdefault((test, relation), {})[name] = some
    return Outcome(split=known.split, scores=scores)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is counted of the arms' own captions of a split, and their loss on val's web captions."""

    split: str
    counted: dict[str, dict[str, Counts]]  # by arm and measure

    def estimates(self) -> dict[str, Estimate | None]:
        """Return each measure of each arm and, paired, treatment less control, by their numbers' names."""
        found = {}
        for what in COSTS:
            found |= {f"{what}.{arm}": counted[what].estimate() for arm, counted in self.counted.items()}
            found[f"{what}.difference"] = paired(
                self.counted["treatment"][what], self.counted["control"][what]
            )
        return found

    def notes(self) -> dict[str, str]:
        """Say of each number what it is about."""
        found = {}
        for what in COSTS:
            where = (
                "web captions of val, per token" if what == "loss" else f"captions of {self.split}, greedy"
            )
            found |= {f"{what}.{arm}": where for arm in self.counted}
            found[f"{what}.difference"] = f"treatment less control, {where}"
        return found

    def by_arm(self) -> dict[str, dict[str, Estimate | None]]:
        """Return the measures of each arm."""
        return {
            arm: {what: counted[what].estimate() for what in COSTS} for arm, counted in self.counted.items()
        }


def cost(study: Study, base: Stage1, arms: Mapping[str, PromptedModel], told: Described) -> Cost:
    """Let the arms caption the pictures that `told` is about, and val's captions be told by them."""
    sizes, val = study.profile.evaluation, base.splits["val"].captions
    counted = {}
    for name, one in arms.items():
        texts = generate.answers(
            one.model,
            told.queries,
            prompts.CAPTION,
            prompts.IMAGE,
            greedy(sizes.max_new_tokens),
            batch_size=sizes.batch_size,
            what=name,
        )
        counted[name] = chair.counts(chair.read(texts, told.truths, told.words))
        sums, counts = generate.losses(
            one.model,
            base.queries["val"],
            val,
            prompts.CAPTION,
            max_answer=study.profile.spatial.train.max_answer,
            batch_size=sizes.batch_size,
        )
        counted[name]["loss"] = Counts(sums, counts)
    return Cost(split=told.split.name, counted=counted)
