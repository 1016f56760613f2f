"""An automatic judge of the advanced abilities (Table 1): a checklist for each of the four tasks.

It was written before any output was seen, except for the line length of verse (`is_verse`). An item is a
plain predicate on an answer and on what its picture shows; the first asks for the picture's subject, so the
answer to another picture fails. It matches words: it cannot tell whether a sentence is true beyond the
objects that it names, whether a joke is understood or merely mentioned, or whether a poem is beautiful, and
it does not know every synonym.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from mglib.mentions import Vocabulary, word_list, word_lists
from mglib.metrics import Counts, derangement, each, plural, read_rows, words
from mglib.paths import DATA
from mglib.world import specials
from mglib.world.catalog import vocabulary
from mglib.world.scene import Scene

Answers = Mapping[str, Sequence[str]]  # task -> one answer per picture
Rule = Callable[[str, Scene], bool]  # on an answer and its picture
Judged = dict[str, dict[str, dict[str, list[float]]]]  # system -> task -> success or items -> one per picture


@dataclass(frozen=True)
class Item:
    """One line of a checklist: what is asked, and the predicate on answer and picture that decides it."""

    says: str
    holds: Rule
    of_picture: bool = True  # False: only asks for the kind of text
    essential: bool = False  # without it a request is not met: the subject, and the kind of text asked for


@dataclass(frozen=True)
class Checklist:
    """The items of one task; a call says which of them an answer fulfils."""

    kind: str  # of special pictures
    request: str  # the paper's prompt
    items: tuple[Item, ...]

    def __call__(self, text: str, picture: Scene) -> dict[str, bool]:
        return {item.says: item.holds(text, picture) for item in self.items}

    def met(self, held: Mapping[str, bool]) -> bool:
        """Tell whether an answer meets the request: nothing essential is missing, and at most one other
        item.
        """
        missing = [item for item in self.items if not held[item.says]]
        return len(missing) <= 1 and not any(item.essential for item in missing)


def scores(checklist: Checklist, texts: Sequence[str], pictures: Sequence[Scene]) -> dict[str, list[float]]:
    """Return for each picture whether its answer succeeds, and the share of items that it fulfils."""
    held = [checklist(text, picture) for text, picture in zip(texts, pictures, strict=True)]
    return {
        "success": [float(checklist.met(one)) for one in held],
        "items": [sum(one.values()) / len(one) for one in held],
    }


def judged(systems: Mapping[str, Answers], pictures: Mapping[str, Sequence[Scene]]) -> Judged:
    """Score every answer of every system against the pictures of its task."""
    return {
        system: {task: scores(CHECKLISTS[task], texts, pictures[task]) for task, texts in said.items()}
        for system, said in systems.items()
    }


def exchanged(pictures: Mapping[str, Sequence[Scene]]) -> dict[str, list[Scene]]:
    """Swap every picture for another of the same task: a control for what the text alone scores."""
    return {task: [some[place] for place in derangement(len(some))] for task, some in pictures.items()}


def counts(given: Judged, what: str) -> dict[str, dict[str, Counts]]:
    """Return "success" or "items" of each system by task, and of all tasks together as *total*."""
    found = {}
    for system, tasks in given.items():
        values = {task: one[what] for task, one in tasks.items()}
        values["total"] = [value for some in values.values() for value in some]
        found[system] = {task: each(some) for task, some in values.items()}
    return found


def pooled(given: Judged, what: str) -> dict[str, Counts]:
    """Return "success" or "items" of each system, pooled over all pictures of all tasks."""
    return {system: some["total"] for system, some in counts(given, what).items()}


def has(text: str, forms: Iterable[str]) -> bool:
    """Return whether a text contains one of these words or phrases, or its plural."""
    said = f" {' '.join(words(text))} "
    return any(f" {' '.join(words(form))} " in said for one in forms for form in (one, plural(one)))


def count(text: str, forms: Iterable[str]) -> int:
    """Count how many of these words or phrases a text contains."""
    return sum(has(text, [form]) for form in forms)


def stem(word: str) -> str:
    """Strip the endings of a verb or noun, roughly: "running", "runs" and "run" share a stem."""
    cut = re.sub(r"(?<=\w{3})(ing|ed|es|s)$", "", word)
    return re.sub(r"(.)\1$", r"\1", cut).rstrip("e")


def stems(text: str) -> set[str]:
    """Return the stems of a text's content words."""
    return {stem(word) for word in words(text) if word not in SMALL}


def takes_up(text: str, source: str, *, without: str = "") -> bool:
    """Return whether a text has two words of `source` (or its only one) that are not in `without`."""
    wanted = stems(source) - stems(without)
    return len(wanted & stems(text)) >= min(2, len(wanted)) > 0


