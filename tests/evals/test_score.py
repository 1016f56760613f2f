"""Scores of answer files: official formats against their scorers' arithmetic, and what is left out."""

import json

import pytest
from data_files import write_coco
from official_records import CHOICE, GRAPH

from mglib.__main__ import main
from mglib.chat.answer import what_to_ask
from mglib.evals import chair
from mglib.evals.score import (
    OTHER_WORDS,
    SECOND,
    UNANSWERED,
    UNCERTAIN,
    UNKNOWN,
    UNREADABLE,
    chair_scores,
    coverage_scores,
    pope_scores,
    vqa_scores,
)


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
    """Write two pictures: 3 shows two dogs and a bus, a caption of 7 names a bus that is not annotated."""
    return write_coco(tmp_path / "coco")


RESULTS = [
    {"image_id": 3, "caption": "A dog chases a cat beside a bus."},
    {"image_id": 7, "caption": "A bus and a dog, another dog."},
]


def test_chair_of_cocos_results_format_is_counted_in_both_readings(tmp_path, coco):
    scored = chair_scores(whole(tmp_path / "results.json", RESULTS), coco)
    official, study = values(scored, "official_rules"), values(scored, "study")
    # dog, cat, bus about 3 and bus, dog, dog about 7: the cat and 7's dogs are not there. The official rules
    # turn each bus into a "bu".
    assert (study["chair_i"], official["chair_i"]) == (3 / 6, 3 / 4)
    assert study["chair_s"] == official["chair_s"] == 1
    # 7's bus is only in its caption: it may be mentioned, but is not an annotated object
    assert (study["object_recall"], official["object_recall"]) == (1, 1 / 2)


def test_files_of_the_truth_that_are_not_used_are_counted(tmp_path, coco, capsys):
    file = whole(tmp_path / "results.json", RESULTS)
    assert main(["score", "chair", str(file), "--data", str(coco)]) == 0
    assert f"2 of the 5 files in {coco} are used; not used: 2 .jpg, 1 .json." in capsys.readouterr().out


def test_empty_answers_are_counted_and_shown(tmp_path, coco):
    answers = [{"image": "3.jpg", "answer": "NaN"}, {"image": "7.jpg", "answer": "</s>"}]
    scored = chair_scores(lines(tmp_path / "a.jsonl", answers), coco)
    assert "Empty answers: 2, the first is line 1; they are scored as they are." in scored.remarks


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
    assert [one.sample for one in scored.left_out[UNREADABLE]] == ["item 3", "item 4"]
    assert [one.sample for one in scored.left_out[UNKNOWN]] == ["item 1"]
    assert [one.sample for one in scored.left_out[SECOND]] == ["item 2"]
    assert [one.sample for one in scored.left_out[UNANSWERED]] == ["7.jpg"]


def test_scenery_of_the_small_world_may_be_said(tmp_path, coco):
    prop = {"name": "tree", "box": [0, 0, 1, 1], "depth": 1}
    scenes = [
        {"image_id": number, "size": 200, "setting": "park", "objects": [], "props": [prop]}
        for number in (3, 7)
    ]
    file = whole(tmp_path / "results.json", [{"image_id": 3, "caption": "A dog and a tree."}])
    assert values(chair_scores(file, coco), "study")["chair_i"] == 0  # trees are no category of COCO
    lines(coco / "scenes.jsonl", scenes)
    assert values(chair_scores(file, coco), "study")["chair_i"] == 0
    lines(coco / "scenes.jsonl", [{**scene, "props": []} for scene in scenes])
    assert values(chair_scores(file, coco), "study")["chair_i"] == 0.5


