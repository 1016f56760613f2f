"""Dropping, selecting and writing: hand-written descriptions whose way is known."""

import ast
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from PIL import Image

from mglib.config import WellFormed
from mglib.curation import select as module
from mglib.curation.describe import Description
from mglib.curation.repair import repair
from mglib.curation.select import (
    EDGES,
    NOT_COLLECTED,
    Verdict,
    card,
    curate,
    dropped,
    funnel,
    malformed,
    told_again,
    write,
)
from mglib.paths import ROOT

GOOD = "A red bus stands in front of a small house. Two dogs sit on the grass and look at it."
OTHER = "A boat lies on the calm sea below a bright sky. Three birds fly over it to the shore."
FORM = WellFormed(min_words=10, max_words=40)


def described(*texts):
    return [Description(str(number), (text,), (len(text.split()),), 0) for number, text in enumerate(texts)]


def curated(*texts, verdicts=None):
    return curate(described(*texts), list(texts), well_formed=FORM, verdicts=verdicts)


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
    ],
)
def test_hard_coded_rules(text, rule):
    assert dropped(text) == rule


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        ("", "empty"),
        ("A dog sits. It is red.", "too short"),
        ("A dog and a cat and a bird and a boat and a bus are here.", "too few sentences"),
        (" ".join(f"Sentence number {n} is about thing{n}." for n in range(9)), "too long"),
        ("A dog sits on the green grass. The grass is green. On the grass sits a dog.", "tells nothing new"),
        (GOOD[:-1], "has no end"),
    ],
)
def test_well_formed_texts_by_the_text_alone(text, reason):
    assert malformed(text, FORM) == reason


def test_the_share_of_sentences_that_tell_nothing_new():
    assert told_again(GOOD) == 0
    assert told_again("A dog sits here. A dog sits.") == 1
    assert told_again("A dog sits here. A dog sits. A cat runs.") == 0.5
    assert told_again("One.") == told_again("") == 0


def test_each_picture_ends_at_the_first_step_that_drops_it():
    result = curated(GOOD, "I apologize for that.", "Short.", GOOD, OTHER)
    assert [(one.step, one.reason) for one in result.pictures] == [
        ("kept", ""),
        ("rule", "apologizes"),
        ("selection", "too short"),
        ("selection", "said of another picture too"),
        ("kept", ""),
    ]
    assert [one.description.image_id for one in result.kept] == ["0", "4"]


def test_what_the_rewriter_could_not_answer_is_counted():
    result = curate(described(GOOD, OTHER), [GOOD, None], well_formed=FORM)
    assert card(result, {})["dropped"]["rewriting"] == {"no usable answer": 1}
    assert len(result.kept) == 1


def test_what_does_not_fit_the_picture_is_left_out():
    half = "A boat lies on the calm sea below a bright sky."
    texts = [GOOD, f"{half} {GOOD}", OTHER, "I apologize. A boat."]
    result = curate(
        described(*texts), texts, fitting=["", half, OTHER, ""], well_formed=WellFormed(min_sentences=1)
    )
    assert [(one.step, one.reason) for one in result.pictures] == [
        ("picture", "no sentence fits it"),
        ("selection", "too short"),
        ("kept", ""),
        ("rule", "apologizes"),
    ]
    assert card(result, {})["dropped"]["picture"] == {"no sentence fits it": 1}


