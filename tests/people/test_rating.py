"""People as judges: blinding, resuming, undo, agreement by hand-worked examples, the table, the panel."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from mglib.data.specials import Special
from mglib.people import rating
from mglib.people.rating import Rater, Rating, Sheet, agreement, alpha, collected, scores, table

SYSTEMS = ("blip2", "locna", "minigpt4")


@pytest.fixture
def sheets(tmp_path):
    made = []
    for number in range(6):
        picture = tmp_path / f"{number:012d}.jpg"
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(picture)
        answers = {system: f"{system} says {number}" for system in SYSTEMS}
        made.append(Sheet("memes" if number < 3 else "poems", picture, "Why?", answers))
    return made


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "ratings"


def rate_all(sheets, folder, rater, good):
    """Rate every sheet: `good` tells whether a system's answer to an item is met."""
    rating = Rating(sheets, folder, rater=rater)
    while sheet := rating.current:
        rating.rate([n for n, system in enumerate(rating.sides(sheet)) if good(sheet.item, system)])


def test_order_and_sides_come_from_seed_and_person_and_are_the_same_again(sheets, logs):
    one, again = Rating(sheets, logs, rater="ann"), Rating(sheets, logs, rater="ann")
    assert one.sheets == again.sheets and sorted(one.sheets, key=sheets.index) == sheets
    assert [one.sides(sheet) for sheet in sheets] == [again.sides(sheet) for sheet in sheets]
    others = [Rating(sheets, logs, rater="bob"), Rating(sheets, logs, rater="ann", seed=1)]
    for other in others:
        assert [*other.sheets, *map(other.sides, sheets)] != [*one.sheets, *map(one.sides, sheets)]


def test_no_system_keeps_a_side(sheets, logs):
    many = [replace(sheets[0], picture=sheets[0].picture.with_stem(str(n))) for n in range(300)]
    rating = Rating(many, logs, rater="ann")
    for system in SYSTEMS:
        places = [rating.sides(sheet).index(system) for sheet in many]
        assert all(70 < places.count(place) < 130 for place in range(3))


def test_a_rating_goes_on_where_it_stopped_and_can_be_taken_back(sheets, logs):
    first = Rating(sheets, logs, rater="ann")
    shown = first.current
    first.rate([0, 2])
    before = first.journal.file.read_bytes()
    second = Rating(sheets, logs, rater="ann")
    assert second.done == 1 and second.current == first.sheets[1]
    second.journal.undo()
    assert second.current == shown and second.journal.file.read_bytes().startswith(before)
    entry = json.loads(before)
    sides = first.sides(shown)
    assert entry["sides"] == sides and entry["met"] == sorted([sides[0], sides[2]])


def test_a_finished_rating_and_a_name_that_is_no_file_are_refused(sheets, logs):
    rate_all(sheets, logs, "ann", lambda item, system: True)
    with pytest.raises(ValueError, match="Every sheet is rated"):
        Rating(sheets, logs, rater="ann").rate([])
    with pytest.raises(ValueError, match="cannot name a log"):
        Rating(sheets, logs, rater="../ann")


def test_a_rating_does_not_pass_over_to_other_answers(sheets, logs):
    rate_all(sheets, logs, "ann", lambda item, system: True)
    changed = [replace(sheets[0], answers={**sheets[0].answers, "blip2": "new"}), *sheets[1:]]
    assert Rating(changed, logs, rater="ann").done == 5
    assert len(collected(changed, logs)) == 15 and len(scores(changed, logs)["blip2"]["memes"]) == 2


def test_scores_are_the_share_of_people_and_leave_unrated_pictures_out(sheets, logs):
    rate_all(sheets, logs, "ann", lambda item, system: system == "minigpt4")
    rate_all(sheets[:4], logs, "bob", lambda item, system: True)
    found = scores(sheets, logs)
    assert found["minigpt4"] == {"memes": [1, 1, 1], "poems": [1, 1, 1]}
    assert found["blip2"] == {"memes": [0.5, 0.5, 0.5], "poems": [0.5, 0, 0]}


def test_where_nobody_rated_the_table_says_so(sheets, logs):
    people = scores(sheets, logs)
    assert people["blip2"] == {"memes": [], "poems": []} and agreement(sheets, logs) is None
    judged = {"checklist": {"blip2": {"memes": [0.0, 1.0, 0.0], "poems": [0.0, 0.0, 0.0]}}, "people": people}
    printed = table(judged)
    assert list(printed.columns) == ["judge", "system", "memes", "poems", "all"]
    assert printed.iloc[0]["memes"].startswith("0.33 [") and printed.iloc[0]["memes"].endswith("of 3")
    assert printed.iloc[0]["all"].endswith("of 6")
    assert (
        (printed[printed["judge"] == "people"][["memes", "poems", "all"]] == "not collected").to_numpy().all()
    )


