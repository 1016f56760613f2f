"""Talking to the model: conversations about several pictures, batches of questions, and a terminal."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache

from mglib.chat.speaker import Speaker
from mglib.data.journal import append, read_log
from mglib.data.pictures import ENDINGS, FOREIGN, named_picture, open_picture, to_rgb
from mglib.data.splits import batched
from mglib.model.decoding import Decoding, Steps, greedy, has_ended, respond, search, until_end
from mglib.model.prompts import IMAGE, prompt_tokens, tokenize, with_image
from mglib.paths import hash_json, read_jsonl

ANSWERER = "Assistant:"
BATCH = 16  # pictures answered at once
QUESTION = "Describe this image in detail."
ADDRESS = re.compile(r"(?i)(https?|ftp):/")
USAGE = 'make chat IMAGE=picture.jpg QUESTION="What is this?", or without a question for a conversation.'


def typed_path(text: str) -> Path:
    """Return the path that a person typed, quoted or dragged into the terminal; raises ValueError for an
    address of the web.
    """
    text = text.strip()
    if ADDRESS.match(text):
        raise ValueError(f"{text} is an address: download the picture and give the path of its file.")
    if text.lower().startswith("file://"):
        text = unquote(re.sub(r"(?i)^file://(localhost)?", "", text))
    if not os.path.exists(os.path.expanduser(text)):  # then quotes and backslashes are the shell's
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1]
        else:
            text = re.sub(r"\\(.)", r"\1", text)
    return Path(os.path.expanduser(text))


def picture(source: Path | bytes, *, name: str = "") -> Image.Image:
    """Open a picture of any size, mode and orientation; raises ValueError with its name when it is none."""
    try:
        return open_picture(source, own=True)
    except FileNotFoundError:
        if ADDRESS.match(str(source)):  # a Path has one of its slashes
            raise ValueError(f"{source} is an address: download the picture and name its file.") from None
        raise FileNotFoundError(f"There is no file {source}: give the path of a picture.") from None
    except OSError as error:
        raise ValueError(f"{name or source} is not a picture that can be read: {error}.") from error


@dataclass(frozen=True)
class Exchange:
    """One turn of a conversation: how many pictures came with the question, the answer, how many tokens were
    written for it, and the seconds from the question to the last of them.
    """

    pictures: int
    question: str
    answer: str
    tokens: int
    seconds: float

    def pace(self) -> str:
        """Say how fast the answer came."""
        return (
            f"{self.tokens} tokens in {self.seconds:.1f} s: {self.tokens / self.seconds:.1f} tokens a second"
        )


class Conversation:
    """Several turns about any number of pictures; each answer streams.

    What has been read stays in `context` (1, T, D_l), its keys and values in `cache`, which may lag behind:
    the next question first reads what is missing. Questions and pictures go in as the official chat writes
    them (`conversation.py`), but earlier answers stay as the tokens that were generated.
    """

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.clear()

    def clear(self) -> None:
        """Forget all turns and pictures."""
        embeddings = self.speaker.model.language.model.get_input_embeddings().weight
        self.context = embeddings.new_zeros(1, 0, embeddings.shape[1])
        self.cache = DynamicCache()
        self.history: list[Exchange] = []
        self.pending: list[Tensor] = []

    def show(self, image: Image.Image) -> None:
        """Add a picture to the next question; several are read in the order in which they were shown."""
        self.pending.append(self.speaker.queries([to_rgb(image)])[0])  # (Q, D_q)

    def ask(self, question: str, decoding: Decoding | None = None) -> Iterator[str]:
        """Yield the answer piece by piece, as soon as each piece is certain.

        Without `decoding` the official settings hold; with several beams the answer comes as one piece, since
        another beam may be the better one until the end. An iterator that is closed early leaves the answer
        as far as it came. Raises ValueError for a question with a picture's place in it, and when the
        conversation is too long.
        """
        if self.cache.get_seq_length() > self.context.shape[1]:
            raise RuntimeError("An answer is still being read: read it to its end, or close it, then ask.")
        began = perf_counter()
        context = torch.cat([self.context, self.segment(question)], dim=1)  # (1, T, D_l)
        ids: list[int] = []
        try:
            yield from self.stream(context, decoding or Decoding(), ids)
        except GeneratorExit:  # the reader has had enough
            self.keep(question, context, ids, perf_counter() - began)
            raise
        except BaseException:  # perhaps in the middle of a layer: read everything again next time
            self.cache = DynamicCache()
            raise
        self.keep(question, context, ids, perf_counter() - began)

    def stream(self, context: Tensor, decoding: Decoding, ids: list[int]) -> Iterator[str]:
        """Yield the pieces of the answer to `context` (1, T, D_l), and put its tokens into `ids`."""
        language = self.speaker.model.language
        ends = self.speaker.turns.ends(language.tokenizer)
        decoding = replace(decoding, max_new_tokens=min(decoding.max_new_tokens, self.room(context)))
        mask = torch.ones(context.shape[:2], dtype=torch.long, device=context.device)
        if decoding.beams > 1:  # reads everything itself: the cache stays as it was
            ids += search(language, context, mask, decoding, [decoding.seed], ends)[0]
            yield until_end(language.tokenizer.decode(ids), *ends)
            return
        unread = context[:, self.cache.get_seq_length() :]
        shown = ""
        for token in Steps(language, unread, mask, decoding, [decoding.seed], self.cache):
            ids.append(token.item())
            text = certain(language.tokenizer.decode(ids), ends)
            if len(text) > len(shown):
                yield text[len(shown) :]
                shown = text
            if has_ended(language.tokenizer, ids, ends):
                break
        rest = until_end(language.tokenizer.decode(ids), *ends)
        if rest.startswith(shown) and rest != shown:  # else the model begins another turn in its answer
            yield rest[len(shown) :]

    @torch.inference_mode()
    def segment(self, question: str) -> Tensor:
        """Embed a question with the pictures that wait for it: (1, S, D_l)."""
        if IMAGE in question:
            raise ValueError(f"Leave {IMAGE} out of the question: `show` puts pictures in their place.")
        model, turns = self.speaker.model, self.speaker.turns
        if self.pending:
            alone = [with_image("").strip()] * (len(self.pending) - 1)
            question = turns.between.join([*alone, with_image(question)])
        template = turns.first
        if self.history:
            template = replace(template, bos=False, turn=turns.following)
        Q = model.qformer.config.queries
        ids, slots = prompt_tokens(model.language.tokenizer, template, question, queries=Q)
        device = model.projection.weight.device
        words = model.language.embed(torch.tensor([ids], device=device))  # (1, S, D_l)
        if self.pending:
            queries = torch.cat(self.pending).to(model.projection.weight.dtype)  # (pictures * Q, D_q)
            words = words.clone()
            words[0, torch.tensor(slots)] = model.projection(queries).to(words.dtype)
        return words

    def room(self, context: Tensor) -> int:
        """Return how many tokens the language model can still write behind `context` (1, T, D_l)."""
        longest = self.speaker.model.language.model.config.max_position_embeddings
        if context.shape[1] >= longest:
            raise ValueError(
                f"The conversation has {context.shape[1]} tokens and this language model reads {longest}: "
                "clear it, or ask less."
            )
        return longest - context.shape[1]

    @torch.inference_mode()
    def keep(self, question: str, context: Tensor, ids: list[int], seconds: float) -> None:
        """Take a finished turn over: its answer without the end symbol, which the next turn writes."""
        language = self.speaker.model.language
        ends = self.speaker.turns.ends(language.tokenizer)
        whole, tail = before_end(language.tokenizer, ids, ends)
        device = context.device
        answer = torch.tensor([ids[:whole] + tokenize(language.tokenizer, tail)], device=device)
        self.context = torch.cat([context, language.embed(answer.long())], dim=1)
        surplus = self.cache.get_seq_length() - context.shape[1] - whole
        if surplus > 0:
            self.cache.crop(-surplus)
        text = until_end(language.tokenizer.decode(ids), *ends)
        self.history.append(Exchange(len(self.pending), question, text, len(ids), seconds))
        self.pending = []

    def transcript(self) -> str:
        """Return the conversation as plain text."""
        lines = []
        for turn in self.history:
            shown = "[picture] " * turn.pictures
            lines += [f"You: {shown}{turn.question}", f"MiniGPT-4: {turn.answer}"]
        return "\n".join(lines)


def before_end(tokenizer, ids: Sequence[int], ends: Sequence[str]) -> tuple[int, str]:
    """Return how many tokens lie wholly before the end symbol, and the text between them and it.

    A token may hold the last sign of an answer together with the first of the end symbol (".###").
    """
    text = tokenizer.decode(ids)
    for end in ends:
        text = text.split(end)[0]
    whole = len(ids)
    while not text.startswith(tokenizer.decode(ids[:whole])):
        whole -= 1
    return whole, text[len(tokenizer.decode(ids[:whole])) :]


def certain(text: str, ends: Sequence[str]) -> str:
    """Return as much of an unfinished answer as no further token can take back.

    Held back: an end symbol that may have begun, half a character, white space, which is stripped at the end
    of an answer, and "Assistant:" at its beginning.
    """
    for end in ends:
        text = text.split(end)[0]
        begun = max(n for n in range(len(end)) if text.endswith(end[:n]))
        text = text[: len(text) - begun]
    text = text.rstrip("\ufffd").strip()
    return "" if ANSWERER.startswith(text) else text.removeprefix(ANSWERER).strip()


def answer(
    speaker: Speaker,
    pictures: Sequence[Image.Image | Path],
    questions: Sequence[str],
    decoding: Decoding | None = None,
    *,
    batch_size: int = BATCH,
) -> list[str]:
    """Answer one question about each picture, in batches; every row draws from the same seed.

    So an answer depends on its own picture and question, and not on what else is asked. Files are opened
    when their batch comes.
    """
    decoding, texts = decoding or Decoding(), []
    pairs = list(zip(pictures, questions, strict=True))
    for rows in batched(pairs, batch_size):
        images = [picture(one) if isinstance(one, Path) else to_rgb(one) for one, _ in rows]
        asked, seeds = [with_image(question) for _, question in rows], [decoding.seed] * len(rows)
        shown = {"queries": speaker.queries(images)}
        texts += respond(speaker.model, shown, speaker.turns.first, asked, decoding, seeds)
    return texts


def what_to_ask(source: Path, question: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """List `image` and `question` of each picture of a folder, or of each line of a JSONL file.

    A line without a question (`text` in POPE's files) gets the given one; its picture's path, or the paths of
    several pictures, count from `folder` or the file's own. Raises ValueError when there is nothing to ask.
    """
    if source.is_dir():
        files = sorted(
            file
            for file in source.iterdir()
            if file.suffix.lower() in (*ENDINGS, *FOREIGN) and not file.name.startswith(".")
        )
        found = [{"image": str(file), "question": question} for file in files]
    else:
        found = [{"question": line.get("text", question), **line} for line in read_jsonl(source)]
        for number, line in enumerate(found, start=1):
            if fault := line_fault(line):
                raise ValueError(f"{source}, line {number}: {fault}.")
            several = isinstance(line["image"], list)
            names = line["image"] if several else [line["image"]]
            paths = [str(path_of(str(name), folder or source.parent)) for name in names]
            line["image"] = paths if several else paths[0]
    if not found:
        raise ValueError(f"{source} holds no pictures ({', '.join(ENDINGS)}) and no lines.")
    return found


def line_fault(line: dict[str, Any]) -> str | None:
    """Say why a line cannot be asked, if it cannot."""
    names = line.get("image")
    names = names if isinstance(names, list) else [names]
    if not names or not all(type(name) in (str, int) and str(name).strip() for name in names):
        return 'there is no "image", the path of a picture, or a list of several'
    if not isinstance(line["question"], str):
        return 'its "question" is no text'
    if IMAGE in line["question"]:
        return f"leave {IMAGE} out of the question: the pictures go before it"
    taken = [name for name in ("answer", "error") if name in line]
    return f'"{taken[0]}" is what is written here: give yours another name' if taken else None


def path_of(name: str, folder: Path) -> Path:
    """Return where a picture lies that a line names, with or without its ending; an address stays one."""
    if ADDRESS.match(name):
        return Path(name)
    path = folder / os.path.expanduser(name)
    found = named_picture(path.parent, path.name)
    return found if os.path.isfile(found) and not os.path.exists(path) else path


def answer_all(
    speaker: Speaker,
    source: Path,
    out: Path,
    question: str,
    decoding: Decoding,
    *,
    folder: Path | None = None,
) -> int:
    """Answer a folder or a JSONL file into another JSONL file, line by line; returns how many lines it holds.

    What is in `out` already is not asked again. A picture that cannot be read has an `error` in an answer's
    place. Raises ValueError where `out` answers something else.
    """
    asked = what_to_ask(source, question, folder)
    done = [{name: line[name] for name in line if name not in ("answer", "error")} for line in read_log(out)]
    known, kept = (Counter(map(hash_json, lines)) for lines in (asked, done))
    if kept - known:
        raise ValueError(f"{out} answers other questions than these: move it away, or name another file.")
    left = []
    for line in asked:  # a line that stands there twice is answered twice
        if kept[hash_json(line)]:
            kept[hash_json(line)] -= 1
        else:
            left.append(line)
    for rows in batched(tqdm(left, desc="answers", mininterval=10), BATCH):
        append(out, answer_lines(speaker, rows, decoding))
    return len(asked)


def answer_lines(
    speaker: Speaker, lines: Sequence[dict[str, Any]], decoding: Decoding
) -> list[dict[str, Any]]:
    """Return the lines of a batch with their answers, or with the error of a picture that cannot be read."""
    made, single = [dict(line) for line in lines], []
    for line in made:
        names = line["image"] if isinstance(line["image"], list) else [line["image"]]
        try:
            require_room(speaker, line["question"])
            images = [picture(Path(name)) for name in names]
            if len(images) == 1:
                single.append((line, images[0]))
                continue
            talk = Conversation(speaker)
            for image in images:
                talk.show(image)
            line["answer"] = "".join(talk.ask(line["question"], decoding))
        except (OSError, ValueError) as error:
            line["error"] = str(error)
    questions, images = [line["question"] for line, _ in single], [image for _, image in single]
    texts = answer(speaker, images, questions, decoding, batch_size=BATCH)
    for (line, _), text in zip(single, texts, strict=True):
        line["answer"] = text
    return made


def require_room(speaker: Speaker, question: str) -> None:
    """Raise ValueError for a question that is too long, behind which a language model writes nonsense without
    any warning, or that is no text.
    """
    if re.search("[\ud800-\udfff]", question):
        raise ValueError("The question holds half a character, which no tokenizer reads.")
    model = speaker.model
    longest = model.language.model.config.max_position_embeddings
    Q = model.qformer.config.queries
    ids, _ = prompt_tokens(model.language.tokenizer, speaker.turns.first, with_image(question), queries=Q)
    if len(ids) >= longest:
        raise ValueError(
            f"The question has {len(ids)} tokens and this language model reads {longest}: ask less."
        )


def terminal(talk: Conversation, decoding: Decoding, *, read: Callable[[str], str] = input) -> None:
    """Go on with a conversation until an empty line; `/show FILE` adds a picture, `/clear` forgets all."""
    print("Ask about the picture; /show FILE adds another, /clear forgets all, an empty line ends.")
    while line := read("You: ").strip():
        try:
            if line == "/clear":
                talk.clear()
            elif line.startswith("/show "):
                file = typed_path(line.removeprefix("/show "))
                show(talk, picture(file), file.name)
            else:
                say(talk, line, decoding)
        except (FileNotFoundError, ValueError) as error:
            print(error)


def show(talk: Conversation, image: Image.Image, name: str) -> None:
    """Give a picture to the next question, and print what was read."""
    talk.show(image)
    print(f"Picture: {talk.speaker.sees(image, name)}.")


def say(talk: Conversation, question: str, decoding: Decoding) -> None:
    """Print an answer while it comes, then its pace."""
    print("MiniGPT-4: ", end="", flush=True)
    for piece in talk.ask(question, decoding):
        print(piece, end="", flush=True)
    print(f"\n({talk.history[-1].pace()})")


def chosen_decoding(
    speaker: Speaker, *, likeliest: bool, tokens: int | None, beams: int, seed: int
) -> Decoding:
    """Return the speaker's own decoding, or the likeliest tokens, with these limits."""
    tokens = tokens or Decoding.max_new_tokens
    usual = replace(speaker.decoding, max_new_tokens=tokens, seed=seed)
    return replace(greedy(tokens) if likeliest else usual, beams=beams)


def chat(
    load: Callable[[], Speaker],
    image: str | None,
    question: str | None,
    decode: Callable[[Speaker], Decoding],
    *,
    read: Callable[[str], str] = input,
) -> None:
    """Talk about a picture: one question, or without one a conversation. `load` makes the speaker, after the
    picture has been opened, since its loading takes a while.
    """
    if not image:
        raise ValueError(f"No picture is named: {USAGE}")
    file = typed_path(image)
    shown, speaker = picture(file), load()
    print(f"Weights: {speaker.weights()}.")
    talk, decoding = Conversation(speaker), decode(speaker)
    try:
        show(talk, shown, file.name)
        if question:
            say(talk, question, decoding)
        else:
            terminal(talk, decoding, read=read)
    except (EOFError, KeyboardInterrupt):  # ctrl-d and ctrl-c end a conversation too
        print()


def batch(
    load: Callable[[], Speaker],
    images: Path | None,
    questions: Path | None,
    out: Path,
    question: str | None,
    decode: Callable[[Speaker], Decoding],
) -> None:
    """Answer a folder of pictures, or a file of questions about pictures that lie in `images`."""
    if images is None and questions is None:
        raise ValueError("No pictures are named: make answer IMAGES=folder, or QUESTIONS=file.jsonl.")
    speaker = load()
    print(f"Weights: {speaker.weights()}.")
    count = answer_all(
        speaker, questions or images, out, question or QUESTION, decode(speaker), folder=images
    )
    bad = sum("error" in line for line in read_log(out))
    print(f"{count} answers are in {out}" + (f", {bad} of them errors." if bad else "."))
