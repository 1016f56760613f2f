"""Which answers fail (Table 3): empty, repetition, off-topic, no-verse, fragment. Short correct ones do not.

The paper's authors judged by hand; here rules do, set on some labelled answers and tested on others. They are
blind to the model and share nothing with the rules that made the second stage's data.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pandas
from transformers import PreTrainedTokenizerBase

from mglib.data.splits import Split
from mglib.evals.checklist import is_verse
from mglib.mentions import Vocabulary
from mglib.metrics import Estimate, distinct, read_rows, words
from mglib.model.prompts import tokenize
from mglib.paths import DATA
from mglib.world.scene import read_scenes

FOLDER = DATA / "failures"
# If an answer has several, the first names it.
KINDS = ("empty", "repetition", "off-topic", "no-verse", "fragment")
# The two questions of Table 3.
DESCRIBE = "Describe the image in detail."
POEM = "Can you write a beautiful poem about this image?"


# Thresholds of failure, set on the rows of labels.csv with split `thresholds`.
RUN = 4  # words
SAID_AGAIN = 0.25  # share of repeated runs from which it is repetition
CAPTION = 8  # words: a text no longer than this is a caption, which needs no full stop
RIGHT_SHARE = 0.5  # more than this share of what a description names must be in the picture
# A model's refusal to describe.
REFUSAL = re.compile(
    r"\bi['’]?m sorry\b|\b(don['’]t|do not) have (enough|the (cap)?ability)\b"
    r"|\b(i|we)\b[^.!?]{0,12}\b(can ?not|can['’]?t|unable to|not able to) (\w+ )?"
    r"(assist|comply|help (you|with)|(see|view|access|process|describe|analy[sz]e|identify|provide) "
    r"(\w+ ){0,2}(images?|pictures?|photos?|photographs?|people|person|description)\b)"
    r"|\bas an? (ai|language model)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Truth:
    """What is in a picture: objects by name, and words for its setting, props, weather or hour.

    Scenery is None if only objects are annotated: whether a text is about the picture is then unknown.
    """

    objects: frozenset[str]
    scenery: frozenset[str] | None = frozenset()


def truths(split: Split, scenes: Path | None) -> list[Truth]:
    """Join a split's objects with setting and props of its scene graphs (JSON lines in the same order), if
    it has any.
    """
    if scenes is None:
        return [Truth(objects, None) for objects in split.objects]
    forms = {row["name"]: row["forms"].split("|") for row in read_rows(FOLDER / "scenery.csv")}
    found = []
    for objects, scene in zip(split.objects, read_scenes(scenes), strict=True):
        names = [scene.setting, *(prop.name for prop in scene.props)]
        found.append(Truth(objects, frozenset(form for name in names for form in forms[name])))
    return found


@dataclass(frozen=True)
class Detector:
    """Detects failures, given the names of objects that answers may mention."""

    vocabulary: Vocabulary

    def failures(self, text: str, truth: Truth, *, poem: bool, cut: bool = False) -> set[str]:
        """Return the failures of an answer; `cut` says that the limit on tokens ended it, not the model.

        empty: no words.
        repetition: the share of runs of words that came before reaches SAID_AGAIN. In an answer of few words
        the runs are half as long as it.
        off-topic: a refusal; or nothing named is in the picture; or, of a description, too small a share of
        it. Where the scenery is unknown, a refusal alone is.
        no-verse: a poem that is no verse (`checklist.is_verse`).
        fragment: a description that the model broke off, or of which not one sentence was over when the limit
        came. A caption needs no full stop, nor do the lines of a poem.
        """
        count, known = len(words(text)), truth.scenery is not None
        right = self.share_right(text, truth) if known else 1.0
        if not count:
            return {"empty"}
        checks = {
            "repetition": 1 - distinct(text, max(1, min(RUN, count // 2))) >= SAID_AGAIN,
            "off-topic": bool(REFUSAL.search(text)) or right <= (0 if poem else RIGHT_SHARE),
            "no-verse": poem and not is_verse(text),
            "fragment": not poem and count > CAPTION and broken_off(text, cut=cut),
        }
        return {kind for kind, holds in checks.items() if holds}

    def share_right(self, text: str, truth: Truth) -> float:
        """Return the share of the objects named that are in the picture; the right scenery counts as one."""
        named = set(self.vocabulary.mentions(text))
        spaced = f" {' '.join(words(text))} "
        scenery = any(f" {form} " in spaced for form in truth.scenery or ())
        right = len(named & truth.objects) + scenery
        return right / max(1, len(named) + scenery)


def broken_off(text: str, *, cut: bool) -> bool:
    """Return whether a text lacks a sentence end where it needs one: at its end or, if cut, anywhere."""
    marks = ".!?"
    return not any(mark in text for mark in marks) if cut else text.rstrip("\"')* ")[-1:] not in tuple(marks)


def cut(text: str, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> bool:
    """Return whether an answer used up its token limit; white space at its end may have been stripped."""
    return len(tokenize(tokenizer, text)) >= max_new_tokens - 1


def kind(found: set[str]) -> str:
    """Name an answer by its first failure, or as a success."""
    return next((name for name in KINDS if name in found), "success")


def read_labels() -> pandas.DataFrame:
    """Read the labelled answers: two passes, the label, and the split, `thresholds` or `agreement`."""
    return pandas.DataFrame(read_rows(FOLDER / "labels.csv"))


def verdict(detector: Detector, row: Mapping[str, str]) -> str:
    """Judge a labelled answer as the detector would."""
    truth = Truth(*(frozenset(filter(None, row[name].split("|"))) for name in ("objects", "scenery")))
    poem, broken = row["question"] == POEM, row["cut"] == "yes"
    return kind(detector.failures(row["text"], truth, poem=poem, cut=broken))


def failed(kinds: Iterable[str]) -> list[bool]:
    """Return whether each answer has failed, in whatever way."""
    return [one != "success" for one in kinds]


def kappa(first: Sequence[Any], second: Sequence[Any], *, seed: int = 0, resamples: int = 2000) -> Estimate:
    """Return Cohen's kappa of two yes-or-no judgements with a percentile bootstrap over the items judged.

    Raises ValueError if both judges give one and the same verdict throughout: kappa is undefined then.
    """
    a, b = numpy.asarray(first, dtype=float), numpy.asarray(second, dtype=float)

    def value(a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:  # over the last axis
        yes, no = a.mean(-1) * b.mean(-1), (1 - a.mean(-1)) * (1 - b.mean(-1))
        chance = yes + no
        with numpy.errstate(invalid="ignore"):
            return ((a == b).mean(-1) - chance) / (1 - chance)

    whole = value(a, b)
    if not numpy.isfinite(whole):
        raise ValueError("Both judges give one and the same verdict throughout: label more varied answers.")
    draws = numpy.random.default_rng(seed).integers(len(a), size=(resamples, len(a)))
    low, high = numpy.nanquantile(value(a[draws], b[draws]), [0.025, 0.975])
    return Estimate(float(whole), float(low), float(high), len(a))
