"""Dropping, selecting and writing: hand-written descriptions with known outcomes."""

import ast
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from mglib.config import WellFormed
from mglib.curation.describe import Description
from mglib.curation.repair import repair
from mglib.curation.select import Curation, curate, dropped, malformed, write
from mglib.paths import ROOT

GOOD = "A red bus stands in front of a small house. Two dogs sit on the grass and look at it."
OTHER = "A boat lies on the calm sea below a bright sky. Three birds fly over it to the shore."
FORM = WellFormed(min_words=10, max_words=40)


def described(*texts):
    return [Description(str(number), (text,), (len(text.split()),), 0) for number, text in enumerate(texts)]


def curated(*texts) -> Curation:
    return curate(described(*texts), list(texts), FORM)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("I'm sorry I made a mistake in the last sentence.", "made a mistake"),
        ("I'm sorry, but I made a mistake.", "made a mistake"),
        ("I apologize for that. A dog sits.", "apologizes"),
        ("My apologies, here is a dog.", "apologizes"),
        ("I am sorry, there is more to see.", "sorry"),
        ("As an AI language model, I have no eyes.", "an AI"),
        ("I cannot see the picture.", "cannot see"),
        ("I'm unable to view it.", "cannot see"),
        ("I'm not able to open it.", "cannot see"),
        ("There is no image attached.", "no picture"),
        ("Please provide the paragraph you want corrected.", "no picture"),
        ("Here is the corrected paragraph: A dog.", "talks about the paragraph"),
        (GOOD, None),
        ("A man waves as an airplane passes. He looks sorry for the dog.", None),
        ("I can't help but like the dog. A nurse can assist with the bag.", None),
    ],
)
def test_hard_coded_rules(text, rule):
    assert dropped(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "Sorry, but I can't assist with that.",
        "I can't assist with that request.",
        "I am unable to help you with this picture.",
        f"{GOOD} I'm sorry, but I can't assist with that request.",  # asked to go on
    ],
)
def test_a_models_own_refusal_is_dropped(text):
    (one,) = curate(described(text), [repair(text)], FORM).pictures
    assert one.step == "hard-coded rules"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        ("A dog sits. It is red.", "too short"),
        ("A dog and a cat and a bird and a boat and a bus are here.", "too few sentences"),
        (" ".join(f"Sentence number {n} is about thing{n}." for n in range(9)), "too long"),
        ("A dog sits on the green grass. The grass is green. On the grass sits a dog.", "tells nothing new"),
        (GOOD[:-1], "has no end"),
    ],
)
def test_well_formed_texts_by_the_text_alone(text, reason):
    assert malformed(text, FORM) == reason


def test_every_picture_is_counted_at_its_step():
    texts = [GOOD, f"{OTHER} {OTHER}", "I apologize for that.", "I am sorry.", "Short.", GOOD]
    result = curate(described(*texts), [repair(text) for text in texts], FORM)
    # A single word is no sentence: nothing is left of it after the repair.
    assert list(result.funnel().items()) == [
        ("generated", 6),
        ("after repair", 5),
        ("after hard-coded rules", 3),
        ("after selection", 2),
    ]
    assert result.reasons() == {
        "repair": {"nothing is left": 1},
        "hard-coded rules": {"apologizes": 1, "sorry": 1},
        "selection": {"said of another picture too": 1},
    }
    assert [(one.description.image_id, one.text) for one in result.kept] == [("0", GOOD), ("1", OTHER)]


def jpeg(path, color):
    Image.new("RGB", (8, 8), color).save(path, "JPEG")
    return path.read_bytes()


def test_the_folder_is_in_the_official_format(tmp_path):
    files = [(str(number), jpeg(tmp_path / "x.jpg", color)) for number, color in enumerate(("red", "blue"))]
    files.append(("2", files[0][1]))  # of a picture that is not kept
    folder = write(curated(GOOD, OTHER, "Short."), files, tmp_path / "curated", {"seed": 0})
    assert folder.name.startswith("cc_sbu_align-")
    told = json.loads((folder / "filter_cap.json").read_text())
    assert told == {"annotations": [{"image_id": "0", "caption": GOOD}, {"image_id": "1", "caption": OTHER}]}
    copied = {file.stem: file.read_bytes() for file in (folder / "image").iterdir()}
    assert copied == dict(files[:2])
    card = json.loads((folder / "card.json").read_text())
    assert card["about"] == {"seed": 0} and card["steps"]["after selection"] == 2
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "filter_cap.json", "image"]


def test_nothing_is_overwritten_and_other_content_gets_another_name(tmp_path):
    files = [("0", jpeg(tmp_path / "x.jpg", "red"))]
    root = tmp_path / "curated"
    first = write(curated(GOOD), files, root, {})
    (first / "note.txt").write_text("mine")
    assert write(curated(GOOD), files, root, {}) == first
    assert (first / "note.txt").read_text() == "mine"
    others = {
        write(curated(OTHER), files, root, {}),
        write(curated(GOOD), [("0", jpeg(tmp_path / "x.jpg", "blue"))], root, {}),
        write(curated(GOOD), files, root, {"seed": 1}),
    }
    assert len(others | {first}) == 4
    assert {folder.name for folder in root.iterdir()} == {folder.name for folder in others | {first}}


def test_a_missing_picture_and_an_empty_result_leave_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="1 kept pictures are not among those given, as 0"):
        write(curated(GOOD), [], tmp_path, {})
    with pytest.raises(ValueError, match="Nothing was kept"):
        write(curated("Short."), [], tmp_path, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["select", "repair", "describe", "critic"])
def test_curation_reads_neither_the_evaluation_nor_the_truth(name):
    tree = ast.parse((ROOT / "mglib" / "curation" / f"{name}.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    forbidden = ("metrics", "evals", "world", "coco", "judge", "faults")
    assert not [one for one in imported | names if set(str(one).split(".")) & set(forbidden)]


def test_two_at_once_write_one_folder(tmp_path):
    files = [(str(number), jpeg(tmp_path / "x.jpg", "red")) for number in range(2)]
    with ThreadPoolExecutor(4) as pool:
        folders = set(
            pool.map(lambda _: write(curated(GOOD, OTHER), files, tmp_path / "curated", {}), range(8))
        )
    (folder,) = folders
    assert [path for path in (tmp_path / "curated").iterdir()] == [folder]


@pytest.mark.parametrize("space", ["\u00a0", "  ", "\n", "\u2009", " \u200b"])
def test_no_space_hides_a_refusal(space):
    assert (
        dropped(f"I'm{space}sorry.") == "sorry" and dropped(f"I{space}cannot{space}see it.") == "cannot see"
    )


@pytest.mark.parametrize("sign", ["'", "\u2019", "\u2018", "\u02bc", "\u00b4", "`", "\u2032"])
def test_a_curly_apostrophe_hides_no_refusal(sign):
    assert dropped(f"I{sign}m sorry, but I can{sign}t see any picture.") == dropped(
        "I'm sorry, but I can't see any picture."
    )
    assert dropped(f"A dog{sign}s ball lies on the grass.") is None
