"""`python -m mglib score chair|pope|vqa|coverage answers.jsonl --data folder`: score anybody's answers."""

import json
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


def score(task: str, answers: Path, data: Path) -> None:
    """Print a task's scores of a file of answers; raises ValueError or OSError with where the formats are."""
    try:
        if task not in TASKS:
            raise ValueError(f"There is no task {task!r}: choose one of {', '.join(TASKS)}.")
        if not data.exists():
            raise FileNotFoundError(f"There is no {data}: name with --data where the truth stands.")
        show(TASKS[task](answers, data), answers)
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}\n{FORMATS}") from error
