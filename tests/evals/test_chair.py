"""CHAIR's rules, on answers whose mentions were worked out by hand."""

import pytest
from tiny_texts import split_of

from mglib.evals import chair
from mglib.evals.chair import Truth, by_rank, counts, matched, read
from mglib.evals.chair_official import OfficialVocabulary
from mglib.metrics import paired
from mglib.world.catalog import FOLDER
from mglib.world.scene import Item, Scene, Writing

WORDS = chair.vocabulary()


def scene(setting="park", props=(), writing=()):
    box = (0, 0, 9, 9)
    items = tuple(Item(name, box, 0.5) for name in props)
    return Scene(1, 200, setting, props=items, writing=tuple(Writing(text, box, "sign") for text in writing))


def truth(*objects, references=(), **graph):
    split = split_of("val", [""], references=(tuple(references),), objects=(frozenset(objects),))
    return chair.truths(split, WORDS, [scene(**graph)])[0]


# --- what is a mention ---


def test_every_object_and_prop_is_found_by_its_name_and_plural():
    for row in [*chair.read_rows(FOLDER / "objects.csv"), *chair.read_rows(FOLDER / "props.csv")]:
        name = row.get("coco") or row["name"]
        for form in (row["name"], row["plural"]):
            assert WORDS.mentions(f"the {form} there") == [name]


def test_no_form_of_the_lists_means_two_objects():
    owners = {}
    for file in (FOLDER / "objects.csv", FOLDER / "props.csv", chair.EVALUATION / "nouns.csv"):
        for row in chair.read_rows(file):
            for form in (row["name"], row["plural"], *filter(None, row.get("synonyms", "").split("|"))):
                owners.setdefault(form, set()).add(row.get("coco") or row["name"])
    assert {form: names for form, names in owners.items() if len(names) > 1} == {}


def test_the_lists_point_only_to_names_that_exist():
    rows = chair.read_rows
    also = {name for row in rows(chair.EVALUATION / "nouns.csv") for name in row["also"].split("|") if name}
    shows = {
        name for row in rows(chair.EVALUATION / "settings.csv") for name in row["shows"].split("|") if name
    }
    means = {row["means"] for row in rows(chair.EVALUATION / "compounds.csv") if row["means"]}
    assert also | shows | means <= WORDS.names
    settings = {row["name"] for row in rows(FOLDER / "settings.csv")}
    assert {row["setting"] for row in rows(chair.EVALUATION / "settings.csv")} <= settings


def test_cocos_row_counts_cocos_objects_alone():
    words = chair.coco_vocabulary()
    assert words.mentions("a coffee maker, a palm tree, a whale, a teddy bear and a dog") == [
        "teddy bear",
        "dog",
    ]
    assert words.mentions("an armchair with a chair") == ["chair"]


# --- what is true ---


@pytest.mark.parametrize(
    ("text", "shown", "invented"),
    [
        ('A dog, a fountain, "LAKE HOUSE".', truth("dog", props=["fountain"], writing=["LAKE HOUSE"]), []),
        ("a sign, a house and a hut", truth(writing=["LAKE HOUSE"]), ["hut"]),
        ("A palm tree and a coffee maker", truth("dog"), ["palm tree", "coffee maker"]),
        ("a man who runs", truth("runner"), []),  # a runner is a person, and not the other way round
        ("a jogger", truth("person"), ["runner"]),
        ("a building", truth(props=["hut"]), []),
        ("a hut", truth(props=["house"]), ["hut"]),
        ("trees and tables", truth(setting="forest"), ["dining table"]),  # what the setting paints
        ("trees and tables", truth(setting="kitchen"), ["tree"]),
        ("a cat", truth("dog", references=["a dog and a kitten"]), []),
    ],
)
def test_what_is_shown_painted_written_or_referred_to_may_be_said(text, shown, invented):
    (reading,) = read([text], [shown], WORDS)
    wrong = zip(reading.mentions, reading.wrong, strict=True)
    assert [name for name, bad in wrong if bad] == invented


