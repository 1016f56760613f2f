"""People as judges of table 1: a blinded panel, how far raters agree, and the table that all judges share.

A person sees picture, request and the answers of all systems, in an order that hides whose they are, and
marks those that meet the request, as the paper's raters did (section 4.2). Where nobody has rated, the table
says so.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import ipywidgets
import krippendorff
import pandas

from mglib.curation.select import NOT_COLLECTED
from mglib.data.journal import Journal, in_force, read_log
from mglib.data.specials import Special
from mglib.evals.checklist import CHECKLISTS, Answers, Judged
from mglib.metrics import mean
from mglib.paths import ROOT, content_key
from mglib.people.panel import KeyPanel
from mglib.study import display_names
from mglib.study.study import Study

CARD = '<div style="padding: 8px; line-height: 1.5; white-space: pre-wrap">{}</div>'
MARKED, PLAIN = "2px solid var(--jp-success-color1)", "2px solid var(--jp-border-color2)"
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # system -> task -> one value a picture


@dataclass(frozen=True)
class Sheet:
    """What is rated at once: the answers of all systems, by name, to one request about one picture."""

    task: str
    picture: Path
    request: str
    answers: Mapping[str, str]

    @property
    def item(self) -> str:
        return f"{self.task}/{self.picture.stem}"

    @property
    def key(self) -> str:
        """Names the very answers, so that a rating is not taken over to others."""
        return content_key([self.request, dict(self.answers)])


class Rating:
    """One person's way through all sheets; order and sides come from the seed and the person's name.

    The log, one file a person, is only ever added to; opening it again goes on where it stopped.
    """

    def __init__(self, sheets: Sequence[Sheet], folder: Path, *, rater: str, seed: int = 0) -> None:
        """Raises ValueError for a name of a rater that cannot name a file."""
        if not rater.replace("-", "").isalnum():
            raise ValueError(f"{rater!r} cannot name a log: use letters, digits and hyphens.")
        self.start = f"{seed}/{rater}"
        self.sheets = Random(self.start).sample(list(sheets), len(sheets))
        self.journal = Journal(folder / f"{rater}.jsonl", key="item")

    @property
    def rated(self) -> set[tuple[str, str]]:
        return {(entry["item"], entry["key"]) for entry in self.journal.standing}

    @property
    def done(self) -> int:
        """How many sheets are rated."""
        rated = self.rated
        return sum((sheet.item, sheet.key) in rated for sheet in self.sheets)

    @property
    def current(self) -> Sheet | None:
        """The first sheet that is not rated, None when all are."""
        rated = self.rated
        return next((sheet for sheet in self.sheets if (sheet.item, sheet.key) not in rated), None)

    def sides(self, sheet: Sheet) -> list[str]:
        """Return the systems in the order in which their answers stand on this sheet."""
        systems = sorted(sheet.answers)
        return Random(f"{self.start}/{sheet.item}").sample(systems, len(systems))

    def rate(self, good: Sequence[int]) -> None:
        """Keep which places of the current sheet hold answers that meet the request."""
        if self.current is None:
            raise ValueError("Every sheet is rated: undo takes the last rating back.")
        sheet, sides = self.current, self.sides(self.current)
        met = sorted(sides[place] for place in good)
        self.journal.add({"item": sheet.item, "key": sheet.key, "sides": sides, "met": met})


class Rater(KeyPanel):
    """What a person sees: picture, request, the answers side by side; digits mark, n goes on, u goes back."""

    def __init__(self, rating: Rating) -> None:
        super().__init__(len(rating.sheets))
        self.rating, self.marked = rating, set[int]()
        self.image = ipywidgets.Image(layout={"width": "300px", "height": "auto"})
        self.request = ipywidgets.HTML()
        most = max(len(sheet.answers) for sheet in rating.sheets)
        self.cards = [ipywidgets.HTML(layout={"flex": "1 1 0", "min_width": "0"}) for _ in range(most)]
        marks = {str(n + 1): ipywidgets.Button(description=f"{n + 1} meets it") for n in range(most)}
        for place, button in enumerate(marks.values()):
            button.on_click(lambda _, place=place: self.mark(place))
        self.buttons = {
            **marks,
            "n": self.button("Next (n)", "primary", lambda: rating.rate(sorted(self.marked))),
            "u": self.button("Undo (u)", "", rating.journal.undo),
        }
        self.marks = list(marks.values())
        shown = ipywidgets.HBox([self.image, self.request], layout={"align_items": "flex-start"})
        self.box = ipywidgets.VBox([shown, ipywidgets.HBox(self.cards), *self.controls()])
        self.refresh()

    def mark(self, place: int) -> None:
        """Mark an answer as one that meets the request, or take the mark away."""
        if self.rating.current and place < len(self.rating.current.answers):
            self.marked ^= {place}
            self.paint()

    def paint(self) -> None:
        """Show which answers are marked."""
        for place, (card, button) in enumerate(zip(self.cards, self.marks, strict=True)):
            card.layout.border = MARKED if place in self.marked else PLAIN
            button.button_style = "success" if place in self.marked else ""

    def refresh(self) -> None:
        """Show the next sheet, or that there is none."""
        rating, now = self.rating, self.rating.current
        self.marked = set()
        self.progress.value = rating.done
        self.status.value = f"{rating.done} of {len(rating.sheets)}" + ("" if now else ": all are rated")
        self.image.value = now.picture.read_bytes() if now else b""
        self.request.value = f"<b>{html.escape(now.request)}</b><br>Which answers meet it?" if now else ""
        texts = [now.answers[system] for system in rating.sides(now)] if now else []
        for place, (card, button) in enumerate(zip(self.cards, self.marks, strict=True)):
            text = html.escape(texts[place]) if place < len(texts) else ""
            card.value = CARD.format(f"<b>{place + 1}</b> {text}") if text or place < len(texts) else ""
            button.disabled = place >= len(texts)
        self.buttons["n"].disabled = now is None
        self.paint()


def folder(study: Study) -> Path:
    """Where people's logs about a profile's answers lie."""
    return ROOT / "data" / "ratings" / study.profile.name


def sheets(study: Study, said: Mapping[str, Answers], shown: Mapping[str, Sequence[Special]]) -> list[Sheet]:
    """Lay out every request of Table 1 about every picture of its task, with what all systems answered."""
    return [
        Sheet(
            task,
            picture.file(study.world / f"{CHECKLISTS[task].kind}_test"),
            CHECKLISTS[task].request,
            {name: answers[task][row] for name, answers in said.items()},
        )
        for task, pictures in shown.items()
        for row, picture in enumerate(pictures)
    ]


def judges(study: Study, checked: Judged, laid_out: Sequence[Sheet]) -> dict[str, Scores]:
    """Put the three judges of Table 1 side by side: the checklist, a language model, people.

    `checked` is what the checklist found; no language model has been asked.
    """
    success = {name: {task: one["success"] for task, one in tasks.items()} for name, tasks in checked.items()}
    nobody = {name: {task: [] for task in tasks} for name, tasks in checked.items()}
    return {"checklist": success, "language model": nobody, "people": scores(laid_out, folder(study))}


def collected(sheets: Sequence[Sheet], folder: Path) -> dict[tuple[str, str], dict[str, bool]]:
    """Return by sheet and system what each person decided; ratings of other answers do not count."""
    keys = {sheet.item: sheet.key for sheet in sheets}
    given: dict[tuple[str, str], dict[str, bool]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for entry in in_force(read_log(file)):
            if keys.get(entry["item"]) == entry["key"]:
                for system in entry["sides"]:
                    given.setdefault((entry["item"], system), {})[file.stem] = system in entry["met"]
    return given


def scores(sheets: Sequence[Sheet], folder: Path) -> dict[str, dict[str, list[float]]]:
    """Return by system and task, for each picture that was rated, the share of people who were content."""
    given = collected(sheets, folder)
    found: dict[str, dict[str, list[float]]] = {}
    for sheet in sheets:
        for system in sheet.answers:
            values = found.setdefault(system, {}).setdefault(sheet.task, [])
            if people := given.get((sheet.item, system)):
                values.append(sum(people.values()) / len(people))
    return found


def alpha(units: Sequence[Sequence[object]]) -> float | None:
    """Return Krippendorff's alpha for nominal values; each unit holds what was said of it, in any order.

    None where nothing can be compared, or only one value was ever given.
    """
    values = list(dict.fromkeys(value for unit in units if len(unit) >= 2 for value in unit))
    if len(values) < 2:
        return None
    counts = [[list(unit).count(value) for value in values] for unit in units]
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def agreement(sheets: Sequence[Sheet], folder: Path) -> float | None:
    """Return Krippendorff's alpha over all answers; None where fewer than two people rated the same."""
    return alpha([list(people.values()) for people in collected(sheets, folder).values()])


def table(judges: Mapping[str, Scores]) -> pandas.DataFrame:
    """Put what each judge gave, in one shape, into one table: a line for each judge and system.

    A cell is the mean over pictures with its interval, or says that nothing was collected.
    """

    def cell(values: Sequence[float]) -> str:
        found = mean(values)
        if found is None:
            return NOT_COLLECTED
        return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}] of {found.n}"

    lines = []
    for judge, systems in judges.items():
        for system, tasks in systems.items():
            every = [value for values in tasks.values() for value in values]
            cells = {task: cell(values) for task, values in tasks.items()}
            lines.append({"judge": judge, "system": display_names.of(system), **cells, "all": cell(every)})
    return pandas.DataFrame(lines)
