"""Readers of the annotation files of the paper, each on records in the official release's shape."""

import collections
import json
import os
import pickle
from dataclasses import replace

import pytest
from data_files import jpeg
from official_records import CHOICE, GRAPH, INSTANCES, NARRATIVE, REFERENCE, REGIONS, RELATIONSHIPS

from mglib.data import records
from mglib.data.narratives import Narrative, read_narratives
from mglib.data.own import read_cc_sbu_align
from mglib.data.quarantine import Fault, Quarantine, strict
from mglib.data.questions import read_a_okvqa, read_gqa
from mglib.data.regions import (
    Box,
    read_plain_pickle,
    read_refcoco,
    read_regions,
    read_relationships,
)


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def reason(stream):
    """Return the place and the reason of the only fault."""
    (fault,) = [item for item in stream if isinstance(item, Fault)]
    return f"{fault.sample}: {fault.reason}"


# --- JSON ---


def test_items_are_read_one_by_one(tmp_path):
    array = write(tmp_path / "a.json", [123.5, "ä]", {"a": [1, 2]}, None])
    assert list(records.read_items(array)) == [
        ("item 0", "123.5"),
        ("item 1", '"\\u00e4]"'),
        ("item 2", '{"a": [1, 2]}'),
        ("item 3", "null"),
    ]
    (tmp_path / "o.json").write_text(' {"a" : 1 ,\n"b":[ ] } ')
    assert list(records.read_items(tmp_path / "o.json")) == [("a", "1"), ("b", "[ ]")]
    assert list(records.read_items(write(tmp_path / "e.json", []))) == []


@pytest.mark.parametrize("text", ["", "1", "[1", "[1 2]", "[1,]", "{1: 2}", '{"a" 1}', "[1] 2", "[nul]"])
def test_an_array_that_is_none_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is not JSON: "):
        list(records.read_items(tmp_path / "a.json"))


def test_json_that_is_nested_too_deep_is_named(tmp_path):
    (tmp_path / "a.json").write_text("[" * 200_000)
    for read in (records.read_json, lambda path: list(records.read_items(path))):
        with pytest.raises(ValueError, match=r"a\.json is not JSON"):
            read(tmp_path / "a.json")


def test_a_byte_order_mark_is_no_fault(tmp_path):
    marked = b"\xef\xbb\xbf"
    (tmp_path / "a.json").write_bytes(marked + json.dumps([CHOICE]).encode())
    (tmp_path / "a.jsonl").write_bytes(marked + json.dumps(NARRATIVE).encode())
    (tmp_path / "filter_cap.json").write_bytes(marked + b'{"annotations": []}')
    assert [question.question_id for question in read_a_okvqa(tmp_path / "a.json")] == [CHOICE["question_id"]]
    assert [one.image_id for one in read_narratives(tmp_path / "a.jsonl")] == [NARRATIVE["image_id"]]
    assert list(read_cc_sbu_align(tmp_path)) == []
    assert records.read_json(tmp_path / "filter_cap.json") == {"annotations": []}


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\f"])
def test_only_a_line_feed_ends_a_line(tmp_path, sign):
    lines = [{**NARRATIVE, "caption": f"a{sign}b"}] * 2
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8", newline="")
    assert [one.caption for one in strict(read_narratives(tmp_path / "a.jsonl"))] == [f"a{sign}b"] * 2


# --- cc_sbu_align ---


def write_align(folder, annotations):
    (folder / "image").mkdir()
    (folder / "image" / "52.jpg").write_bytes(jpeg("green"))
    return write(folder / "filter_cap.json", {"annotations": annotations}).parent


def test_cc_sbu_align(tmp_path):
    folder = write_align(tmp_path, [{"image_id": "52", "caption": "A Wall! It is green."}])
    (pair,) = read_cc_sbu_align(folder)
    assert (pair.image_id, pair.caption) == ("52", "A Wall! It is green.")  # not cleaned
    assert pair.file == tmp_path / "image" / "52.jpg"


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        ({"image_id": "53", "caption": "b"}, "53: its picture .* is missing"),
        ({"image_id": "52", "caption": "a"}, "52: this text of its picture came before"),
        ({"image_id": "52"}, r"annotations\[1\]: `caption`: Field required"),
        ({"image_id": "52", "caption": " "}, "`caption`"),
        ({"image_id": "../52", "caption": "b"}, "`image_id`"),
        ("52", r"annotations\[1\]: "),
    ],
)
def test_a_bad_entry_of_cc_sbu_align_is_a_fault(tmp_path, annotation, why):
    folder = write_align(tmp_path, [{"image_id": "52", "caption": "a"}, annotation])
    found = list(read_cc_sbu_align(folder))
    assert len(found) == 2
    with pytest.raises(ValueError, match=rf"filter_cap\.json: .*{why}"):
        list(strict(found))


