"""Coverage by both protocols, worked out by hand, and how well the parser behind the default judge reads."""

import json

import pytest

from mglib.config import WorldConfig
from mglib.evals import coverage
from mglib.evals.coverage import (
    KINDS,
    agreement,
    everything,
    fact_judge,
    parse,
    read_facts,
)
from mglib.world import scene, text
from mglib.world.texts import write_facts

CONFIG = WorldConfig(train=1, pool=1, val=60, test_seen=1, test_new_pairs=1, test_new_objects=1)
REFERENCES = (
    ("A dog to the left of a cat.", "A dog.", "Two dogs on the beach."),
    ("A runner in the park.", "A person and a bus.", "A bus."),
)
STORED = {reference: parse(reference) for texts in REFERENCES for reference in texts}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Lay out captions.json and facts.json as the small world has them."""
    folder = tmp_path_factory.mktemp("val")
    said = []
    for index in range(CONFIG.val):
        picture = scene.sample(CONFIG, "val", index)
        said += [(picture, one) for one in text.references(CONFIG, picture)]
    notes = [
        {"id": number, "image_id": one.image_id, "caption": reference.text}
        for number, (one, reference) in enumerate(said, 1)
    ]
    (folder / "captions.json").write_text(json.dumps({"images": [], "annotations": notes}))
    write_facts(folder / "facts.json", said)
    return folder


# --- the protocols ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("There is a cat on the right of a dog.", [True, True, True]),  # objects and relations: no counts
        ("A dog and a cat.", [False, True, True]),
        ("A cat.", [False, False, False]),
        ("A dog to the right of a cat.", [False, True, True]),
    ],
)
def test_a_reference_is_covered_by_its_objects_and_relations(answer, expected):
    judge = fact_judge(STORED)
    assert [judge(answer, reference) for reference in REFERENCES[0]] == expected


def test_a_runner_covers_a_person_and_not_the_other_way_round():
    assert fact_judge(STORED)("a bus and a runner", "A person and a bus.")
    assert not fact_judge(STORED)("a person in the park", "A runner in the park.")


def test_all_models_are_counted_by_both_protocols():
    said = {"one": ["A dog and a cat.", "A bus."], "silent": ["", ""]}
    found = coverage.counted(said, REFERENCES, fact_judge(STORED))
    assert found["one"]["references_covered"].found == [2.0, 1.0]
    assert found["silent"]["covered"].found == [0.0, 0.0] and found["one"]["length"].found == [5, 2]


def test_one_random_reference_is_the_same_for_every_model():
    asked = []
    coverage.counted({"a": ["a"] * 2, "b": ["b"] * 2}, REFERENCES, lambda *pair: bool(asked.append(pair)))
    each = len(asked) // 2
    assert [text for _, text in asked[:each]] == [text for _, text in asked[each:]]
    assert all(text in texts for (_, text), texts in zip(asked, REFERENCES, strict=False))


# --- stored facts ---


def test_the_judge_accepts_the_references_themselves(folder):
    stored = read_facts(folder)
    judge = fact_judge(stored)
    assert len(stored) > 250 and [text for text in stored if not judge(text, text)] == []


def test_listing_everything_covers_what_states_no_relation(folder):
    stored = read_facts(folder)
    judge, said = fact_judge(stored), everything()
    related = {text for text, facts in stored.items() if any(fact[0] == "relation" for fact in facts)}
    assert {text for text in stored if not judge(said, text)} == related and related
    assert not judge("There is nothing.", next(iter(stored)))


def test_facts_of_other_captions_are_refused(folder, tmp_path):
    (tmp_path / "captions.json").write_text((folder / "captions.json").read_text())
    with pytest.raises(FileNotFoundError, match="NOTEBOOKS=01"):
        read_facts(tmp_path)
    (tmp_path / "facts.json").write_text(json.dumps({"annotations": []}))
    with pytest.raises(ValueError, match="differ"):
        read_facts(tmp_path)


# --- how well the parser reads ---


def test_agreement_worked_out_by_hand():
    found = [frozenset({("object", "dog"), ("object", "cat")}), frozenset()]
    true = [frozenset({("object", "dog")}), frozenset({("object", "bus"), ("setting", "park")})]
    scores = agreement(found, true)
    assert scores["object"]["precision"].estimate().value == pytest.approx(1 / 2)
    assert scores["object"]["recall"].estimate().value == pytest.approx(1 / 2)
    assert scores["setting"]["recall"].estimate().value == 0
    assert scores["relation"]["precision"].estimate() is None


def test_the_parser_reads_the_references_without_fault(folder):
    stored = read_facts(folder)
    scores = agreement([parse(text) for text in stored], list(stored.values()))
    values = {
        (kind, name): counts.estimate().value for kind in KINDS for name, counts in scores[kind].items()
    }
    assert min(values.values()) > 0.99


def test_the_parser_agrees_with_the_labels():
    labels = coverage.read_labels()
    assert len(labels) == 100 and {fact[0] for _, facts in labels for fact in facts} == set(KINDS)
    scores = agreement([parse(answer) for answer, _ in labels], [facts for _, facts in labels])
    for kind in ("object", "relation"):
        assert all(counts.estimate().value > 0.9 for counts in scores[kind].values()), kind
