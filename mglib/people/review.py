"""The human pass of curation (paper, section 3.2): a person accepts, edits or rejects each text.

`Review` is what happens, `Reviewer` what is seen of it in JupyterLab.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets

from mglib.curation.select import Curation
from mglib.curation.verdicts import standing
from mglib.data.journal import Journal
from mglib.people.panel import KeyPanel


class Review:
    """Goes through texts one by one and writes each verdict to a log that is only ever added to.

    Opening it again goes on at the first text without a verdict. A verdict belongs to the text that was
    shown: if a picture's text has changed since, it is shown again.
    """

    def __init__(self, texts: Sequence[tuple[str, str]], log: Path) -> None:
        """`texts` holds pairs of picture id and text, in the order in which they are shown."""
        self.texts, self.journal = list(texts), Journal(log, key="image_id")
        self.given = standing(self.journal.entries)

    @classmethod
    def of(cls, curation: Curation, log: Path) -> "Review":
        """Review what rules and selection have kept."""
        reached = [one for one in curation.pictures if one.step in ("kept", "person")]
        return cls([(one.description.image_id, one.rewritten) for one in reached], log)

    @property
    def done(self) -> int:
        """How many of the texts have a verdict."""
        return sum(self.has_verdict(*pair) for pair in self.texts)

    @property
    def current(self) -> tuple[str, str] | None:
        """The first picture id and text without a verdict, None when all have one."""
        return next((pair for pair in self.texts if not self.has_verdict(*pair)), None)

    def has_verdict(self, image_id: str, text: str) -> bool:
        return image_id in self.given and self.given[image_id].shown == text

    def accept(self, text: str | None = None) -> None:
        """Keep the current text, or what the person has made of it."""
        image_id, shown = self._now()
        text = shown if text is None else text.strip()
        if not text:
            raise ValueError("The text is empty: write one, or reject the picture.")
        self._decide({"image_id": image_id, "shown": shown, "keep": True, "text": text})

    def reject(self) -> None:
        """Drop the current picture."""
        image_id, shown = self._now()
        self._decide({"image_id": image_id, "shown": shown, "keep": False, "text": shown})

    def undo(self) -> None:
        """Take the last verdict back; its picture comes next again. Does nothing where there is none."""
        self.journal.undo()
        self.given = standing(self.journal.entries)

    def _now(self) -> tuple[str, str]:
        if self.current is None:
            raise ValueError("Every text has a verdict: undo takes the last one back.")
        return self.current

    def _decide(self, entry: dict) -> None:
        self.journal.add(entry)
        self.given = standing(self.journal.entries)


class Reviewer(KeyPanel):
    """What a person sees: picture, text, progress, and buttons that keys press too."""

    leaving = "e"

    def __init__(self, review: Review, picture: Callable[[str], bytes]) -> None:
        """`picture` returns the bytes of a picture's JPEG file."""
        super().__init__(len(review.texts))
        self.review, self.picture = review, picture
        self.image = ipywidgets.Image(format="jpeg", layout={"width": "320px", "height": "auto"})
        self.text = ipywidgets.Textarea(layout={"flex": "1 1 auto", "height": "240px"})
        self.buttons = {
            "a": self.button("Accept (a)", "success", lambda: review.accept(self.text.value)),
            "e": ipywidgets.Button(description="Edit (e)"),
            "r": self.button("Reject (r)", "danger", review.reject),
            "u": self.button("Undo (u)", "", review.undo),
        }
        self.buttons["e"].on_click(lambda _: self.text.focus())
        shown = ipywidgets.HBox([self.image, self.text], layout={"align_items": "flex-start"})
        self.box = ipywidgets.VBox([shown, *self.controls()], layout={"max_width": "960px"})
        self.refresh()

    def refresh(self) -> None:
        """Show the next text, or that there is none."""
        review, now = self.review, self.review.current
        self.progress.value = review.done
        self.status.value = f"{review.done} of {len(review.texts)}" + ("" if now else ": all have a verdict")
        self.image.value = self.picture(now[0]) if now else b""
        self.text.value = now[1] if now else ""
        for key in ("a", "r"):
            self.buttons[key].disabled = now is None
