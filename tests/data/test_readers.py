"""Readers of the annotation files of the paper, each on records in the official release's shape."""

import collections
import gzip
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace

import pytest
from data_files import jpeg
from official_records import CHOICE, GRAPH, INSTANCES, NARRATIVE, REFERENCE, REGIONS, RELATIONSHIPS

from mglib.data import records
from mglib.data.answers import read_answers
from mglib.data.narratives import Narrative, read_narratives
from mglib.data.own import read_cc_sbu_align
from mglib.data.quarantine import Fault, Quarantine, strict
from mglib.data.questions import read_a_okvqa, read_gqa
from mglib.data.regions import (
    Referred,
    Region,
    read_plain_pickle,
    read_refcoco,
    read_regions,
    read_relationships,
)


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def samples(stream):
    """Return what each fault is about, and "good" for a record."""
    return [item.sample if isinstance(item, Fault) else "good" for item in stream]


# --- JSON ---


def test_items_are_read_one_by_one(tmp_path):
    array = write(tmp_path / "a.json", [123.5, "ä]", {"a": [1, 2]}, None])
    named = [("item 0", 123.5), ("item 1", "ä]"), ("item 2", {"a": [1, 2]}), ("item 3", None)]
    assert list(records.read_items(array)) == named
    (tmp_path / "o.json").write_text(' {"a" : 1 ,\n"b":[ ] } ')
    assert list(records.read_items(tmp_path / "o.json")) == [("a", 1), ("b", [])]
    assert list(records.read_items(write(tmp_path / "e.json", []))) == []


@pytest.mark.parametrize(
    "text", ["", "1", "[1", "[1 2]", "[1,]", "{1: 2}", '{"a" 1}', "[1] 2", "[nul]", "[" * 200_000]
)
def test_an_array_that_is_none_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is not JSON: "):
        list(records.read_items(tmp_path / "a.json"))


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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_called_so(tmp_path, encoding):
    mark = b"" if encoding == "utf-16" else b"\xfe\xff"
    (tmp_path / "a.json").write_bytes(mark + json.dumps([CHOICE]).encode(encoding))
    for read in (records.read_json, read_a_okvqa, read_narratives):
        with pytest.raises(ValueError, match=r"a\.json is not .*UTF-16 does: save it as UTF-8"):
            list(read(tmp_path / "a.json"))


def test_lines_in_place_of_an_array_are_told_and_the_other_way_round_read(tmp_path):
    (tmp_path / "a.json").write_text("\n".join([json.dumps(CHOICE)] * 2))
    with pytest.raises(ValueError, match=r"a\.json is not JSON: .*are these JSON lines"):
        list(read_a_okvqa(tmp_path / "a.json"))
    array = write(tmp_path / "b.jsonl", [NARRATIVE, NARRATIVE])
    assert [one.caption for one in read_narratives(array)] == [NARRATIVE["caption"]] * 2


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.json", content)
    return file.getvalue()


@pytest.mark.parametrize(("pack", "told"), [(gzip.compress, "gunzip"), (zipped, "unzip")])
def test_a_packed_file_is_told(tmp_path, pack, told):
    for name in ("a.jsonl", "a.json"):
        (tmp_path / name).write_bytes(pack(json.dumps(NARRATIVE).encode()))
        for read in (records.read_json, read_a_okvqa, read_narratives, read_answers):
            with pytest.raises(ValueError, match=rf"{name} is not JSON: .*unpack it first \(`{told}`\)"):
                list(read(tmp_path / name))


def test_windows_line_ends_are_no_part_of_a_line(tmp_path):
    line = json.dumps(NARRATIVE).encode()
    (tmp_path / "a.jsonl").write_bytes(line + b"\r\n\r\n" + line + b"\r\n")
    assert len(list(strict(read_narratives(tmp_path / "a.jsonl")))) == 2


# --- cc_sbu_align ---


