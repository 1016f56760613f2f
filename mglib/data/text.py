"""Caption cleaning of stage 1."""

import re

LONGEST = 50  # words


def clean_caption(caption: str) -> str:
    """Lower the case, drop `.!"()*#:;~`, fold white space and keep 50 words (official
    `BlipCaptionProcessor`).

    Deviation: the official code keeps a single tab or line break; here it becomes a space, since a line break
    ends a caption of stage 1.
    """
    text = re.sub(r"[.!\"()*#:;~]", " ", caption.lower())
    return " ".join(text.split()[:LONGEST])
