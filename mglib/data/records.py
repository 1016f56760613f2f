"""The one way to read JSON: whole or line by line.

Shapes are dataclasses, checked by pydantic; what does not fit becomes a `Fault` with place and reason.
"""

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from mglib.data.quarantine import Fault

T = TypeVar("T")
VISIBLE = r"[^\s\u200b-\u200d\u2060\ufeff]"  # a character that is neither white space nor zero-width
Text = Annotated[str, Field(pattern=VISIBLE)]  # not blank
UTF_16 = "it begins as UTF-16 does: save it as UTF-8 (`iconv -f utf-16 -t utf-8`)"  # as PowerShell writes
PACKED = "it is packed: unpack it first (`{}`)"
OTHERS = {  # what is not JSON, by its first bytes
    BOM_UTF16_LE: UTF_16,
    BOM_UTF16_BE: UTF_16,
    b"\x1f\x8b": PACKED.format("gunzip"),
    b"PK": PACKED.format("unzip"),
}
EMPTY_CELLS = frozenset(("nan", "none", "null", "<na>"))


def as_text(value: Any) -> Any:
    """Return a whole number as text: some files write ids as numbers, tables with missing values as 7.0."""
    if type(value) is int or (type(value) is float and value.is_integer()):
        return str(int(value))
    return value


def not_an_empty_cell(caption: str) -> str:
    """Return the caption; raises ValueError for what tables write into an empty cell."""
    if caption.strip().lower() in EMPTY_CELLS:
        raise ValueError(f"{caption.strip()} stands for an empty cell of a table")
    return caption


def bare_name(name: str) -> str:
    """Return a bare file name, without a folder and not `..`; raises ValueError for any other."""
    if "/" in name or "\\" in name or "\0" in name or not name.strip("."):
        raise ValueError("a file's name alone is expected, without a folder")
    return name


def relative_path(name: str) -> str:
    """Return a path that stays below its folder; raises ValueError for any other."""
    if name.startswith("/") or "\\" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError("a path below the folder of the pictures is expected, without `..`")
    return name


Name = Annotated[Text, BeforeValidator(as_text)]  # or a short answer: either may be written as a number
Caption = Annotated[Text, AfterValidator(not_an_empty_cell)]
FileName = Annotated[str, BeforeValidator(as_text), AfterValidator(bare_name)]
FilePath = Annotated[str, AfterValidator(relative_path)]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to any error in reading it, and advice to that for a missing file."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: build the small world (`make reproduce NOTEBOOKS=01`), or put the data set "
            "there as data/README.md says."
        ) from None
    except ValueError as error:
        with path.open("rb") as file:
            begins = file.read(2)
        raise ValueError(f"{path} is not JSON: {OTHERS.get(begins, error)}") from error


def read_json(path: Path) -> Any:
    """Read a whole JSON file; raises FileNotFoundError with advice, ValueError with the file's name."""
    with naming(path):
        content = path.read_bytes().removeprefix(BOM_UTF8)
        try:
            return adapter(Any).validate_json(content)
        except ValidationError as error:
            reason = reasons(error).removeprefix("Invalid JSON: ")
            if "surrogate" in reason or "hex escape" in reason:
                return json.loads(content)  # half an escaped emoji: only the text that holds it will not fit
            hint = ": are these JSON lines?" if "trailing characters" in reason else ""
            raise ValueError(reason + hint) from error


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each line of a JSONL file with its number, unparsed, so that a bad line is one fault; or, of a
    file that is one array, each item.

    Only a line feed ends a line. Raises ValueError with the file's name for UTF-16 and compressed files.
    """
    if first_sign(path) == b"[":
        yield from read_items(path)
        return
    with naming(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line[:2] in OTHERS and b"\0" in line:
                raise ValueError
            if line.strip():
                yield f"line {number}", line


def first_sign(path: Path) -> bytes:
    """Return the first byte of a file that is not white space."""
    with naming(path), path.open("rb") as file:
        return file.read(4096).removeprefix(BOM_UTF8).lstrip()[:1]


def read_items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the items of a JSON array or object with their place ("item 0") or key."""
    value = read_json(path)
    if not isinstance(value, list | dict):
        raise ValueError(f"{path} is not JSON: an array or object is expected")
    if isinstance(value, list):
        value = {f"item {number}": item for number, item in enumerate(value)}
    yield from value.items()


@cache
def adapter(shape: Any) -> TypeAdapter:
    """Return pydantic's adapter of a dataclass or type."""
    return TypeAdapter(shape)


def fit(shape: type[T], value: Any, where: object, sample: object) -> T | Fault:
    """Return a parsed value, or JSON in bytes, as its shape, or a fault with the reason it does not fit."""
    parser = adapter(shape)  # type: ignore[arg-type]  # mypy doubts that a class can be hashed
    try:
        if isinstance(value, bytes):
            return parser.validate_json(value.removeprefix(BOM_UTF8))
        return parser.validate_python(value)
    except ValidationError as error:
        return Fault(str(where), str(sample), reasons(error))


def fit_all(shape: type[T], rows: Iterable[tuple[str, Any]], where: object) -> Iterator[T | Fault]:
    """Fit every row of `read_lines` or `read_items`."""
    return (fit(shape, value, where, sample) for sample, value in rows)


def fit_list(shape: type[T], file: Any, key: str, path: Path) -> Iterator[T | Fault]:
    """Fit the entries of a JSON object's list `key`; raises ValueError if it has no such list."""
    entries = file.get(key) if isinstance(file, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path} is not of this format: it needs the key `{key}` with a list.")
    return fit_all(shape, ((f"{key}[{number}]", entry) for number, entry in enumerate(entries)), path)


def reasons(error: ValidationError) -> str:
    """Return in one line what does not fit, and where."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = (
        f"`{'.'.join(map(str, one['loc']))}`: {one['msg']}" if one["loc"] else one["msg"] for one in found[:5]
    )
    return "; ".join(text.replace("Value error, ", "", 1) for text in texts)