def write_align(folder, *pairs):
    (folder / "image").mkdir()
    (folder / "image" / "52.jpg").write_bytes(jpeg("green"))
    entries = [{"image_id": name, "caption": text} for name, text in pairs]
    return write(folder / "filter_cap.json", {"annotations": entries}).parent


@pytest.mark.parametrize(
    ("name", "caption", "why"),
    [
        ("53", "b", "53: its picture .* is missing"),
        ("52", "None of them!", "None of them!.*: this id came before"),
        ("52", " ", "`caption`"),
        ("../52", "b", "`image_id`"),
    ],
)
def test_a_bad_entry_of_cc_sbu_align_is_a_fault(tmp_path, name, caption, why):
    pair, fault = read_cc_sbu_align(write_align(tmp_path, (52.0, "None of them!"), (name, caption)))
    assert (pair.file.stem, pair.answer) == ("52", "None of them!")  # not cleaned
    assert pair.file == tmp_path / "image" / "52.jpg"
    with pytest.raises(ValueError, match=rf"filter_cap\.json: .*{why}"):
        list(strict([fault]))


def test_ids_of_cc_sbu_align_may_be_numbers_have_endings_and_several_texts(tmp_path):
    names = (2, "2.jpg", "3", "2", "2", "4.JPG", "5", 6)
    folder = write_align(tmp_path, *zip(names, "abcdefgh", strict=True))
    for name in ("2.jpg", "3.png", "4.JPG", "5.JPEG"):
        (folder / "image" / name).write_bytes(jpeg("red"))
    *found, fault = read_cc_sbu_align(folder)
    files = ["2.jpg", "2.jpg", "3.png", "2.jpg", "2.jpg", "4.JPG", "5.JPEG"]
    assert [pair.file.name for pair in found] == files
    assert [pair.answer for pair in found] == [*"abcdefg"]
    assert fault.sample == "6" and "missing" in fault.reason


@pytest.mark.parametrize("caption", ["nan", "NaN", " None", "null", "<NA>", "\u200b", "\ufeff ", [], 7, None])
def test_a_caption_that_says_nothing_is_a_fault(tmp_path, caption):
    (fault,) = read_cc_sbu_align(write_align(tmp_path, (52, caption)))
    assert isinstance(fault, Fault) and fault.reason.startswith("`caption`")


# --- Localized Narratives ---