def test_ids_of_cc_sbu_align_may_be_numbers_have_endings_and_several_texts(tmp_path):
    given = [
        (2, "a"),
        ("2.jpg", "b"),
        ("3", "c"),
        ("2", "d"),
        ("2", "e"),
        ("4.JPG", "f"),
        ("5", "g"),
        (6, "h"),
    ]
    folder = write_align(tmp_path, [{"image_id": name, "caption": text} for name, text in given])
    for name in ("2.jpg", "3.png", "4.JPG", "5.JPEG"):
        (folder / "image" / name).write_bytes(jpeg("red"))
    *found, fault = read_cc_sbu_align(folder)
    assert [(pair.image_id, pair.file.name, pair.caption) for pair in found] == [
        ("2", "2.jpg", "a"),
        ("2", "2.jpg", "b"),
        ("3", "3.png", "c"),
        ("2", "2.jpg", "d"),
        ("2", "2.jpg", "e"),
        ("4", "4.JPG", "f"),
        ("5", "5.JPEG", "g"),
    ]
    assert fault.sample == "6" and "missing" in fault.reason


@pytest.mark.parametrize("value", [[], {}, {"annotations": {}}])
def test_cc_sbu_align_of_another_shape_is_named(tmp_path, value):
    write(tmp_path / "filter_cap.json", value)
    with pytest.raises(ValueError, match=r"filter_cap\.json is not cc_sbu_align's"):
        list(read_cc_sbu_align(tmp_path))


# --- Localized Narratives ---


def test_narratives(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(NARRATIVE) + "\n\n" + json.dumps(NARRATIVE) + "\n")
    first, second = read_narratives(tmp_path / "a.jsonl")
    assert (
        first
        == second
        == Narrative(
            dataset_id="mscoco_val2017",
            image_id="137576",
            annotator_id=93,
            caption="In this image there are group of cows.",
        )
    )


def test_a_bad_line_is_a_fault_and_the_next_is_read(tmp_path):
    lines = [b"\xff\xfe", b'{"caption": ', json.dumps(NARRATIVE).encode(), b"[]"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = list(read_narratives(tmp_path / "a.jsonl"))
    assert [item.sample if isinstance(item, Fault) else "good" for item in found] == [
        "line 1",
        "line 2",
        "good",
        "line 4",
    ]


# --- questions ---


def test_a_okvqa(tmp_path):
    (question,) = read_a_okvqa(write(tmp_path / "aokvqa_v1p0_train.json", [CHOICE]))
    assert question.choices[question.correct_choice_idx] == "cab"
    assert len(question.direct_answers) == 10
    assert (question.image_id, question.split) == (299207, "train")


def test_the_test_split_of_a_okvqa_keeps_its_answers_back(tmp_path):
    public = {key: CHOICE[key] for key in ("split", "image_id", "question_id", "question", "choices")}
    (question,) = read_a_okvqa(write(tmp_path / "aokvqa_v1p0_test.json", [public]))
    assert question.correct_choice_idx is None and question.direct_answers == ()


def test_bad_questions_of_a_okvqa_are_faults(tmp_path):
    bad = {**CHOICE, "question_id": "b", "correct_choice_idx": 4}
    assert "choice 4 is not one of the 4" in reason(read_a_okvqa(write(tmp_path / "a.json", [CHOICE, bad])))
    assert reason(read_a_okvqa(write(tmp_path / "b.json", [CHOICE, CHOICE]))).endswith("came before")


def test_gqa(tmp_path):
    (question,) = read_gqa(write(tmp_path / "testdev_balanced_questions.json", {"02930152": GRAPH}))
    assert (question.question_id, question.image_id) == ("02930152", "2354786")
    assert question.answer == "yes"
    assert (question.types.structural, question.types.semantic) == ("verify", "attr")
    assert question.balanced is True


def test_gqas_pictures_may_be_numbers(tmp_path):
    (question,) = read_gqa(write(tmp_path / "a.json", {"1": {**GRAPH, "imageId": 2354786}}))
    assert question.image_id == "2354786"


def test_the_submission_split_of_gqa_has_no_answers(tmp_path):
    public = {key: GRAPH[key] for key in ("question", "imageId", "isBalanced")}
    (question,) = read_gqa(write(tmp_path / "submission_all_questions.json", {"1": public}))
    assert question.answer is None and question.types is None


def test_a_question_id_that_comes_twice_is_a_fault(tmp_path):
    text = json.dumps(GRAPH)
    (tmp_path / "a.json").write_text(f'{{"1": {text}, "1": {text}, "2": 3}}')
    found = list(read_gqa(tmp_path / "a.json"))
    assert [getattr(item, "reason", None) for item in found][:2] == [None, "this id came before"]
    assert isinstance(found[2], Fault) and found[2].sample == "2"


# --- RefCOCO ---


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_refcoco(tmp_path, protocol):
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([REFERENCE], protocol))
    (ref,) = read_refcoco(tmp_path / "refs(unc).p", write(tmp_path / "instances.json", INSTANCES))
    assert ref.sentences == ("the lady", "woman") and ref.category == "person" and ref.split == "train"
    assert ref.file_name == "COCO_train2014_000000581857.jpg"  # the picture's, not the object's
    assert ref.box == Box(103.93, 299.99, 134.22, 177.42)


