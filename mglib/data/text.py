"""The words of captions and questions: cleaned for stage 1, drawn as keywords, rid of the picture's place."""

import random
import re

LONGEST = 50  # words

# fmt: off
MOST_TIMES = 4  # that a keyword is repeated
EMPTY_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "into", "is", "it", "its", "of",
    "on", "or", "that", "the", "their", "there", "this", "to", "with", "you", "your"))
# fmt: on
# Where other programs' files say that the picture goes; here it goes before every question.
PLACEHOLDER = re.compile(r"\s*(?:</?(?:img|image|imagehere|image-placeholder)>\s*)+", re.I)
TAKEN = "{}: the picture's place, such as <image>, is taken out of {:,} questions: pictures go before them."


def without_placeholder(question: str) -> str:
    """Return a question without the picture's place in it."""
    return PLACEHOLDER.sub(" ", question).strip() if PLACEHOLDER.search(question) else question


def clean_caption(caption: str) -> str:
    """Lower the case, drop `.!"()*#:;~`, fold white space and keep 50 words (official
    `BlipCaptionProcessor`).

    Deviation: the official code keeps single white space that is no space (a tab, a line break, a no-break or
    ideographic space); here each becomes a space, since a line break ends a caption of stage 1.
    """
    text = re.sub(r"[.!\"()*#:;~]", " ", caption.lower())
    return " ".join(text.split()[:LONGEST])


def shuffled_keywords(caption: str, seed: str, most: int) -> str:
    """Return some of the words of a caption that carry meaning, in random order, each up to four times.

    Queries name a thing many times over or not at all. A model that learns to write from keywords like these
    neither repeats what is repeated nor waits for each word. How many are left out is drawn for each caption;
    `most`, the number of queries, is how many come in all.
    """
    rng = random.Random(seed)
    left = rng.random()
    words = [word for word in caption.split() if word not in EMPTY_WORDS and rng.random() < left]
    words = [word for word in words for _ in range(rng.randint(1, MOST_TIMES))]
    rng.shuffle(words)
    return " ".join(words[:most])
