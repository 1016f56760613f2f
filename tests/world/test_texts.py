"""Texts from scene graphs: true by the boxes, unambiguous, balanced, in official fields, without leaks."""

import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from tiny_world import NEW, box_holds

from mglib.config import WorldConfig
from mglib.paths import hash_json
from mglib.world import catalog
from mglib.world.catalog import wording
from mglib.world.describe import describe, narrative
from mglib.world.gqa import balance, gqa
from mglib.world.knowledge import CATEGORY, FACTS, TRAITS, Asking
from mglib.world.questions import aokvqa
from mglib.world.regions import expressions, references, referring, regions, relationships
from mglib.world.scene import SPLITS, Item, Scene, Writing, held_out, image_id, relations, sample, stream
from mglib.world.text import mentions
from mglib.world.texts import texts
from mglib.world.view import singles

MANY = 60
CONFIG = WorldConfig(
    train=MANY, pool=MANY, val=MANY, test_seen=MANY, test_new_pairs=MANY, test_new_objects=MANY
)
LISTS = ("narratives", "regions", "describe", "questions", "gqa")
PINNED = "b4863c6aa3e8213f"
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


@cache
def scenes(split):
    return [sample(CONFIG, split, index) for index in range(MANY)]


@cache
def every(write, split):
    """Pair each scene of a split with the record that `write` makes of it."""
    return [(scene, write(CONFIG, scene)) for scene in scenes(split)]


def scene_of(*objects, setting="park", props=()):
    """A hand-made scene of (name, x, y, width, height) in a picture of 200 pixels."""
    items = [Item(name, tuple(box), round(1 - (box[1] + box[3]) / 200, 3)) for name, *box in objects]
    items = tuple(sorted(items, key=lambda item: -item.depth))
    behind = tuple(Item(name, tuple(box), 0.5) for name, *box in props)
    return Scene(7, 200, setting, items, behind, relations(items, 200), 0)


DOG, BUS, CAT = ("dog", 10, 130, 40, 40), ("bus", 120, 120, 75, 40), ("cat", 15, 165, 35, 30)
PAIR = scene_of(DOG, BUS)  # a dog to the left of a bus
TRIO = scene_of(DOG, BUS, CAT, props=[("tree", 130, 60, 40, 45)])  # the cat in front of the dog
TWINS = scene_of(("dog", 10, 140, 40, 40), ("dog", 150, 140, 40, 40), ("apple", 90, 160, 25, 25))


def named(text):
    """The objects that a text names; a coffee maker in the background is not coffee."""
    props = sorted(
        (word for p in catalog.PROPS.values() for word in (p.name, p.plural)), key=len, reverse=True
    )
    return mentions(re.sub(rf"\b(?:{'|'.join(props)})\b", "", text, flags=re.I))


def called(text):
    """The objects that a text names by name or plural; a calf is not called a cow."""
    words = {word: thing.name for thing in catalog.THINGS.values() for word in (thing.name, thing.plural)}
    longest = sorted(words, key=len, reverse=True)
    return {words[found.lower()] for found in re.findall(rf"\b(?:{'|'.join(longest)})\b", text, re.I)}


def in_place(scene, index, split="train"):
    """Give a hand-made scene the id, and so the random numbers, of picture `index` of a split."""
    return replace(scene, image_id=image_id(split, index))


def centre(item, size):
    return (item.box[0] + item.box[2] / 2) / size


# What can be said


def test_things_are_counted_and_named_as_known():
    dog, sheep, scissors, broccoli = map(catalog.THINGS.__getitem__, ("dog", "sheep", "scissors", "broccoli"))
    assert sheep.counted(3) == "three sheep"
    assert [dog.counted(number) for number in (1, 3)] == ["a dog", "three dogs"]
    assert scissors.counted(2) == "two pairs of scissors" and scissors.known == "the pair of scissors"
    assert broccoli.counted(2) == "two pieces of broccoli" and dog.known == "the dog"
    props = [catalog.PROPS[name].counted(1) for name in ("evergreen", "sun", "wheat")]
    assert props == ["an evergreen", "the sun", "some wheat"]
    assert catalog.PROPS["cloud"].counted(3) == "three clouds"


