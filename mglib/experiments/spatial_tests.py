"""The study's models before two-choice questions about space, and before mirrored pictures (paper, section
4.5.2; `mglib.evals.spatial` makes and scores the questions).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas
from torch import Tensor

from mglib.evals import choices, spatial
from mglib.evals.choices import Losses, Scores
from mglib.evals.spatial import RELATIONS, Probe
from mglib.metrics import Estimate
from mglib.paths import ROOT
from mglib.study import display_names
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

USUAL = "minigpt4"  # the model whose numbers bear no name
NAMES = {  # what readers see of RELATIONS
    "left_right": "left or right",
    "above_below": "above or below",
    "in_front": "in front or behind",
    "counting": "counting",
    "nearest": "nearest",
}
Key = tuple[str, str, str]  # of a number, the model first


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The losses of both answers to each question about a split's pictures, by the model's name."""

    split: str
    probes: list[Probe]
    losses: dict[str, list[Losses]]

    def scores(self) -> dict[Key, Scores]:
        """Return the scores by model, way and relation; the ways are "", as asked, and `without_bias`."""
        found = {}
        for name, losses in self.losses.items():
            ways = {
                "": spatial.accuracy(losses, self.probes),
                "without_bias": spatial.without_bias(losses, self.probes),
            }
            for way, scores in ways.items():
                found |= {(name, way, relation): some for relation, some in scores.items()}
        return found

    def estimates(self) -> dict[str, Estimate | None]:
        """Return the accuracies by the names of their numbers; chance is 1/2."""
        return {number_name(key): scores.estimate() for key, scores in self.scores().items()}

    def notes(self) -> dict[str, str]:
        """Say of each number what it is over."""
        return {
            number_name(key): f"{len(scores.values)} two-choice questions on {self.split}, chance 0.5"
            for key, scores in self.scores().items()
        }

    def by_relation(self) -> dict[str, dict[str, Estimate | None]]:
        """Return the accuracies of each relation, by model and way."""
        found: dict[str, dict[str, Estimate | None]] = {}
        for (name, way, relation), scores in self.scores().items():
            row = f"{display_names.of(name)}, {way.replace('_', ' ')}" if way else display_names.of(name)
            found.setdefault(NAMES[relation], {})[row] = scores.estimate()
        return {name: found[name] for name in NAMES.values() if name in found}


def number_name(key: Key) -> str:
    """Name a number by the parts of its key, from the last to the first; what is usual bears no name."""
    return ".".join(part for part in key[::-1] if part not in ("", USUAL))


def probes(study: Study) -> list[Probe]:
    """Ask about the first test split; there are no questions where no relations are annotated."""
    if study.scenes(study.tests[0]) is None:
        return []
    plurals = spatial.plurals(ROOT / "data" / "world" / "objects.csv")
    return spatial.probes(study.world / study.tests[0], plurals)


def unasked(asked: Sequence[Probe]) -> tuple[str, ...]:
    """Return the relations, where nothing could be asked about any."""
    return () if asked else RELATIONS


def examples(asked: Sequence[Probe]) -> pandas.DataFrame:
    """Return the first question about each relation."""
    first = {probe.relation: probe for probe in reversed(asked)}
    lines = [
        (name, one.text, " / ".join(one.options), one.options[one.right])
        for relation, name in NAMES.items()
        if (one := first.get(relation))
    ]
    columns = ["relation", "question", "options", "right"]
    return pandas.DataFrame(lines, columns=columns).set_index("relation")


def losses(
    study: Study, prompted: PromptedModel, queries: Sequence[Tensor], asked: Sequence[Probe], *, what: str
) -> list[Losses]:
    """Put the questions as they are to a model, in its conversation; `queries` are the split's, (Q, D_q)."""
    return choices.option_losses(
        prompted.model,
        queries,
        prompted.template,
        asked,
        prompt="{}",
        batch_size=study.profile.evaluation.batch_size // 4,
        what=f"{what}, spatial",
    )


def answered(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], asked: Sequence[Probe]
) -> Answered:
    """Put the questions to every model; none answers where nothing is asked."""
    name = study.tests[0]
    queries = list(base.queries[name])
    found = {what: losses(study, one, queries, asked, what=what) for what, one in models.items() if asked}
    return Answered(split=name, probes=list(asked), losses=found)


# --- The mirror test ---


def mirror_test(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], before: Answered
) -> dict[Key, Estimate | None]:
    """Ask the same again about the pictures mirrored: what changed, by model, relation and measure."""
    if not before.probes:
        return {}
    turned = spatial.mirrored(base.splits[before.split])
    tokens = study.tokens(turned, base.vision)
    queries = list(study.queries(turned, tokens, base.model.qformer))
    found = {}
    for name, first in before.losses.items():
        after = losses(study, models[name], queries, before.probes, what=name)
        for relation, mirror in spatial.mirror_test(first, after, before.probes).items():
            found |= {
                (name, relation, what): scores.estimate()
                for what, scores in vars(mirror).items()
                if scores is not None
            }
    return found


def mirror_numbers(found: Mapping[Key, Estimate | None]) -> dict[str, Estimate | None]:
    """Return what the mirror test found, by the names of its numbers."""
    return {number_name(key): one for key, one in found.items()}


def mirror_rows(found: Mapping[Key, Estimate | None]) -> dict[str, dict[str, Estimate | None]]:
    """Return a row for each model and relation, with what was measured of it."""
    rows: dict[str, dict[str, Estimate | None]] = {}
    for name, relation in product(dict.fromkeys(name for name, *_ in found), NAMES):
        measured = {what: one for (*of, what), one in found.items() if of == [name, relation]}
        if measured:
            rows[f"{display_names.of(name)}, {NAMES[relation]}"] = measured
    return rows
