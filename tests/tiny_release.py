"""A tiny paper-shaped profile: every published file of a release in its official format, on disk."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy
import torch
from data_files import COLOURS, jpeg, write_shard
from PIL import Image
from tiny_official import LAYERS, QUERIES, QUERY_WIDTH, VISION, blip2_flant5, eva_vit_g, minigpt4

from mglib.config import (
    ConcatConfig,
    CurationConfig,
    EvalConfig,
    LanguageConfig,
    LlamaShape,
    Profile,
    QFormerConfig,
    ReleaseConfig,
    WebConfig,
    WellFormed,
)
from mglib.paper_profiles import STAGE1, STAGE2_AS_WRITTEN

QFORMER = QFormerConfig(width=QUERY_WIDTH, layers=LAYERS, heads=4, queries=QUERIES)
CONCAT = ConcatConfig(tokens=VISION.tokens, vision_width=VISION.width)
LLAMA = LlamaShape(
    hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=300
)
CATEGORIES = ("bus", "dog", "cat", "bird", "boat", "bicycle", "apple")


def tiny_profile(vocabulary: int, template: str = "vicuna", short: int = 8) -> Profile:
    """Return a profile like `vicuna-7b`: EVA-type encoder, BERT-type Q-Former, Llama, two web sources."""
    web = (
        WebConfig(name="laion", shards="laion/{00000..00001}.tar", weight=115),
        WebConfig(name="cc_sbu", shards="cc_sbu/00000.tar", weight=14),
    )
    return Profile(
        name="tiny-paper",
        vision=VISION,
        qformer=QFORMER,
        language=LanguageConfig(name="tiny-vicuna", width=48, template=template),
        stage1=replace(STAGE1, steps=6, batch_size=4, warmup_steps=2, lr=1e-2, save_every=2, keep=(0.5, 1.0)),
        release=ReleaseConfig(
            language="weights/tiny-vicuna",
            llama=replace(LLAMA, vocab_size=vocabulary),
            projection="weights/minigpt4_stage1_7b.pth",
            web=web,
            readers=0,
            coco_val=12,
            gqa_val=2,
            pool="cc_sbu/00000.tar",
        ),
        evaluation=EvalConfig(
            shown=4,
            batch_size=12,
            max_new_tokens=8,
            fault_pictures=8,
            failure_pictures=4,
            failure_tokens=12,
            choice_pictures=6,
            graph_pictures=3,
            limit_pictures=6,
            described_pictures=6,
            long_tokens=12,
            brief_tokens=8,
            pope_pictures=4,
        ),
        curation=CurationConfig(
            max_new_tokens=24, short=short, well_formed=WellFormed(min_words=3, min_sentences=1)
        ),
        stage2=replace(STAGE2_AS_WRITTEN, steps=2, batch_size=2, warmup_steps=1, max_answer=24),
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
    write_alignment(folder / "cc_sbu_align", captions)
    write_coco_val(folder / "coco", captions)
    write_questions(folder)


def write_alignment(folder: Path, captions: list[str]) -> None:
    """Write the authors' stage-2 pairs, one per caption."""
    (folder / "image").mkdir(parents=True)
    for number in range(len(captions)):
        (folder / "image" / f"{number}.jpg").write_bytes(noise(number))
    told = [{"image_id": str(number), "caption": f"There is {text}."} for number, text in enumerate(captions)]
    (folder / "filter_cap.json").write_text(json.dumps({"annotations": told}))


def write_coco_val(folder: Path, captions: list[str]) -> None:
    """Write 24 pictures as COCO's val2017 is laid out, with two captions and one or two objects each."""
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    pictures = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in range(1, 25)]
    told, objects = [], []
    for picture in pictures:
        number = picture["id"]
        (folder / "val2017" / picture["file_name"]).write_bytes(noise(number))
        for place in (number, number + 1):
            told.append({"id": len(told), "image_id": number, "caption": captions[place % len(captions)]})
            entry = {"id": len(objects), "image_id": number, "category_id": place % len(CATEGORIES)}
            objects.append(entry)
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES)]
    files = {
        "captions": {"annotations": told},
        "instances": {"annotations": objects, "categories": categories},
    }
    for name, value in files.items():
        path = folder / "annotations" / f"{name}_val2017.json"
        path.write_text(json.dumps({"images": pictures, **value}))


def write_questions(folder: Path) -> None:
    """Write an A-OKVQA question about every second COCO picture, and two about each of GQA's own pictures."""
    choice = [
        {
            "split": "val",
            "image_id": number,
            "question_id": f"q{number}",
            "question": "What is there?",
            "choices": list(CATEGORIES[:4]),
            "correct_choice_idx": number % 4,
            "direct_answers": [CATEGORIES[number % 4]] * 10,
            "difficult_direct_answer": number % 3 == 0,
            "rationales": ["It is seen."] * 3,
        }
        for number in range(1, 25, 2)
    ]
    (folder / "aokvqa").mkdir()
    (folder / "aokvqa" / "aokvqa_v1p0_val.json").write_text(json.dumps(choice))
    (folder / "gqa" / "images").mkdir(parents=True)
    for name, pictures in {"val": ("2", "31", "4"), "testdev": ("n5", "n6")}.items():
        asked = {}
        for picture in pictures:
            (folder / "gqa" / "images" / f"{picture}.jpg").write_bytes(
                noise(int.from_bytes(picture.encode()))
            )
            for place, (structural, answer) in enumerate({"verify": "yes", "query": "dog"}.items()):
                types = {"structural": structural, "semantic": "obj", "detailed": "exist"}
                about = {"imageId": picture, "isBalanced": True, "types": types}
                asked[f"{picture}{place}"] = {"question": "Is it?", "answer": answer, **about}
        (folder / "gqa" / f"{name}_balanced_questions.json").write_text(json.dumps(asked))


def noise(seed: int) -> bytes:
    """Return a picture that is unlike all others, as JPEG."""
    file, pixels = io.BytesIO(), numpy.random.default_rng(seed).integers(256, size=(24, 32, 3))
    Image.fromarray(pixels.astype(numpy.uint8)).save(file, "JPEG")
    return file.getvalue()