def test_strangers_are_absent_known_to_training_and_no_new_pair():
    for split in SPLITS:
        for scene in scenes(split):
            asking = Asking(stream(CONFIG, scene.image_id, "test"), CONFIG, scene, {})
            names = [one.name for one in asking.strangers(3)]
            assert not set(names) & set(item.name for item in scene.objects)
            if split != "test_new_objects":
                assert all(catalog.THINGS[name].split == "train" for name in names)
            if split not in ("test_new_pairs", "test_new_objects"):
                assert not held_out(list(dict.fromkeys([*scene.names, *names])), CONFIG)


# Lists


@pytest.mark.parametrize("name", LISTS)
def test_wording_names_no_object(name):
    for kind, lists in wording(name).items():
        for text, _ in lists:
            people = {"person"} if name == "questions" else set()  # "what do people ...?" names nobody
            assert called(text) <= people and not NEW.search(text), (kind, text)


def test_facts_name_no_other_object():
    for fact in [fact for fact in FACTS if fact.kind != CATEGORY]:
        said = " | ".join((fact.answer, *fact.said, *fact.also))
        own = {fact.name} if fact.of == "object" else set()
        assert called(said) <= {*own, "person"}, fact
        new = fact.name in catalog.names("new")
        assert new or not NEW.search(said), fact


def test_what_is_known_is_known_of_things_that_exist():
    names = {
        "object": set(catalog.THINGS),
        "setting": set(catalog.SETTINGS),
        "prop": set(catalog.PROPS),
        "backdrop": {setting.backdrop for setting in catalog.SETTINGS.values()},
        "wrong": {""},
    }
    assert all(fact.name in names[fact.of] for fact in FACTS)
    assert {fact.name for fact in FACTS if fact.of == "object"} == names["object"]  # each can be asked for
    assert {fact.name for fact in FACTS if fact.of == "setting"} == names["setting"]
    for trait in TRAITS:
        assert trait.yes and not trait.yes & trait.maybe, trait.trait
        assert trait.yes | trait.maybe <= names["object"], trait.trait
        assert called(" ".join(trait.question)) <= {"person"}, trait.trait


def test_every_kind_of_fact_can_be_asked_and_has_wrong_answers():
    kinds = {fact.kind for fact in FACTS} - {CATEGORY}
    assert kinds <= set(wording("questions"))
    train = [fact for fact in FACTS if fact.name not in catalog.names("new")]
    for fact in FACTS:
        if fact.of in ("object", "setting", "prop") and fact.kind != CATEGORY:
            wrong = {other.answer for other in train if other.kind == fact.kind}
            assert len(wrong - {fact.answer, *fact.also}) >= 3, fact


# Narratives


@pytest.mark.parametrize("split", SPLITS)
def test_narratives_name_everything(split):
    for scene, record in every(narrative, split):
        assert record["image_id"] == f"{scene.image_id:012d}"
        assert set(named(record["caption"])) == {item.name for item in scene.objects}
        assert re.fullmatch(r"([A-Z][^.]*\.)( [A-Z][^.]*\.)*", record["caption"]), record["caption"]


def test_narratives_say_the_right_side():
    sides = Counter()
    for index in range(30):
        caption = narrative(CONFIG, in_place(PAIR, index))["caption"]
        for sentence in caption.split(". "):
            for word in ("left", "right"):
                if re.search(rf"\b{word}\b", sentence, re.I):
                    sides[word] += 1
                    assert named(sentence) == [{"left": "dog", "right": "bus"}[word]]
    assert sides  # the bus comes first, so only the dog's side is told
    twins = narrative(CONFIG, in_place(TWINS, 0))["caption"]
    assert "two dogs" in twins


# Referring expressions, regions, relationships


def test_expressions_of_twins_differ_and_their_name_alone_means_neither():
    dogs = [item for item in TWINS.objects if item.name == "dog"]
    left, right = sorted(dogs, key=lambda item: item.box[0])
    for index in range(20):
        rng = stream(CONFIG, image_id("train", index), "test")
        for item, own, other in ((left, "left", "right"), (right, "right", "left")):
            said = expressions(rng, TWINS, item)
            assert said and all(own in text and other not in text for text in said), said
    same = scene_of(("dog", 10, 140, 30, 30), ("dog", 45, 140, 30, 30))
    assert expressions(stream(CONFIG, image_id("train", 0), "test"), same, same.objects[0]) == []


