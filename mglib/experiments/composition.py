"""Answers to the paper's long and short requests about the test pictures, for inventions and composition
(paper, section 5), and about photographs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas
from torch import Tensor

from mglib import frame, metrics
from mglib.data.splits import Split
from mglib.evals import chair, hallucination, photographs
from mglib.evals.chair import Reading
from mglib.experiments.descriptions import truths
from mglib.mentions import Vocabulary
from mglib.model.decoding import Decoding, greedy
from mglib.study import display_names
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study
from mglib.weights import sources

MEASURES = ("chair_i", "object_recall")
NAMES = {
    f"{one}.difference": f"{display_names.of(one)}, minus test_seen" for one in ("blip2", "short", "long")
}
NAMES |= {"recall_new": "new objects named", "recall_known": "known objects named"}  # display names


@dataclass(frozen=True)
class Described:
    """The answers to one request about the first pictures of a split, and their readings."""

    split: Split
    queries: Sequence[Tensor]  # (Q, D_q) each
    said: list[str]
    readings: list[Reading]
    words: Vocabulary


Descriptions = Mapping[tuple[str, str], Described]  # by the request and the split's name


def requests(study: Study, models: Mapping[str, PromptedModel]) -> dict[str, tuple[str, str, Decoding]]:
    """Return the model, the text and the decoding of each request, in reading order; all are greedy."""
    sizes = study.profile.evaluation
    asked = {
        "blip2": ("blip2", "", greedy(sizes.max_new_tokens)),
        "short": ("minigpt4", hallucination.SHORT, greedy(sizes.brief_tokens)),
        "long": ("minigpt4", hallucination.LONG, greedy(sizes.failure_tokens)),
    }
    return {name: one for name, one in asked.items() if one[0] in models}


def describe(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> Descriptions:
    """Put every request to its model, about the first pictures of every test split."""
    words, sizes, found = study.nameable(), study.profile.evaluation, {}
    for (request, (model, text, way)), name in product(requests(study, models).items(), study.tests):
        split, what = base.splits[name], f"{request}, {name}"
        queries = [base.queries[name][row] for row in range(min(sizes.limit_pictures, len(split)))]
        said = models[model].answers(queries, text, way, batch_size=sizes.batch_size, what=what)
        readings = chair.read(said, truths(study, base, name)[: len(said)], words)
        found[request, name] = Described(split, queries, said, readings, words)
    return found


def composed(told: Descriptions, seen: str) -> pandas.DataFrame:
    """Return what each request's answers invent and name on every split, with the difference in CHAIR_i from
    the `seen` split: unpaired, since the pictures differ.
    """
    counted = {key: chair.counts(one.readings) for key, one in told.items()}
    found = []
    for (request, split), counts in counted.items():
        rows: dict[str, dict[str, frame.Measured]] = {request: {what: counts[what] for what in MEASURES}}
        about = f"first {len(told[request, split].said)} of {split}, greedy"
        found.append(frame.rows("composition", rows, note=about, split=split))
        if split != seen:
            gap = metrics.unpaired(counts["chair_i"], counted[request, seen]["chair_i"])
            note = f"minus {seen}; other pictures, unpaired"
            rows = {f"{request}.difference": {"chair_i": gap}}
            found.append(frame.rows("composition", rows, note=note, split=split))
    return frame.concat(*found)


def recalls(told: Descriptions, name: str) -> pandas.DataFrame:
    """Return each request's recall of a split's *new* objects, which no training text has, and of its *known*
    ones.
    """
    new = chair.new_objects()
    wanted = {"recall_new": lambda names: bool(names & new), "recall_known": lambda names: not names & new}
    rows = {
        request: {what: chair.recall(one.readings, kind) for what, kind in wanted.items()}
        for (request, split), one in told.items()
        if split == name
    }
    return frame.rows("composition", rows, note=f"of the new or the known objects of {name}, those named")


def of_photographs(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> dict[str, Described]:
    """Put every request to its model about the photographs that scikit-image ships."""
    real, words, found = photographs.photographs(sources.photographs()), photographs.words(), {}
    queries = list(study.queries(real, study.tokens(real, base.vision), base.model.qformer))
    size = study.profile.evaluation.batch_size
    known = [chair.truth(names, (), words) for names in real.objects]
    for request, (model, text, way) in requests(study, models).items():
        said = models[model].answers(queries, text, way, batch_size=size, what=request)
        readings = chair.read(said, known, words)
        found[request] = Described(real, queries, said, readings, words)
    return found


def named_in_photographs(told: Mapping[str, Described]) -> pandas.DataFrame:
    """Return how many of the listed objects each request's answers name, over five pictures only."""
    return pandas.DataFrame(
        {"asked": display_names.of(name), "named": sum(recall.found), "listed": sum(recall.among)}
        for name, one in told.items()
        for recall in [chair.recall(one.readings)]
    )
