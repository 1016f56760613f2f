"""The small world: reproducible, true to its scene graphs, with poor web captions, without leaks."""

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from functools import cache
from itertools import combinations

import PIL
import pytest
import webdataset
from PIL import Image, ImageChops
from tiny_world import NEW, box_holds, pictures_font
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from mglib.config import WorldConfig
from mglib.data.check import check
from mglib.paths import ROOT, read_jsonl, sha256
from mglib.world import build as building
from mglib.world import catalog, specials
from mglib.world import draw as drawing
from mglib.world.draw import draw, glyph
from mglib.world.lettering import BOLD, fitting
from mglib.world.scene import (
    PRETRAIN,
    SHARDED,
    SPECIAL_SPLITS,
    SPECIALS,
    SPLITS,
    held_out,
    is_special,
    length,
    new_pairs,
    overlap,
    sample,
)
from mglib.world.special_draw import render
from mglib.world.text import mentions, references, web_caption

MANY = 600
WIDE = WorldConfig(train=MANY, pool=150, val=150, test_seen=150, test_new_pairs=150, test_new_objects=150)
TINY = WorldConfig(
    train=40, pool=6, val=6, test_seen=6, test_new_pairs=6, test_new_objects=6, special_val=1, special_test=1
)
PINNED_TEXTS = "cdc97e2720bdfca6b479f287333009b02cfae57dbf47075c92dbc1cf2f8173ca"
PINNED_PIXELS = "a2774a6caa13eccb772128d94a739a93cc80473e1380154b07536408d2805bc7"
PINNED_PILLOW = "13.0.0"
RELATION_WORDS = re.compile(r"\b(left|right|above|below|beneath|under|behind|in front|next to)\b", re.I)
COCO = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # by id; "N/A" where there is none


@pytest.fixture(scope="module")
def font():
    return pictures_font()


@pytest.fixture(scope="module")
def world(font, tmp_path_factory):
    """Build a tiny world on disk and return its folder and card."""
    folder = tmp_path_factory.mktemp("world")
    return folder, building.build(TINY, font=font, folder=folder, processes=1)


@pytest.fixture
def copy(world, tmp_path):
    """Return a copy of the tiny world that a test may damage."""
    return shutil.copytree(world[0], tmp_path / "world")


@cache
def scenes(split, config=WIDE):
    return [sample(config, split, index) for index in range(getattr(config, split))]


@cache
def captions(split, config=WIDE):
    return [web_caption(config, scene) for scene in scenes(split, config)]


@cache
def said(split, config=WIDE):
    return [references(config, scene) for scene in scenes(split, config)]


@cache
def special(split, count=12):
    return [specials.sample_special(WIDE, split, index) for index in range(count)]


