"""`make answer`: answer questions about many pictures, in batches, into a JSONL file."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from mglib.chat.chat_model import ChatModel
from mglib.chat.conversation import Conversation, readable
from mglib.data.journal import append, read_log
from mglib.data.pictures import (
    ADDRESS,
    ENDINGS,
    is_picture,
    line_picture,
    picture,
    pictures_below,
    print_files_used,
    to_rgb,
)
from mglib.data.records import first_sign, read_json
from mglib.data.splits import batched
from mglib.data.text import TAKEN, without_placeholder
from mglib.errors import sentence
from mglib.model.decoding import Decoding, respond
from mglib.model.prompts import prompt_tokens, with_image
from mglib.paths import atomic_write, hash_json, read_jsonl

BATCH = 16  # pictures answered at once
QUESTION = "Describe this image in detail."
WRITTEN = ("answer", "error", "model", "decoding")  # the fields of a line that are written here


def answer(
    chat_model: ChatModel,
    pictures: Sequence[Image.Image | Path],
    questions: Sequence[str],
    decoding: Decoding,
) -> list[str]:
    """Answer one question about each picture, in batches; every row samples with the same seed.

    So an answer depends only on its own picture and question. Files are opened when their batch is due.
    """
    texts: list[str] = []
    for rows in batched(zip(pictures, questions, strict=True), BATCH):
        images = [picture(one) if isinstance(one, Path) else to_rgb(one) for one, _ in rows]
        asked, seeds = [with_image(question) for _, question in rows], [decoding.seed] * len(rows)
        shown = {"queries": chat_model.queries(images)}
        texts += respond(chat_model.model, shown, chat_model.turns.first, asked, decoding, seeds)
    return texts


def what_to_ask(source: Path, question: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """List the `image` and `question` of a picture, of each picture in a folder and its subfolders, or of
    each line of a JSONL file or item of a JSON array.

    A line without a question (`text` in POPE's files) gets the given one; paths of pictures are relative
    to `folder` or to the file's own. Raises ValueError if there is nothing to ask.
    """
    if source.is_dir() or is_picture(source):
        files = pictures_below(source) if source.is_dir() else [source]
        found = [{"image": str(file), "question": without_placeholder(question)} for file in files]
    else:
        found = asked_lines(source, question, folder or source.parent)
    if not found:
        raise ValueError(f"{source} holds no pictures ({', '.join(ENDINGS)}) and no lines.")
    return found


def asked_lines(source: Path, question: str, folder: Path) -> list[dict[str, Any]]:
    """Read the lines of a file of questions; raises ValueError for one that cannot be asked."""
    found, taken = [], 0
    rows = read_json(source) if first_sign(source) == b"[" else read_jsonl(source)
    for number, row in enumerate(rows, start=1):
        line = {"question": row.get("text", question), **row} if isinstance(row, dict) else {}
        if fault := line_fault(line):
            raise ValueError(f"{source}, line {number}: {fault}.")
        asked = without_placeholder(line["question"])
        taken += asked != line["question"]
        line["question"] = asked or question
        line["image"] = each(line, lambda name: str(line_picture(name, folder)))
        found.append(line)
    if taken:
        print(TAKEN.format(source, taken))
    return found


def each(line: dict[str, Any], change: Callable[[str], str]) -> str | list[str]:
    """Apply `change` to the path of a line's picture, or to those of its pictures."""
    names = [change(str(name)) for name in listed(line["image"])]
    return names if isinstance(line["image"], list) else names[0]


def listed(image: Any) -> list[Any]:
    """Return a line's picture, or its pictures, as a list."""
    return image if isinstance(image, list) else [image]


def from_file(name: str, file: Path) -> str:
    """Return a picture's path relative to a file's folder; a URL is unchanged."""
    if ADDRESS.match(name):
        return name
    path = Path(name)
    return os.path.relpath(path.parent.resolve() / path.name, file.parent.resolve())


def line_fault(line: dict[str, Any]) -> str | None:
    """Return why a line cannot be asked, or None if it can."""
    names = listed(line.get("image"))
    if not names or not all(type(name) in (str, int) and str(name).strip() for name in names):
        return 'there is no "image", the path of a picture, or a list of several'
    if not isinstance(line["question"], str):
        return 'its "question" is no text'
    taken = [name for name in WRITTEN if name in line]
    return f'"{taken[0]}" is what is written here: give yours another name' if taken else None


def answer_all(
    chat_model: ChatModel,
    source: Path,
    out: Path,
    question: str,
    decoding: Decoding,
    *,
    folder: Path | None = None,
) -> None:
    """Answer a folder or a JSONL file into another JSONL file, and print how many answers that holds.

    Each line names the model and the decoding that made it; picture paths are relative to `out`'s folder.
    What `out` answers already is not asked again. A picture that cannot be read has an `error` instead of an
    answer; the same command asks about it again. Raises ValueError if `out` answers other questions, or is by
    another model or decoding.
    """
    asked = what_to_ask(source, question, folder)
    made_by = {"model": chat_model.name, "decoding": asdict(decoding)}
    lines = [{**line, "image": each(line, partial(from_file, file=out))} for line in asked]
    log = read_log(out)
    for number, line in enumerate(log, start=1):
        for name, ours in made_by.items():
            if line.get(name) != ours:
                raise ValueError(
                    f"{out}, line {number} was answered by other means ({name}: {line.get(name)}, not "
                    f"{ours}): move it away, or name another OUT."
                )
    keys = [hash_json(line) for line in lines]
    known = [hash_json({name: line[name] for name in line.keys() - {*WRITTEN}}) for line in log]
    if Counter(known) - Counter(keys):
        raise ValueError(f"{out} answers other questions than these: move it away, or name another OUT.")
    good = ["error" not in line for line in log]
    if not all(good):
        with atomic_write(out) as temporary:
            append(temporary, compress(log, good))
    done, left = Counter(compress(known, good)), []
    for number, key in enumerate(keys):
        done[key] -= 1  # a line that occurs twice is answered twice
        if done[key] < 0:
            left.append(number)
    for numbers in batched(tqdm(left, desc="answers", mininterval=10), BATCH):
        results = answer_lines(chat_model, [asked[number] for number in numbers], decoding)
        pairs = zip(numbers, results, strict=True)
        append(out, [{**lines[number], **found, **made_by} for number, found in pairs])
    print_files_used(folder or source, (Path(name) for line in asked for name in listed(line["image"])))
    bad = sum("error" in line for line in read_log(out))
    print(f"{len(asked)} answers are in {out}" + (f", {bad} of them errors." if bad else "."))


def answer_lines(
    chat_model: ChatModel, lines: Sequence[dict[str, Any]], decoding: Decoding
) -> list[dict[str, str]]:
    """Return the `answer` to each line of a batch, or the `error` of one that cannot be answered."""
    results: list[dict[str, str]] = [{} for _ in lines]
    single: dict[int, Image.Image] = {}
    for index, line in enumerate(lines):
        names = listed(line["image"])
        try:
            require_room(chat_model, line["question"])
            images = [picture(Path(name)) for name in names]
            if len(images) == 1:
                single[index] = images[0]
                continue
            talk = Conversation(chat_model)
            for image in images:
                talk.show(image)
            results[index]["answer"] = "".join(talk.ask(line["question"], decoding))
        except Exception as error:  # a failed line must not cost the others their answers
            results[index]["error"] = sentence(error, "answer")
    questions = [lines[index]["question"] for index in single]
    try:
        texts = answer(chat_model, list(single.values()), questions, decoding)
    except Exception as error:
        if len(lines) == 1:
            return [{"error": sentence(error, "answer")}]
        return [found for line in lines for found in answer_lines(chat_model, [line], decoding)]
    for index, text in zip(single, texts, strict=True):
        results[index]["answer"] = text
    return results


def require_room(chat_model: ChatModel, question: str) -> None:
    """Raise ValueError for a question that is too long, after which a language model writes nonsense without
    any warning, and like `readable`.
    """
    readable(question)
    model = chat_model.model
    longest = model.language.model.config.max_position_embeddings
    Q = model.qformer.config.queries
    ids, _ = prompt_tokens(model.language.tokenizer, chat_model.turns.first, with_image(question), queries=Q)
    if len(ids) >= longest:
        raise ValueError(
            f"The question has {len(ids)} tokens and this language model reads {longest}: ask less."
        )
