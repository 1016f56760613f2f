"""Objects invented in descriptions of the test pictures: why, where in the answer, and with how much
attention to the picture (paper, section 4.5.1).
"""

from collections.abc import Sequence
from itertools import pairwise

import pandas
from PIL import Image

from mglib import frame
from mglib.evals import attention, hallucination
from mglib.evals.attention import Look
from mglib.evals.hallucination import Seen
from mglib.experiments.composition import Described
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

EDGES = (0, 10, 20, 30, 45, 200)  # in words; the last span reaches past the end of the longest answer
SENTENCES = 4
POSITIONS = {  # display names of a mention's position
    **{f"sentence_{number}": f"sentence {number}" for number in range(1, SENTENCES)},
    f"sentence_{SENTENCES}": f"sentence {SENTENCES} and later",
    **{f"words_{low}_{high - 1}": f"words {low} to {high - 1}" for low, high in pairwise(EDGES)},
    "": "all",
    "true": "true mentions",
    "invented": "invented mentions",
    "within": "true minus invented, within an answer",
}
HEADS = {  # of the table of invented objects
    "object": "invented object",
    "answers": "answers",
    "rate": "share of the pictures without it",
    "captions": "share of training captions",
    "beside": "most often with",
}


def examples(told: Described, most: int) -> tuple[list[Image.Image], list[str]]:
    """Return the first pictures with invented objects, each with a line that lists these and the answer."""
    rows = [row for row, reading in enumerate(told.readings) if any(reading.wrong)][:most]
    pictures = told.split.first(rows[-1] + 1 if rows else 0)
    lines = [
        f"INVENTED {', '.join(sorted(hallucination.invented(told.readings[row])))}. SAID {told.said[row]}"
        for row in rows
    ]
    return [pictures[row] for row in rows], lines


def captions_seen(base: Stage1, told: Described) -> Seen:
    """Count the objects that training captions name, or the pool's captions if stage 1 streams its own."""
    web = base.splits["train"] if "train" in base.splits else base.splits["pool"]
    return Seen.count(web.captions, told.words)


def causes(told: Described, seen: Seen) -> pandas.DataFrame:
    """Return how often an invented object ranks above an absent one, by *frequency*, *together*, *lift*, and
    the share of the invented mentions whose object no training caption names.
    """
    above = hallucination.explained(told.readings, seen).items()
    rows: dict[str, dict[str, frame.Measured]] = {cause: {"above": one} for cause, one in above}
    rows[""] = {"unknown": hallucination.unknown(told.readings, seen)}
    about = f"first {len(told.said)} of {told.split.name}"
    notes = {
        "above": f"invented above absent objects of the same picture, chance 0.5; {about}",
        "unknown": "of the invented mentions, those of an object that no training caption names",
    }
    return frame.rows("hallucination", rows, note=notes)


def most_invented(told: Described, seen: Seen, most: int = 12) -> pandas.DataFrame:
    """Return a row for each of the objects that are invented most often."""
    return pandas.DataFrame(hallucination.by_object(told.readings, seen)[:most]).rename(columns=HEADS)


def positions(told: Described) -> pandas.DataFrame:
    """Return CHAIR_i by the sentence and by the word position of a mention."""
    truths = [reading.truth for reading in told.readings]
    sentences = hallucination.by_sentence(told.said, truths, told.words, SENTENCES)
    found = {f"sentence_{number}": counts for number, counts in enumerate(sentences, start=1)}
    spans = hallucination.by_word(told.said, truths, told.words, EDGES)
    found |= {f"words_{low}_{high - 1}": counts for (low, high), counts in spans.items()}
    rows = {name: {"where": counts} for name, counts in found.items()}
    return frame.rows("hallucination", rows, note="CHAIR_i of the mentions that are there")


def looks(study: Study, prompted: PromptedModel, told: Described) -> list[list[Look]]:
    """Re-read a model's long answers and return its attention to the picture at each mention."""
    return attention.looks(
        prompted.model,
        told.queries,
        prompted.template,
        prompted.question(hallucination.LONG),
        told.said,
        told.words,
        batch_size=8,  # attention weights are large
    )


def attended(told: Described, looked: Sequence[Sequence[Look]]) -> pandas.DataFrame:
    """Return the attention at *true* and *invented* mentions, overall and by word position, and *within* an
    answer: true minus invented.
    """
    truths = [reading.truth for reading in told.readings]
    every = attention.by_truth(looked, truths)
    counted = {"": {**every, "within": attention.within(every)}}
    for low, high in pairwise(EDGES):
        near = [[look for look in row if low <= look.word < high] for row in looked]
        counted[f"words_{low}_{high - 1}"] = attention.by_truth(near, truths)
    note = "attention to the visual tokens at a mention's first token, mean over heads and layers"
    found = []
    for split, kinds in counted.items():
        rows = {kind: {"attention": one} for kind, one in kinds.items()}
        found.append(frame.rows("hallucination", rows, note=note, split=split))
    return frame.concat(*found)
