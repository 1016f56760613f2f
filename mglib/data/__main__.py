"""`python -m mglib.data check <format> <folder>`: is this data set whole?"""

import argparse
import sys
from pathlib import Path

from mglib.data.check import FORMATS, check


def main(words: list[str] | None = None) -> int:
    """Run a command line (by default this process's); return 0 for a good folder and 1 for any other."""
    parser = argparse.ArgumentParser(prog="python -m mglib.data", description="Readers of real data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("check", help="print a folder's counts, first records and every fault")
    command.add_argument("format", help=", ".join(FORMATS))
    command.add_argument("folder", type=Path, help="in the layout that data/README.md shows")
    arguments = parser.parse_args(words)
    try:
        return 0 if check(arguments.format, arguments.folder) else 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
