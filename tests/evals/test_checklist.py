"""The checklists of table 1: answers written from each picture's truth, generic ones, and swapped ones."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from mglib.data.records import adapter
from mglib.evals import checklist as judge
from mglib.evals.checklist import CHECKLISTS, PLACES, WEATHER, Checklist, Item, has, scores, stem, takes_up
from mglib.metrics import paired
from mglib.profiles import MINI
from mglib.world import catalog
from mglib.world.scene import Scene, read_scenes
from mglib.world.specials import glyphs, rows, sample_special

TASKS = tuple(CHECKLISTS)


@pytest.fixture(scope="module")
def pictures():
    """Return each task's special pictures of val and test, as the reader gives them."""
    world = {}
    for task, checklist in CHECKLISTS.items():
        sampled = [
            asdict(sample_special(MINI.world, f"{checklist.kind}_{part}", index))
            for part, count in (("val", 5), ("test", 25))
            for index in range(count)
        ]
        world[task] = [adapter(Scene).validate_python(scene) for scene in sampled]
    return world


def ideal(task, picture):
    """Write what a person who sees everything might answer."""
    truth = picture.truth
    if task == "memes":
        return (
            f"The picture shows a {' and a '.join(picture.names)}. The words say: {truth['top'].lower()}, "
            f"{truth['bottom'].lower()}. It is funny because {truth['joke']}."
        )
    if task == "recipes":
        return (
            f"To make {truth['phrase']} you need {', '.join(truth['ingredients'])}. First wash and cut "
            "everything. Then heat a pan, add the rest and stir. Finally serve it warm."
        )
    if task == "advertisements":
        return (
            f"Discover the new {truth['product']} by {truth['brand']}! {truth['slogan'].capitalize()}. "
            "Made with the best quality for you. Order yours today."
        )
    return (
        f"Here at the {picture.setting} I stand,\n{truth['weather']} over the land.\n"
        f"A {truth['mood']} hour, soft and slow,\nbeside the {truth['props'][0]} I know."
    )


GENERIC = {
    "memes": "It is funny because the words do not fit the picture, although everybody knows the feeling.",
    "recipes": "First cut all ingredients. Then mix them, heat a pan and cook them. Finally serve it warm.",
    "advertisements": "Discover the best product for you! It has great quality and unique style. Order now.",
    "poems": "The world is wide,\nthe heart is free,\na light inside\nis calling me.",
}


@pytest.mark.parametrize("task", TASKS)
def test_an_ideal_answer_fulfils_every_item(pictures, task):
    for picture in pictures[task]:
        held = CHECKLISTS[task](ideal(task, picture), picture)
        assert all(held.values()), (picture.truth, held)


@pytest.mark.parametrize("task", TASKS)
def test_a_generic_answer_fulfils_what_asks_for_the_text_alone_and_fails(pictures, task):
    for picture in pictures[task]:
        held = CHECKLISTS[task](GENERIC[task], picture)
        assert not CHECKLISTS[task].met(held), (picture.truth, held)
        assert all(held[item.says] for item in CHECKLISTS[task].items if not item.of_picture)


@pytest.mark.parametrize("task", TASKS)
def test_the_ideal_answer_to_any_other_picture_fails(pictures, task):
    checklist = CHECKLISTS[task]
    for picture in pictures[task]:
        others = [other for other in pictures[task] if other.truth != picture.truth]
        assert len(others) >= len(pictures[task]) - 2
        wrong = [one.truth for one in others if checklist.met(checklist(ideal(task, one), picture))]
        assert wrong == [], picture.truth


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("text", ["", " \n", "?"])
def test_an_empty_answer_fulfils_nothing_that_asks_for_text(pictures, task, text):
    held = CHECKLISTS[task](text, pictures[task][0])
    assert {name for name, holds in held.items() if holds} <= {"names no other weather or light"}


@pytest.mark.parametrize("task", TASKS)
def test_a_list_of_everything_or_of_what_is_there_meets_no_request(pictures, task):
    weather = [word for forms in WEATHER.values() for word in forms]
    everything = ", ".join([*catalog.names(), *glyphs(), *PLACES, *weather])
    said = [[everything] * len(pictures[task])]
    if task != "memes":  # whose truth holds the joke
        said.append([picture.in_words for picture in pictures[task]])
    assert not any(any(scores(CHECKLISTS[task], texts, pictures[task])["success"]) for texts in said)


def test_one_item_may_fail_but_nothing_essential():
    needed = {"subject": True, "a": False, "b": False}
    items = tuple(Item(name, has, essential=essential) for name, essential in needed.items())
    sheet = Checklist("a kind", "Do it.", items)
    assert sheet.met({"subject": True, "a": True, "b": False})
    assert not sheet.met({"subject": True, "a": False, "b": False})
    assert not sheet.met({"subject": False, "a": True, "b": True})


def test_every_case_of_the_world_has_words_for_its_place_weather_and_joke():
    assert {row["effect"] for row in rows("landscapes")} == set(WEATHER)
    assert {place for row in rows("landscapes") for place in row["settings"]} == set(PLACES)
    for row in rows("memes"):
        assert takes_up(row["joke"], row["joke"], without=f"{row['top']} {row['bottom']}"), row


def test_words_meet_in_their_forms():
    assert (
        has("Two Dogs run.", ["dog"])
        and not has("A hotdog.", ["dog"])
        and has("A wine-glass", ["wine glass"])
    )
    assert stem("running") == stem("runs") == stem("run") and stem("typing") == stem("typed") == stem("type")
    assert takes_up("the cats typed all day", "has not typed a word in days")
    assert not takes_up("the cats typed", "has not typed a word in days")
    assert takes_up("it means a word", "the word means a nose", without="a nose")
    assert not takes_up("anything", "the nose", without="nose")


@pytest.mark.parametrize(
    ("text", "few"),
    [("tomato and cheese", True), ("tomato, rice, corn", False), ("tomato, rice", True), ("nothing", False)],
)
def test_ingredients_that_are_not_shown_may_be_half_of_those_named(text, few):
    picture = SimpleNamespace(truth={"dish": "pizza", "ingredients": ["tomato", "cheese"]})
    assert CHECKLISTS["recipes"].items[2].holds(text, picture) is few


def test_systems_are_told_apart_by_their_own_pictures_alone(pictures):
    every = {task: [ideal(task, picture) for picture in pictures[task]] for task in TASKS}
    systems = {"ideal": every, "silent": {task: [""] * len(texts) for task, texts in every.items()}}
    right = judge.judged(systems, pictures)
    swapped = judge.judged(systems, judge.exchanged(pictures))
    success = judge.counts(right, "success")
    assert list(success["ideal"]) == [*TASKS, "total"]
    assert (
        success["ideal"]["total"].estimate().value == 1 and success["silent"]["total"].estimate().value == 0
    )
    assert success["ideal"]["total"].estimate().n == sum(map(len, pictures.values()))
    drop = paired(judge.pooled(right, "items")["ideal"], judge.pooled(swapped, "items")["ideal"])
    lost = judge.counts(swapped, "items")["ideal"]["total"].estimate().value
    assert drop.low > 0 and drop.value == pytest.approx(1 - lost)


def test_a_line_that_is_no_special_is_named(tmp_path):
    (tmp_path / "scenes.jsonl").write_text('{"image_id": "x"}\n')
    with pytest.raises(ValueError, match=r"scenes\.jsonl: line 1: .*image_id"):
        read_scenes(tmp_path / "scenes.jsonl")
    with pytest.raises(FileNotFoundError, match="build the small world"):
        read_scenes(tmp_path / "none")
