"""Pictures with texts for stage 2: the official release, cc_sbu_align, and one's own in three shapes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field

from mglib.data.pictures import KNOWN, line_picture, named_picture, pictures_below, shown, with_pictures
from mglib.data.quarantine import Fault, unique
from mglib.data.records import Caption, FileName, Text, fit_all, fit_list, read_json, read_lines
from mglib.data.text import TAKEN, without_placeholder

SHAPES = (
    "a folder with filter_cap.json and image/ (cc_sbu_align), a folder of pictures with a .txt of the same "
    "name next to each, a folder of pictures with metadata.jsonl (ImageFolder), or a .jsonl file with lines "
    '{"image": "a.jpg", "question": "What is it?", "answer": "A cat."} (the question may be left out)'
)
ALIGNED, METADATA = "filter_cap.json", "metadata.jsonl"


@dataclass(frozen=True)
class AnsweredPicture:
    """A picture, perhaps a question about it, and the answer that is to be learnt."""

    file: Path
    question: str | None
    answer: str


def distinct(pairs: Iterable[AnsweredPicture | Fault], path: Path) -> Iterator[AnsweredPicture | Fault]:
    """Turn each pair that came before into a fault."""
    return unique(pairs, path, lambda pair: (str(pair.file), pair.question, pair.answer))


# --- cc_sbu_align ---


@dataclass(frozen=True)
class Entry:
    """An entry of `annotations` in filter_cap.json."""

    image_id: FileName
    caption: Caption


def read_cc_sbu_align(folder: Path) -> Iterator[AnsweredPicture | Fault]:
    """Yield the pairs of a folder with `filter_cap.json` and `image/<image_id>.jpg`, or another ending.

    Several texts about a picture are several pairs, each as it is (stage 2 cleans no captions). Raises
    ValueError when filter_cap.json is of another shape.
    """
    path = folder / ALIGNED

    def pair(entry: Entry | Fault) -> AnsweredPicture | Fault:
        if isinstance(entry, Fault):
            return entry
        file = named_picture(folder / "image", entry.image_id)
        if not file.is_file():
            return Fault(str(path), entry.image_id, f"its picture {file} is missing")
        return AnsweredPicture(file, None, entry.caption)

    return distinct(map(pair, fit_list(Entry, read_json(path), "annotations", path)), path)


# --- one's own ---


@dataclass(frozen=True)
class Line:
    """A line of a JSONL file, or of ImageFolder's; the picture's path counts from the file's own folder."""

    image: Annotated[Text, Field(validation_alias=AliasChoices("image", "file_name"))]
    answer: Annotated[Text, Field(validation_alias=AliasChoices("answer", "text"))]
    question: Text | None = None


def read_own(data: Path, used: set[Path] | None = None) -> Iterator[AnsweredPicture | Fault]:
    """Yield the pairs of a folder or a JSONL file, and add what they are read from to `used`; a picture that
    cannot be opened is a fault.

    Raises FileNotFoundError for what is not there and ValueError for what has none of the four shapes.
    """
    used = set() if used is None else used
    if not data.exists():
        raise FileNotFoundError(f"{data} is not there. DATA is {SHAPES}.")
    if data.is_file():
        found = json_lines(data)
    elif (data / ALIGNED).is_file():
        found = read_cc_sbu_align(data)
        used.add(data / ALIGNED)
    elif (data / METADATA).is_file():
        found = image_folder(data)
        used.add(data / METADATA)
    elif texts := shown(data, ".txt"):
        found = text_files(data, texts, used)
    else:
        lines = sorted(data.glob("*.jsonl"))
        hint = f" Is it {lines[0]} that is meant?" if lines else ""
        raise ValueError(f"{data} holds no texts that are known here. DATA is {SHAPES}.{hint}")
    return with_pictures(found, lambda pair: pair.file, used)


def json_lines(path: Path) -> Iterator[AnsweredPicture | Fault]:
    """Read lines of `image`, `answer` and, if one likes, `question`."""
    taken = 0

    def pair(line: Line | Fault) -> AnsweredPicture | Fault:
        nonlocal taken
        if isinstance(line, Fault):
            return line
        question = without_placeholder(asked := (line.question or "").strip())
        taken += question != asked
        return AnsweredPicture(line_picture(line.image, path.parent), question or None, line.answer.strip())

    yield from distinct(map(pair, fit_all(Line, read_lines(path), path)), path)
    if taken:
        print(TAKEN.format(path, taken))


def image_folder(folder: Path) -> Iterator[AnsweredPicture | Fault]:
    """Read the lines of metadata.jsonl; a picture that none of them names is a fault."""
    path, named = folder / METADATA, set()
    for pair in json_lines(path):
        if isinstance(pair, AnsweredPicture):
            named.add(pair.file)
        yield pair
    for file in pictures_below(folder):
        if file not in named:
            yield Fault(str(file), "", f"no good line of {path.name} names it")


def text_files(folder: Path, files: Iterable[Path], used: set[Path]) -> Iterator[AnsweredPicture | Fault]:
    """Read pictures with texts of the same name, also in folders below; a text without its picture is listed,
    but is no sample.
    """
    texts = {file.with_suffix(""): file for file in files}
    pictures = {
        file: file.with_suffix("") if file.suffix.lower() in KNOWN else file
        for file in pictures_below(folder)
    }
    for file, name in pictures.items():
        text = texts.get(name)
        try:
            answer = text.read_text(encoding="utf-8-sig").strip() if text else ""
        except (OSError, UnicodeDecodeError) as error:
            yield Fault(str(text), "", f"it is not UTF-8 text: {error}")
            continue
        if text and answer:
            used.add(text)
            yield AnsweredPicture(file, None, answer)
        else:
            reason = f"{text.name} is empty" if text else f"there is no {name.name}.txt next to it"
            yield Fault(str(file), "", reason)
    for name in sorted(texts.keys() - set(pictures.values())):
        yield Fault(str(texts[name]), "", "there is no picture of this name", costs=0)
