"""`make export`: what was trained, in a format of one's own choice."""

import argparse
import sys
from pathlib import Path

from mglib.chat.speaker import Speaker, load
from mglib.paths import ROOT
from mglib.profiles import profile
from mglib.weights.export import export_blip2, export_official
from mglib.weights.saved import save_pretrained

FORMATS = ("mglib", "pth", "transformers")
# clip-impl.h and models/ of ggml-org/llama.cpp, tools/mtmd: each `clip.projector_type` is one fixed graph.
GGUF = "gguf-mmproj"
NO_GGUF = (
    "No gguf-mmproj is written: each projector type of llama.cpp is one model's own graph, and none has "
    "BLIP-2's Q-Former, whose queries read the whole picture (Granite's read windows of it), so no such file "
    "could be read: take TO=transformers or TO=mglib."
)


def export(speaker: Speaker, to: str, folder: Path, *, language: str) -> Path:
    """Write a speaker's trained weights and return where: the projection bound to its frozen parts (mglib),
    the official trainer's file (pth), or the whole model (transformers).

    Raises ValueError where the format cannot hold the model, FileExistsError where something is there.
    """
    model, template = speaker.model, speaker.turns.first
    if to == "pth":
        file = folder / "checkpoint.pth"
        if file.exists():
            raise FileExistsError(f"{file} is there already: choose another OUT, or move it away.")
        export_official(
            model.projection, file, config={"language": language, "prompt": template.turn}, epoch=0
        )
        return file
    if to == "transformers":
        export_blip2(model, folder, language=language, template=template)
    else:
        save_pretrained(model, folder, language=language, template=template, run=speaker.origin)
    return folder


def main() -> int:
    """Read the command line and export; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mglib.chat.export", description=__doc__)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--to", choices=(*FORMATS, GGUF), default=FORMATS[0])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.to == GGUF:
        print(NO_GGUF, file=sys.stderr)
        return 1
    folder = given.out or ROOT / "runs" / f"{given.profile}-{given.to}"
    try:
        language = profile(given.profile).language.name
        print(f"written: {export(load(given.profile), given.to, folder, language=language)}")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