def two_pictures(folder, names=("left_0001.jpg", "right_0001.jpg")):
    """Write COCO's files for two pictures, of a dog and of a cat."""
    things = ("dog", "cat")
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, 101)]
    notes = [
        {"image_id": one["id"], "caption": f"a {thing}"} for one, thing in zip(images, things, strict=True)
    ]
    objects = [{"image_id": one["id"], "category_id": place} for place, one in enumerate(images)]
    kinds = [{"id": place, "name": thing} for place, thing in enumerate(things)]
    whole(folder / "captions.json", {"images": images, "annotations": notes})
    whole(folder / "instances.json", {"images": images, "annotations": objects, "categories": kinds})
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("left_0001.jpg", "right_0001.jpg"),
        ("a/1.jpg", "b/1.jpg"),
        ("a/1.jpg", "1.jpg"),
        ("0001.jpg", "1.jpg"),
        ("1.jpg", "1.png"),
        ("cat.jpg", "CAT.jpg"),
        ("x.y.jpg", "x.z.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
    ],
)
@pytest.mark.parametrize("root", ["", "/data/pictures/"])
def test_each_answer_goes_to_its_own_picture(tmp_path, names, root):
    folder = two_pictures(tmp_path / "data", names)
    made = [
        {"image": root + name, "answer": f"a {thing}"}
        for name, thing in zip(names, ("dog", "cat"), strict=True)
    ]
    for order in (made, made[::-1]):
        scored = chair_scores(lines(tmp_path / "answers.jsonl", order), folder)
        assert values(scored, "study")["chair_i"] == 0 and not scored.left_out
        assert "2 answers about 2 pictures" in scored.used
    asked = [
        {"question_id": number, "image": name, "text": f"Is there a {thing} in the image?", "label": "yes"}
        for number, (name, thing) in enumerate(zip(names, ("dog", "cat"), strict=True))
    ]
    if "/" not in "".join(names):  # POPE has bare file names
        data = lines(tmp_path / "coco_pope_random.json", asked)
        told = [{**one, "image": root + one["image"], "answer": "Yes."} for one in asked]
        assert values(pope_scores(lines(tmp_path / "answers.jsonl", told), data), "study")["accuracy"] == 1


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("a/1.jpg", "b/1.jpg"), "1.jpg"),
        (("1.jpg", "1.png"), "1"),
        (("0001.jpg", "1.jpg"), "00001"),
        (("COCO_val2014_000000000001.jpg", "1.jpg"), "01.png"),
        (("a/cat.jpg", "b/cat.JPG"), "Cat"),
    ],
)
def test_a_name_that_two_pictures_have_is_refused_with_both(tmp_path, names, short):
    folder = two_pictures(tmp_path / "data", names)
    made = [{"image_id": 101, "answer": "a dog"}, {"image": short, "answer": "a cat"}]
    scored = chair_scores(lines(tmp_path / "answers.jsonl", made), folder)
    (fault,) = scored.left_out[UNCERTAIN]
    assert fault.sample == "line 2" and all(name in fault.reason for name in names)
    assert {line["n"] for line in scored.lines} == {1}


def test_two_names_that_reach_one_picture_are_refused_with_both(tmp_path):
    folder = two_pictures(tmp_path / "data", ("1.jpg", "2.jpg"))
    made = [{"image": f"{name}.jpg", "answer": "a dog"} for name in ("train/1", "test/1", "train/2")]
    scored = chair_scores(lines(tmp_path / "answers.jsonl", made), folder)
    reasons = [fault.reason for fault in scored.left_out[UNCERTAIN]]
    assert reasons[0] == "train/1.jpg and test/1.jpg would both be 1.jpg" and len(reasons) == 2


def test_a_picture_of_another_folder_is_not_taken_for_one_of_its_name(tmp_path):
    folder = two_pictures(tmp_path / "data", ("test/1.jpg", "test/2.jpg"))
    made = [{"image": f"{name}.jpg", "answer": "a dog"} for name in ("train/1", "test/2", "right_0001")]
    scored = chair_scores(lines(tmp_path / "answers.jsonl", made), folder)
    assert [fault.sample for fault in scored.left_out[UNKNOWN]] == ["line 1", "line 3"]


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
    assert [one.sample for one in scored.left_out[UNANSWERED]] == ["2"]
    assert "adversarial" in scored.remarks[0] and len(scored.remarks) == 3
    assert "neither yes nor no: 1, the first is line 3: 'I do not know'" in scored.remarks[1]
    by_id = lines(tmp_path / "ids.jsonl", [{"question_id": 1, "answer": "Yes."}])
    with pytest.raises(ValueError, match="may be about"):  # each file counts from 1 again
        pope_scores(by_id, data)


KINDS = {
    "random": [("person", "yes"), ("dog", "no"), ("car", "yes"), ("cat", "no")],
    "popular": [("person", "yes"), ("bus", "no"), ("car", "yes"), ("cup", "no")],
    "adversarial": [("person", "yes"), ("bed", "no"), ("car", "yes"), ("pen", "no")],
}


def llava(said):
    """Return answers to all three files in one, as LLaVA writes them: numbers begin again in each."""
    return [
        {
            "question_id": number,
            "prompt": f"Is there a {name} in the image?\nAnswer with one word.",
            "text": text,
        }
        for kind, asked in KINDS.items()
        for number, ((name, _), text) in enumerate(zip(asked, said[kind], strict=True), 1)
    ]


