"""The one way to read JSON: whole, line by line, or item by item.

Shapes are dataclasses, checked by pydantic; what does not fit is a `Fault` with its place and its reason.
"""

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from mglib.data.quarantine import Fault

T = TypeVar("T")
VISIBLE = r"[^\s\u200b-\u200d\u2060\ufeff]"  # a character that is no white space and has a width
Text = Annotated[str, Field(pattern=VISIBLE)]  # not blank
EMPTY_CELLS = frozenset(("nan", "none", "null", "<na>"))
LONGEST = 240  # bytes of a name: file systems hold 255 with the ending


def as_text(value: Any) -> Any:
    """Return a whole number as text: some files write ids as numbers, and tables with gaps as 7.0."""
    if type(value) is int or (type(value) is float and value.is_integer()):
        return str(int(value))
    return value


def not_an_empty_cell(caption: str) -> str:
    """Return the caption; raises ValueError for what tables write into an empty cell."""
    if caption.strip().lower() in EMPTY_CELLS:
        raise ValueError(f"{caption.strip()} stands for an empty cell of a table")
    return caption


def bare_name(name: str) -> str:
    """Return a file's name without a folder and no way out; raises ValueError for any other."""
    if "/" in name or "\\" in name or "\0" in name or not name.strip(".") or len(name.encode()) > LONGEST:
        raise ValueError("a file's name alone is expected, without a folder")
    return name


def relative_path(name: str) -> str:
    """Return a path that stays below its folder; raises ValueError for any other."""
    if name.startswith("/") or "\\" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError("a path below the folder of the pictures is expected, without `..`")
    return name


Name = Annotated[Text, BeforeValidator(as_text)]  # or a short answer: both are written as numbers too
Caption = Annotated[Text, AfterValidator(not_an_empty_cell)]
FileName = Annotated[str, BeforeValidator(as_text), AfterValidator(bare_name)]
FilePath = Annotated[str, AfterValidator(relative_path)]

SPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name into every error of reading it; a missing file says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: build the small world (`make reproduce NOTEBOOKS=01`), or put the data set "
            "there as data/README.md says."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}{utf16_hint(path)}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}{utf16_hint(path)}") from error


def utf16_hint(path: Path) -> str:
    """Say what to do with a file in UTF-16, as Windows' shell writes it; nothing of any other."""
    with path.open("rb") as file:
        marked = file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
    return "; it begins as UTF-16 does: save it as UTF-8 (`iconv -f utf-16 -t utf-8`)" if marked else ""


def read_json(path: Path) -> Any:
    """Read a whole JSON file; raises FileNotFoundError with advice, ValueError with the file's name."""
    with naming(path):
        try:
            return adapter(Any).validate_json(path.read_bytes().removeprefix(BOM_UTF8))
        except ValidationError as error:
            raise ValueError(reasons(error).removeprefix("Invalid JSON: ")) from error


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line of a JSONL file with its number, unparsed, so that a bad line is one fault.

    Only a line feed ends a line. Raises ValueError with the file's name for one array and for UTF-16.
    """
    with naming(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) and b"\0" in line:
                raise ValueError("zeros between its letters")
            if number == 1 and line.removeprefix(BOM_UTF8).lstrip().startswith(b"["):
                raise ValueError("one object a line is expected and no array (`jq -c '.[]' a.json`)")
            if line.strip():
                yield f"line {number}", line


def read_items(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the items of a JSON array or object with their place ("item 0") or key, unparsed, so that a bad
    item is one fault.

    Raises ValueError with the file's name where it stops being JSON.
    """
    with naming(path):
        scanner = Scanner(path.read_bytes().decode("utf-8-sig"))
        opening = scanner.sign()
        if opening not in ("[", "{"):
            begins = f"it begins with {opening!r} where an array or object is expected"
            raise ValueError(begins if opening else "it is empty")
        closing = {"[": "]", "{": "}"}[opening]
        scanner.expect(opening)
        number = 0
        while scanner.sign() != closing:
            if number:
                scanner.expect(",")
            key = f"item {number}"
            if opening == "{":
                key = json.loads(scanner.value())
                if not isinstance(key, str):
                    raise ValueError(f"the key of item {number} is no text")
                scanner.expect(":")
            yield key, scanner.value()
            number += 1
        scanner.expect(closing)
        if scanner.sign():
            raise ValueError(f"something follows its closing {closing!r}: are these JSON lines?")


class Scanner:
    """A position in a JSON text."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def sign(self) -> str:
        """Return the next character that is no space, or "" at the end."""
        self.at = SPACE.match(self.text, self.at).end()
        return self.text[self.at : self.at + 1]

    def expect(self, sign: str) -> None:
        """Step over one character."""
        if self.sign() != sign:
            raise ValueError(f"{self.sign()!r} is found where {sign!r} is expected")
        self.at += 1

    def value(self) -> str:
        """Step over the next value and return its text."""
        self.sign()
        start = self.at
        _, self.at = DECODER.raw_decode(self.text, start)
        return self.text[start : self.at]


@cache
def adapter(shape: Any) -> TypeAdapter:
    """Return pydantic's adapter of a dataclass or type."""
    return TypeAdapter(shape)


def fit(shape: type[T], value: Any, where: object, sample: object) -> T | Fault:
    """Return a parsed value as its shape, or the fault that says why it does not fit."""
    try:
        return adapter(shape).validate_python(value)
    except ValidationError as error:
        return Fault(str(where), str(sample), reasons(error))


def fit_json(shape: type[T], text: str | bytes, where: object, sample: object) -> T | Fault:
    """Return a JSON text as its shape, or the fault that says why it does not fit."""
    mark = "\ufeff" if isinstance(text, str) else BOM_UTF8
    try:
        return adapter(shape).validate_json(text.removeprefix(mark))
    except ValidationError as error:
        return Fault(str(where), str(sample), reasons(error))


def fit_all(shape: type[T], texts: Iterable[tuple[str, str | bytes]], where: object) -> Iterator[T | Fault]:
    """Fit every text of `read_lines` or `read_items`."""
    return (fit_json(shape, text, where, sample) for sample, text in texts)


def reasons(error: ValidationError) -> str:
    """Say in one line what does not fit where."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = (
        f"`{'.'.join(map(str, one['loc']))}`: {one['msg']}" if one["loc"] else one["msg"] for one in found[:5]
    )
    return "; ".join(text.replace("Value error, ", "", 1) for text in texts)
