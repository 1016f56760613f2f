"""On files in the benchmarks' own formats, scores equal those of their own scorers (official/README.md)."""

import json
import shutil
from pathlib import Path

import pytest

from mglib.__main__ import main
from mglib.evals import chair_official
from mglib.evals.score import OTHER_WORDS, UNANSWERED, chair_scores, pope_scores, vqa_scores
from mglib.paths import sha256

OFFICIAL = Path(__file__).parent / "official"
POPE = {"accuracy": 28 / 36, "precision": 15 / 20, "recall": 15 / 18, "f1": 30 / 38, "yes_ratio": 20 / 36}


def values(scored, reading="official"):
    return {line["measure"]: line["value"] for line in scored.lines if line["reading"] == reading}


def exactly(expected):
    return pytest.approx(expected, rel=1e-12)


def load(name):
    return json.loads((OFFICIAL / name).read_text())


def dump(path, value):
    path.write_text(json.dumps(value))
    return path


# --- POPE ---


def asked():
    return [json.loads(line) for line in (OFFICIAL / "coco_pope_adversarial.json").read_text().splitlines()]


def said():
    return [json.loads(line) for line in (OFFICIAL / "llava-v1.5-13b.jsonl").read_text().splitlines()]


def by_id():
    return said()


def by_order():
    return [{"question": line["prompt"], "answer": line["text"]} for line in said()]


def by_picture_and_words():
    pairs = zip(asked(), said(), strict=True)
    return [
        {
            "image": one["image"],
            "question": one["text"].replace("imange", "image"),
            "answer": answer["text"],
        }
        for one, answer in reversed(list(pairs))
    ]


@pytest.mark.parametrize("form", [by_id, by_order, by_picture_and_words])
@pytest.mark.parametrize("whole", [False, True])
def test_pope_in_every_form_is_what_its_scorer_gives(tmp_path, form, whole):
    lines = form()
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(lines) if whole else "".join(json.dumps(line) + "\n" for line in lines))
    scored = pope_scores(file, OFFICIAL / "coco_pope_adversarial.json")
    found = values(scored)
    assert {name: found[name] for name in POPE} == exactly(POPE)
    assert found["unparsed"] == 0 and not any(scored.left_out.values())
    assert {line["n"] for line in scored.lines} == {6}


def test_popes_own_example_is_read(tmp_path):
    question = {
        "question_id": 1,
        "image": "COCO_val2014_000000000001.jpg",
        "text": "Is there a bird in the image?",
        "label": "yes",
    }
    data = dump(tmp_path / "coco_pope_random.json", question)
    assert values(pope_scores(OFFICIAL / "example.json", data))["accuracy"] == 1


def test_ids_of_another_version_of_the_questions_are_not_scored(tmp_path):
    shifted = [{**line, "question_id": line["question_id"] + 1} for line in said()[:35]]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in [*shifted, {**said()[0], "question_id": 1}]))
    scored = pope_scores(file, OFFICIAL / "coco_pope_adversarial.json")
    assert "is an answer to 'Is there a snowboard in the image?" in scored.left_out[OTHER_WORDS][0].reason
    assert len(scored.left_out[OTHER_WORDS]) == 35 == len(scored.left_out[UNANSWERED])


# --- CHAIR ---


@pytest.fixture
def authors(monkeypatch):
    """Use the excerpt as the authors' list of synonyms."""
    monkeypatch.setattr(chair_official, "SYNONYMS", OFFICIAL / "synonyms.txt")
    monkeypatch.setattr("mglib.evals.score.SYNONYMS", OFFICIAL / "synonyms.txt")
    monkeypatch.setattr(chair_official, "SYNONYMS_SHA256", sha256(OFFICIAL / "synonyms.txt"))


def test_chair_of_cocos_results_is_what_its_scorer_gives(authors):
    scored = chair_scores(OFFICIAL / "captions_val2014_fakecap_results.json", OFFICIAL)
    found = values(scored)
    assert (found["chair_s"], found["chair_i"]) == exactly((10 / 20, 11 / 39))
    assert not scored.remarks and not any(scored.left_out.values())


def test_chairs_own_format_is_that_of_self_criticals_captions(tmp_path, authors):
    results = load("captions_val2014_fakecap_results.json")
    own = {
        "overall": {"CIDEr": 1.0, "SPICE": 0.2},
        "imgToEval": {str(one["image_id"]): {**one, "CIDEr": 1.0} for one in results},
    }
    scored = chair_scores(dump(tmp_path / "fc_beam5_test.json", own), OFFICIAL)
    assert values(scored)["chair_i"] == exactly(11 / 39) and not any(scored.left_out.values())


