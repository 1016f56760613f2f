"""Answer files: those of `make answer`, COCO's results, CHAIR's, submissions to POPE, A-OKVQA and GQA.

`PictureNames` finds the picture that an answer names.
"""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from mglib.data.pictures import ENDINGS
from mglib.data.quarantine import Fault
from mglib.data.records import as_text, first_sign, fit, read_items, read_lines

ANSWER_KEYS = ("answer", "caption", "prediction", "direct_answer")  # what the formats call the answer
KEYS = {*ANSWER_KEYS, "multiple_choice", "error", "prompt"}
Id = Annotated[str | None, BeforeValidator(as_text)]  # an answer, too, may be written as a number


def only(images: Any) -> Any:
    """Return the picture of a list of one, all else unchanged."""
    return images[0] if isinstance(images, list) and len(images) == 1 else images


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer and, as far as the file tells, what it is about: a picture by its file or id, a question by
    its text or id.
    """

    where: str = ""  # its line, item or key
    text: Annotated[Id, Field(validation_alias=AliasChoices(*ANSWER_KEYS))] = None
    choice: Annotated[Id, Field(validation_alias="multiple_choice")] = None  # A-OKVQA's
    image: Annotated[str | list[str] | None, BeforeValidator(only)] = None
    image_id: Annotated[Id, Field(validation_alias=AliasChoices("image_id", "imageId"))] = None
    question: Annotated[str | None, Field(validation_alias=AliasChoices("question", "text"))] = None
    question_id: Annotated[Id, Field(validation_alias=AliasChoices("question_id", "questionId"))] = None
    error: str | None = None  # `make answer` could not read the picture

    def __post_init__(self) -> None:
        """Raise ValueError, which becomes a fault, unless it is an answer, about at most one picture."""
        if self.error is not None:
            raise ValueError(f"an error is given instead of an answer: {self.error}")
        if self.text is None and self.choice is None:
            raise ValueError(f"none of {', '.join(ANSWER_KEYS)} is there")
        if isinstance(self.image, list):
            raise ValueError("it is about several pictures")


def from_prompt(entry: Any) -> Any:
    """Rename the keys of a line that asks in `prompt` and answers in `text`: POPE's captions, LLaVA."""
    if not isinstance(entry, dict) or not {"prompt", "text"} <= entry.keys():
        return entry
    return {"question": entry["prompt"], "answer": entry["text"], **entry}


AnswerLine = Annotated[Answer, BeforeValidator(from_prompt)]


def read_answers(path: Path) -> Iterator[Answer | Fault]:
    """Yield the answers of a file: JSON lines, a JSON array, or an object keyed by question id or picture.

    Raises FileNotFoundError, and ValueError if it is not JSON at all.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: name the file of the answers.")
    if is_json_lines(path):
        yield from (with_place(text, path, place) for place, text in read_lines(path))
        return
    for key, value in read_items(path):
        for where, entry in under(key, value):
            yield with_place(entry, path, where)


def under(key: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the answers under one key of an object: A-OKVQA's to the question with this id; in CHAIR's format
    all captions, by picture, under `imgToEval`, next to scores.
    """
    if key == "imgToEval" and isinstance(value, dict):
        for name, entry in value.items():
            yield name, {"image_id": name, **(entry if isinstance(entry, dict) else {"caption": entry})}
    elif key != "overall":
        yield key, {**(value if isinstance(value, dict) else {"direct_answer": value}), "question_id": key}


def with_place(value: Any, path: Path, where: str) -> Answer | Fault:
    """Return one answer with its place in the file, or the fault."""
    found = fit(AnswerLine, value, path, where)
    return found if isinstance(found, Fault) else replace(found, where=where)


def is_json_lines(path: Path) -> bool:
    """Tell whether each line, or each item of an array, is an answer; else the whole file is one object."""
    first = first_sign(path)
    if first == b"[" or path.suffix == ".jsonl":
        return True
    if first != b"{":
        return False
    lines = (text for _, text in read_lines(path))
    try:
        line = json.loads(next(lines))
    except ValueError:  # an object over several lines
        return False
    return bool(KEYS & line.keys()) or next(lines, None) is not None


def without_ending(name: str) -> str:
    """Return a file name without its picture ending, accents composed, in lower case."""
    name = unicodedata.normalize("NFC", name).casefold()
    return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)


def coco_number(name: str) -> str | None:
    """Return the number of one of COCO's pictures: "COCO_val2014_000000000042.jpg" and "42" are "42"."""
    number = re.fullmatch(r"(?:coco_[a-z]+\d{4}_)?0*(\d+)", without_ending(name))
    return number and number[1]


class PictureNames:
    """The pictures of a data set by their paths below its folder.

    A name means the picture whose path it ends with, folder by folder, or whose path ends with it: base names
    alone may occur in two folders. Only if no path matches the name as written is its ending left out, and
    only if none matches then is it read as one of COCO's numbers.
    """

    FORMS: tuple[Callable[[str], str | None], ...] = (str, without_ending, coco_number)

    def __init__(self, paths: Iterable[str]) -> None:
        # By form and parts: the paths that equal the parts, and those that end with them.
        self.whole: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
        self.ends: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
        for path in dict.fromkeys(paths):
            for form in self.FORMS:
                if parts := self.parts(path, form):
                    self.whole[form, *parts].append(path)
                    for start in range(1, len(parts)):
                        self.ends[form, *parts[start:]].append(path)

    @staticmethod
    def parts(name: str, form: Callable[[str], str | None]) -> tuple[str, ...]:
        """Return the folders of a name and its last part in one of the forms; nothing if it has none."""
        *folders, last = [part for part in re.split(r"[/\\]", name.strip()) if part not in ("", ".")] or [""]
        formed = form(last)
        return (*folders, formed) if formed else ()

    def find(self, name: str) -> list[str]:
        """Return the paths that a name may mean: one if it is unambiguous, else none or several."""
        for form in self.FORMS:
            parts = self.parts(name, form)
            if found := self.whole.get((form, *parts)):
                return found
            shorter = (self.whole.get((form, *parts[start:]), []) for start in range(1, len(parts)))
            if found := next(filter(None, shorter), []) + self.ends.get((form, *parts), []):
                return found
        return []
