"""The paper's own weights, put into this package's modules.

| part | file | published at |
| ViT-g/14 | eva_vit_g.pth | storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/ |
| Q-Former | blip2_pretrained_flant5xxl.pth | the same folder |
| projection, 7B | prerained_minigpt4_7b.pth | huggingface.co/spaces/Vision-CAIR/minigpt4 |
| projection, 13B | pretrained_minigpt4.pth | huggingface.co/Vision-CAIR/MiniGPT-4 |

Every name in a file is either used or dropped by name here; anything else stops the loading.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mglib.model.qformer import QFormer
from mglib.model.vision import Vision
from mglib.weights.files import read_state

Names = Literal["official", "ours", "transformers"]

# Three names for each weight. "#" is a number, "*" is weight or bias; no third name: the same as the second.
# Where a LAVIS file holds the whole model, `visual_encoder.` precedes the first block's names.
TABLES = (
    (
        {"official": "", "ours": "vision.encoder.", "transformers": "vision_model."},
        """
        cls_token                 cls_token                 embeddings.class_embedding
        pos_embed                 pos_embed                 embeddings.position_embedding
        patch_embed.proj.*        patch_embed.proj.*        embeddings.patch_embedding.*
        blocks.#.norm1.*          blocks.#.norm1.*          encoder.layers.#.layer_norm1.*
        blocks.#.attn.qkv.weight  blocks.#.attn.qkv.weight  encoder.layers.#.self_attn.qkv.weight
        blocks.#.attn.q_bias      blocks.#.attn.q_bias      encoder.layers.#.self_attn.q_bias
        blocks.#.attn.v_bias      blocks.#.attn.v_bias      encoder.layers.#.self_attn.v_bias
        blocks.#.attn.proj.*      blocks.#.attn.proj.*      encoder.layers.#.self_attn.projection.*
        blocks.#.norm2.*          blocks.#.norm2.*          encoder.layers.#.layer_norm2.*
        blocks.#.mlp.fc1.*        blocks.#.mlp.fc1.*        encoder.layers.#.mlp.fc1.*
        blocks.#.mlp.fc2.*        blocks.#.mlp.fc2.*        encoder.layers.#.mlp.fc2.*
        """,  # in transformers q_bias and v_bias are two thirds of qkv.bias: see join_bias
    ),
    (
        {"official": "", "ours": "", "transformers": ""},
        """
        query_tokens  qformer.query_tokens  query_tokens
        ln_vision.*   qformer.ln_vision.*   vision_model.post_layernorm.*
        llama_proj.*  projection.*          language_projection.*
        """,
    ),
    (
        {"official": "Qformer.bert.", "ours": "qformer.bert.", "transformers": "qformer."},
        """
        embeddings.LayerNorm.*                             layernorm.*
        encoder.layer.#.attention.self.query.*             encoder.layer.#.attention.attention.query.*
        encoder.layer.#.attention.self.key.*               encoder.layer.#.attention.attention.key.*
        encoder.layer.#.attention.self.value.*             encoder.layer.#.attention.attention.value.*
        encoder.layer.#.attention.output.dense.*           encoder.layer.#.attention.output.dense.*
        encoder.layer.#.attention.output.LayerNorm.*       encoder.layer.#.attention.output.LayerNorm.*
        encoder.layer.#.crossattention.self.query.*        encoder.layer.#.crossattention.attention.query.*
        encoder.layer.#.crossattention.self.key.*          encoder.layer.#.crossattention.attention.key.*
        encoder.layer.#.crossattention.self.value.*        encoder.layer.#.crossattention.attention.value.*
        encoder.layer.#.crossattention.output.dense.*      encoder.layer.#.crossattention.output.dense.*
        encoder.layer.#.crossattention.output.LayerNorm.*  encoder.layer.#.crossattention.output.LayerNorm.*
        encoder.layer.#.intermediate_query.dense.*         encoder.layer.#.intermediate_query.dense.*
        encoder.layer.#.output_query.dense.*               encoder.layer.#.output_query.dense.*
        encoder.layer.#.output_query.LayerNorm.*           encoder.layer.#.output_query.LayerNorm.*
        """,
    ),
)

# What a file may hold that MiniGPT-4 does not use.
EVA_DROPS = ("norm.*", "fc_norm.*", "head.*")  # behind the last block; BLIP-2 reads the blocks' output
BLIP2_DROPS = ("Qformer.bert.embeddings.position_ids", "t5_proj.*")
# The official trainer saves the buffers of frozen parts too.
MINIGPT4_DROPS = (
    "Qformer.bert.embeddings.position_ids",
    "llama_model.model.layers.*.self_attn.rotary_emb.inv_freq",
)

SIZES = {4096: "7B", 5120: "13B"}  # widths of LLaMA and Vicuna


def load_vision(vision: Vision, file: Path) -> None:
    """Fill an encoder that is cut to `depth` blocks from `eva_vit_g.pth`; the block behind them is dropped.

    Raises ValueError naming what is missing, left over or of another shape, and as `files.read_state`.
    """
    drops = (*EVA_DROPS, f"blocks.{vision.config.depth}.*")
    fill(vision, "vision.", read_state(file), drops=drops, origin=file)


def load_qformer(qformer: QFormer, file: Path) -> None:
    """Fill a Q-Former, its queries and `ln_vision` from `blip2_pretrained_flant5xxl.pth`.

    Raises as `load_vision`.
    """
    fill(qformer, "qformer.", read_state(file), drops=BLIP2_DROPS, origin=file)


def load_projection(projection: nn.Linear, file: Path) -> None:
    """Fill the projection from `prerained_minigpt4_7b.pth`, `pretrained_minigpt4.pth` or an own export.

    The file does not say which language model it was trained with, but its width must be that of the one in
    use. Raises as `load_vision`.
    """
    state = read_state(file)
    if "llama_proj.weight" in state:
        require_width(file, len(state["llama_proj.weight"]), projection.out_features)
    fill(projection, "projection.", state, drops=MINIGPT4_DROPS, origin=file)


def require_width(file: Path, width: int, wanted: int) -> None:
    """Raise ValueError when a projection's output is not as wide as the language model."""
    if width != wanted:
        size, other = (f"{n} numbers ({SIZES[n]})" if n in SIZES else f"{n} numbers" for n in (width, wanted))
        raise ValueError(
            f"The projection in {file} writes vectors of {size}, this language model reads vectors of "
            f"{other}: take the projection and the language model of the same size."
        )


