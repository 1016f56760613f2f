"""Speed: `make bench`. What a profile made from published files costs is measured on a card, with random
weights in the right shapes (runs/gpu.json); for any other, what this package saves is measured here, as
ratios (runs/bench.json).

For the card's part torch, transformers, timm, safetensors and accelerate are enough: this folder copied to a
bare machine runs it as `python -m mglib.fullscale.bench --profile vicuna-7b`.
"""

import argparse
import sys

from mglib.fullscale import card
from mglib.model import device
from mglib.profiles import PROFILES, profile


def main(arguments: list[str] | None = None) -> int:
    """Measure; returns 1 with a sentence where that cannot be done, or something broke on the way."""
    parser = argparse.ArgumentParser(prog="python -m mglib.fullscale.bench", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="mini")
    chosen, place = profile(parser.parse_args(arguments).profile), device.pick()
    if chosen.release is None:
        from mglib.fullscale import ratios  # here, since a bare machine lacks what a study imports

        ratios.run(chosen)
        return 0
    if place.type != "cuda":
        print(
            f"{chosen.name} is measured on an NVIDIA card, and there is none here: copy this folder to a "
            "machine that has one, and bring its runs/gpu.json back.",
            file=sys.stderr,
        )
        return 1
    return card.run(chosen, place)


if __name__ == "__main__":
    sys.exit(main())
