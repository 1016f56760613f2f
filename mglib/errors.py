"""What a user sees when something fails: an error message and, for a bug, a file with the traceback."""

import traceback
from pathlib import Path
from typing import TypeVar

from mglib.paths import RUNS, shown, write_text

PACKAGE = str(Path(__file__).parent)
T = TypeVar("T")


def needed(value: T | None, what: str) -> T:
    """Return a value that a step requires; raises ValueError naming it if it is None."""
    if value is None:
        raise ValueError(f"This step needs {what}, and there is none.")
    return value


def sentence(error: Exception, what: str, *, folder: Path = RUNS / "errors") -> str:
    """Return the error message for a user; `what` failed.

    An OSError, or an error that this package raises, explains itself. Any other is a bug: its traceback goes
    to a file, which the message names.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = not frames or frames[-1].filename.startswith(PACKAGE)
    if isinstance(error, OSError) or (
        ours and isinstance(error, ValueError | RuntimeError | ArithmeticError)
    ):
        return str(error)
    file, whole = folder / f"{what}.txt", "".join(traceback.format_exception(error))
    said = (str(error).strip().splitlines() or ["no more is said"])[0]
    try:
        write_text(file, whole)
    except OSError as unwritten:
        return f"{what} failed, {type(error).__name__}: {said}\n{unwritten}\n{whole}"
    return f"{what} failed, {type(error).__name__}: {said}\nThe whole error is in {shown(file)}."
