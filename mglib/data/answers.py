"""Files of answers: those of `make answer`, COCO's results, CHAIR's, submissions to POPE, A-OKVQA and GQA."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from mglib.data.quarantine import Fault
from mglib.data.records import as_text, fit_json, read_items, read_lines

SAID = ("answer", "caption", "prediction", "direct_answer")  # what the formats call the answer
KEYS = {*SAID, "multiple_choice", "error", "prompt"}
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


def prompted(entry: Any) -> Any:
    """Name the parts of a line that asks in `prompt` and answers in `text`: POPE's captions, LLaVA."""
    if not isinstance(entry, dict) or not {"prompt", "text"} <= entry.keys():
        return entry
    return {"question": entry["prompt"], "answer": entry["text"], **entry}


AnswerLine = Annotated[Answer, BeforeValidator(prompted)]


def read_answers(path: Path) -> Iterator[Answer | Fault]:
    """Yield the answers of a file: JSON lines, a JSON array, or an object by question ids or pictures.

    Raises FileNotFoundError, and ValueError for what is no JSON at all.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: name the file of the answers.")
    if in_lines(path):
        yield from (placed(text, path, place) for place, text in read_lines(path))
        return
    array = opening(path) == b"["
    for key, text in read_items(path):
        if array:
            yield placed(text, path, key)
            continue
        for where, entry in under(key, json.loads(text)):
            yield placed(json.dumps(entry), path, where)


def under(key: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what an object holds under a key: A-OKVQA's answer to the question of this id; in CHAIR's format
    all captions, by picture, under `imgToEval`, beside scores.
    """
    if key == "imgToEval" and isinstance(value, dict):
        for name, entry in value.items():
            yield name, {"image_id": name, **(entry if isinstance(entry, dict) else {"caption": entry})}
    elif key != "overall":
        yield key, {**(value if isinstance(value, dict) else {"direct_answer": value}), "question_id": key}


def placed(text: str | bytes, path: Path, where: str) -> Answer | Fault:
    """Return one answer with its place in the file, or the fault."""
    found = fit_json(AnswerLine, text, path, where)
    return found if isinstance(found, Fault) else replace(found, where=where)


def opening(path: Path) -> bytes:
    """Return the first sign of a file."""
    with path.open("rb") as file:
        return file.read(4096).removeprefix(BOM_UTF8).lstrip()[:1]


def in_lines(path: Path) -> bool:
    """Tell whether each line is an answer; else the whole file is one array or object."""
    sign = opening(path)
    if sign == b"[" or path.suffix == ".jsonl":
        return sign != b"["
    if sign != b"{":
        return False
    lines = (text for _, text in read_lines(path))
    try:
        first = json.loads(next(lines))
    except ValueError:  # an object over several lines
        return False
    return bool(KEYS & first.keys()) or next(lines, None) is not None


def picture_key(name: str) -> str:
    """Return what a picture is called, however it is written: "COCO_val2014_000000000042.jpg" is "42"."""
    stem = re.sub(r"\.[A-Za-z]{3,4}$", "", re.split(r"[/\\]", name)[-1])
    number = re.fullmatch(r"(?:.*_)?0*(\d+)", stem)
    return number[1] if number else stem
