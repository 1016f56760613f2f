"""`python -m mglib.evals chair|pope|vqa|coverage answers.jsonl --data folder`: score anybody's answers."""

import argparse
import sys
from pathlib import Path

from mglib.evals.score import TASKS, score

FORMATS = 'The formats of answers and data: data/README.md, "Scoring answers, anybody\'s".'


def main(words: list[str] | None = None) -> int:
    """Run a command line (by default this process's); return 0 with a table, else 1 with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m mglib.evals", description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("answers", type=Path, help="JSON lines of `make answer`, or an official submission")
    data_help = "a folder in its official layout, or a file of questions (data/README)"
    parser.add_argument("--data", type=Path, required=True, help=data_help)
    given = parser.parse_args(words)
    try:
        score(given.task, given.answers, given.data)
    except (OSError, ValueError) as error:
        print(f"{error}\n{FORMATS}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
