"""The study's models on two-choice questions about space, and on mirrored pictures (paper, section 4.5.2;
`mglib.evals.spatial` makes and scores the questions).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas
from torch import Tensor

from mglib import frame
from mglib.evals import choices, spatial, vqa
from mglib.evals.choices import Losses, Scores
from mglib.evals.spatial import RELATIONS, Probe
from mglib.experiments.exams import shuffled
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

NAMES = {  # display names of RELATIONS and of the controls
    "left_right": "left or right",
    "above_below": "above or below",
    "in_front": "in front or behind",
    "counting": "counting",
    "nearest": "nearest",
    "blank": "MiniGPT-4, blank picture",
    "shuffled": "MiniGPT-4, another picture",
}


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The losses of both answers to each question about a split's pictures, by the model's name."""

    split: str
    probes: list[Probe]
    losses: dict[str, list[Losses]]


def probes(study: Study) -> list[Probe]:
    """Return the questions about the first test split; none if its relations are not annotated."""
    if study.scenes(study.tests[0]) is None:
        return []
    return spatial.probes(study.world / study.tests[0])


def examples(asked: Sequence[Probe]) -> pandas.DataFrame:
    """Return the first question about each relation."""
    first = {probe.relation: probe for probe in reversed(asked)}
    found = [(name, first[relation]) for relation, name in NAMES.items() if relation in first]
    lines = [(name, one.text, " / ".join(one.options), one.options[one.right]) for name, one in found]
    return pandas.DataFrame(lines, columns=["relation", "question", "options", "right"])


def losses(
    study: Study, prompted: PromptedModel, queries: Sequence[Tensor], asked: Sequence[Probe], *, what: str
) -> list[Losses]:
    """Ask a model the questions verbatim, in its chat template; `queries` are the split's, (Q, D_q)."""
    return choices.option_losses(
        prompted.model,
        queries,
        prompted.template,
        asked,
        prompt="{}",
        batch_size=study.profile.evaluation.batch_size // 4,
        what=f"{what}, spatial",
    )


def answer(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], asked: Sequence[Probe]
) -> Answered:
    """Put the questions to every model, and to MiniGPT-4 with a *blank* picture and with another one
    (*shuffled*); no losses if there are no questions.
    """
    name = study.tests[0]
    queries = list(base.queries[name])
    shown = {what: (one, queries) for what, one in models.items() if asked}
    if asked and "minigpt4" in models:
        one = models["minigpt4"]
        shown["blank"] = one, [vqa.blank(base.vision, one.model.qformer)] * len(queries)
        shown["shuffled"] = one, shuffled(queries, seed=study.seed)
    found = {what: losses(study, *both, asked, what=what) for what, both in shown.items()}
    return Answered(split=name, probes=list(asked), losses=found)


def by_relation(
    task: str, measure: str, scores: Mapping[str, Mapping[str, Scores]], note: str
) -> pandas.DataFrame:
    """Return scores, by model and relation, as rows whose split is the relation; clustered by picture."""
    found = []
    for relation in RELATIONS:
        some = {name: each[relation] for name, each in scores.items() if relation in each}
        rows = {name: {measure: one.counts()} for name, one in some.items()}
        count = max((len(one.values) for one in some.values()), default=0)
        found.append(frame.rows(task, rows, note=f"{count} {note}", split=relation))
    return frame.concat(*found)


def accuracies(answered: Answered) -> pandas.DataFrame:
    """Return how often each model is right, as asked and *without bias*, where a preference for one of the
    answers cancels out; chance level is 1/2.
    """
    if not answered.probes:
        return frame.absent("spatial", "accuracy", "in these pictures no relations are annotated")
    plain = {name: spatial.accuracy(some, answered.probes) for name, some in answered.losses.items()}
    fair = {name: spatial.without_bias(some, answered.probes) for name, some in answered.losses.items()}
    note = f"two-choice questions on {answered.split}, chance 0.5"
    return frame.concat(
        by_relation("spatial", "accuracy", plain, note), by_relation("spatial", "without_bias", fair, note)
    )


def mirror_test(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], before: Answered
) -> pandas.DataFrame:
    """Ask the same questions about the mirrored pictures: whether the answer *changed*, whether it is *right*
    now, and, for left and right, whether what is true now became likelier (*moved*).
    """
    if not before.probes:
        return frame.absent("spatial", "changed", "in these pictures no relations are annotated")
    turned = spatial.mirrored(base.splits[before.split])
    tokens = study.tokens(turned, base.vision)
    queries = list(study.queries(turned, tokens, base.model.qformer))
    found: dict[str, dict[str, dict[str, Scores]]] = {"changed": {}, "right": {}, "moved": {}}
    for name, one in models.items():
        after = losses(study, one, queries, before.probes, what=name)
        for measure, scores in spatial.mirror_test(before.losses[name], after, before.probes).items():
            found[measure][name] = scores
    note = f"questions on {before.split} against itself mirrored"
    return frame.concat(*(by_relation("spatial.mirror", what, each, note) for what, each in found.items()))
