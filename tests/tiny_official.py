"""Tiny official files, their names written out by hand, and plain code for what they compute."""

import torch
from timm.models import register_model
from timm.models.eva import Eva
from torch import Tensor
from torch.nn import functional

from mglib.config import VisionConfig

WIDTH, HEADS, HIDDEN, PATCH, BLOCKS = 64, 4, 96, 14, 4  # the encoder; the fourth block is dropped
QUERY_WIDTH, LAYERS, QUERIES = 32, 2, 3  # the Q-Former of conftest.py
VISION = VisionConfig(
    timm_name="eva_tiny_for_tests", width=WIDTH, image_size=28, depth=BLOCKS - 1, final_norm=False
)


@register_model
def eva_tiny_for_tests(pretrained: bool = False, img_size: int = 28, num_classes: int = 0, **_) -> Eva:
    """Build a tiny version of timm's `eva_giant_patch14_clip_224`."""
    return Eva(
        img_size=img_size,
        num_classes=num_classes,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=BLOCKS,
        num_heads=HEADS,
        mlp_ratio=HIDDEN / WIDTH,
        global_pool="token",
    )


class Drawn:
    """Random weights of a plausible size."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int) -> Tensor:
        return 0.5 * torch.randn(*shape, generator=self.generator) / shape[-1] ** 0.5

    def linear(self, name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 2 * self.tensor(outputs, inputs), f"{name}.bias": self.tensor(outputs)}

    def norm(self, name: str, width: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + self.tensor(width), f"{name}.bias": self.tensor(width)}


def eva_vit_g() -> dict[str, Tensor]:
    """Return what `eva_vit_g.pth` holds."""
    draw = Drawn(1)
    state = {
        "cls_token": draw.tensor(1, 1, WIDTH),
        "pos_embed": draw.tensor(1, 5, WIDTH),
        "patch_embed.proj.weight": draw.tensor(WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": draw.tensor(WIDTH),
    }
    for i in range(BLOCKS):
        block = f"blocks.{i}"
        state |= draw.norm(f"{block}.norm1", WIDTH)
        state |= {f"{block}.attn.q_bias": draw.tensor(WIDTH), f"{block}.attn.v_bias": draw.tensor(WIDTH)}
        state |= {f"{block}.attn.qkv.weight": 2 * draw.tensor(3 * WIDTH, WIDTH)}
        state |= draw.linear(f"{block}.attn.proj", WIDTH, WIDTH)
        state |= draw.norm(f"{block}.norm2", WIDTH)
        state |= draw.linear(f"{block}.mlp.fc1", WIDTH, HIDDEN)
        state |= draw.linear(f"{block}.mlp.fc2", HIDDEN, WIDTH)
    return state


def blip2_flant5() -> dict[str, Tensor]:
    """Return what `blip2_pretrained_flant5xxl.pth` holds under "model"."""
    draw = Drawn(2)
    state = {
        "query_tokens": 3 * draw.tensor(1, QUERIES, QUERY_WIDTH),
        "Qformer.bert.embeddings.position_ids": torch.arange(512).expand(1, -1),
        **draw.norm("ln_vision", WIDTH),
        **draw.norm("Qformer.bert.embeddings.LayerNorm", QUERY_WIDTH),
        **draw.linear("t5_proj", QUERY_WIDTH, 16),
    }
    for i in range(LAYERS):
        layer = f"Qformer.bert.encoder.layer.{i}"
        for kind, inputs in {"attention": QUERY_WIDTH, "crossattention": WIDTH}.items():
            if kind == "crossattention" and i % 2:
                continue
            state |= draw.linear(f"{layer}.{kind}.self.query", QUERY_WIDTH, QUERY_WIDTH)
            state |= draw.linear(f"{layer}.{kind}.self.key", inputs, QUERY_WIDTH)
            state |= draw.linear(f"{layer}.{kind}.self.value", inputs, QUERY_WIDTH)
            state |= draw.linear(f"{layer}.{kind}.output.dense", QUERY_WIDTH, QUERY_WIDTH)
            state |= draw.norm(f"{layer}.{kind}.output.LayerNorm", QUERY_WIDTH)
        state |= draw.linear(f"{layer}.intermediate_query.dense", QUERY_WIDTH, 4 * QUERY_WIDTH)
        state |= draw.linear(f"{layer}.output_query.dense", 4 * QUERY_WIDTH, QUERY_WIDTH)
        state |= draw.norm(f"{layer}.output_query.LayerNorm", QUERY_WIDTH)
    return state


def minigpt4(width: int = 48) -> dict:
    """Return what `prerained_minigpt4_7b.pth` holds; the official trainer saves frozen parts' buffers too."""
    return {
        "model": {
            "Qformer.bert.embeddings.position_ids": torch.arange(512).expand(1, -1),
            "llama_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6),
            **Drawn(3).linear("llama_proj", QUERY_WIDTH, width),
        },
        "optimizer": {"state": {}, "param_groups": []},
        "config": {"run": {"init_lr": 1e-4}},
        "scaler": {"scale": 65536.0},
        "epoch": 3,
    }


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: dict[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend in HEADS heads: (B, M, D) to (B, N, D) -> (B, M, D)."""
    size = q.shape[-1] // HEADS
    heads = []
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / size**0.5).softmax(-1)
        heads.append(weights @ v[..., part])
    return torch.cat(heads, -1)


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def reference_vision(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Compute LAVIS's encoder without its last block: (B, 3, 28, 28) -> (B, 5, WIDTH)."""
    patches = functional.conv2d(
        pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH
    )
    x = torch.cat([state["cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    x = x + state["pos_embed"]
    for i in range(BLOCKS - 1):
        block = f"blocks.{i}"
        seen = norm(state, f"{block}.norm1", x, 1e-6)
        q, k, v = (seen @ state[f"{block}.attn.qkv.weight"].T).chunk(3, -1)
        mixed = attend(q + state[f"{block}.attn.q_bias"], k, v + state[f"{block}.attn.v_bias"])
        x = x + linear(state, f"{block}.attn.proj", mixed)
        hidden = gelu(linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", x, 1e-6)))
        x = x + linear(state, f"{block}.mlp.fc2", hidden)
    return x


def reference_qformer(state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Compute LAVIS's Q-Former with `ln_vision` before it: (B, 5, WIDTH) -> (B, QUERIES, QUERY_WIDTH)."""
    bert = {name.removeprefix("Qformer.bert."): value for name, value in state.items()}
    seen = norm(state, "ln_vision", tokens, 1e-5)
    x = norm(bert, "embeddings.LayerNorm", state["query_tokens"].expand(len(tokens), -1, -1), 1e-12)
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for kind in ("attention", "crossattention"):
            if f"{layer}.{kind}.self.query.weight" not in bert:
                continue
            source = seen if kind == "crossattention" else x
            query = linear(bert, f"{layer}.{kind}.self.query", x)
            key, value = (linear(bert, f"{layer}.{kind}.self.{name}", source) for name in ("key", "value"))
            mixed = linear(bert, f"{layer}.{kind}.output.dense", attend(query, key, value))
            x = norm(bert, f"{layer}.{kind}.output.LayerNorm", mixed + x, 1e-12)
        hidden = gelu(linear(bert, f"{layer}.intermediate_query.dense", x))
        hidden = linear(bert, f"{layer}.output_query.dense", hidden)
        x = norm(bert, f"{layer}.output_query.LayerNorm", hidden + x, 1e-12)
    return x