def test_a_pickle_of_python_2_is_read(tmp_path):
    (tmp_path / "a.p").write_bytes(b"(lp0\n(dp1\nS'split'\np2\nS'caf\\xc3\\xa9'\np3\nsS'n'\nI3\nsa.")
    assert read_plain_pickle(tmp_path / "a.p") == [{"split": "café", "n": 3}]


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("value", [Harmful(), [Harmful()], collections.OrderedDict(a=1), {1, 2}, print])
def test_a_pickle_that_asks_for_code_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p was refused.*it asks for "):
        read_plain_pickle(tmp_path / "refs(unc).p")
    assert not (tmp_path / "harmed").exists()


def test_a_damaged_pickle_takes_no_more_memory_than_it_has(tmp_path):
    (tmp_path / "a.p").write_bytes(b"Nr\xff\xff\xff\xff.")  # asks for a memo of four thousand million
    assert read_plain_pickle(tmp_path / "a.p") is None


def test_a_reference_to_an_object_that_is_not_there_is_a_fault(tmp_path):
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([{**REFERENCE, "ann_id": 5}]))
    instances = write(tmp_path / "instances.json", INSTANCES)
    assert "not in instances.json" in reason(read_refcoco(tmp_path / "refs(unc).p", instances))


# --- Visual Genome ---


def test_regions(tmp_path):
    (region,) = read_regions(write(tmp_path / "region_descriptions.json", [REGIONS]))
    assert (region.image_id, region.region_id) == (1, 1382)
    assert region.phrase == "the clock is green in colour"
    assert region.box == Box(421, 57, 82, 139)


def test_relationships(tmp_path):
    (relation,) = read_relationships(write(tmp_path / "relationships.json", [RELATIONSHIPS]))
    assert (relation.subject.name, relation.predicate, relation.object.name) == ("shade", "ON", "street")
    assert (relation.image_id, relation.relationship_id) == (1, 15927)
    assert relation.object.box == Box(77, 328, 714, 262)


def test_one_bad_region_is_one_fault(tmp_path):
    (good,) = REGIONS["regions"]
    bad = {key: value for key, value in good.items() if key != "x"}
    found = list(
        read_regions(
            write(tmp_path / "a.json", [{"id": 1, "regions": [bad, good]}, {"id": 1, "regions": []}, 7])
        )
    )
    assert [getattr(item, "sample", "good") for item in found] == [
        "picture 1, region 0",
        "good",
        "1",
        "item 2",
    ]


# --- the quarantine ---


def faults(count):
    return [Fault("a.tar", str(number), "broken") for number in range(count)]


def test_the_quarantine_passes_good_ones_on_and_lists_the_others(tmp_path):
    quarantine = Quarantine(tmp_path / "bad.jsonl", share=0.5)
    odd = Fault("a.tar", "\udcff.jpg", "no UTF-8")  # a name as tarfile gives it
    assert list(quarantine.sift(["a", odd, "b", odd, "c"])) == ["a", "b", "c"]
    assert (quarantine.good, quarantine.bad) == (3, 2)
    (line,) = (tmp_path / "bad.jsonl").read_text(encoding="utf-8").splitlines()  # each once
    assert json.loads(line) == {"where": "a.tar", "sample": "\udcff.jpg", "reason": "no UTF-8", "costs": 1}