def files(folder):
    """Return the content of every file in a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The catalog


def test_categories_are_cocos_own_or_stand_after_them():
    assert 75 <= len(catalog.THINGS) <= 85
    for thing in catalog.THINGS.values():
        if thing.coco:
            assert COCO[thing.coco_id] == thing.coco == thing.category
        else:
            assert thing.coco_id > 100 and thing.category == thing.name and thing.name not in COCO
    assert len({thing.coco_id for thing in catalog.THINGS.values()}) == len(catalog.THINGS)
    assert sum(bool(thing.coco) for thing in catalog.THINGS.values()) == 64


def test_the_data_card_lists_the_absent_categories():
    absent = set(COCO) - {thing.coco for thing in catalog.THINGS.values()} - {"N/A", "__background__"}
    assert len(absent) == 16
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in absent), absent


def test_new_objects_are_eight_and_no_part_of_other_names():
    assert len(catalog.names("new")) == 8
    others = [word for name in catalog.names("train") for word in catalog.THINGS[name].words]
    assert not NEW.search(" | ".join(others))


def test_templates_name_no_object_and_state_no_relation():
    spatial = {"left of", "right of", "above", "below", "in front of", "behind"}
    for kind, phrases in catalog.wording().items():
        for text, _ in phrases:
            assert not mentions(text), text
            assert kind in spatial or not RELATION_WORDS.search(text), text
    for setting in catalog.SETTINGS.values():
        for text in (*setting.phrases, *setting.signs):
            assert not mentions(text) and not RELATION_WORDS.search(text), text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Two hot dogs, a TANGERINE; carrots!", ["hot dog", "tangerine", "carrot"]),
        ("a man, two women and a person", ["person"]),
        ("puppies and kittens on a bike", ["dog", "cat", "bicycle"]),
        ("an orange car", ["car"]),
        ("oranges and a teddy", ["tangerine", "teddy bear"]),
        ("a computer mouse, knives, three mice", ["mouse", "knife"]),
    ],
)
def test_mentions_counts_each_object_once_by_its_longest_word(text, names):
    assert mentions(text) == names


@pytest.mark.parametrize(
    ("shape", "file", "old", "new", "sentence"),
    [
        (catalog.Thing, "objects.csv", ",person,1,", ",person,950,", "column coco_id is '950'"),
        (catalog.Thing, "objects.csv", "1F9CD", "zz", "column glyph is 'zz'"),
        (catalog.Thing, "objects.csv", ",ground,town", ",roof,town", "column stands is 'roof'.*'ground'"),
        (catalog.Setting, "settings.csv", "#4fb3e8 #d6f1fb", "#4fb3e8", "column sky"),
        (catalog.Prop, "props.csv", "palm tree,palm trees", "palm tree", "it has too many"),
    ],
)
def test_a_broken_row_is_named(tmp_path, shape, file, old, new, sentence):
    text = (catalog.FOLDER / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{file} line 2 is broken: {sentence}"):
        catalog.read(tmp_path / file, shape)


def test_lists_fit_together():
    for rows in (catalog.THINGS, catalog.PROPS, catalog.SETTINGS):
        assert len(rows) == len(catalog.read_rows(rows.file))  # no name twice
    assert not set(catalog.THINGS) & set(catalog.PROPS)
    words = [word for thing in catalog.THINGS.values() for word in thing.words]
    assert len(set(words)) == len(words)  # no word means two objects
    for thing in catalog.THINGS.values():
        assert thing.article not in ("a", "an") or (thing.article == "an") == (thing.name[0] in "aeiou")
    for setting in catalog.SETTINGS.values():
        assert all(catalog.PROPS[name] for name in setting.props)
        assert (setting.water is None) == (setting.shore == setting.horizon), setting.name
        assert setting.pattern in drawing.PATTERNS and setting.backdrop in drawing.BACKDROPS
    with pytest.raises(ValueError, match=r"props\.csv has no row 'palm'"):
        catalog.PROPS["palm"]


# Scenes


def test_scenes_and_texts_are_pinned():
    lines = []
    for split in SPLITS:
        rows = zip(scenes(split, TINY), captions(split, TINY), said(split, TINY), strict=True)
        lines += [
            json.dumps([asdict(scene), caption.text, caption.noise, caption.source, [r.text for r in refs]])
            for scene, caption, refs in rows
        ]
    for split in SPECIAL_SPLITS:
        for index in range(3):
            scene = specials.sample_special(TINY, split, index)
            refs = specials.special_references(TINY, scene)
            lines.append(json.dumps([asdict(scene), [r.text for r in refs]]))
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == PINNED_TEXTS, "pin this digest again if the change is meant"


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_lie_inside_and_nothing_is_hidden(split):
    for scene in scenes(split):
        assert 1 <= len(scene.names) <= 4 and len(scene.objects) <= 6
        assert all(scene.count(name) <= catalog.THINGS[name].most for name in scene.names)
        depths = [item.depth for item in scene.objects]
        assert depths == sorted(depths, reverse=True)
        for place, item in enumerate(scene.objects):
            x, y, width, height = item.box
            assert x >= 0 and y >= 0 and x + width <= scene.size and y + height <= scene.size
            assert max(width, height) >= 0.16 * scene.size - 1
            nearer = scene.objects[place + 1 :]
            assert sum(overlap(item.box, other.box) for other in nearer) <= 0.4 * width * height
        for prop in scene.props:
            x, y, width, height = prop.box
            assert x >= 0 and y >= 0 and width > 0 and height > 0
            assert x + width <= scene.size and y + height <= scene.size


def test_objects_are_where_they_belong():
    for scene in scenes("train"):
        setting = catalog.SETTINGS[scene.setting]
        for item in scene.objects:
            thing = catalog.THINGS[item.name]
            feet = item.foot / scene.size
            assert thing in catalog.at_home(setting)
            if thing.stands in ("sky", "swim"):
                assert feet <= max(setting.horizon, thing.size * setting.scale * 1.1 + 0.04)
            elif thing.stands == "water":
                assert setting.horizon <= feet <= setting.shore + 0.01
            else:
                assert feet >= setting.shore


def test_signboards_are_readable_and_hide_nothing():
    signs = [(scene, sign) for scene in scenes("train") for sign in scene.writing]
    assert 0.04 < len(signs) / MANY < 0.2
    for scene, sign in signs:
        x, y, width, height = sign.box
        assert x >= 0 and y >= 0 and x + width <= scene.size
        assert fitting(sign.text, BOLD, width - 10, round(height * 0.66)).size >= 8
        assert sign.text in catalog.SETTINGS[scene.setting].signs
        assert not any(overlap(sign.box, item.box) for item in (*scene.objects, *scene.props))


# Splits


def test_new_pairs_are_the_asked_share_of_each_objects_partners():
    pairs = new_pairs(WIDE)
    homes = [{t.name for t in catalog.at_home(s) if t.split == "train"} for s in catalog.SETTINGS.values()]
    meet = {frozenset(pair) for home in homes for pair in combinations(sorted(home), 2)}
    assert {frozenset(pair) for pair in pairs} <= meet
    assert len(pairs) == round(WIDE.new_pair_share * len(meet))
    partners, taken = (Counter(name for pair in some for name in pair) for some in (meet, pairs))
    for name, count in partners.items():
        assert abs(taken[name] - WIDE.new_pair_share * count) <= 3, name
    with pytest.raises(ValueError, match="can meet"):
        new_pairs(replace(WIDE, new_pair_share=1.0))


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_keep_the_rules_of_their_split(split):
    new = set(catalog.names("new"))
    for scene in scenes(split):
        assert bool(held_out(scene.names, WIDE)) == (split == "test_new_pairs")
        assert bool(new & set(scene.names)) == (split == "test_new_objects")


@pytest.mark.parametrize("split", [split for split in SPLITS if split != "test_new_objects"])
def test_texts_never_leak(split):
    texts = [caption.text for caption in captions(split)]
    texts += [] if split in SHARDED else [one.text for refs in said(split) for one in refs]
    assert not NEW.search("\n".join(texts))
    if split != "test_new_pairs":
        assert not [text for text in texts if held_out(mentions(text), WIDE)]


def test_mismatched_captions_never_name_a_new_object():
    new = set(catalog.names("new"))
    wrong = [caption for caption in captions("test_new_objects") if caption.noise == "mismatched"]
    assert wrong and not any(new & set(caption.named) for caption in wrong)


# Web captions


def test_web_captions_name_a_part_and_almost_no_relation():
    pairs = list(zip(scenes("train"), captions("train"), strict=True))
    shares = [len(set(caption.named) & set(scene.names)) / len(scene.names) for scene, caption in pairs]
    assert 0.52 <= sum(shares) / MANY <= 0.6
    assert 0 < sum(caption.relation is not None for _, caption in pairs) / MANY <= 0.02
    assert sum(bool(RELATION_WORDS.search(caption.text)) for _, caption in pairs) / MANY <= 0.02


def test_web_captions_name_only_what_is_there():
    for scene, caption in zip(scenes("train"), captions("train"), strict=True):
        assert list(caption.named) == mentions(caption.text)
        if caption.noise != "mismatched":
            assert set(caption.named) <= set(scene.names), caption
            assert caption.relation is None or caption.relation in scene.relations


def test_web_captions_count_what_they_name():
    for scene, caption in zip(scenes("train"), captions("train"), strict=True):
        if caption.noise == "none":
            counted = re.findall(r"\b(two|three) ([a-z ]+?)\b(?=,| and| with|$)", caption.text.lower())
            for number, name in counted:
                for thing in catalog.THINGS.values():
                    if thing.plural == name:
                        assert scene.count(thing.name) == {"two": 2, "three": 3}[number], caption


def test_the_two_sources_are_mixed_as_in_the_paper_and_differ():
    sources = Counter(caption.source for caption in captions("train"))
    assert sources["cc_sbu"] / MANY == pytest.approx(14 / 129, abs=0.03)
    assert {caption.source for caption in captions("pool")} == {"cc_sbu"}
    own = re.compile(r"^(my|our|i|this is|me)\b", re.I)
    told = {
        source: [bool(own.search(caption.text)) for caption in captions("train") if caption.source == source]
        for source in sources
    }
    assert sum(told["laion"]) == 0 and sum(told["cc_sbu"]) > 0.2 * len(told["cc_sbu"])


def test_noise_has_its_shares_and_looks():
    kinds = Counter(caption.noise for caption in captions("train"))
    for kind in ("clipped", "shouting", "mismatched", "long"):
        share = getattr(WIDE.noise, kind)
        assert kinds[kind] / MANY == pytest.approx(share, abs=4 * (share / MANY) ** 0.5)
    for caption in captions("train"):
        sentences = len(re.findall(r"\.(?: |$)", caption.text))
        assert caption.noise != "long" or 2 <= sentences <= 3, caption.text
        loud = caption.text.isupper() and caption.text.endswith("!")
        assert loud == (caption.noise == "shouting"), caption.text
    strange = [
        not set(caption.named) & set(scene.names)
        for scene, caption in zip(scenes("train"), captions("train"), strict=True)
        if caption.noise == "mismatched"
    ]
    assert sum(strange) > 0.9 * len(strange)


# References


def all_hold(scene, fact):
    """Return whether a relation holds between every object of one kind and every one of the other."""
    return all(
        box_holds(one.box, fact.predicate, other.box)
        for one in scene.objects
        for other in scene.objects
        if (one.name, other.name) == (fact.subject, fact.object)
    )


@pytest.mark.parametrize("split", SPLITS)
def test_every_relation_is_true(split):
    for scene in scenes(split):
        seen = Counter((fact.subject, fact.object) for fact in scene.relations)
        assert all(times == 1 for times in seen.values())
        for fact in scene.relations:
            assert all_hold(scene, fact)


@pytest.mark.parametrize("split", SPLITS[2:])
def test_references_say_what_is_true(split):
    for scene, refs in zip(scenes(split), said(split), strict=True):
        assert len({one.text for one in refs}) == 5
        for one in refs:
            assert set(mentions(one.text)) == set(one.named) <= set(scene.names), one
            assert one.text[0].isupper() and one.text.endswith(".") and "{" not in one.text
            fact = one.relation
            assert bool(RELATION_WORDS.search(one.text)) == (fact is not None), one
            if fact:
                assert all_hold(scene, fact)
                ways = "|".join(text for text, _ in catalog.wording()[fact.predicate])
                a, b = catalog.THINGS[fact.subject], catalog.THINGS[fact.object]
                subject, other = a.counted(scene.count(a.name)), b.counted(scene.count(b.name))
                stated = rf"\b{subject}\b(?: is| are| \w+)? (?:{ways}) {other}\b"
                assert re.search(stated, one.text, re.I), one


# Pictures


def test_the_font_has_every_glyph_in_its_proportions(font):
    for text in specials.glyphs().values():
        assert glyph(font, text).width > 40
    for row in (*catalog.THINGS.values(), *catalog.PROPS.values()):
        stamp = glyph(font, row.glyph)
        if row.stands not in ("pole", "water"):  # a pole is added, a boat's own water cut off
            assert stamp.width / stamp.height == pytest.approx(row.aspect, rel=0.03), row.name


def test_an_object_is_drawn_in_its_box(font):
    for scene in scenes("train", TINY)[:20]:
        with_all, near = draw(scene, font), scene.objects[-1]
        without = draw(replace(scene, objects=scene.objects[:-1]), font)
        x, y, width, height = near.box
        change = ImageChops.difference(with_all, without).crop((x, y, x + width, y + height)).convert("L")
        assert width * height - change.histogram()[0] > 0.2 * width * height, near
        head = (0, 0, scene.size, max(1, y))
        assert with_all.crop(head).tobytes() == without.crop(head).tobytes()


def test_pixels_are_pinned(font):
    if platform.machine() not in ("x86_64", "AMD64") or PIL.__version__ != PINNED_PILLOW:
        pytest.skip(f"pixels are pinned for x86_64 and Pillow {PINNED_PILLOW} only")
    some = scenes("train", TINY)[:20] + [scene for split in SPECIAL_SPLITS for scene in special(split, 1)]
    pixels = b"".join(render(scene, font).tobytes() for scene in some)
    assert hashlib.sha256(pixels).hexdigest() == PINNED_PIXELS, "pin this digest again if the change is meant"


def test_a_missing_font_is_met_by_a_sentence(tmp_path):
    with pytest.raises(OSError, match="fetch it"):
        building.build(TINY, font=tmp_path / "none.ttf", folder=tmp_path / "world", processes=1)


# Files


def test_shards_are_read_by_webdataset(world):
    folder, _ = world
    shards = [str(path) for path in sorted((folder / "train").glob("*.tar"))]
    assert [path.rsplit("/")[-1] for path in shards] == ["cc_sbu-00000.tar", "laion-00000.tar"]
    rows = list(
        webdataset.WebDataset(shards, shardshuffle=False)
        .decode("pil")
        .to_tuple("__key__", "jpg", "json", "txt")
    )
    assert len(rows) == TINY.train
    sources = {
        scene.image_id: caption.source
        for scene, caption in zip(scenes("train", TINY), captions("train", TINY), strict=True)
    }
    order = [line["image_id"] for line in read_jsonl(folder / "train" / "scenes.jsonl")]
    assert sorted(order) == list(sources) and order != sorted(order)
    for number, (key, picture, record, text) in zip(order, rows, strict=True):
        assert key == record["key"] == f"{number:09d}" and record["source"] == sources[number]
        assert picture.size == (record["width"], record["height"]) == (TINY.size, TINY.size)
        assert record["caption"] == text and set(record) >= {"sha256", "noise", "named"}


def test_a_shard_holds_so_many_samples_and_not_one_more(font, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "SHARD", 4)
    config = replace(TINY, train=10, pool=4, val=1, test_seen=1, test_new_pairs=1, test_new_objects=1)
    building.build(config, font=font, folder=tmp_path, processes=1)
    counts = Counter(caption.source for caption in captions("train", config))
    shards = sorted((tmp_path / "train").glob("*.tar"))
    assert [path.name for path in shards] == [
        f"{source}-{number:05d}.tar"
        for source in ("cc_sbu", "laion")
        for number in range(-(-counts[source] // 4))
    ]
    assert all(len(list(webdataset.WebDataset(str(path), shardshuffle=False))) <= 4 for path in shards)
    assert [path.name for path in sorted((tmp_path / "pool").glob("*.tar"))] == ["cc_sbu-00000.tar"]


@pytest.mark.parametrize("split", [split for split in SPLITS if split not in SHARDED])
def test_annotations_have_cocos_shape(world, split):
    folder = world[0] / split
    said_, web, boxes = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("captions.json", "web_captions.json", "instances.json")
    )
    ids = [scene.image_id for scene in scenes(split, TINY)]
    for file in (said_, web, boxes):
        assert {"info", "licenses"} < set(file) and [image["id"] for image in file["images"]] == ids
    assert set(Counter(note["image_id"] for note in said_["annotations"]).values()) == {5}
    assert [note["image_id"] for note in web["annotations"]] == ids
    for image in boxes["images"]:
        with Image.open(folder / "images" / image["file_name"]) as picture:
            assert picture.format == "JPEG" and picture.size == (image["width"], image["height"])
    assert {(category["id"], category["name"]) for category in boxes["categories"]} == {
        (thing.coco_id, thing.category) for thing in catalog.THINGS.values()
    }
    assert len(boxes["annotations"]) == sum(len(scene.objects) for scene in scenes(split, TINY))
    for note in boxes["annotations"]:
        assert note["area"] == note["bbox"][2] * note["bbox"][3] and note["iscrowd"] == 0


@pytest.mark.parametrize("split", [split for split in SPLITS if split not in SHARDED])
def test_the_facts_of_references_belong_to_their_captions(world, split):
    folder, graphs = world[0] / split, {scene.image_id: scene for scene in scenes(split, TINY)}
    notes, texts = (
        json.loads((folder / name).read_text(encoding="utf-8"))["annotations"]
        for name in ("facts.json", "captions.json")
    )
    assert [(note["id"], note["image_id"]) for note in notes] == [
        (one["id"], one["image_id"]) for one in texts
    ]
    for note, one in zip(notes, texts, strict=True):
        scene = graphs[note["image_id"]]
        named = {catalog.THINGS[name].category: name for name in mentions(one["caption"])}
        assert note["objects"] == {category: scene.count(name) for category, name in named.items()}
        assert all({subject, other} <= set(named) for subject, _, other in note["relations"])
        assert note["setting"] in (None, scene.setting)
        assert note["writing"] is None or f'"{note["writing"]}"' in one["caption"]


@pytest.mark.parametrize("split", SPLITS)
def test_scene_graphs_are_written_whole(world, split):
    lines = sorted(read_jsonl(world[0] / split / "scenes.jsonl"), key=lambda line: line["image_id"])
    assert lines == json.loads(json.dumps([asdict(scene) for scene in scenes(split, TINY)]))


def test_the_card_measures_and_names_the_files(world):
    folder, card = world
    assert json.loads((folder / "card.json").read_text(encoding="utf-8")) == card
    assert card["config"]["train"] == card["splits"]["train"]["pictures"] == TINY.train
    assert sum(card["splits"]["train"]["noise"].values()) == pytest.approx(1)
    sources = card["splits"]["train"]["sources"]
    assert (
        set(sources) == {"laion", "cc_sbu"} and sum(one["captions"] for one in sources.values()) == TINY.train
    )
    named = {"train/scenes.jsonl", "train/laion-00000.tar", "val/scenes.jsonl", "memes_val/captions.json"}
    assert named <= set(card["sha256"])
    assert all(sha256(folder / name) == value for name, value in card["sha256"].items())


def test_any_number_of_processes_writes_the_same_files(world, font, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "CHUNK", 3)
    assert building.build(TINY, font=font, folder=tmp_path, processes=2) == world[1]
    assert files(tmp_path) == files(world[0])


def test_a_whole_world_is_not_drawn_again(copy, world, font, monkeypatch):
    monkeypatch.setattr(building, "make", None)  # drawing anything would fail
    assert building.build(TINY, font=font, folder=copy, processes=1) == world[1]


@pytest.mark.parametrize("name", ["train/laion-00000.tar", "val/captions.json", "pool/scenes.jsonl"])
def test_a_damaged_file_is_told_and_its_split_alone_drawn_again(copy, world, font, capsys, monkeypatch, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    drawn, make = [], building.make
    monkeypatch.setattr(building, "make", lambda *given: drawn.append(given[2]) or make(*given))
    assert building.build(TINY, font=font, folder=copy, processes=1) == world[1]
    split = name.partition("/")[0]
    assert drawn == [split] * getattr(TINY, split)
    assert f"{name} of the small world is damaged" in capsys.readouterr().out
    assert files(copy) == files(world[0])


BUILDER = """
import sys, time
from pathlib import Path
from mglib.config import NoiseConfig, WorldConfig
from mglib.world import build as building

