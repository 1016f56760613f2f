"""What the descriptions of the test pictures invent, why, where in the answer, and where the model looks
meanwhile (paper, section 4.5.1).
"""

from collections.abc import Sequence
from itertools import pairwise

import pandas
from PIL import Image

from mglib.evals import attention, hallucination
from mglib.evals.attention import Look
from mglib.evals.hallucination import Seen
from mglib.experiments.composition import Described
from mglib.metrics import Estimate
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

EDGES = (0, 10, 20, 30, 45, 200)  # words of an answer; the last span holds all of the longest
SENTENCES = 4
HEADS = {  # of the table of invented objects
    "object": "invented object",
    "answers": "answers",
    "rate": "share of the pictures without it",
    "captions": "share of training captions",
    "beside": "most often beside",
}


def examples(told: Described, most: int) -> tuple[list[Image.Image], list[str]]:
    """Return the first pictures about which something is invented, with what is, and what was said."""
    rows = [row for row, reading in enumerate(told.readings) if any(reading.wrong)][:most]
    pictures = told.split.first(rows[-1] + 1 if rows else 0)
    lines = [
        f"INVENTED {', '.join(sorted(hallucination.invented(told.readings[row])))}. SAID {told.said[row]}"
        for row in rows
    ]
    return [pictures[row] for row in rows], lines


# --- Which objects ---


def captions_seen(base: Stage1, told: Described) -> Seen:
    """Count what the captions of training name; those of the pool where stage 1 streamed its own."""
    web = base.splits["train"] if "train" in base.splits else base.splits["pool"]
    return Seen.count(web.captions, told.words)


def causes(told: Described, seen: Seen) -> dict[str, Estimate | None]:
    """Return how often an invented object ranks above an absent one, by *frequency*, *together*, *lift*."""
    return {
        cause: counts.estimate() for cause, counts in hallucination.explained(told.readings, seen).items()
    }


def unknown(told: Described, seen: Seen) -> Estimate | None:
    """Return the share of the invented mentions whose object no training caption names."""
    return hallucination.unknown(told.readings, seen).estimate()


def most_invented(told: Described, seen: Seen, most: int = 12) -> pandas.DataFrame:
    """Return a row for each of the objects that are invented most often."""
    return pandas.DataFrame(hallucination.by_object(told.readings, seen)[:most]).rename(columns=HEADS)


# --- Where in the answer ---


def places(told: Described) -> dict[str, Estimate | None]:
    """Return CHAIR_i by the sentence and by the word at which a mention stands."""
    found = hallucination.by_sentence(told.said, told.truths, told.words, SENTENCES)
    spans = hallucination.by_word(told.said, told.truths, told.words, EDGES)
    found |= {span_name(low, high): counts for (low, high), counts in spans.items()}
    return {place: counts.estimate() for place, counts in found.items()}


def span_name(low: int, high: int) -> str:
    """Name a span of words for readers."""
    return f"words {low} to {high - 1}"


def number_name(place: str) -> str:
    """Name the number that belongs to a place in the answer."""
    return place.replace(" and later", "").replace(" to ", "_").replace(" ", "_")


# --- Where the model looks ---


def looks(study: Study, prompted: PromptedModel, told: Described) -> list[list[Look]]:
    """Read a model's long answers again, with its attention to the picture at each mention."""
    return attention.looks(
        prompted.model,
        told.queries,
        prompted.template,
        prompted.question(hallucination.LONG),
        told.said,
        told.words,
        batch_size=study.profile.evaluation.attention_batch,
    )


def attended(told: Described, looked: Sequence[Sequence[Look]]) -> dict[str, Estimate | None]:
    """Return the attention at *true* and *invented* mentions, and *within* an answer: true less invented."""
    counts = attention.by_truth(looked, told.truths)
    found = {**counts, "within": attention.within(counts)}
    return {kind: one.estimate() for kind, one in found.items()}


def attended_along(
    told: Described, looked: Sequence[Sequence[Look]]
) -> dict[str, dict[str, Estimate | None]]:
    """Return the attention at true and invented mentions, of all and by the word at which they stand."""
    found = {"all": attention.by_truth(looked, told.truths)}
    for low, high in pairwise(EDGES):
        near = range(low, high)
        found[span_name(low, high)] = attention.by_truth(
            looked, told.truths, lambda look, near=near: look.word in near
        )
    return {name: {kind: one.estimate() for kind, one in counts.items()} for name, counts in found.items()}