def fill(
    module: nn.Module, prefix: str, state: dict[str, Tensor], *, drops: Sequence[str], origin: Path
) -> None:
    """Copy a state dict under official names into `module`, whose own names begin with `prefix` in TABLES.

    Raises ValueError that lists, as the file spells them, the weights which are missing, are left over after
    `drops`, or have another shape.
    """
    own = {prefix + name: value for name, value in module.state_dict().items()}
    given = {name: value for name, value in state.items() if not dropped(name, drops)}
    known = {name: translate(name, "official", "ours") for name in given}
    found = {ours: name for name, ours in known.items() if ours and ours in own}
    faults = {
        "missing": [translate(ours, "ours", "official") or ours for ours in own if ours not in found],
        "left over": [name for name, ours in known.items() if ours not in own],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} for {tuple(own[ours].shape)}"
            for ours, name in found.items()
            if own[ours].shape != given[name].shape
        ],
    }
    if any(faults.values()):
        problems = "; ".join(f"{what}: {listed(which)}" for what, which in faults.items() if which)
        raise ValueError(
            f"{origin} does not fit this {type(module).__name__} ({problems}). Is it the right file?"
        )
    module.load_state_dict({ours.removeprefix(prefix): given[name] for ours, name in found.items()})


def listed(names: Sequence[str], most: int = 30) -> str:
    """Join names, the first `most` of them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def dropped(name: str, drops: Iterable[str]) -> bool:
    """Whether one of the patterns covers a name."""
    return any(fnmatch(name, pattern) for pattern in drops)


@cache
def rows() -> list[dict[str, str]]:
    """Return TABLES as one list: each row has a weight's three full names, with "#" and "*"."""
    table = []
    for prefixes, text in TABLES:
        for line in text.strip().splitlines():
            official, ours, *rest = line.split()
            columns = {"official": official, "ours": ours, "transformers": rest[0] if rest else ours}
            table.append({names: prefixes[names] + column for names, column in columns.items()})
    return table


def translate(name: str, source: Names, target: Names) -> str | None:
    """Return what a weight is called elsewhere, or None when the table does not know it."""
    for row in rows():
        pattern = re.escape(row[source]).replace(r"\#", r"(\d+)").replace(r"\*", "(weight|bias)")
        if match := re.fullmatch(pattern, name):
            words = iter(match.groups())
            return re.sub(r"[#*]", lambda _: next(words), row[target])  # noqa: B023 (used at once)
    return None


def join_bias(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write q_bias and v_bias as transformers does: `qkv.bias` with zeros for k between them."""
    result = {}
    for name, value in state.items():
        if name.endswith(".self_attn.q_bias"):
            v = state[name.replace("q_bias", "v_bias")]
            result[name.replace("q_bias", "qkv.bias")] = torch.cat([value, torch.zeros_like(v), v])
        elif not name.endswith(".self_attn.v_bias"):
            result[name] = value
    return result
