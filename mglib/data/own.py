"""One's own pictures with texts, in any of three shapes: the official release's of stage 2, pictures with a
text file beside each, or JSON lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from mglib.data.alignment import read_cc_sbu_align
from mglib.data.pictures import ENDINGS
from mglib.data.quarantine import Fault, unique
from mglib.data.records import Text, fit_json, read_lines

SHAPES = (
    "a folder with filter_cap.json and image/ (cc_sbu_align), a folder of pictures with a .txt of the same "
    'name beside each, or a .jsonl file with lines {"image": "a.jpg", "question": "What is it?", "answer": '
    '"A cat."} (the question may be left out)'
)


@dataclass(frozen=True)
class OwnPair:
    """A picture, perhaps a question about it, and the answer that is to be learnt."""

    file: Path
    question: str | None
    answer: str


@dataclass(frozen=True)
class Line:
    """A line of a JSONL file; the picture's path counts from the file's own folder."""

    image: Text
    answer: Text
    question: Text | None = None


LINE = TypeAdapter(Line)


def read_own(data: Path) -> Iterator[OwnPair | Fault]:
    """Yield the pairs of a folder or a JSONL file; that a picture can be opened is not looked at.

    Raises FileNotFoundError for what is not there and ValueError for what has none of the three shapes.
    """
    if not data.exists():
        raise FileNotFoundError(f"{data} is not there. DATA is {SHAPES}.")
    if data.is_file():
        return json_lines(data)
    if (data / "filter_cap.json").is_file():
        return aligned(data)
    if any(visible(data, ".txt")):
        return beside(data)
    lines = sorted(data.glob("*.jsonl"))
    said = f" Is it {lines[0]} that is meant?" if lines else ""
    raise ValueError(f"{data} holds no texts that are known here. DATA is {SHAPES}.{said}")


def aligned(folder: Path) -> Iterator[OwnPair | Fault]:
    """Read a folder in cc_sbu_align's layout."""
    for pair in read_cc_sbu_align(folder):
        yield pair if isinstance(pair, Fault) else OwnPair(pair.file, None, pair.caption)


def json_lines(path: Path) -> Iterator[OwnPair | Fault]:
    """Read lines of `image`, `answer` and, if one likes, `question`."""

    def found() -> Iterator[OwnPair | Fault]:
        for number, text in read_lines(path):
            line = fit_json(LINE, text, path, number)
            if isinstance(line, Fault):
                yield line
            else:
                yield OwnPair(path.parent / line.image, line.question, line.answer.strip())

    return unique(found(), path, lambda pair: (str(pair.file), pair.question, pair.answer))


def visible(folder: Path, *endings: str) -> Iterator[Path]:
    """Yield the files of a folder with these endings, by name; a Mac's ._files are none of them."""
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in endings and not file.name.startswith("."):
            yield file


def beside(folder: Path) -> Iterator[OwnPair | Fault]:
    """Read pictures with texts of the same name; a text without its picture is told of, but is no sample."""
    texts = {file.stem: file for file in visible(folder, ".txt")}
    for file in visible(folder, *ENDINGS):
        text = texts.get(file.stem)
        try:
            answer = text.read_text(encoding="utf-8-sig").strip() if text else ""
        except UnicodeDecodeError as error:
            yield Fault(str(text), "", f"it is not UTF-8: {error}")
            continue
        if answer:
            yield OwnPair(file, None, answer)
        else:
            reason = f"{text.name} is empty" if text else f"there is no {file.stem}.txt beside it"
            yield Fault(str(file), "", reason)
    pictures = {file.stem for file in visible(folder, *ENDINGS)}
    for stem in sorted(texts.keys() - pictures):
        yield Fault(str(texts[stem]), "", "there is no picture of this name", costs=0)