def names_objects(text: str, picture: Scene) -> bool:
    there = set(OBJECTS.mentions(", ".join(picture.names)))
    return 2 * len(there & set(OBJECTS.mentions(text))) > len(there)


def writing(picture: Scene) -> str:
    return f"{picture.truth['top']} {picture.truth['bottom']}"


def ingredients_of(picture: Scene) -> set[str]:
    return set(INGREDIENTS.mentions(", ".join(picture.truth["ingredients"])))


def names_ingredients(text: str, picture: Scene) -> bool:
    shown = ingredients_of(picture)
    return 2 * len(shown & set(INGREDIENTS.mentions(text))) >= len(shown)


def names_few_other_ingredients(text: str, picture: Scene) -> bool:
    named = set(INGREDIENTS.mentions(text))
    return 0 < len(named) <= 2 * len(named & ingredients_of(picture))


def names_only(text: str, picture: Scene, forms: Mapping[str, tuple[str, ...]], right: str) -> bool:
    """Return whether no wrong entry of `forms` is named; a "snowy mountain" among the props is not snow."""
    for prop in picture.truth["props"]:
        text = re.sub(rf"\b{prop}", "", text, flags=re.I)
    return not any(has(text, words) for name, words in forms.items() if name != right)


def is_verse(text: str) -> bool:
    """Return whether a text has at least two lines with words, of a median length of at most 16 words (set on
    labelled answers, like the rules of `failures`).
    """
    lengths = [len(words(line)) for line in text.splitlines() if words(line)]
    return len(lengths) >= 2 and median(lengths) <= 16


def says_nothing_twice(text: str, _: Scene) -> bool:
    said, every = [words(part) for part in re.split(r"[.!?\n]+", text)], words(text)
    sentences = Counter(tuple(part) for part in said if part)
    runs = Counter(tuple(every[start : start + 4]) for start in range(len(every) - 3))
    return bool(every) and max(sentences.values()) == 1 and max(runs.values(), default=0) < 3


LISTS, OBJECTS = word_lists(), vocabulary()
INGREDIENTS = Vocabulary(
    {
        name: [form for one in (name, *LISTS["ingredients"].get(name, ())) for form in (one, plural(one))]
        for name in (row["name"] for row in specials.rows("ingredients"))
        if name != "canned tomato"
    }
)
PLACES, WEATHER = LISTS["places"], LISTS["weather"]  # words for a landscape's place and for its weather
ORDER, SMALL = word_list("order"), word_list("small")  # words of order; function words

# The rules of data/evaluation/checklist.csv, for items that do not just count words of one list.
RULES: dict[str, Rule] = {
    "objects": names_objects,
    "writing": lambda text, it: takes_up(text, writing(it), without=" ".join(it.names)),
    "joke": lambda text, it: takes_up(text, it.truth["joke"], without=f"{writing(it)} {' '.join(it.names)}"),
    "dish": lambda text, it: has(text, (it.truth["dish"], *LISTS["dishes"].get(it.truth["dish"], ()))),
    "ingredients": names_ingredients,
    "few other ingredients": names_few_other_ingredients,
    "product": lambda text, it: set(OBJECTS.mentions(it.truth["product"])) <= set(OBJECTS.mentions(text)),
    "brand": lambda text, it: has(text, [it.truth["brand"]]),
    "slogan": lambda text, it: takes_up(text, it.truth["slogan"]),
    "place": lambda text, it: has(text, PLACES[it.setting]) and names_only(text, it, PLACES, it.setting),
    "weather": lambda text, it: has(text, WEATHER[it.truth["effect"]]),
    "no other weather": lambda text, it: names_only(text, it, WEATHER, it.truth["effect"]),
    "mood or scenery": lambda text, it: has(text, [it.truth["mood"], *it.truth["props"]]),
    "order": lambda text, _: count(text, ORDER) >= 2 or len(re.findall(r"(?:^|\s)\d[.)]", text)) >= 2,
    "verse": lambda text, _: is_verse(text),
    "nothing twice": says_nothing_twice,
}


def read_items(task: str) -> tuple[Item, ...]:
    """Read the items of one task."""

    def rule(row: Mapping[str, str]) -> Rule:
        if row["rule"]:
            return RULES[row["rule"]]
        return lambda text, _: count(text, word_list(row["words"])) >= int(row["least"])

    return tuple(
        Item(row["says"], rule(row), row["judged by"] == "picture", row["essential"] == "yes")
        for row in read_rows(DATA / "evaluation" / "checklist.csv")
        if row["task"] == task
    )


CHECKLISTS = {
    task: Checklist(kind, request, read_items(task))
    for task, kind, request in (
        ("memes", "memes", "Explain why this meme is funny."),
        ("recipes", "dishes", "How should I make something like this?"),
        ("advertisements", "products", "Help me draft a professional advertisement for this."),
        ("poems", "landscapes", "Can you craft a beautiful poem about this image?"),
    )
}
