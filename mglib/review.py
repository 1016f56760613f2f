"""The human pass of curation (paper, section 3.2): a person accepts, edits or rejects each text.

`Review` is what happens, `Reviewer` what is seen of it in JupyterLab.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets

from mglib.curate import Curation, Verdict
from mglib.paths import read_jsonl


class Review:
    """Goes through texts one by one and writes each verdict to a log that is only ever added to.

    Opening it again goes on at the first text without a verdict. A verdict belongs to the text that was
    shown: if a picture's text has changed since, it is shown again.
    """

    def __init__(self, texts: Sequence[tuple[str, str]], log: Path) -> None:
        """`texts` holds pairs of picture id and text, in the order in which they are shown."""
        self.texts, self.log = list(texts), log
        self.entries = read_log(log)
        self.given = standing(self.entries)

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
        if given := in_force(self.entries):
            self._decide({"undo": given[-1]["image_id"]})

    def _now(self) -> tuple[str, str]:
        if self.current is None:
            raise ValueError("Every text has a verdict: undo takes the last one back.")
        return self.current

    def _decide(self, entry: dict) -> None:
        """Put one line on the disk, then count it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8", newline="\n") as out:
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
            out.flush()
            os.fsync(out.fileno())
        self.entries.append(entry)
        self.given = standing(self.entries)


def read_log(log: Path) -> list[dict]:
    """Read a log's lines, none where there is no log; a torn last line is told of and cut off."""
    if not log.exists():
        return []
    content = log.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        print(f"{log.name}: the last line is torn; its text is shown again.")
        os.truncate(log, whole)
    return read_jsonl(log)


def in_force(entries: Sequence[dict]) -> list[dict]:
    """Return the lines of a log that were not taken back."""
    stack: list[dict] = []
    for entry in entries:
        if "undo" in entry:
            stack.pop()
        else:
            stack.append(entry)
    return stack


def standing(entries: Sequence[dict]) -> dict[str, Verdict]:
    """Return the verdict that holds for each picture: the last one that was not taken back."""
    return {
        entry["image_id"]: Verdict(entry["shown"], entry["keep"], entry["text"])
        for entry in in_force(entries)
    }


def verdicts(log: Path) -> dict[str, Verdict] | None:
    """Return what persons decided, for `curate`; None where nobody has decided anything."""
    return standing(read_log(log)) or None


class Reviewer:
    """What a person sees: picture, text, progress, and buttons that keys press too."""

    def __init__(self, review: Review, picture: Callable[[str], bytes]) -> None:
        """`picture` returns the bytes of a picture's JPEG file."""
        self.review, self.picture = review, picture
        self.image = ipywidgets.Image(format="jpeg", layout={"width": "320px", "height": "auto"})
        self.text = ipywidgets.Textarea(layout={"width": "600px", "height": "240px"})
        self.progress = ipywidgets.IntProgress(max=len(review.texts))
        self.status = ipywidgets.Label()
        self.keys = ipywidgets.Text(
            placeholder="click here, then press a, e, r or u", layout={"width": "240px"}
        )
        self.buttons = {
            "a": self.button("Accept (a)", "success", lambda: review.accept(self.text.value)),
            "e": ipywidgets.Button(description="Edit (e)"),
            "r": self.button("Reject (r)", "danger", review.reject),
            "u": self.button("Undo (u)", "", review.undo),
        }
        self.buttons["e"].on_click(lambda _: self.text.focus())
        self.keys.observe(self.press, "value")
        self.box = ipywidgets.VBox(
            [
                ipywidgets.HBox([self.image, self.text]),
                ipywidgets.HBox([*self.buttons.values(), self.keys]),
                ipywidgets.HBox([self.progress, self.status]),
            ]
        )
        self.refresh()

    def button(self, label: str, style: str, act: Callable[[], None]) -> ipywidgets.Button:
        """Make a button that acts and then shows the next text."""

        def click(_: ipywidgets.Button) -> None:
            try:
                act()
            except ValueError as error:
                self.status.value = str(error)
            else:
                self.refresh()

        made = ipywidgets.Button(description=label, button_style=style)
        made.on_click(click)
        return made

    def press(self, change: dict) -> None:
        """Press the button of a key that is typed into the key field, and empty the field again."""
        key = change["new"][-1:].lower()
        if not key:
            return
        self.keys.value = ""
        if key in self.buttons:
            self.buttons[key].click()
            if key != "e":
                self.keys.focus()

    def refresh(self) -> None:
        """Show the next text, or that there is none."""
        review, now = self.review, self.review.current
        self.progress.value = review.done
        self.status.value = f"{review.done} of {len(review.texts)}" + ("" if now else ": all have a verdict")
        self.image.value = self.picture(now[0]) if now else b""
        self.text.value = now[1] if now else ""
        for key in ("a", "r"):
            self.buttons[key].disabled = now is None
