"""What notebook 03 shows of a curation: what became of each picture, in words."""

import io
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from PIL import Image
from tidy import values

from mglib.config import WellFormed
from mglib.curation.describe import Description
from mglib.curation.select import Curation, curate
from mglib.evals import chair
from mglib.experiments import curated
from mglib.frame import names
from mglib.profiles import MINI
from mglib.world import catalog
from mglib.world.scene import Item, Scene

GOOD = "A red bus stands in front of a small house. Two dogs sit on the grass and look at it."
TEXTS = [f"{GOOD} and", "I am sorry.", "A bus."]


@pytest.fixture
def curation():
    answers = [(TEXTS[0],), (TEXTS[1], "So sorry."), (TEXTS[2],)]
    made = [Description(str(number), said, (4,), 0) for number, said in enumerate(answers)]
    return curate(made, [GOOD, *TEXTS[1:]], WellFormed(min_words=10, max_words=40))


def test_each_picture_is_shown_with_its_answers_and_what_became_of_them(curation):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    files = dict.fromkeys("012", file.getvalue())
    images, texts = curated.shown(files, curation.pictures)
    assert [image.getpixel((0, 0)) for image in images] == [(255, 0, 0)] * 3
    assert texts["generated"] == [TEXTS[0], "I am sorry. | So sorry.", TEXTS[2]]
    assert texts["what became of it"] == [
        GOOD,
        "[dropped by hard-coded rules: sorry]",
        "[dropped by selection: too short]",
    ]


def test_reasons_are_counted_by_step(curation):
    assert curated.reasons(curation)[["dropped by", "why", "pictures"]].to_numpy().tolist() == [
        ["hard-coded rules", "sorry", 1],
        ["selection", "too short", 1],
    ]


def test_the_numbers_of_a_curation(curation):
    mini = SimpleNamespace(profile=MINI, pictures=lambda name: "drawn scenes")
    found = curated.counts(mini, curation)
    assert values(found) == {
        "curate.generated": 3,
        "curate.continued": 1,
        "curate.kept": 1,
        "curate.kept_share": 1 / 3,
        "curate.words.generated": (21 + 5 + 2) / 3,
        "curate.words.kept": 20,
    }


def described(*texts):
    """Return a curation that keeps each text as it is; an empty one is dropped."""
    made = [Description(f"{number:09d}", (text or "A.",), (4,), 0) for number, text in enumerate(texts)]
    return curate(made, texts, WellFormed(min_words=1, min_sentences=1))


@pytest.fixture
def study(tmp_path):
    """A pool of three plain scenes that show a bus, and of a meme."""
    bus = next(thing for thing in catalog.THINGS.values() if thing.name == "bus")
    items = (Item(name=bus.name, box=(0, 0, 8, 8), depth=0.0),)
    scenes = [Scene(number, 64, setting="street", objects=items) for number in range(3)]
    lines = [asdict(scene) for scene in (*scenes, Scene(3, 64, kind="memes"))]
    (tmp_path / "scenes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return SimpleNamespace(scenes=lambda name: tmp_path / "scenes.jsonl", nameable=lambda: chair.vocabulary())


def test_inventions_are_counted_in_plain_scenes_before_and_after(study):
    """Two of four mentions are invented as generated, none of two as kept."""
    generated = "A bus.", "A bus and a dog.", "A cat.", "A horse."
    curation = described("A bus.", "The bus.", "", "A horse.")
    whole = [
        replace(one, description=replace(one.description, answers=(text,)))
        for one, text in zip(curation.pictures, generated, strict=True)
    ]
    found = curated.chair_i(study, Curation(tuple(whole)))
    table = found.set_index(["measure", "system"])
    chair_i, mentions = table.loc["chair_i"], table.loc["mentions"]["value"]
    assert chair_i["value"].tolist() == [2 / 4, 0, -2 / 4]
    assert chair_i["n"].tolist() == [3, 2, 3] and chair_i.index[-1] == "kept_minus_generated"
    assert mentions.tolist() == [4 / 3, 1]


def test_inventions_are_not_counted_where_nobody_knows_what_is_there(curation):
    found = curated.chair_i(SimpleNamespace(scenes=lambda name: None), curation)
    assert names(found) == ["curate.chair_i"] and found["note"][0].startswith("not applicable: ")
