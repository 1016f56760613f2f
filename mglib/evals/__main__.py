"""`python -m mglib.evals chair|pope|vqa|coverage answers.jsonl --data folder`: score anybody's answers."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from mglib.evals.scores import TASKS, Scored
from mglib.paths import write_text

SHOWN = 3  # of each kind of what is left out
FORMATS = 'The formats of answers and data: data/README.md, "Scoring answers, anybody\'s".'


def show(scored: Scored, answers: Path) -> None:
    """Print a table and what is not in it; all of that is listed in a file beside the answers."""
    with_text = scored.table().to_string(index=False, float_format="{:.4f}".format)
    print(f"{with_text}\n(low to high: 95 % intervals over pictures)")
    print(*scored.remarks, sep="\n", end="\n" if scored.remarks else "")
    for what, faults in scored.left_out.items():
        if faults:
            rest = f", and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
            print(f"{len(faults):,} {what}:", *(f"  {fault}" for fault in faults[:SHOWN]), sep="\n", end="")
            print(rest)
    listed = [{"what": what, **asdict(one)} for what, some in scored.left_out.items() for one in some]
    file = answers.with_name(f"{answers.stem}-left-out.jsonl")
    if listed:
        write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in listed))
        print(f"{file} lists them all.")
    else:
        file.unlink(missing_ok=True)  # of an earlier run


def main(words: list[str] | None = None) -> int:
    """Run a command line (by default this process's); return 0 with a table, else 1 with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m mglib.evals", description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("answers", type=Path, help="JSON lines of `make answer`, or an official submission")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="a folder in its official layout, or a file of questions (data/README)",
    )
    given = parser.parse_args(words)
    try:
        if not given.data.exists():
            raise FileNotFoundError(f"There is no {given.data}: name with --data where the truth stands.")
        show(TASKS[given.task](given.answers, given.data), given.answers)
    except (OSError, ValueError) as error:
        print(f"{error}\n{FORMATS}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
