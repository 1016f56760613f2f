"""Pictures with texts for stage 2: the official release, cc_sbu_align, and one's own in three shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mglib.data import records
from mglib.data.pictures import ENDINGS, line_picture, named_picture, with_pictures
from mglib.data.quarantine import Fault, unique
from mglib.data.records import Caption, FileName, Text, fit, fit_all, read_lines

SHAPES = (
    "a folder with filter_cap.json and image/ (cc_sbu_align), a folder of pictures with a .txt of the same "
    'name beside each, or a .jsonl file with lines {"image": "a.jpg", "question": "What is it?", "answer": '
    '"A cat."} (the question may be left out)'
)


# --- cc_sbu_align ---


@dataclass(frozen=True)
class AlignedPair:
    """One picture and its description, as it is (stage 2 cleans no captions)."""

    image_id: str
    file: Path
    caption: str


@dataclass(frozen=True)
class Entry:
    """An entry of `annotations` in filter_cap.json."""

    image_id: FileName
    caption: Caption


def read_cc_sbu_align(folder: Path) -> Iterator[AlignedPair | Fault]:
    """Yield the pairs of a folder with `filter_cap.json` and `image/<image_id>.jpg`, or another ending.

    Several texts about a picture are several pairs. Raises ValueError when filter_cap.json is of another
    shape.
    """
    path = folder / "filter_cap.json"
    value = records.read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
        raise ValueError(f"{path} is not cc_sbu_align's: it needs the key `annotations` with a list.")
    seen: set[tuple[Path, str]] = set()
    for number, given in enumerate(value["annotations"]):
        entry = fit(Entry, given, path, f"annotations[{number}]")
        if isinstance(entry, Fault):
            yield entry
            continue
        file = named_picture(folder / "image", entry.image_id)
        if not file.is_file():
            yield Fault(str(path), entry.image_id, f"its picture {file} is missing")
        elif (file, entry.caption) in seen:
            yield Fault(str(path), entry.image_id, "this text of its picture came before")
        else:
            seen.add((file, entry.caption))
            yield AlignedPair(file.stem, file, entry.caption)


# --- one's own ---


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


def read_own(data: Path) -> Iterator[OwnPair | Fault]:
    """Yield the pairs of a folder or a JSONL file; a picture that cannot be opened is a fault.

    Raises FileNotFoundError for what is not there and ValueError for what has none of the three shapes.
    """
    if not data.exists():
        raise FileNotFoundError(f"{data} is not there. DATA is {SHAPES}.")
    if data.is_file():
        found = json_lines(data)
    elif (data / "filter_cap.json").is_file():
        found = aligned(data)
    elif any(visible(data, ".txt")):
        found = text_files(data)
    else:
        lines = sorted(data.glob("*.jsonl"))
        hint = f" Is it {lines[0]} that is meant?" if lines else ""
        raise ValueError(f"{data} holds no texts that are known here. DATA is {SHAPES}.{hint}")
    return with_pictures(found, lambda pair: pair.file)


def aligned(folder: Path) -> Iterator[OwnPair | Fault]:
    """Read a folder in cc_sbu_align's layout."""
    for pair in read_cc_sbu_align(folder):
        yield pair if isinstance(pair, Fault) else OwnPair(pair.file, None, pair.caption)


def json_lines(path: Path) -> Iterator[OwnPair | Fault]:
    """Read lines of `image`, `answer` and, if one likes, `question`."""

    def found() -> Iterator[OwnPair | Fault]:
        for line in fit_all(Line, read_lines(path), path):
            if isinstance(line, Fault):
                yield line
            else:
                yield OwnPair(line_picture(line.image, path.parent), line.question, line.answer.strip())

    return unique(found(), path, lambda pair: (str(pair.file), pair.question, pair.answer))


def visible(folder: Path, *endings: str) -> Iterator[Path]:
    """Yield the files of a folder with these endings, by name; a Mac's ._files are none of them."""
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in endings and not file.name.startswith("."):
            yield file


def text_files(folder: Path) -> Iterator[OwnPair | Fault]:
    """Read pictures with texts of the same name; a text without its picture is listed, but is no sample."""
    texts = {file.stem: file for file in visible(folder, ".txt")}
    pictures = list(visible(folder, *ENDINGS))
    for file in pictures:
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
    for stem in sorted(texts.keys() - {file.stem for file in pictures}):
        yield Fault(str(texts[stem]), "", "there is no picture of this name", costs=0)