@pytest.mark.parametrize("split", SPLITS)
def test_each_expression_means_one_object_only(split):
    patterns = {"left of": "left of|on the left of", "right of": "right of|on the right of"}
    patterns |= {"above": "above", "below": "below|beneath", "in front of": "in front of", "behind": "behind"}
    for scene, refs in every(referring, split):
        for item, texts_ in zip(scene.objects, refs, strict=True):
            like = [other for other in scene.objects if other.name == item.name and other is not item]
            for text in texts_:
                assert named(text)[0] == item.name, text
                related = False
                for predicate, pattern in patterns.items():
                    found = re.search(rf"(?:{pattern}) the (.+)$", text)
                    if found and not re.search(r"on the (left|right)$", text):
                        words = found[1].rpartition(" of ")[2]
                        (mark,) = [o for o in (*scene.objects, *scene.props) if o.name == words]
                        assert box_holds(item.box, predicate, mark.box), text
                        assert not any(box_holds(other.box, predicate, mark.box) for other in like), text
                        related = True
                if related:
                    continue
                if re.search(r"\bleft\b", text):
                    assert all(centre(item, scene.size) < centre(o, scene.size) for o in like), text
                    assert centre(item, scene.size) < 0.4, text
                elif re.search(r"\bright\b", text):
                    assert all(centre(item, scene.size) > centre(o, scene.size) for o in like), text
                    assert centre(item, scene.size) > 0.6, text
                elif not re.search(r"\b(middle|center)\b", text):
                    assert not like, text


def test_references_are_numbered_like_the_annotations():
    refs = references(every(referring, "val"))
    boxes = [(scene, item) for scene in scenes("val") for item in scene.objects]
    assert [ref["ref_id"] for ref in refs] == list(range(len(refs)))
    assert len(refs) > 0.9 * len([1 for scene, item in boxes if item in singles(scene)])
    for ref in refs:
        scene, item = boxes[ref["ann_id"] - 1]
        assert ref["image_id"] == scene.image_id and ref["split"] == "val"
        assert all(catalog.THINGS[item.name].known[4:] in one["sent"] for one in ref["sentences"])


@pytest.mark.parametrize("split", ["pool", "test_new_objects"])
def test_visual_genome_is_true_by_the_boxes(split):
    for _, record in every(relationships, split):
        for fact in record["relationships"]:
            a, b = ([fact[end][key] for key in "xywh"] for end in ("subject", "object"))
            assert box_holds(a, fact["predicate"].removeprefix("to the "), b), fact
    for scene, record in every(regions, split):
        items = [*scene.objects, *scene.props]
        for region in record["regions"]:
            assert region["x"] + region["width"] <= scene.size
            right, low = region["x"] + region["width"], region["y"] + region["height"]
            inside = {
                item.name
                for item in items
                if region["x"] <= item.box[0] and region["y"] <= item.box[1]
                if item.right <= right and item.foot <= low
            }
            assert set(named(region["phrase"])) <= inside, region
        numbers = [region["region_id"] for region in record["regions"]]
        assert len(set(numbers)) == len(numbers)


# Descriptions


@pytest.mark.parametrize("split", SPLITS)
def test_descriptions_name_everything_and_only_what_is_there(split):
    for scene, said in every(describe, split):
        names = Counter(item.name for item in scene.objects)
        assert set(named(said)) == set(names), said
        sentences = re.findall(r"[^.]+\.(?: |$)", said)
        assert 4 <= len(sentences) <= 7, said
        assert all(sentence[0].isupper() for sentence in sentences) and "{" not in said
        props = Counter(item.name for item in scene.props)
        plurals = {catalog.THINGS[name].plural: count for name, count in names.items()}
        plurals |= {catalog.PROPS[name].plural: count for name, count in props.items()}
        for word, count in re.findall(rf"\b({'|'.join(NUMBERS)}) ({'|'.join(plurals)})\b", said, re.I):
            assert NUMBERS[word.lower()] == plurals[count], said


