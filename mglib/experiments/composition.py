"""The test pictures described by the study's models on the paper's long and short request, and what that says
of composition (paper, section 5) and of photographs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas
from torch import Tensor

from mglib import metrics
from mglib.data.splits import Split
from mglib.evals import chair, hallucination, photographs
from mglib.evals.chair import Reading, Truth
from mglib.experiments.described import nameable, truths
from mglib.metrics import Counts, Estimate, Vocabulary
from mglib.model.decoding import Decoding, greedy
from mglib.study import display_names
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study
from mglib.weights import sources

PARTS = {"chair_i": "CHAIR_i", "precision": "precision", "object_recall": "object recall"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which model is asked for a description, and how."""

    model: str
    text: str
    decoding: Decoding


@dataclass(frozen=True, kw_only=True)
class Described:
    """What one request brought about the first pictures of a split, and how it is read."""

    split: Split
    queries: Sequence[Tensor]  # (Q, D_q) each
    said: list[str]
    readings: list[Reading]
    words: Vocabulary

    @property
    def truths(self) -> list[Truth]:
        """What each picture shows."""
        return [reading.truth for reading in self.readings]


Descriptions = Mapping[tuple[str, str], Described]  # by the request and the split's name


def requests(study: Study, models: Mapping[str, PromptedModel]) -> dict[str, Request]:
    """Return the requests to the models that there are, in reading order; all are answered greedily."""
    sizes = study.profile.evaluation
    asked = {
        "long": Request(model="minigpt4", text=hallucination.LONG, decoding=greedy(sizes.limit_tokens)),
        "short": Request(
            model="minigpt4", text=hallucination.SHORT, decoding=greedy(sizes.limit_short_tokens)
        ),
        "blip2": Request(model="blip2", text="", decoding=greedy(sizes.max_new_tokens)),
    }
    return display_names.ordered({what: one for what, one in asked.items() if one.model in models})


def describe(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> Descriptions:
    """Put every request to its model, about the first pictures of every test split."""
    words, size = nameable(study), study.profile.evaluation.batch_size
    shown, true = {}, {}
    for name in study.tests:
        count = min(study.profile.evaluation.limit_pictures, len(base.splits[name]))
        shown[name] = [base.queries[name][row] for row in range(count)]
        true[name] = truths(study, base, name)[:count]
    found = {}
    for what, one in requests(study, models).items():
        for name in study.tests:
            said = models[one.model].answers(
                shown[name], one.text, one.decoding, batch_size=size, what=f"{what}, {name}"
            )
            found[what, name] = Described(
                split=base.splits[name],
                queries=shown[name],
                said=said,
                readings=chair.read(said, true[name], words),
                words=words,
            )
    return found


def openings(told: Descriptions, name: str) -> pandas.DataFrame:
    """Return the first answer about a split to each request."""
    said = {display_names.of(what): one.said[0] for (what, split), one in told.items() if split == name}
    table = pandas.DataFrame({"asked": said.keys(), f"the first answer on {name}": said.values()})
    return table.set_index("asked")


# --- Composition (section 5) ---


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What is counted of the answers, by the request and the split's name."""

    counted: dict[tuple[str, str], dict[str, Counts]]  # of each, by PARTS
    seen: str  # the split that the others are compared with

    @classmethod
    def of(cls, told: Descriptions, seen: str) -> "Composition":
        """Count what answers invent, how much of what they name is there, and how much of what is there they
        name.
        """
        return cls(counted={key: parts(one.readings) for key, one in told.items()}, seen=seen)

    def estimates(self) -> dict[str, Estimate | None]:
        """Return each part with its difference to the seen split, by the name of its number."""
        found = {}
        for (what, split), counted in self.counted.items():
            for part, counts in counted.items():
                name = f"{part}.{what}.{split}"
                found[name] = counts.estimate()
                if split != self.seen:
                    gap = metrics.unpaired(counts, self.counted[what, self.seen][part])
                    found[f"{name}.difference"] = gap
        return found

    def notes(self) -> dict[str, str]:
        """Say of each number what it is about."""
        found = {}
        for (what, split), counted in self.counted.items():
            for part, counts in counted.items():
                name = f"{part}.{what}.{split}"
                found[name] = f"first {len(counts.found)} of {split}, greedy"
                found[f"{name}.difference"] = f"less {self.seen}; other pictures, unpaired"
        return found

    def of_paper(self) -> dict[str, str]:
        """Name the paper's number that stands beside ours: that of its Table 5."""
        pairs = [(part, what) for what, split in self.counted if split == self.seen for part in PARTS]
        return {f"{part}.{what}.{self.seen}": f"t5.{part}.{what}" for part, what in pairs}

    def by_request(self, part: str) -> dict[str, dict[str, Estimate | None]]:
        """Return one part for each request, split by split."""
        found: dict[str, dict[str, Estimate | None]] = {}
        for (what, split), counted in self.counted.items():
            found.setdefault(what, {})[split] = counted[part].estimate()
        return found


def parts(readings: Sequence[Reading]) -> dict[str, Counts]:
    """Return what is counted of answers, by PARTS."""
    counted = chair.counts(readings)
    named, there = [one.mentions for one in readings], [set(one.truth.sayable) for one in readings]
    counted["precision"] = metrics.object_counts(named, there)["mention_precision"]
    return {part: counted[part] for part in PARTS}


def recalls(told: Descriptions, name: str) -> dict[str, dict[str, Estimate | None]]:
    """Return how much each request's answers name of a split's *new* objects, which no training text has, and
    of its *known* ones.
    """
    new = chair.new_objects()
    kinds = {"new": lambda names: bool(names & new), "known": lambda names: not names & new}
    asked = {what: one.readings for (what, split), one in told.items() if split == name}
    return {
        kind: {what: chair.recall(readings, wanted).estimate() for what, readings in asked.items()}
        for kind, wanted in kinds.items()
    }


# --- Photographs ---


def of_photographs(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> dict[str, Described]:
    """Put every request to its model about the photographs that scikit-image ships."""
    real, words = photographs.photographs(sources.photographs()), photographs.words()
    state = base.blip2.state if base.blip2 else study.qformer_state
    tokens = study.tokens(real.split, base.vision)
    queries = list(study.queries(real.split, tokens, base.model.qformer, state))
    found = {}
    for what, one in requests(study, models).items():
        said = models[one.model].answers(
            queries, one.text, one.decoding, batch_size=study.profile.evaluation.batch_size, what=what
        )
        readings = chair.read(said, photographs.truths(real), words)
        found[what] = Described(split=real.split, queries=queries, said=said, readings=readings, words=words)
    return found


def photograph_scores(told: Mapping[str, Described]) -> dict[str, Estimate | None]:
    """Return what each request's answers name and invent, by the name of its number."""
    found = {}
    for what, one in told.items():
        counted = chair.counts(one.readings)
        found |= {f"{part}.{what}": counted[part].estimate() for part in ("object_recall", "chair_i")}
    return found
