"""The one way to read JSON: whole, line by line, or item by item where a file is large.

Shapes are dataclasses, checked by pydantic; what does not fit is a `Fault` with its place and its reason.
"""

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from mglib.data.quarantine import Fault

T = TypeVar("T")
SEEN = r"[^\s\u200b-\u200d\u2060\ufeff]"  # a sign that is no white space and has a width
Text = Annotated[str, Field(pattern=SEEN)]  # not blank
CELLS = frozenset(("nan", "none", "null", "<na>"))  # what tables write for nothing


def as_text(value: Any) -> Any:
    """Return a whole number as text: some files write ids as numbers, and tables with gaps as 7.0."""
    if type(value) is int or (type(value) is float and value.is_integer()):
        return str(int(value))
    return value


def told(caption: str) -> str:
    """Return a caption that says something; raises ValueError for an empty cell of a table."""
    if caption.strip().lower() in CELLS:
        raise ValueError(f"{caption.strip()} stands for an empty cell of a table")
    return caption


def alone(name: str) -> str:
    """Return a file's name without a folder and no way out; raises ValueError for any other."""
    if "/" in name or "\\" in name or "\0" in name or not name.strip(".") or len(name.encode()) > LONGEST:
        raise ValueError("a file's name alone is expected, without a folder")
    return name


def below(name: str) -> str:
    """Return a path that stays below its folder; raises ValueError for any other."""
    if name.startswith("/") or "\\" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError("a path below the folder of the pictures is expected, without `..`")
    return name


Name = Annotated[Text, BeforeValidator(as_text)]  # or a short answer: both are written as numbers too
Caption = Annotated[Text, AfterValidator(told)]
FileName = Annotated[str, BeforeValidator(as_text), AfterValidator(alone)]
FilePath = Annotated[str, AfterValidator(below)]

LONGEST = 240  # bytes of a name: file systems hold 255 with the ending
CHUNK = 1 << 20  # characters read at a time
ANYTHING = TypeAdapter(Any)
SPACE = re.compile(r"[ \t\n\r]*")
DELIMITER = re.compile(r"[ \t\n\r,:\]}]")


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
        raise ValueError(f"{path} is not UTF-8: {error}{wide(path)}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}{wide(path)}") from error


def wide(path: Path) -> str:
    """Say what to do with a file in UTF-16, as Windows' shell writes it; nothing of any other."""
    with path.open("rb") as file:
        marked = file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
    return "; it begins as UTF-16 does: save it as UTF-8 (`iconv -f utf-16 -t utf-8`)" if marked else ""


def read_json(path: Path) -> Any:
    """Read a whole JSON file; raises FileNotFoundError with advice, ValueError with the file's name."""
    with naming(path):
        try:
            return ANYTHING.validate_json(path.read_bytes().removeprefix(BOM_UTF8))
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
    """Yield the items of a JSON array or object with their number or key, unparsed, holding one at a time.

    Raises ValueError with the file's name where it stops being JSON.
    """
    with naming(path), path.open(encoding="utf-8-sig", newline="") as file:
        scanner = Scanner(file)
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
            key = str(number)
            if opening == "{":
                key = json.loads(scanner.value())
                if not isinstance(key, str):
                    raise ValueError(f"the key of item {number} is no text")
                scanner.expect(":")
            yield key, scanner.value()
            number += 1
        scanner.expect(closing)
        if scanner.sign():
            raise ValueError(f"something stands behind its closing {closing!r}: are these JSON lines?")


class Scanner:
    """A window on a long JSON text that knows where a value ends."""

    def __init__(self, file: Any) -> None:
        self.file, self.text, self.at, self.over = file, "", 0, False
        self.decoder = json.JSONDecoder()

    def more(self) -> None:
        """Drop what is done with and read on; the window doubles, so a long value is not tried too often."""
        part = self.file.read(max(CHUNK, len(self.text) - self.at))
        self.text, self.at, self.over = self.text[self.at :] + part, 0, not part

    def sign(self) -> str:
        """Return the next character that is no space, or "" at the end."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()
            if self.at < len(self.text) or self.over:
                return self.text[self.at : self.at + 1]
            self.more()

    def expect(self, sign: str) -> None:
        """Step over one sign."""
        if self.sign() != sign:
            raise ValueError(f"{self.sign()!r} stands where {sign!r} is expected")
        self.at += 1

    def value(self) -> str:
        """Return the text of the next value."""
        self.sign()
        while True:
            try:
                _, end = self.decoder.raw_decode(self.text, self.at)
                if self.over or DELIMITER.match(self.text, end):  # else a number may go on in the next part
                    break
            except ValueError:
                if self.over:
                    raise
            self.more()
        start, self.at = self.at, end
        return self.text[start:end]


def fit(shape: TypeAdapter[T], value: Any, where: object, sample: object) -> T | Fault:
    """Return a parsed value as its shape, or the fault that says why it does not fit."""
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        return Fault(str(where), str(sample), reasons(error))


def fit_json(shape: TypeAdapter[T], text: str | bytes, where: object, sample: object) -> T | Fault:
    """Return a JSON text as its shape, or the fault that says why it does not fit."""
    mark = "\ufeff" if isinstance(text, str) else BOM_UTF8
    try:
        return shape.validate_json(text.removeprefix(mark))
    except ValidationError as error:
        return Fault(str(where), str(sample), reasons(error))


def fit_all(
    shape: TypeAdapter[T], texts: Iterable[tuple[str, str | bytes]], where: object
) -> Iterator[T | Fault]:
    """Fit every text of `read_lines` or `read_items`."""
    return (fit_json(shape, text, where, sample) for sample, text in texts)


def reasons(error: ValidationError) -> str:
    """Say in one line what does not fit where."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = (
        f"`{'.'.join(map(str, one['loc']))}`: {one['msg']}" if one["loc"] else one["msg"] for one in found[:5]
    )
    return "; ".join(text.replace("Value error, ", "", 1) for text in texts)