def test_a_description_says_the_relation_of_a_hand_made_scene():
    said = " ".join(describe(CONFIG, in_place(PAIR, index, "val")) for index in range(20))
    assert re.search(r"dog[^.]*\bleft of|bus[^.]*\bright of", said)
    assert not re.search(r"dog[^.]*\bright of|bus[^.]*\bleft of", said)


def test_signs_are_read_in_every_kind_of_text():
    scene = replace(PAIR, writing=(Writing("HOTEL", (80, 20, 40, 16), "sign"),))
    record = narrative(CONFIG, in_place(scene, 0))
    assert 'a board with "HOTEL" written on it' in record["caption"]
    assert '"HOTEL"' in describe(CONFIG, in_place(scene, 0))
    found = regions(CONFIG, in_place(scene, 0))["regions"]
    (sign,) = [region for region in found if "HOTEL" in region["phrase"]]
    assert [sign[key] for key in ("x", "y", "width", "height")] == [80, 20, 40, 16]
    asked = [aokvqa(CONFIG, in_place(scene, index)) for index in range(40)]
    read = [one for one in asked if re.search("sign|read", one["question"])]
    assert read and all(one["choices"][one["correct_choice_idx"]] == "HOTEL" for one in read)


# A-OKVQA


@pytest.mark.parametrize("split", SPLITS)
def test_aokvqa_has_four_choices_and_ten_answers(split):
    ids = set()
    for scene, record in every(aokvqa, split):
        assert record["image_id"] == scene.image_id and record["question"].endswith("?")
        assert record["split"] == {"train": "train", "pool": "train", "val": "val"}.get(split, "test")
        assert len(record["choices"]) == len(set(record["choices"])) == 4
        assert len(record["direct_answers"]) == 10
        assert len(record["question_id"]) == 22
        ids.add(record["question_id"])
    assert len(ids) == MANY


def test_the_right_choice_is_anywhere():
    places = Counter(record["correct_choice_idx"] for split in SPLITS for _, record in every(aokvqa, split))
    assert all(places[place] / (MANY * len(SPLITS)) == pytest.approx(0.25, abs=0.05) for place in range(4))


def test_a_lone_cow_is_asked_about_rightly():
    cow = scene_of(("cow", 80, 130, 60, 40), setting="farm")
    known = {"sound": "mooing", "young": "a calf", "baby": "a calf", "group": "a herd"}
    asked = Counter()
    for index in range(150):
        record = aokvqa(CONFIG, in_place(cow, index))
        answer = record["choices"][record["correct_choice_idx"]]
        assert "cow" not in record["question"]  # it has to be seen
        for word, right in known.items():
            if re.search(rf"\b{word}\b", record["question"]):
                asked[word] += 1
                assert answer == right, record
        if "milk" in record["question"]:
            asked["milk"] += 1
            assert answer == "cow"
    assert asked["sound"] and asked["young"] + asked["baby"] and asked["milk"]


@pytest.mark.parametrize("split", SPLITS)
def test_an_object_that_answers_is_the_only_one_to_do_so(split):
    by_question = {question: trait for trait in TRAITS for question in trait.question}
    asked = 0
    for scene, record in every(aokvqa, split):
        trait = by_question.get(record["question"])
        if trait:
            asked += 1
            here = {item.name for item in scene.objects}
            answer = record["choices"][record["correct_choice_idx"]]
            assert here & trait.yes == {answer} and not here & trait.maybe, record
            assert set(record["direct_answers"]) <= set(catalog.THINGS[answer].words), record
            assert not set(record["choices"]) & trait.maybe, record
    assert asked > 0.1 * MANY


@pytest.mark.parametrize("split", [s for s in SPLITS if not s.startswith("test_new")])
def test_choices_never_name_a_new_pair(split):
    for scene, record in every(aokvqa, split):
        names = dict.fromkeys([*scene.names, *(n for n in record["choices"] if n in catalog.names())])
        assert not held_out(list(names), CONFIG), record


# GQA


