"""Pictures with texts for stage 2: the official cc_sbu_align, and a user's own data in three shapes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field

from mglib.data.pictures import line_picture, named_picture, pictures_below, shown, with_pictures
from mglib.data.quarantine import Fault, unique
from mglib.data.records import Caption, FileName, Name, Text, fit_all, fit_list, read_json, read_lines
from mglib.data.text import TAKEN, without_placeholder

SHAPES = (
    "a folder with filter_cap.json and image/ (cc_sbu_align), a folder of pictures with a .txt of the same "
    "name next to each, a folder of pictures with metadata.jsonl (ImageFolder), or a file of JSON lines "
    '{"image": "a.jpg", "question": "What is it?", "answer": "A cat."} (the question may be left out), or '
    "with the `conversations` of LLaVA"
)
ALIGNED, METADATA = "filter_cap.json", "metadata.jsonl"
PERSON = ("human", "user")  # the speaker of a question


@dataclass(frozen=True)
class AnsweredPicture:
    """A picture, optionally a question about it, and the answer to learn."""

    file: Path
    question: str | None
    answer: str


def distinct(pairs: Iterable[AnsweredPicture | Fault], path: Path) -> Iterator[AnsweredPicture | Fault]:
    """Turn each repeated pair into a fault."""
    return unique(pairs, path, lambda pair: (str(pair.file), pair.question, pair.answer))


# --- cc_sbu_align ---


@dataclass(frozen=True)
class Entry:
    """An entry of `annotations` in filter_cap.json."""

    image_id: FileName
    caption: Caption


def read_cc_sbu_align(folder: Path) -> Iterator[AnsweredPicture | Fault]:
    """Yield the pairs of a folder with `filter_cap.json` and `image/<image_id>.jpg` (or another ending).

    Several texts about a picture give several pairs, unchanged (stage 2 does not clean captions). Raises
    ValueError if filter_cap.json has another shape.
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


# --- a user's own data ---


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation, in the format of LLaVA, ShareGPT or chat models."""

    text: Annotated[Text, Field(validation_alias=AliasChoices("value", "content"))]
    speaker: Annotated[str, Field(validation_alias=AliasChoices("from", "role"))]


@dataclass(frozen=True)
class Line:
    """A line of a JSONL file, of ImageFolder's or of LLaVA's; the picture's path is relative to the file's
    folder. Without a question, `text` is the answer (ImageFolder) or, with an answer, the question (POPE).
    """

    image: Annotated[Name, Field(validation_alias=AliasChoices("image", "file_name"))]
    answer: Name | None = None
    question: str | None = None
    text: Name | None = None
    turns: Annotated[tuple[Turn, ...], Field(validation_alias=AliasChoices("conversations", "messages"))] = ()

    def __post_init__(self) -> None:
        if not self.answers():
            raise ValueError("there is no `answer`, nor a conversation with one")

    def answers(self) -> list[tuple[str, str]]:
        """Return each question with its answer, those of a conversation one by one."""
        asked, said = self.question or "", self.answer
        if not asked and self.text is not None:
            asked, said = ("", self.text) if said is None else (self.text, said)
        if said is not None:
            return [(asked.strip(), said.strip())]
        return [
            (asked.text.strip(), said.text.strip())
            for asked, said in pairwise(self.turns)
            if asked.speaker in PERSON and said.speaker not in PERSON
        ]


def read_own(data: Path, used: set[Path] | None = None) -> Iterator[AnsweredPicture | Fault]:
    """Yield the pairs of a folder or a JSONL file, and add the files read to `used`; a picture that cannot be
    opened is a fault.

    Raises FileNotFoundError if `data` does not exist and ValueError if it has none of the four shapes.
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
    elif any((texts := texts_of_pictures(data))[0].values()):
        found = text_files(*texts, used)
    else:
        lines = [file for file in shown(data, ".jsonl", ".json") if begins_with_a_pair(file)]
        hint = f" Is it {lines[0]} that is meant?" if lines else ""
        raise ValueError(f"{data} holds no texts that are known here. DATA is {SHAPES}.{hint}")
    return with_pictures(found, lambda pair: pair.file, used)


def begins_with_a_pair(path: Path) -> bool:
    """Return whether the first line of a file, or the first item, is what `json_lines` reads."""
    try:
        return isinstance(next(json_lines(path), None), AnsweredPicture)
    except (OSError, ValueError):
        return False


def json_lines(path: Path) -> Iterator[AnsweredPicture | Fault]:
    """Read lines with `image`, `answer` and optionally `question`, or with a conversation."""
    taken = 0

    def pairs() -> Iterator[AnsweredPicture | Fault]:
        nonlocal taken
        for line in fit_all(Line, read_lines(path), path):
            if isinstance(line, Fault):
                yield line
                continue
            for asked, answer in line.answers():
                question = without_placeholder(asked)
                taken += question != asked
                yield AnsweredPicture(line_picture(line.image, path.parent), question or None, answer)

    yield from distinct(pairs(), path)
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


def texts_of_pictures(folder: Path) -> tuple[dict[Path, Path | None], list[Path]]:
    """Return the text of each picture in a folder and its subfolders (a.txt or a.jpg.txt next to a.jpg), and
    the texts without a picture.
    """
    texts = {file.with_suffix(""): file for file in shown(folder, ".txt")}
    found = {file: texts.get(file, texts.get(file.with_suffix(""))) for file in pictures_below(folder)}
    return found, sorted(set(texts.values()) - set(found.values()))


def text_files(
    pictures: dict[Path, Path | None], others: Iterable[Path], used: set[Path]
) -> Iterator[AnsweredPicture | Fault]:
    """Read pictures with their texts; a text without its picture is listed, but not as a sample."""
    for file, text in pictures.items():
        try:
            answer = text.read_text(encoding="utf-8-sig").strip() if text else ""
        except (OSError, UnicodeDecodeError) as error:
            yield Fault(str(text), "", f"it cannot be read as UTF-8: {error}")
            continue
        if text and answer:
            used.add(text)
            yield AnsweredPicture(file, None, answer)
        else:
            reason = f"{text.name} is empty" if text else f"there is no {file.stem}.txt next to it"
            yield Fault(str(file), "", reason)
    for text in others:
        yield Fault(str(text), "", "there is no picture of this name", costs=0)