make, pause = building.make, float(sys.argv[3])
building.make = lambda *given: time.sleep(pause) or make(*given)
building.build({config!r}, font=Path(sys.argv[1]), folder=Path(sys.argv[2]), processes=1)
"""


def test_of_two_builders_one_waits_and_finishes_what_the_other_was_killed_at(world, font, tmp_path):
    folder, script = tmp_path / "world", BUILDER.format(config=TINY)
    line = [sys.executable, "-c", script, str(font), str(folder)]
    first = subprocess.Popen([*line, "0.2"], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not list(folder.glob(".*-*")):
        assert first.poll() is None
        time.sleep(0.02)
    second = subprocess.Popen(
        [*line, "0"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert "another process is at work on it" in second.stdout.readline()
    first.kill()
    assert second.wait(timeout=60) == 0 and first.wait() == -signal.SIGKILL
    assert files(folder) == files(world[0])


def test_a_script_without_a_main_guard_ends_with_an_error(font, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom mglib.config import NoiseConfig, WorldConfig\n"
        "from mglib.world.build import build\n"
        f"build({TINY!r}, font=Path({str(font)!r}), folder=Path({str(tmp_path / 'world')!r}), processes=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert "A process that draws the small world died" in ended.stderr.splitlines()[-1]
    assert 'if __name__ == "__main__"' in ended.stderr.splitlines()[-1]


def test_other_settings_draw_another_world(copy, world, font):
    other = replace(TINY, train=3, pool=1, val=1, test_seen=1, test_new_pairs=1, test_new_objects=1, seed=5)
    card = building.build(other, font=font, folder=copy, processes=1)
    assert card["key"] != world[1]["key"] and card["sha256"] != world[1]["sha256"]


def test_no_pair_of_splits_shares_a_picture():
    seen = [
        tuple(sorted((item.name, item.box) for item in scene.objects))
        for split in SPLITS
        for scene in scenes(split)
    ]
    assert all(times == 1 for times in Counter(seen).values())


# Special pictures


@pytest.mark.parametrize("kind", SPECIALS)
def test_val_and_test_of_a_kind_share_no_case(kind):
    val, test, taught = (
        {json.dumps(one) for one in specials._cases(kind, part, 0)} for part in ("val", "test", "train")
    )
    assert val and len(test) > len(val) and not val & test
    if kind in specials.OWN_ROWS:
        assert len(taught) == len(val) and not taught & (val | test)
    else:
        assert taught == val | test


@pytest.mark.parametrize("split", SHARDED)
def test_training_shows_every_kind_and_nothing_that_is_kept_for_the_tests(split):
    config = replace(WIDE, **{split: 3, f"special_{split}": 40})
    assert [is_special(config, split, index) for index in range(4)] == [False, False, False, True]
    found = [specials.sample_special(config, split, index) for index in range(3, length(config, split))]
    assert [scene.kind for scene in found] == [*SPECIALS] * 40
    assert len({scene.image_id for scene in found}) == len(found) == 280
    new = set(catalog.names("new"))
    for scene in found:
        assert not new & set(scene.names) and not held_out(scene.names, config)
    dishes = {scene.truth["dish"] for scene in found if scene.kind == "dishes"}
    assert dishes == {row["dish"] for row in specials.rows("dishes")} - new


def test_what_pretraining_draws_instead_is_the_next_case(monkeypatch):
    config = replace(WIDE, pretrain=0, special_pretrain=1)
    first = specials.sample_special(config, PRETRAIN, 0)
    refused = set(first.names)
    monkeypatch.setattr(specials, "held_out", lambda names, config: [*refused & set(names)])
    other = specials.sample_special(config, PRETRAIN, 0)
    assert other.kind == first.kind and not refused & set(other.names)


def test_pictures_for_pretraining_have_many_faultless_captions(font, tmp_path):
    from mglib.data.splits import web_split

    config = replace(TINY, pretrain=24, special_pretrain=1)
    card = building.build(config, font=font, folder=tmp_path, splits=(PRETRAIN,), processes=1)
    assert set(card["splits"]) == {PRETRAIN} and card["splits"][PRETRAIN]["pictures"] == 31
    assert not (tmp_path / "train").exists()
    split = web_split(tmp_path / PRETRAIN)
    lines = {line["image_id"]: line for line in read_jsonl(tmp_path / PRETRAIN / "scenes.jsonl")}
    assert len(split) == len(split.references) == len(lines) == 31
    for line, caption, said in zip(lines.values(), split.captions, split.references, strict=True):
        assert said[0] == caption and len(set(said)) == len(said)
        there = {item["name"] for item in line["objects"]}
        if line["kind"] == "scene":
            assert all(set(mentions(text)) <= there for text in said), said
    assert {len(said) for said in split.references} >= {5} and max(map(len, split.references)) > 6


@pytest.mark.parametrize("split", SPECIAL_SPLITS)
def test_every_row_of_the_lists_makes_a_picture(split):
    cases = specials._cases(*split.split("_"), WIDE.seed)
    names = {*catalog.THINGS, *specials.glyphs(), *catalog.PROPS}
    for scene in special(split, len(cases)):
        assert {item.name for item in (*scene.objects, *scene.props)} <= names
        x, y, width, height = (
            max(one.box[n] for one in scene.writing) if scene.writing else 0 for n in range(4)
        )
        assert max(x, y) < scene.size and max(width, height) <= scene.size


@pytest.mark.parametrize("kind", SPECIALS)
def test_special_references_tell_the_truth(kind):
    key = {"memes": "top", "dishes": "dish", "products": "brand", "landscapes": "weather"}.get(kind)
    key = key or {"sketches": "title", "unusual": "impossible", "notes": "text"}[kind]
    for scene in special(f"{kind}_test"):
        refs = specials.special_references(WIDE, scene)
        assert len({one.text for one in refs}) == 5
        told = [scene.truth[key].lower() in one.text.lower() for one in refs]
        assert sum(told) >= 2, [one.text for one in refs]
        assert not any("{" in one.text or "  " in one.text for one in refs)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("webdataset", "train"),
        ("coco", "val"),
        ("coco", "memes_test"),
        ("localized_narratives", "pool"),
        ("a_okvqa", "val"),
        ("gqa", "train"),
        ("refcoco", "train"),
        ("visual_genome", "test_seen"),
    ],
)
def test_every_format_passes_the_check_of_its_reader(world, name, split):
    assert check(name, world[0] / split)
