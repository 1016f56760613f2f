"""Text of captions and questions: cleaning for stage 1, drawing keywords, removing image placeholders."""

import random
import re

LONGEST = 50  # words

# fmt: off
MOST_TIMES = 4  # a keyword appears at most this often
EMPTY_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "into", "is", "it", "its", "of",
    "on", "or", "that", "the", "their", "there", "this", "to", "with", "you", "your"))
# fmt: on
# Image placeholders in other programs' files; here the picture goes before every question.
PLACEHOLDER = re.compile(r"\s*(?:</?(?:img|image|imagehere|image-placeholder)>\s*)+", re.I)
TAKEN = "{}: the picture's place, such as <image>, is taken out of {:,} questions: pictures go before them."


def without_placeholder(question: str) -> str:
    """Return a question without image placeholders."""
    return PLACEHOLDER.sub(" ", question).strip() if PLACEHOLDER.search(question) else question


def clean_caption(caption: str) -> str:
    """Lower the case, replace `.!"()*#:;~` by spaces, collapse white space and keep the first 50 words
    (official `BlipCaptionProcessor`).

    Deviation: the official code keeps single white-space characters other than a space (a tab, a line break,
    a no-break or ideographic space); here each becomes a space, since a line break ends a stage-1 caption.
    """
    text = re.sub(r"[.!\"()*#:;~]", " ", caption.lower())
    return " ".join(text.split()[:LONGEST])


def shuffled_keywords(caption: str, seed: str, most: int) -> str:
    """Return some of a caption's content words in random order, each up to four times.

    Queries name an object many times over or not at all. A model that learns to write from keywords like
    these neither copies repetitions nor depends on every word. The share kept is drawn for each caption;
    `most`, the number of queries, limits the total.
    """
    rng = random.Random(seed)
    left = rng.random()
    words = [word for word in caption.split() if word not in EMPTY_WORDS and rng.random() < left]
    words = [word for word in words for _ in range(rng.randint(1, MOST_TIMES))]
    rng.shuffle(words)
    return " ".join(words[:most])