def test_the_table_takes_what_people_gave(sheets, logs):
    rate_all(sheets, logs, "ann", lambda item, system: system == "minigpt4")
    printed = table({"people": scores(sheets, logs)}).set_index("system")
    assert printed.loc["MiniGPT-4", "all"] == "1.00 [1.00, 1.00] of 6"
    assert printed.loc["BLIP-2", "memes"] == "0.00 [0.00, 0.00] of 3"


def test_alpha_is_krippendorffs_of_two_observers():
    a, b = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    # o01 = 4, n0 = 14, n1 = 6, n = 20: 1 - 19 * 4 / (14 * 6)
    assert alpha(list(zip(a, b, strict=True))) == pytest.approx(1 - 76 / 84)


def test_alpha_is_krippendorffs_of_four_observers_with_gaps():
    said = ["123321412...", "1233224125.3", ".333234225" + "1.", "123324412" + "51."]
    units = [[value for value in unit if value != "."] for unit in zip(*said, strict=True)]
    assert alpha(units) == pytest.approx(0.743, abs=5e-4)  # Krippendorff 2011, section C
    assert alpha([unit for unit in units if len(unit) > 1]) == alpha(units)


def test_alpha_at_its_ends():
    assert alpha([[0, 0], [1, 1], [1, 1]]) == 1
    assert alpha([[0, 1], [1, 0]]) == pytest.approx(-0.5)
    assert alpha([]) is None and alpha([[1], [0]]) is None and alpha([[1, 1], [1, 1]]) is None


def test_agreement_is_over_all_answers_that_two_rated(sheets, logs):
    rate_all(sheets, logs, "ann", lambda item, system: system == "minigpt4")
    assert agreement(sheets, logs) is None
    rate_all(sheets[:2], logs, "bob", lambda item, system: system == "minigpt4")
    assert agreement(sheets, logs) == 1


@pytest.fixture
def panel(sheets, logs):
    return Rater(Rating(sheets, logs, rater="ann"))


def press(panel, key):
    panel.keys.set_state({"value": panel.keys.value + key})  # what the browser sends


def test_the_panel_shows_answers_and_hides_whose_they_are(panel):
    sheet = panel.rating.current
    said = [sheet.answers[system] for system in panel.rating.sides(sheet)]
    assert [card.value.split("</b> ")[1].split("<")[0] for card in panel.cards] == said
    assert bytes(panel.image.value) == sheet.picture.read_bytes() and panel.status.value == "0 of 6"
    named = panel.request.value + "".join(button.description for button in panel.buttons.values())
    assert "Why?" in panel.request.value and not [system for system in SYSTEMS if system in named]


def test_keys_mark_and_go_on(panel, sheets, logs):
    sheet = panel.rating.current
    for key in ("1", "2", "3", "2", "N"):
        press(panel, key)
    sides = panel.rating.sides(sheet)
    assert panel.rating.journal.entries[0]["met"] == sorted([sides[0], sides[2]])
    assert panel.status.value == "1 of 6" and panel.progress.value == 1
    assert panel.marked == set()
    press(panel, "u")
    assert panel.rating.current == sheet and panel.status.value == "0 of 6"


def test_marks_are_seen(panel):
    press(panel, "2")
    assert [button.button_style for button in panel.marks] == ["", "success", ""]
    borders = [card.layout.border_top for card in panel.cards]
    assert borders[1] != borders[0] == borders[2]


def test_at_the_end_only_undo_is_left(panel):
    for _ in range(6):
        press(panel, "n")
    assert "all are rated" in panel.status.value and panel.buttons["n"].disabled
    press(panel, "1")
    assert panel.marked == set()
    press(panel, "n")
    assert "Every sheet is rated" in panel.status.value
    press(panel, "u")
    assert panel.rating.done == 5 and not panel.buttons["n"].disabled


def test_answers_are_text_and_never_markup(sheets, logs):
    bad = [replace(sheets[0], answers={"blip2": "<script>x</script>"})]
    (card,) = Rater(Rating(bad, logs, rater="bob")).cards
    assert "&lt;script&gt;" in card.value and "<script>" not in card.value


def test_all_systems_of_a_task_stand_on_a_sheet_and_beside_three_judges(tmp_path):
    shown = {"memes": [Special(7, "memes", "lake", (), (), {}), Special(8, "memes", "lake", (), (), {})]}
    said = {"blip2": {"memes": ["a", "b"]}, "minigpt4": {"memes": ["c", "d"]}}
    study = SimpleNamespace(world=tmp_path, profile=SimpleNamespace(name="none"))
    first, second = rating.sheets(study, said, shown)
    assert first.answers == {"blip2": "a", "minigpt4": "c"} and "funny" in first.request
    assert second.picture == tmp_path / "memes_test" / "images" / "000000000008.jpg"
    checked = {name: {"memes": {"success": [1.0, 0.0], "items": [1.0, 0.5]}} for name in said}
    judges = rating.judges(study, checked, [first, second])
    assert judges["checklist"]["blip2"] == {"memes": [1.0, 0.0]}
    assert judges["language model"] == judges["people"] == {name: {"memes": []} for name in said}
