"""The paper's own weights, put into this package's modules.

| part | file | published at |
| ViT-g/14 | eva_vit_g.pth | storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/ |
| Q-Former | blip2_pretrained_flant5xxl.pth | the same folder |
| projection, 7B | prerained_minigpt4_7b.pth | huggingface.co/spaces/Vision-CAIR/minigpt4 |
| projection, 13B | pretrained_minigpt4.pth | huggingface.co/Vision-CAIR/MiniGPT-4 |

Every name in a file is either used or dropped by name here; any other name is an error.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from torch import Tensor, nn

from mglib.model.qformer import QFormer
from mglib.model.vision import Vision
from mglib.weights.files import read_state

# From our names to those of these files: rules applied in order. (In a LAVIS file of the whole model, the
# encoder's names begin with `visual_encoder.`)
OFFICIAL = {
    r"^vision\.encoder\.": "",
    r"^qformer\.(query_tokens|ln_vision)": r"\1",
    r"^qformer\.bert\.layernorm": "Qformer.bert.embeddings.LayerNorm",
    r"^qformer\.bert": "Qformer.bert",
    r"attention\.attention\.": "attention.self.",
    r"^projection": "llama_proj",
}

# Entries of a file that MiniGPT-4 does not use.
EVA_DROPS = ("norm.*", "fc_norm.*", "head.*")  # after the last block; BLIP-2 reads the blocks' output
BLIP2_DROPS = ("Qformer.bert.embeddings.position_ids", "t5_proj.*")
# The official trainer saves the buffers of frozen parts too.
MINIGPT4_DROPS = (
    "Qformer.bert.embeddings.position_ids",
    "llama_model.model.layers.*.self_attn.rotary_emb.inv_freq",
)

SIZES = {4096: "7B", 5120: "13B"}  # widths of LLaMA and Vicuna


def load_vision(vision: Vision, file: Path) -> None:
    """Fill an encoder that is cut to `depth` blocks from `eva_vit_g.pth`; the block after them is dropped.

    Raises ValueError naming what is missing, left over or of another shape, and like `files.read_state`.
    """
    drops = (*EVA_DROPS, f"blocks.{vision.config.depth}.*")
    fill(vision, "vision.", read_state(file), drops=drops, origin=file)


def load_qformer(qformer: QFormer, file: Path) -> None:
    """Fill a Q-Former, its queries and `ln_vision` from `blip2_pretrained_flant5xxl.pth`.

    Raises like `load_vision`.
    """
    fill(qformer, "qformer.", read_state(file), drops=BLIP2_DROPS, origin=file)


def load_projection(projection: nn.Linear, file: Path) -> None:
    """Fill the projection from `prerained_minigpt4_7b.pth`, `pretrained_minigpt4.pth` or our own export.

    The file does not say which language model it was trained with, but its width must match the one in use.
    Raises like `load_vision`.
    """
    state = read_state(file)
    widths = len(state.get("llama_proj.weight", projection.weight)), projection.out_features
    if widths[0] != widths[1]:
        size, other = (f"{n} numbers ({SIZES[n]})" if n in SIZES else f"{n} numbers" for n in widths)
        raise ValueError(
            f"The projection in {file} writes vectors of {size}, this language model reads vectors of "
            f"{other}: take the projection and the language model of the same size."
        )
    fill(projection, "projection.", state, drops=MINIGPT4_DROPS, origin=file)


def fill(
    module: nn.Module, prefix: str, state: dict[str, Tensor], *, drops: Sequence[str], origin: Path
) -> None:
    """Copy a state dict with official names into `module`, whose own names have `prefix` in OFFICIAL.

    Raises ValueError listing, as the file spells them, the weights that are missing, left over after `drops`,
    or of another shape.
    """
    own = module.state_dict()
    names = {rename(prefix + name, OFFICIAL): name for name in own}
    given = {name: value for name, value in state.items() if not dropped(name, drops)}
    faults = {
        "missing": [name for name in names if name not in given],
        "left over": [name for name in given if name not in names],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} for {tuple(own[ours].shape)}"
            for name, ours in names.items()
            if name in given and own[ours].shape != given[name].shape
        ],
    }
    if any(faults.values()):
        problems = "; ".join(f"{what}: {listed(which)}" for what, which in faults.items() if which)
        raise ValueError(
            f"{origin} does not fit this {type(module).__name__} ({problems}). Is it the right file?"
        )
    module.load_state_dict({ours: given[name] for name, ours in names.items()})


def rename(name: str, rules: Mapping[str, str]) -> str:
    """Return a weight's name after all substitutions of `rules`."""
    for pattern, replacement in rules.items():
        name = re.sub(pattern, replacement, name)
    return name


def listed(names: Sequence[str], most: int = 30) -> str:
    """Join the first `most` names, and count the rest."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def dropped(name: str, drops: Iterable[str]) -> bool:
    """Return whether one of the patterns matches a name."""
    return any(fnmatch(name, pattern) for pattern in drops)
