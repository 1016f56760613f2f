"""Speed: `make bench`. What a profile made from published files costs is measured on a card, with random
weights in the right shapes (runs/gpu.json); for any other, what this package saves is measured here, as
ratios (runs/bench.json).

For the card's part torch, transformers, timm, safetensors and accelerate are enough: this folder copied to a
bare machine runs it as `python -m mglib bench --profile vicuna-7b`.
"""

from mglib.fullscale import card
from mglib.model import device
from mglib.settings import Settings


def run(settings: Settings) -> int:
    """Measure; returns 1 where something broke on the way. Raises ValueError where there is no card."""
    chosen, place = settings.found(), device.pick()
    if chosen.release is None:
        from mglib.fullscale import ratios  # here, since a bare machine lacks what a study imports

        ratios.run(chosen)
        return 0
    if place.type != "cuda":
        raise ValueError(
            f"{chosen.name} is measured on an NVIDIA card, and there is none here: copy this folder to a "
            "machine that has one, and bring its runs/gpu.json back."
        )
    return card.run(chosen, place)
