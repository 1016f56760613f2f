"""A paper-shaped profile in tiny: every published file of a release in its official format, on disk."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from data_files import COLOURS, jpeg, write_shard
from tiny_official import LAYERS, QUERIES, QUERY_WIDTH, VISION, blip2_flant5, eva_vit_g, minigpt4

from mglib.config import (
    ConcatConfig,
    LanguageConfig,
    LlamaShape,
    Profile,
    QFormerConfig,
    ReleaseConfig,
    WebConfig,
)
from mglib.full_scale import STAGE1

QFORMER = QFormerConfig(width=QUERY_WIDTH, layers=LAYERS, heads=4, queries=QUERIES)
CONCAT = ConcatConfig(tokens=VISION.tokens, vision_width=VISION.width)
LLAMA = LlamaShape(
    hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=300
)


def tiny_profile(vocabulary: int) -> Profile:
    """Return a profile like `vicuna-7b`: EVA-type encoder, BERT-type Q-Former, Llama, two web sources."""
    web = (
        WebConfig(name="laion", shards="laion/{00000..00001}.tar", weight=115),
        WebConfig(name="cc_sbu", shards="cc_sbu/00000.tar", weight=14),
    )
    return Profile(
        name="tiny-paper",
        vision=VISION,
        qformer=QFORMER,
        language=LanguageConfig(name="tiny-vicuna", width=48, template="vicuna"),
        stage1=replace(STAGE1, steps=6, batch_size=4, warmup_steps=2, lr=1e-2, save_every=2, keep=(0.5, 1.0)),
        release=ReleaseConfig(
            vision="weights/eva_vit_g.pth",
            qformer="weights/blip2_pretrained_flant5xxl.pth",
            language="weights/tiny-vicuna",
            llama=replace(LLAMA, vocab_size=vocabulary),
            projection="weights/minigpt4_stage1_7b.pth",
            web=web,
            readers=0,
        ),
    )


def write_release(folder: Path, language, tokenizer, captions: list[str]) -> None:
    """Write all files that `tiny_profile` names below `folder`."""
    weights = folder / "weights"
    weights.mkdir(parents=True)
    torch.save(eva_vit_g(), weights / "eva_vit_g.pth")
    torch.save({"model": blip2_flant5()}, weights / "blip2_pretrained_flant5xxl.pth")
    torch.save(minigpt4(), weights / "minigpt4_stage1_7b.pth")
    language.save_pretrained(weights / "tiny-vicuna")
    tokenizer.save_pretrained(weights / "tiny-vicuna")
    for name, shards in {"laion": 2, "cc_sbu": 1}.items():
        (folder / name).mkdir()
        for shard in range(shards):
            rows = [
                (f"{shard:05d}{number:04d}", jpeg(COLOURS[number % 3]), caption)
                for number, caption in enumerate(captions)
            ]
            write_shard(folder / name / f"{shard:05d}.tar", rows)
    (folder / "cc_sbu_align" / "image").mkdir(parents=True)
    (folder / "cc_sbu_align" / "filter_cap.json").write_text(json.dumps({"annotations": []}))
