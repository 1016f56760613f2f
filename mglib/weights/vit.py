"""Conversion of an ONNX graph whose `backbone.*` is a ViT-S/14 of DINOv2's architecture to timm's names.

It cannot be proved here that these weights equal Meta's released DINOv2: the package that carries the graph
does not say. tests/weights/test_sources.py checks that timm's model with this state gives the graph's tokens.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed

from mglib.weights.tensors import require_content

NAME = "vit_small_patch14_dinov2"
IMAGE_SIZE = 224
DEPTH = 12
FILE = f"{NAME}_{IMAGE_SIZE}.safetensors"
# Hash before the positions are resampled: that interpolation may differ in the last bit between processors.
CONTENT = "0edff7cf2452b33c9791c27b6d03eb610ff64870f34c0a61a3fa3663c97aafe0"


def make_from_wheel(fetched: Path, built: Path) -> None:
    """Write the state dict of the wheel's graph into `built`; raises RuntimeError if it is not as pinned."""
    (file,) = fetched.glob("*.onnx")
    state = from_onnx(file)
    require_content(state, CONTENT, origin=file.name)
    save_file(resampled(state), built / FILE)


def make_from_hub(snapshot: Path, built: Path) -> None:
    """Write the state dict of timm's own release into `built`; raises RuntimeError if it does not fit."""
    save_file(resampled(load_file(snapshot / "model.safetensors")), built / FILE)


def from_onnx(path: Path) -> dict[str, torch.Tensor]:
    """Return the backbone under timm's names, with the positions of its own 37 x 37 grid: (1, 1370, 384)."""
    import onnx  # not on a machine that only runs the bench
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    named = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    state = {
        "cls_token": named["backbone.embeddings.cls_token"],
        "pos_embed": _positions(graph, named),
        "patch_embed.proj.weight": named["backbone.embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": named["backbone.embeddings.patch_embeddings.projection.bias"],
        "norm.weight": named["backbone.layernorm.weight"],
        "norm.bias": named["backbone.layernorm.bias"],
    }
    linear = _linear_weights(graph, named)
    for layer in range(DEPTH):
        state |= {f"blocks.{layer}.{name}": value for name, value in _block(layer, named, linear).items()}
    return {name: value.contiguous() for name, value in state.items()}


def _linear_weights(graph: Any, named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # The exporter transposed these weights and dropped their names; the node that uses one keeps its own.
    return {
        node.name: named[node.input[1]].T
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in named
    }


def _positions(graph: Any, named: dict[str, torch.Tensor]) -> torch.Tensor:
    # Anonymous too, and split: the class token's goes into a Concat, the patches' into the Reshape before it.
    users = {
        node.op_type: name
        for node in graph.node
        if node.name.startswith("/backbone/embeddings/")
        for name in node.input
        if name.startswith("onnx::") and name in named
    }
    return torch.cat([named[users["Concat"]], named[users["Reshape"]]], dim=1)  # (1, 1 + 37 * 37, 384)


def _block(
    layer: int, named: dict[str, torch.Tensor], linear: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    def weight(name: str) -> torch.Tensor:
        return linear[f"/backbone/encoder/layer.{layer}/{name.replace('.', '/')}/MatMul"]

    def vector(name: str) -> torch.Tensor:
        return named[f"backbone.encoder.layer.{layer}.{name}"]

    qkv = [f"attention.attention.{name}" for name in ("query", "key", "value")]
    return {
        "norm1.weight": vector("norm1.weight"),
        "norm1.bias": vector("norm1.bias"),
        "attn.qkv.weight": torch.cat([weight(name) for name in qkv]),  # (3 * 384, 384): timm fuses the three
        "attn.qkv.bias": torch.cat([vector(f"{name}.bias") for name in qkv]),
        "attn.proj.weight": weight("attention.output.dense"),
        "attn.proj.bias": vector("attention.output.dense.bias"),
        "ls1.gamma": vector("layer_scale1.lambda1"),
        "norm2.weight": vector("norm2.weight"),
        "norm2.bias": vector("norm2.bias"),
        "mlp.fc1.weight": weight("mlp.fc1"),
        "mlp.fc1.bias": vector("mlp.fc1.bias"),
        "mlp.fc2.weight": weight("mlp.fc2"),
        "mlp.fc2.bias": vector("mlp.fc2.bias"),
        "ls2.gamma": vector("layer_scale2.lambda1"),
    }


def resampled(state: dict[str, torch.Tensor], *, image_size: int = IMAGE_SIZE) -> dict[str, torch.Tensor]:
    """Return `state` with positions for `image_size` pixels, its names and shapes checked against timm's.

    Raises RuntimeError naming what is missing, left over or of another shape.
    """
    with torch.device("meta"):  # names and shapes only
        model = timm.create_model(NAME, img_size=image_size, num_classes=0)
    # Not antialiased, as in the graph itself: the tokens then equal its own to 1e-5. timm's loader does, and
    # that moves tokens by up to 0.4 (their spread is 2.4, and the cosine stays above 0.999).
    positions = resample_abs_pos_embed(state["pos_embed"], list(model.patch_embed.grid_size), antialias=False)
    state = {**state, "pos_embed": positions.contiguous()}  # (1, 1 + grid * grid, 384)
    expected = {(name, tuple(value.shape)) for name, value in model.state_dict().items()}
    found = {(name, tuple(value.shape)) for name, value in state.items()}
    if wrong := sorted({name for name, _ in expected ^ found}):
        raise RuntimeError(f"The vision weights do not fit timm's {NAME}: {', '.join(wrong)}.")
    return state
