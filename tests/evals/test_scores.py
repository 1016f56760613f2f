"""Scores of answer files: official formats against their scorers' arithmetic, and what is left out."""

import json

import pytest
from data_files import write_coco
from official_records import CHOICE, GRAPH

from mglib.__main__ import main
from mglib.chat.terminal import what_to_ask
from mglib.evals import chair
from mglib.evals.scores import chair_scores, coverage_scores, pope_scores, vqa_scores


def lines(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def whole(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def values(scored, reading, **about):
    """Return the value of each measure in one reading."""
    some = [line for line in scored.lines if line["reading"] == reading]
    return {
        line["measure"]: line["value"]
        for line in some
        if all(line[name] == value for name, value in about.items())
    }


# --- CHAIR ---


@pytest.fixture
def coco(tmp_path):
    """Two pictures: 3 shows two dogs and a bus, of 7 a caption tells a bus that is not annotated."""
    return write_coco(tmp_path / "coco")


RESULTS = [
    {"image_id": 3, "caption": "A dog chases a cat beside a bus."},
    {"image_id": 7, "caption": "A bus and a dog, another dog."},
]


def test_chair_of_cocos_results_format_is_counted_in_both_readings(tmp_path, coco):
    scored = chair_scores(whole(tmp_path / "results.json", RESULTS), coco)
    official, study = values(scored, "official_rules"), values(scored, "study")
    # dog, cat, bus about 3 and bus, dog, dog about 7: the cat and 7's dogs are not there. The official rules
    # make a "bu" of each bus.
    assert (study["chair_i"], official["chair_i"]) == (3 / 6, 3 / 4)
    assert study["chair_s"] == official["chair_s"] == 1
    # 7's bus is told by its caption alone: it may be said, and is no annotated object
    assert (study["object_recall"], official["object_recall"]) == (1, 1 / 2)


def test_answers_about_files_score_as_those_about_ids(tmp_path, coco):
    told = {3: "images/3.jpg", 7: "7.jpg"}
    made = [{"image": told[one["image_id"]], "answer": one["caption"]} for one in RESULTS]
    by_file = chair_scores(lines(tmp_path / "answers.jsonl", made), coco)
    assert by_file.lines == chair_scores(whole(tmp_path / "results.json", RESULTS), coco).lines


def test_the_official_layout_without_pictures_is_enough(tmp_path, coco):
    folder = tmp_path / "official" / "annotations"
    folder.mkdir(parents=True)
    for kind in ("captions", "instances"):
        (coco / f"{kind}.json").rename(folder / f"{kind}_val2014.json")
    file = whole(tmp_path / "results.json", RESULTS)
    assert values(chair_scores(file, folder.parent), "official_rules")["chair_i"] == 0.75
    assert values(chair_scores(file, folder), "official_rules")["chair_i"] == 0.75


def test_no_name_of_cocos_implies_another_one():
    names = chair.coco_vocabulary().names
    assert all(chair.generalised([name]) & names == {name} for name in names)


def test_what_is_not_matched_is_counted_and_named(tmp_path, coco):
    more = [
        *RESULTS[:1],
        {"image_id": 99, "caption": "A dog."},
        {"image_id": 3, "caption": "Another text."},
        {"image_id": 3},
        {"caption": "A cat."},
        RESULTS[0],
    ]
    scored = chair_scores(whole(tmp_path / "results.json", more), coco)
    assert {line["n"] for line in scored.lines} == {1}
    assert [one.sample for one in scored.bad] == ["item 3", "item 4"]
    assert [one.sample for one in scored.unknown] == ["item 2", "item 1"]
    assert [one.sample for one in scored.unanswered] == ["picture 7"]


def test_nothing_to_score_is_told_with_the_first_reason(tmp_path, coco):
    file = whole(tmp_path / "results.json", [{"image_id": 99, "caption": "A dog."}])
    with pytest.raises(ValueError, match=r"no answer that can be scored.*item 0"):
        chair_scores(file, coco)


def test_scenery_of_the_small_world_may_be_said(tmp_path, coco):
    prop = {"name": "tree", "box": [0, 0, 1, 1], "depth": 1}
    scenes = [
        {"image_id": number, "setting": "park", "objects": [], "props": [prop], "relations": []}
        for number in (3, 7)
    ]
    file = whole(tmp_path / "results.json", [{"image_id": 3, "caption": "A dog and a tree."}])
    assert values(chair_scores(file, coco), "study")["chair_i"] == 0  # trees are no category of COCO
    lines(coco / "scenes.jsonl", scenes)
    assert values(chair_scores(file, coco), "study")["chair_i"] == 0
    lines(coco / "scenes.jsonl", [{**scene, "props": []} for scene in scenes])
    assert values(chair_scores(file, coco), "study")["chair_i"] == 0.5


# --- coverage ---


def test_coverage_is_of_the_facts_that_are_stored(tmp_path, coco):
    nothing = {"relations": [], "setting": None, "writing": None}
    notes = [
        {"id": number, "objects": {name: 1}, **nothing}
        for number, name in enumerate(("dog", "bus", "dog"), 1)
    ]
    file = whole(tmp_path / "results.json", RESULTS)
    with pytest.raises(ValueError, match=r"no facts\.json"):
        coverage_scores(file, coco)
    whole(coco / "facts.json", {"annotations": notes})
    found = values(coverage_scores(file, coco), "study")
    assert found["covered"] == 1 and found["references_covered"] == 1.5
    silent = [{**one, "caption": "A cat."} for one in RESULTS]
    assert values(coverage_scores(whole(file, silent), coco), "study")["references_covered"] == 0


# --- POPE ---

ASKED = [("snowboard", "yes"), ("dining table", "no"), ("person", "yes"), ("car", "no")]
SAID = ["Yes, there is.", "There is a table.", "I do not know", "No."]


def pope_file(path, asked=ASKED, start=1):
    return lines(
        path,
        [
            {
                "question_id": number,
                "image": f"COCO_val2014_{310196 + number // 3:012d}.jpg",
                "text": f"Is there a {name} in the image?",
                "label": label,
            }
            for number, (name, label) in enumerate(asked, start)
        ],
    )


def test_pope_is_scored_as_officially_and_by_its_own_reading(tmp_path):
    data = pope_file(tmp_path / "pope" / "coco_pope_random.json").parent
    made = [{"question_id": number, "answer": text} for number, text in enumerate(SAID, 1)]
    scored = pope_scores(lines(tmp_path / "answers.jsonl", made), data)
    official = values(scored, "official", questions="coco_pope_random")
    # read as yes, yes, no, no: one true and one false yes, one true and one false no
    assert official["accuracy"] == official["precision"] == official["recall"] == official["f1"] == 0.5
    assert official["yes_ratio"] == 0.5 and official["unparsed"] == 0
    study = values(scored, "study")
    assert study["unparsed"] == 0.25 and study["accuracy"] == 0.5  # "I do not know" is neither
    assert {line["n"] for line in scored.lines} == {2}


def test_popes_own_example_tells_by_order_alone(tmp_path):
    data = pope_file(tmp_path / "coco_pope_random.json")
    made = [
        {"question": f"is there a {name} in the image?", "answer": text}
        for (name, _), text in zip(ASKED, SAID, strict=True)
    ]
    found = values(pope_scores(lines(tmp_path / "answer.json", made), data), "official")
    assert found["accuracy"] == 0.5
    with pytest.raises(ValueError, match=r"3 answers .* 4 questions"):
        pope_scores(lines(tmp_path / "answer.json", made[:3]), data)
    with pytest.raises(ValueError, match="line 1: it is an answer to 'is there a dining table"):
        pope_scores(lines(tmp_path / "answer.json", [*made[1:], made[0]]), data)


def test_answers_of_make_answer_serve_every_file_that_asks_the_same(tmp_path):
    data = tmp_path / "pope"
    first = pope_file(data / "coco_pope_random.json")
    pope_file(data / "coco_pope_popular.json", [ASKED[0], ("dog", "no"), ASKED[2], ASKED[3]])
    pope_file(data / "coco_pope_adversarial.json", [("cow", "no")])
    asked = what_to_ask(first, "Describe it.", tmp_path / "val2014")
    assert asked[0]["question"] == "Is there a snowboard in the image?"
    made = [{**line, "answer": text} for line, text in zip(asked, SAID, strict=True)]
    file = lines(tmp_path / "answers.jsonl", made)
    scored = pope_scores(file, data)
    assert values(scored, "official", questions="coco_pope_random")["accuracy"] == 0.5
    assert values(scored, "official", questions="coco_pope_popular")["accuracy"] == 2 / 3
    assert [one.sample for one in scored.unanswered] == ["question 2"]
    assert len(scored.remarks) == 1 and "adversarial" in scored.remarks[0]
    by_id = lines(tmp_path / "ids.jsonl", [{"question_id": 1, "answer": "Yes."}])
    with pytest.raises(ValueError, match="does not say what it is about"):
        pope_scores(by_id, data)


# --- A-OKVQA and GQA ---


@pytest.fixture
def asked(tmp_path):
    """Three questions of A-OKVQA, one of them too difficult to answer directly, and three of GQA."""
    choice = [
        {**CHOICE, "question_id": f"q{number}", "difficult_direct_answer": number == 3, "image_id": number}
        for number in (1, 2, 3)
    ]
    graph = {
        "01": GRAPH,
        "02": {
            **GRAPH,
            "question": "What colour is it?",
            "answer": "red",
            "types": {**GRAPH["types"], "structural": "query"},
        },
        "03": {**GRAPH, "isBalanced": False},
    }
    whole(tmp_path / "data" / "aokvqa_v1p0_val.json", choice)
    whole(tmp_path / "data" / "testdev_balanced_questions.json", graph)
    return tmp_path / "data"


def test_a_okvqas_submission_is_scored_as_officially(tmp_path, asked):
    told = {
        "q1": {"multiple_choice": "cab", "direct_answer": "Bus"},  # one of ten said bus
        "q3": {"multiple_choice": "train", "direct_answer": "ride"},
    }
    scored = vqa_scores(whole(tmp_path / "predictions_val.json", told), asked)
    official, study = values(scored, "official"), values(scored, "study")
    assert official["aokvqa.choice"] == pytest.approx(
        1 / 3
    )  # of three questions one is right, one without answer
    assert official["aokvqa.direct"] == pytest.approx(1 / 3 / 2)  # q3 is not asked directly
    assert study["aokvqa.choice"] == 0.5 and study["aokvqa.direct"] == pytest.approx(1 / 3)
    assert [one.sample for one in scored.unanswered] == ["question q2"]
    assert "testdev_balanced" in scored.remarks[0]


def test_gqas_submission_is_scored_as_officially(tmp_path, asked):
    told = [{"questionId": "01", "prediction": "Yes, it is."}, {"questionId": "02", "prediction": "red"}]
    scored = vqa_scores(whole(tmp_path / "testdev_predictions.json", told), asked)
    assert values(scored, "official") == {"gqa": 0.5, "gqa.binary": 0, "gqa.open": 1}
    assert values(scored, "study") == {"gqa": 1}  # its reading is of an answer's head
    assert not scored.unanswered  # the third is not balanced


def test_questions_can_be_told_by_picture_and_words(tmp_path, asked):
    made = [{"image": "pictures/2354786.jpg", "question": "Is the  sky dark?", "answer": "yes"}]
    scored = vqa_scores(lines(tmp_path / "answers.jsonl", made), asked)
    assert values(scored, "study")["gqa"] == 1


def test_questions_whose_answers_are_kept_back_are_refused(tmp_path, asked):
    hidden = {name: value for name, value in CHOICE.items() if name != "correct_choice_idx"}
    whole(asked / "aokvqa_v1p0_val.json", [hidden])
    file = whole(tmp_path / "predictions.json", {CHOICE["question_id"]: "bus"})
    with pytest.raises(ValueError, match="test splits"):
        vqa_scores(file, asked)


# --- the command ---


def test_the_command_prints_the_table_and_lists_what_is_left_out(tmp_path, coco, capsys):
    file = lines(tmp_path / "answers.jsonl", [*RESULTS[:1], {"image": "3.jpg", "error": "broken"}])
    assert main(["score", "chair", str(file), "--data", str(coco)]) == 0
    said = capsys.readouterr().out
    row = next(line.split() for line in said.splitlines() if line.split()[:2] == ["chair_i", "study"])
    assert float(row[2]) == pytest.approx(1 / 3, abs=1e-4) and float(row[3]) <= float(row[2]) <= float(row[4])
    assert "1 without an answer" in said and "line 2" in said and "synonyms" in said
    listed = [json.loads(line) for line in (tmp_path / "answers-left-out.jsonl").read_text().splitlines()]
    assert [one["what"] for one in listed] == ["that cannot be read", "without an answer"]
    lines(file, [{"image": "3.jpg", "answer": "A dog."}, {"image": "7.jpg", "answer": "A bus."}])
    assert main(["score", "chair", str(file), "--data", str(coco)]) == 0
    assert not (tmp_path / "answers-left-out.jsonl").exists()


def test_the_command_says_what_is_wrong(tmp_path, coco, capsys):
    assert main(["score", "pope", str(tmp_path / "none.jsonl"), "--data", str(coco)]) == 1
    assert "pope" in capsys.readouterr().err
    assert main(["score", "chair", str(tmp_path / "none.jsonl"), "--data", str(coco)]) == 1
    assert "none.jsonl" in capsys.readouterr().err