def test_the_card_adds_up():
    texts = [GOOD, f"{OTHER} {OTHER}", "I apologize for that.", "I am sorry.", "Short.", GOOD]
    made = described(*texts)
    made[1] = replace(made[1], answers=(OTHER, OTHER), tokens=(17, 17))
    told = card(curate(made, [repair(text) for text in texts], well_formed=FORM), {"seed": 3})
    assert told["about"] == {"seed": 3}
    assert told["steps"] == {
        "generated": 6,
        "continued": 1,
        "changed": 2,  # one said twice, one of a single word
        "dropped by rewriting": 0,
        "dropped by rule": 2,
        "dropped by picture": 0,
        "dropped by selection": 2,
        "dropped by person": 0,
        "kept": 2,
    }
    left = {
        "generated": 6,
        "after rewriting": 6,
        "after rule": 4,
        "after picture": 4,
        "after selection": 2,
        "after person": 2,
    }
    assert funnel(curate(made, [repair(text) for text in texts], well_formed=FORM)) == left
    assert told["dropped"]["rule"] == {"apologizes": 1, "sorry": 1}
    assert told["dropped"]["selection"] == {"empty": 1, "said of another picture too": 1}
    assert told["human pass"] == NOT_COLLECTED == "not collected"
    assert told["examples"]["kept"][1] == {
        "image_id": "1",
        "before": f"{OTHER} {OTHER}",
        "after": OTHER,
    }
    assert told["examples"]["dropped"][0]["dropped"] == "rule: apologizes"
    lengths = told["lengths"]
    assert lengths["edges"] == list(EDGES) and len(lengths["kept"]) == len(EDGES) - 1
    assert lengths["generated"][:2] == [3, 3]  # words: 20, 36, 4, 3, 1, 20
    assert lengths["kept"][:2] == [1, 1]  # 20 and 18
    assert json.loads(json.dumps(told)) == told


def test_persons_accept_edit_and_reject_what_they_saw():
    third = GOOD.replace("bus", "train")
    fourth = GOOD.replace("bus", "car")
    verdicts = {
        "0": Verdict(GOOD, True, GOOD),
        "1": Verdict(OTHER, True, "A boat."),  # a person may keep what the rules would not
        "2": Verdict(third, False, third),
        "3": Verdict("another text", False, "another text"),
        "9": Verdict(GOOD, True, GOOD),
    }
    result = curated(GOOD, OTHER, third, fourth, verdicts=verdicts)
    assert [one.text for one in result.kept] == [GOOD, "A boat.", fourth]
    told = card(result, {})
    assert told["human pass"] == {
        "looked at": 3,
        "accepted": 1,
        "edited": 1,
        "rejected": 1,
        "not looked at": 1,
        "verdicts on other texts": 2,
    }
    assert told["dropped"]["person"] == {"rejected": 1}
    assert told["steps"]["changed"] == 0  # an edit is a person's, not the rewriter's


def jpeg(path, color):
    Image.new("RGB", (8, 8), color).save(path, "JPEG")
    return path.read_bytes()


def test_the_folder_is_in_the_official_format(tmp_path):
    files = [(str(number), jpeg(tmp_path / "x.jpg", color)) for number, color in enumerate(("red", "blue"))]
    folder = write(curated(GOOD, OTHER), files, tmp_path / "curated", {"seed": 0})
    assert folder.name.startswith("cc_sbu_align-")
    told = json.loads((folder / "filter_cap.json").read_text())
    assert told == {"annotations": [{"image_id": "0", "caption": GOOD}, {"image_id": "1", "caption": OTHER}]}
    for image_id, content in files:
        assert (folder / "image" / f"{image_id}.jpg").read_bytes() == content
    assert json.loads((folder / "card.json").read_text())["steps"]["kept"] == 2
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "filter_cap.json", "image"]


def test_only_kept_pictures_are_copied(tmp_path):
    files = [(str(number), jpeg(tmp_path / "x.jpg", "red")) for number in range(3)]
    folder = write(curated(GOOD, "Short."), files, tmp_path / "curated", {})
    assert [file.name for file in (folder / "image").iterdir()] == ["0.jpg"]


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
    with pytest.raises(ValueError, match="1 kept pictures are not among those given, the first is 0"):
        write(curated(GOOD), [], tmp_path, {})
    with pytest.raises(ValueError, match="Nothing was kept"):
        write(curated("Short."), [], tmp_path, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["select", "repair", "describe"])
def test_curation_reads_neither_the_evaluation_nor_the_truth(name):
    tree = ast.parse((ROOT / "mglib" / "curation" / f"{name}.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    forbidden = ("metrics", "evals", "world", "coco", "judge", "faults")
    assert not [one for one in imported | names if set(str(one).split(".")) & set(forbidden)]
    assert module.__doc__


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