def test_recall_counts_annotated_objects_each_once_and_may_be_of_some_alone():
    shown = truth("dog", "runner", "cup", props=["tree"])
    readings = read(["a dog, another dog, a person and a tree"], [shown], WORDS)
    assert chair.recall(readings) == counts(readings)["object_recall"] == ([2], [3])
    assert chair.recall(readings, lambda names: "cup" not in names) == ([2], [2])


# --- scores ---


def simple(*objects):
    return Truth(tuple(frozenset([name]) for name in objects), frozenset(objects))


ANSWERS = ["a dog, a dog and a bus", "a bear", "a small turkey"]
TRUTHS = [simple("dog", "cup"), simple("bear"), simple("truck")]


def test_scores_worked_out_by_hand():
    found = {name: count.estimate().value for name, count in counts(read(ANSWERS, TRUTHS, WORDS)).items()}
    assert found == {
        "chair_i": pytest.approx(1 / 4),  # the bus, of dog dog bus bear
        "chair_s": pytest.approx(1 / 3),
        "object_recall": pytest.approx(2 / 4),  # dog and bear, of dog cup bear truck
        "mentions": pytest.approx(4 / 3),
        "length": pytest.approx((7 + 2 + 3) / 3),
        "unlisted": pytest.approx(1 / 5),  # the turkey
    }


def test_matched_answers_have_as_many_mentions_picture_by_picture():
    long = read(["a dog, a cat and a bus", "a bear and a cup", "a truck"], TRUTHS, WORDS)
    short = read(["a dog", "a cup and a bear", ""], TRUTHS, WORDS)
    cut = matched({"long": long, "short": short})
    assert [one.mentions for one in cut["long"]] == [("dog",), ("bear", "cup"), ()]
    assert [one.mentions for one in cut["short"]] == [("dog",), ("cup", "bear"), ()]
    scores = {name: counts(readings)["chair_i"] for name, readings in cut.items()}
    assert scores["long"].estimate().value == pytest.approx(1 / 3)
    assert paired(scores["long"], scores["short"]).value == 0


def test_hallucination_by_rank():
    readings = read(["a dog, a cat and a bus", "a bus or a bear", "hm"], TRUTHS, WORDS)
    ranks = [count.estimate() for count in by_rank(readings, 4)]
    assert [rank and rank.value for rank in ranks] == [pytest.approx(1 / 2), pytest.approx(1 / 2), 1.0, None]


# --- the official code's rules ---


OFFICIAL = OfficialVocabulary.study()


def test_only_the_official_list_is_read_as_such(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"OfficialVocabulary\.study"):
        OfficialVocabulary.read(tmp_path / "synonyms.txt")
    (tmp_path / "synonyms.txt").write_text("dog, puppy\n")
    with pytest.raises(ValueError, match="SHA-256"):
        OfficialVocabulary.read(tmp_path / "synonyms.txt")


def test_new_objects_are_those_that_training_never_had():
    assert chair.new_objects() and chair.new_objects() < WORDS.names
    assert not chair.new_objects() & {"dog", "person"}


def test_the_official_rules_know_the_eighty_categories_and_their_quirks():
    assert len(OFFICIAL.names) == 80 and OFFICIAL.names >= {"bench", "sink", "hair drier", "person"}
    assert OFFICIAL.mentions("a bus, two ties and a cat") == ["cat"]
    assert OfficialVocabulary([["dog", "puppy "]]).mentions("a puppy") == []  # a stray space


def test_a_possessive_names_nothing_of_its_own():
    assert OFFICIAL.mentions("A man's dog runs.") == ["person", "dog"]
    assert "" not in OFFICIAL.owner
    assert OfficialVocabulary([["dog", ""]]).mentions("a dog's bed") == ["dog"]