def test_one_file_of_answers_to_all_three_kinds_is_not_mixed_up(tmp_path):
    data = tmp_path / "pope"
    for kind, asked in KINDS.items():
        pope_file(data / f"coco_pope_{kind}.json", asked)
    right, wrong = ["Yes", "No"] * 2, ["Yes", "Yes"] * 2
    file = lines(tmp_path / "all.jsonl", llava({"random": wrong, "popular": right, "adversarial": right}))
    for kind, accuracy in (("random", 0.5), ("popular", 1), ("adversarial", 1)):
        alone = pope_scores(file, data / f"coco_pope_{kind}.json")
        assert values(alone, "official")["accuracy"] == values(alone, "study")["accuracy"] == accuracy
        assert len(alone.left_out[OTHER_WORDS]) == 4  # the two of each other kind about absent objects
        together = pope_scores(file, data)
        assert values(together, "study", questions=f"coco_pope_{kind}")["accuracy"] == accuracy
        assert not together.left_out


def test_numbers_that_begin_again_and_say_nothing_else_are_refused(tmp_path):
    data = pope_file(tmp_path / "coco_pope_random.json", KINDS["random"])
    bare = [
        {"question_id": one["question_id"], "answer": one["text"]}
        for one in llava(dict.fromkeys(KINDS, ["Yes"] * 4))
    ]
    assert values(pope_scores(lines(tmp_path / "a.jsonl", bare), data), "study")["accuracy"] == 0.5
    bare[5]["answer"] = "No"
    with pytest.raises(ValueError, match="line 2 and line 6 answer question 2 differently"):
        pope_scores(lines(tmp_path / "a.jsonl", bare), data)


def test_answers_that_carry_their_prompt_are_read_without_it(tmp_path, asked):
    carried = "USER: <image>\nIs there a {}? ASSISTANT: {}</s>"
    data = pope_file(tmp_path / "coco_pope_random.json", KINDS["random"])
    made = [
        {"question_id": number, "answer": carried.format(name, label)}
        for number, (name, label) in enumerate(KINDS["random"], 1)
    ]
    scored = pope_scores(lines(tmp_path / "a.jsonl", made), data)
    assert values(scored, "study")["accuracy"] == values(scored, "official")["accuracy"] == 1
    assert (
        "cut off 4 answers; the first is line 1" in scored.remarks[0] and "read as 'yes'" in scored.remarks[0]
    )
    told = [{"questionId": "01", "prediction": f"{GRAPH['question']} yes"}]
    scored = vqa_scores(whole(tmp_path / "predictions.json", told), asked)
    assert values(scored, "study")["gqa"] == 1 and values(scored, "official")["gqa.binary"] == 1


def test_a_prompt_names_no_object(tmp_path, coco):
    said = "USER: Is there a cat? ASSISTANT: A dog runs. USER: And a horse? ASSISTANT: No"
    scored = chair_scores(whole(tmp_path / "a.json", [{"image_id": 3, "caption": said}]), coco)
    assert values(scored, "study")["mentions"] == values(scored, "official_rules")["mentions"] == 1


def test_what_stays_unread_is_counted_and_shown(tmp_path, asked):
    data = pope_file(tmp_path / "coco_pope_random.json", KINDS["random"])
    made = [{"question_id": number, "answer": "Perhaps."} for number in (1, 2, 3, 4)]
    scored = pope_scores(lines(tmp_path / "a.jsonl", made), data)
    assert values(scored, "study")["unparsed"] == 1 and values(scored, "official")["yes_ratio"] == 1
    assert "neither yes nor no: 4, the first is line 1: 'Perhaps.'" in scored.remarks[0]
    told = [{"questionId": "01", "prediction": "The sky of this picture has a dark colour"}]
    remarks = vqa_scores(whole(tmp_path / "predictions.json", told), asked).remarks
    assert any("more words than any right one: 1, the first is 'The sky" in one for one in remarks)


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
    assert [one.sample for one in scored.left_out[UNANSWERED]] == ["q2"]
    assert "testdev_balanced" in scored.remarks[0]


def test_questions_can_be_told_by_picture_and_words(tmp_path, asked):
    made = [{"image": "pictures/2354786.jpg", "question": "Is the  sky dark?", "answer": "yes"}]
    scored = vqa_scores(lines(tmp_path / "answers.jsonl", made), asked)
    assert values(scored, "study")["gqa"] == 1


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
    (tmp_path / "answers-left-out.jsonl").unlink()
    (tmp_path / "answers-left-out.jsonl").mkdir()  # nothing can be written there
    assert main(["score", "chair", str(file), "--data", str(coco)]) == 0
    assert "answers-left-out.jsonl could not be written" in capsys.readouterr().out
    (tmp_path / "answers-left-out.jsonl").rmdir()
    lines(file, [{"image": "3.jpg", "answer": "A dog."}, {"image": "7.jpg", "answer": "A bus."}])
    assert main(["score", "chair", str(file), "--data", str(coco)]) == 0
    assert not (tmp_path / "answers-left-out.jsonl").exists()