def test_above_the_share_a_run_stops_with_a_sentence(tmp_path):
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    assert len(list(quarantine.sift([*faults(1), *range(19)]))) == 19  # five in a hundred are allowed
    with pytest.raises(ValueError, match=r"3 of the 40 .* \(the commonest, 2 times: broken\)"):
        list(quarantine.sift([*faults(2), *range(18)]))
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 2


def test_the_share_is_judged_while_a_long_run_goes_on(tmp_path):
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    quarantine.add(faults(50))
    with pytest.raises(ValueError, match=r"51 of the 51 samples"):
        quarantine.add([replace(faults(1)[0], sample="x")])


def test_what_is_no_sample_is_listed_and_not_counted(tmp_path):
    quarantine = Quarantine(tmp_path / "bad.jsonl", share=0.0)
    quarantine.add([Fault("a.tar", "link", "a link", costs=0)], good=5)
    assert (quarantine.good, quarantine.bad, len(quarantine.faults)) == (5, 0, 1)


def test_the_quarantine_goes_on_where_it_stopped(tmp_path):
    quarantine = Quarantine(tmp_path / "bad.jsonl", share=0.5)
    quarantine.add(faults(2), good=8)
    again = Quarantine(tmp_path / "bad.jsonl", share=0.5)
    again.load_state_dict(quarantine.state_dict())
    again.add(faults(3), good=1)
    assert (again.good, again.bad, list(again.faults)) == (9, 5, faults(3))


# --- what tables, other shells and other programs write ---


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_called_so(tmp_path, encoding):
    mark = b"" if encoding == "utf-16" else b"\xfe\xff"
    (tmp_path / "a.json").write_bytes(mark + json.dumps([CHOICE]).encode(encoding))
    for read in (records.read_json, read_a_okvqa, read_narratives):
        with pytest.raises(ValueError, match=r"a\.json is not .*UTF-16 does: save it as UTF-8"):
            list(read(tmp_path / "a.json"))


def test_lines_in_place_of_an_array_and_the_other_way_round_are_told(tmp_path):
    (tmp_path / "a.json").write_text("\n".join([json.dumps(CHOICE)] * 2))
    with pytest.raises(ValueError, match=r"a\.json is not JSON: .*are these JSON lines"):
        list(read_a_okvqa(tmp_path / "a.json"))
    with pytest.raises(ValueError, match=r"b\.jsonl is not JSON: one object a line is expected and no array"):
        list(read_narratives(write(tmp_path / "b.jsonl", [NARRATIVE, NARRATIVE])))


def test_windows_line_ends_are_no_part_of_a_line(tmp_path):
    line = json.dumps(NARRATIVE).encode()
    (tmp_path / "a.jsonl").write_bytes(line + b"\r\n\r\n" + line + b"\r\n")
    assert len(list(strict(read_narratives(tmp_path / "a.jsonl")))) == 2


@pytest.mark.parametrize("caption", ["nan", "NaN", " None", "null", "<NA>", "\u200b", "\ufeff ", [], 7, None])
def test_a_caption_that_says_nothing_is_a_fault(tmp_path, caption):
    (fault,) = read_cc_sbu_align(write_align(tmp_path, [{"image_id": 52, "caption": caption}]))
    assert isinstance(fault, Fault) and fault.reason.startswith("`caption`")


def test_a_caption_may_hold_the_word(tmp_path):
    (pair,) = read_cc_sbu_align(write_align(tmp_path, [{"image_id": 52.0, "caption": "None of them."}]))
    assert pair.caption == "None of them." and pair.image_id == "52"


def test_answers_and_ids_may_be_written_as_numbers(tmp_path):
    given = {**CHOICE, "question_id": 7, "choices": [1, 2, 3, 4.0], "direct_answers": [2] * 10}
    (choice,) = read_a_okvqa(write(tmp_path / "a.json", [given]))
    assert (choice.question_id, choice.choices) == ("7", ("1", "2", "3", "4"))
    assert set(choice.direct_answers) == {"2"}
    (graph,) = read_gqa(write(tmp_path / "b.json", {"1": {**GRAPH, "answer": 2, "imageId": 2354786.0}}))
    assert (graph.answer, graph.image_id) == ("2", "2354786")
