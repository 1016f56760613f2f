"""`make export`: write the trained weights in a chosen format."""

from pathlib import Path

from mglib.chat.chat_model import ChatModel, save
from mglib.profiles import last_part
from mglib.weights.export import export_blip2, export_official
from mglib.weights.lora import lora_weights

FORMATS = ("mglib", "pth", "transformers")
# clip-impl.h and models/ of ggml-org/llama.cpp, tools/mtmd: each `clip.projector_type` is one fixed graph.
GGUF = "gguf-mmproj"
NO_GGUF = (
    "No gguf-mmproj is written: each projector type of llama.cpp is one model's own graph, and none has "
    "BLIP-2's Q-Former, whose queries read the whole picture (Granite's read windows of it), so no such file "
    "could be read: take TO=transformers or TO=mglib."
)


def require_format(to: str) -> None:
    """Raise ValueError for a format that is not supported."""
    if to == GGUF:
        raise ValueError(NO_GGUF)
    if to not in FORMATS:
        raise ValueError(f"There is no format {to!r}: TO is one of {', '.join(FORMATS)}.")


def export(chat_model: ChatModel, to: str, folder: Path) -> Path:
    """Write a model's trained weights and return where: the projection bound to its frozen parts (mglib),
    the official trainer's file (pth), or the whole model (transformers).

    Raises ValueError if the format cannot hold the model, FileExistsError if the target exists.
    """
    model, template = chat_model.model, chat_model.turns.first
    if lora_weights(model.language):
        raise ValueError(
            "Only the folder of `make finetune LORA=1` holds low-rank updates of the language model: use it "
            "as it is, or fine-tune without LORA to export the result."
        )
    target = folder / "checkpoint.pth" if to == "pth" else folder
    if target.exists():
        raise FileExistsError(f"{target} is there already: choose another OUT, or move it away.")
    if to == "pth":
        config = {"language": chat_model.language_id, "prompt": template.turn}
        export_official(model.projection, target, config=config)
    elif to == "transformers":
        export_blip2(model, target, language=last_part(chat_model.language), template=template)
    else:
        save(chat_model, target)
    return target