def test_narratives_are_read_and_a_bad_line_is_a_fault(tmp_path):
    lines = [b"\xff\xfe", b'{"caption": ', json.dumps(NARRATIVE).encode(), b"[]"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = list(read_narratives(tmp_path / "a.jsonl"))
    assert samples(found) == ["line 1", "line 2", "good", "line 4"]
    assert found[2] == Narrative("mscoco_val2017", "137576", "In this image there are group of cows.")


# --- questions ---


def test_a_okvqa(tmp_path):
    public = {key: CHOICE[key] for key in ("split", "image_id", "question", "choices")}
    bad = {**CHOICE, "question_id": "b", "correct_choice_idx": 4}
    file = write(tmp_path / "a.json", [CHOICE, {**public, "question_id": "a"}, bad, CHOICE])
    question, hidden, no_choice, again = read_a_okvqa(file)
    assert question.choices[question.correct_choice_idx] == "cab" and len(question.direct_answers) == 10
    assert (question.image_id, question.split) == (299207, "train")
    assert hidden.correct_choice_idx is None and hidden.direct_answers == ()  # as in the test split
    assert "choice 4 is not one of the 4" in no_choice.reason and again.reason.endswith("came before")


def test_gqa(tmp_path):
    public = {key: GRAPH[key] for key in ("question", "imageId", "isBalanced")}
    whole, bare = json.dumps(GRAPH), json.dumps(public)
    (tmp_path / "a.json").write_text(f'{{"02": {whole}, "2": {bare}, "4": 3}}')
    question, hidden, fault = read_gqa(tmp_path / "a.json")
    assert (question.question_id, question.image_id, question.answer) == ("02", "2354786", "yes")
    assert (question.types.structural, question.types.semantic) == ("verify", "attr")
    assert hidden.answer is None and hidden.types is None  # as in the submission split
    assert fault.sample == "4"


def test_answers_and_ids_may_be_written_as_numbers(tmp_path):
    given = {**CHOICE, "question_id": 7, "choices": [1, 2, 3, 4.0], "direct_answers": [2] * 10}
    (choice,) = read_a_okvqa(write(tmp_path / "a.json", [given]))
    assert (choice.question_id, choice.choices) == ("7", ("1", "2", "3", "4"))
    assert set(choice.direct_answers) == {"2"}
    (graph,) = read_gqa(write(tmp_path / "b.json", {"1": {**GRAPH, "answer": 2, "imageId": 2354786.0}}))
    assert (graph.answer, graph.image_id) == ("2", "2354786")


# --- RefCOCO ---


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_refcoco(tmp_path, protocol):
    refs = [REFERENCE, {**REFERENCE, "ref_id": 1, "ann_id": 5}]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol))
    ref, fault = read_refcoco(tmp_path / "refs(unc).p", write(tmp_path / "instances.json", INSTANCES))
    # The picture's own name, not the object's.
    assert ref == Referred(581857, "COCO_train2014_000000581857.jpg", ("the lady", "woman"))
    assert fault.sample == "1" and "not in instances.json" in fault.reason


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
    (tmp_path / "a.p").write_bytes(b"Nr\xff\xff\xff\xff.")  # asks for a memo of four billion entries
    assert read_plain_pickle(tmp_path / "a.p") is None


# --- Visual Genome ---


def test_relationships(tmp_path):
    (relation,) = read_relationships(write(tmp_path / "relationships.json", [RELATIONSHIPS]))
    assert (relation.subject.name, relation.predicate, relation.object.name) == ("shade", "ON", "street")
    assert relation.image_id == 1 and relation.object.area == (77, 328, 714, 262)


def test_one_bad_region_is_one_fault(tmp_path):
    bad = {key: value for key, value in REGIONS["regions"][0].items() if key != "phrase"}
    pictures = [{"id": 1, "regions": [bad, *REGIONS["regions"]]}, {"id": 1, "regions": []}, 7]
    found = list(read_regions(write(tmp_path / "a.json", pictures)))
    assert samples(found) == ["picture 1, region 0", "good", "1", "item 2"]
    assert found[1] == Region(1, "the clock is green in colour")


# --- the quarantine ---


def faults(count):
    return [Fault("a.tar", str(number), "broken") for number in range(count)]


def test_the_quarantine_passes_good_ones_on_and_lists_the_others(tmp_path, capsys):
    quarantine = Quarantine(tmp_path / "bad.jsonl", share=0.5)
    odd = Fault("a.tar", "\udcff.jpg", "no UTF-8")  # a name as tarfile gives it
    assert list(quarantine.sift(["a", odd, "b", odd, "c"])) == ["a", "b", "c"]
    assert (quarantine.good, quarantine.bad) == (3, 2)
    assert capsys.readouterr().out.startswith("2 bad records are left out: ")
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
    quarantine.add([Fault("a.tar", "link", "a link", costs=0)])  # listed, but not counted as a sample
    with pytest.raises(ValueError, match=r"51 of the 51 samples"):
        quarantine.add([replace(faults(1)[0], sample="x")])


def test_the_quarantine_goes_on_where_it_stopped(tmp_path):
    quarantine = Quarantine(tmp_path / "bad.jsonl", share=0.5)
    quarantine.add(faults(2), good=8)
    again = Quarantine(tmp_path / "bad.jsonl", share=0.5)
    again.load_state_dict(quarantine.state_dict())
    again.add(faults(3), good=1)
    assert (again.good, again.bad, list(again.faults)) == (9, 5, faults(3))
