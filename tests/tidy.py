"""What the tests read of a tidy frame."""

from mglib import frame


def values(found, column="value"):
    """Return a column of a frame by the names of its numbers."""
    return dict(zip(frame.names(found), found[column], strict=True))