def right_answer(scene, kind, text):
    """Answer a question from the boxes and the words of its text alone; None if they are not enough."""
    names = list(dict.fromkeys(named(text)))
    here = {name: [item for item in scene.objects if item.name == name] for name in names}
    where = {
        name: "right" if items and centre(items[0], scene.size) > 0.5 else "left"
        for name, items in here.items()
    }
    related = re.search(r"(?:to the )?(left of|right of|above|below|in front of|behind) the [a-z ]+\?", text)
    if kind in ("exist", "existAnd", "existOr"):
        true = (any if kind == "existOr" else all)(here.values())
    elif kind in ("relVerify", "existRel") and len(names) == 2 and related:
        (other,) = here[names[1]]
        true = any(box_holds(item.box, related[1], other.box) for item in here[names[0]] if item is not other)
    elif kind == "positionVerify":
        true = f"the {where[names[0]]}" in text
    elif kind == "twoSame":
        true = where[names[0]] == where[names[1]]
    elif kind in ("positionChoose", "positionQuery"):
        return where[names[0]]
    elif kind == "count" and names:
        return str(len(here[names[0]]))
    elif kind == "categoryThisChoose":
        return next(name for name in names if here[name])
    elif kind in ("place", "placeChoose"):
        return catalog.SETTINGS[scene.setting].noun
    elif kind == "placeVerify":
        true = bool(re.search(rf"the {catalog.SETTINGS[scene.setting].noun}\?", text))
    else:
        return None
    return "yes" if true else "no"


@pytest.mark.parametrize("split", SPLITS)
def test_gqa_answers_are_true_by_the_boxes(split):
    judged = Counter()
    for scene, record in every(gqa, split):
        for question in record.values():
            kind = question["types"]["detailed"]
            right = right_answer(scene, kind, question["question"])
            judged[kind] += right is not None
            assert right in (None, question["answer"]), question
            assert question["imageId"] == f"{scene.image_id:012d}" and question["question"].endswith("?")
    assert sum(count > 0 for count in judged.values()) >= 12, judged


def test_gqa_of_a_hand_made_scene():
    answers = {}
    for index in range(60):
        for question in gqa(CONFIG, in_place(TRIO, index)).values():
            answers[question["question"]] = question["answer"]
    right = {
        "Is the dog to the left of the bus?": "yes",
        "Is the dog to the right of the bus?": "no",
        "Is the cat in front of or behind the dog?": "in front of",
        "Which vehicle is in the picture?": "bus",
        "How many animals are in the picture?": "2",
        "On which side of the picture is the bus?": "right",
        "Which is nearer to us, the dog or the cat?": "cat",
        "Which place does the picture show?": "park",
        "Which animal is in the picture?": None,  # there are two
    }
    for question, answer in right.items():
        assert answers.get(question) == answer, question


def test_yes_and_no_are_half_and_half_and_no_answer_is_common():
    asked = {n: q for split in SPLITS for _, r in every(gqa, split) for n, q in r.items()}
    questions = balance(asked)
    groups_ = {}
    for question in questions.values():
        key = (question["types"]["detailed"], question["groups"]["global"])
        groups_.setdefault(key, Counter())[question["answer"]] += 1
    kinds = {question["types"]["structural"] for question in questions.values()}
    assert kinds == {"verify", "query", "choose", "logical", "compare"}
    assert sum(map(Counter.total, groups_.values())) > 0.5 * len(asked)
    for counts in groups_.values():
        assert len(counts) > 1
        if set(counts) <= {"yes", "no"}:
            assert counts["yes"] == counts["no"]
        elif len(counts) >= 8:
            assert max(counts.values()) <= 0.2 * counts.total()


# All of them

WRITERS = (narrative, referring, regions, relationships, describe, aokvqa, gqa)


@pytest.mark.parametrize("split", [split for split in SPLITS if split != "test_new_objects"])
def test_no_text_speaks_of_a_new_object(split):
    for write in WRITERS:
        for _, record in every(write, split):
            found = NEW.search(json.dumps(record))
            assert found is None, (write.__name__, found)


def test_all_texts_are_pinned():
    written = [texts(CONFIG, scene) for s in SPLITS for scene in scenes(s)[:4]]
    digest = hash_json(json.loads(json.dumps(written, default=vars)))
    assert digest == PINNED, "pin this digest again if the change is meant"
