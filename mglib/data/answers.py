"""Files of answers: those of `make answer`, COCO's results, submissions to POPE, A-OKVQA and GQA."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BeforeValidator, Field, TypeAdapter

from mglib.data.quarantine import Fault
from mglib.data.records import Scanner, as_text, fit_json, naming, read_items, read_lines

SAID = ("answer", "caption", "prediction", "direct_answer")  # what the formats call the answer
KEYS = {*SAID, "multiple_choice", "error"}
Id = Annotated[str | None, BeforeValidator(as_text)]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said, and what it is about as far as the file tells: a picture by its file or id, a question
    by its words or id.
    """

    where: str = ""  # the line, item or key that it stands in
    text: Annotated[str | None, Field(validation_alias=AliasChoices(*SAID))] = None
    choice: Annotated[str | None, Field(validation_alias="multiple_choice")] = None  # A-OKVQA's
    image: str | list[str] | None = None
    image_id: Annotated[Id, Field(validation_alias=AliasChoices("image_id", "imageId"))] = None
    question: Annotated[str | None, Field(validation_alias=AliasChoices("question", "text"))] = None
    question_id: Annotated[Id, Field(validation_alias=AliasChoices("question_id", "questionId"))] = None
    error: str | None = None  # `make answer` could not read the picture

    def __post_init__(self) -> None:
        """Raise ValueError, which becomes a fault, for what is no answer about one thing."""
        if self.error is not None:
            raise ValueError(f"an error stands in the answer's place: {self.error}")
        if self.text is None and self.choice is None:
            raise ValueError(f"none of {', '.join(SAID)} is there")
        if isinstance(self.image, list):
            raise ValueError("it is about several pictures")


ANSWER = TypeAdapter(Answer)


def read_answers(path: Path) -> Iterator[Answer | Fault]:
    """Yield the answers of a file: JSON lines, a JSON array, or A-OKVQA's object by question ids.

    Raises FileNotFoundError, and ValueError for what is no JSON at all.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: name the file of the answers.")
    if in_lines(path):
        yield from (placed(text, path, place) for place, text in read_lines(path))
        return
    for key, text in read_items(path):
        if opening(path) == "[":
            yield placed(text, path, f"item {key}")
            continue
        value = json.loads(text)
        entry = value if isinstance(value, dict) else {"direct_answer": value}
        yield placed(json.dumps({**entry, "question_id": key}), path, key)


def placed(text: str | bytes, path: Path, where: str) -> Answer | Fault:
    """Return one answer with its place in the file, or the fault."""
    found = fit_json(ANSWER, text, path, where)
    return found if isinstance(found, Fault) else replace(found, where=where)


def opening(path: Path) -> str:
    """Return the first sign of a file."""
    with naming(path), path.open(encoding="utf-8-sig") as file:
        return Scanner(file).sign()


def in_lines(path: Path) -> bool:
    """Tell whether each line is an answer; else the whole file is one array or object."""
    if path.suffix == ".jsonl":
        return True
    if opening(path) != "{":
        return False
    try:
        first = json.loads(next(text for _, text in read_lines(path)))
    except ValueError:  # an object over several lines
        return False
    return bool(KEYS & first.keys())


def picture_key(name: str) -> str:
    """Return what a picture is called, however it is written: "COCO_val2014_000000000042.jpg" is "42"."""
    stem = re.sub(r"\.[A-Za-z]{3,4}$", "", re.split(r"[/\\]", name)[-1])
    number = re.fullmatch(r"(?:.*_)?0*(\d+)", stem)
    return number[1] if number else stem