def test_popes_captions_are_read_and_ids_may_be_texts_behind_a_byte_order_mark(tmp_path, authors):
    results = load("captions_val2014_fakecap_results.json")
    lines = [
        {"question_id": n, "image_id": str(one["image_id"]), "prompt": "Describe it.", "text": one["caption"]}
        for n, one in enumerate(results)
    ]
    file = tmp_path / "Instruction1_minigpt-4.json"
    file.write_text("\ufeff" + "\r\n".join(json.dumps(line) for line in lines))
    scored = chair_scores(file, OFFICIAL)
    assert values(scored)["chair_i"] == exactly(11 / 39) and not any(scored.left_out.values())


# --- A-OKVQA and GQA ---


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("predictions_val.json", {"aokvqa.choice": 3 / 5, "aokvqa.direct": 7 / 12}),
        ("predictions_val-da.json", {"aokvqa.direct": 7 / 12}),
        ("predictions_val-mc.json", {"aokvqa.choice": 3 / 5, "aokvqa.direct": 1 / 2}),
    ],
)
def test_a_okvqa_in_every_form_is_what_its_scorer_gives(file, expected):
    scored = vqa_scores(OFFICIAL / file, OFFICIAL / "aokvqa_v1p0_val.json")
    assert values(scored) == exactly(expected)
    assert [one.sample for one in scored.left_out[UNANSWERED]] == ["made5"]
    assert any("scored as choices and as direct" in one for one in scored.remarks) is ("mc" in file)


def test_gqa_is_what_its_scorer_gives(tmp_path):
    scored = vqa_scores(OFFICIAL / "testdev_predictions.json", OFFICIAL / "testdev_balanced_questions.json")
    assert values(scored) == exactly({"gqa": 4 / 6, "gqa.binary": 3 / 4, "gqa.open": 1 / 2})
    assert values(scored, "study") == exactly({"gqa": 5 / 6})  # "No" is "no"
    beside, spelt = scored.remarks
    assert "not balanced: 1;" in beside and not any(scored.left_out.values())
    assert "every letter counts: 1" in spelt and "'No' for 201" in spelt


def test_several_files_of_questions_have_lines_of_their_own(tmp_path):
    shutil.copy(OFFICIAL / "testdev_balanced_questions.json", tmp_path)
    dump(tmp_path / "testdev_all_questions.json", load("testdev_balanced_questions.json"))
    scored = vqa_scores(OFFICIAL / "testdev_predictions.json", tmp_path)
    assert {line["questions"] for line in scored.lines} == {
        "testdev_all_questions",
        "testdev_balanced_questions",
    }


def test_choices_that_are_not_offered_are_told(tmp_path):
    told = load("predictions_val.json")
    told["made3"]["multiple_choice"] = "B"
    scored = vqa_scores(dump(tmp_path / "told.json", told), OFFICIAL / "aokvqa_v1p0_val.json")
    assert values(scored)["aokvqa.choice"] == exactly(2 / 5)
    assert "'B' for made3" in scored.remarks[0]


# --- the command ---


@pytest.mark.parametrize(
    ("task", "answers", "data", "reason"),
    [
        ("vqa", "testdev_predictions.json", "nowhere", "There is no"),
        ("vqa", "nothing.json", ".", "There is no file"),
        ("pope", "testdev_predictions.json", "coco_pope_adversarial.json", "nothing in"),
        ("pope", "coco_pope_adversarial.json", "coco_pope_adversarial.json", "none of answer"),
        ("chair", "README.md", ".", "is not JSON"),
        ("chair", "testdev_predictions.json", ".", "name its `image_id`"),
        ("coverage", "captions_val2014_fakecap_results.json", ".", "facts.json"),
        ("chair", "captions_val2014_fakecap_results.json", "predictions_val.json", "is a file"),
    ],
)
def test_what_does_not_fit_is_said_with_the_place_of_the_formats(capsys, task, answers, data, reason):
    assert main(["score", task, str(OFFICIAL / answers), "--data", str(OFFICIAL / data)]) == 1
    error = capsys.readouterr().err
    assert reason in error and "data/README.md" in error and "Traceback" not in error
    assert sorted(OFFICIAL.glob("*left-out*")) == []
