"""A conversation about any number of pictures, with streamed answers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from mglib.chat.chat_model import ChatModel
from mglib.data.pictures import to_rgb
from mglib.data.text import without_placeholder
from mglib.model.decoding import Decoding, Steps, has_ended, search, until_end
from mglib.model.prompts import prompt_tokens, tokenize, with_image

ANSWERER = "Assistant:"


@dataclass(frozen=True)
class Exchange:
    """One turn of a conversation: how many pictures came with the question, the answer, how many tokens were
    generated for it, and the seconds from the question to the last token.
    """

    pictures: int
    question: str
    answer: str
    tokens: int
    seconds: float

    def pace(self) -> str:
        """Return the answer's speed as text."""
        pace = self.tokens / self.seconds
        return f"{self.tokens} tokens in {self.seconds:.1f} s: {pace:.1f} tokens a second"


class Conversation:
    """Several turns about any number of pictures; each answer streams.

    All turns so far are in `context` (1, T, D_l), their keys and values in `cache`, which may lag behind: the
    next question first computes what is missing. Questions and pictures are written as in the official chat
    (`conversation.py`), but earlier answers stay as the tokens that were generated.
    """

    def __init__(self, chat_model: ChatModel) -> None:
        self.chat_model = chat_model
        self.clear()

    def clear(self) -> None:
        """Forget all turns and pictures."""
        embeddings = self.chat_model.model.language.model.get_input_embeddings().weight
        self.context = embeddings.new_zeros(1, 0, embeddings.shape[1])
        self.cache = DynamicCache()
        self.history: list[Exchange] = []
        self.pending: list[Tensor] = []

    def show(self, image: Image.Image) -> None:
        """Add a picture to the next question; several are read in the order in which they were shown."""
        self.pending.append(self.chat_model.queries([to_rgb(image)])[0])  # (Q, D_q)

    def ask(self, question: str, decoding: Decoding | None = None) -> Iterator[str]:
        """Yield the answer piece by piece, as soon as each piece is certain.

        Without `decoding` the official settings apply; with several beams the answer comes in one piece, as
        another beam may still win at the end. If the iterator is closed early, the answer so far is kept.
        Raises ValueError if the conversation is too long, RuntimeError while an earlier answer is being read.
        """
        if self.cache.get_seq_length() > self.context.shape[1]:
            raise RuntimeError("An answer is still being read: read it to its end, or close it, then ask.")
        began = perf_counter()
        context = torch.cat([self.context, self.segment(question)], dim=1)  # (1, T, D_l)
        ids: list[int] = []
        try:
            yield from self.stream(context, decoding or Decoding(), ids)
        except GeneratorExit:  # the iterator was closed early
            self.keep(question, context, ids, perf_counter() - began)
            raise
        except BaseException:  # perhaps in the middle of a layer: compute everything again next time
            self.cache = DynamicCache()
            raise
        self.keep(question, context, ids, perf_counter() - began)

    def stream(self, context: Tensor, decoding: Decoding, ids: list[int]) -> Iterator[str]:
        """Yield the pieces of the answer to `context` (1, T, D_l), and put its tokens into `ids`."""
        language = self.chat_model.model.language
        ends = self.chat_model.turns.ends(language.tokenizer)
        decoding = replace(decoding, max_new_tokens=min(decoding.max_new_tokens, self.room(context)))
        mask = torch.ones(context.shape[:2], dtype=torch.long, device=context.device)
        if decoding.beams > 1:  # computes everything itself: the cache is unchanged
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
        """Embed a question with the pending pictures: (1, S, D_l)."""
        question = without_placeholder(readable(question))
        model, turns = self.chat_model.model, self.chat_model.turns
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
        """Return how many tokens the language model can still write after `context` (1, T, D_l)."""
        longest = self.chat_model.model.language.model.config.max_position_embeddings
        if context.shape[1] >= longest:
            raise ValueError(
                f"The conversation has {context.shape[1]} tokens and this language model reads {longest}: "
                "clear it, or ask less."
            )
        return longest - context.shape[1]

    @torch.inference_mode()
    def keep(self, question: str, context: Tensor, ids: list[int], seconds: float) -> None:
        """Add a finished turn to the context, its answer without the end symbol: the next turn writes it."""
        language = self.chat_model.model.language
        ends = self.chat_model.turns.ends(language.tokenizer)
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


def readable(question: str) -> str:
    """Return a question; raises ValueError if it contains a lone surrogate, as an undecodable byte gives."""
    if re.search("[\ud800-\udfff]", question):
        raise ValueError("The question holds half a character, which no tokenizer reads.")
    return question


def before_end(tokenizer, ids: Sequence[int], ends: Sequence[str]) -> tuple[int, str]:
    """Return how many tokens are entirely before the end symbol, and the text between them and it.

    A token may hold the last character of an answer and the first of the end symbol (".###").
    """
    text = tokenizer.decode(ids)
    for end in ends:
        text = text.split(end)[0]
    whole = len(ids)
    while not text.startswith(tokenizer.decode(ids[:whole])):
        whole -= 1
    return whole, text[len(tokenizer.decode(ids[:whole])) :]


def certain(text: str, ends: Sequence[str]) -> str:
    """Return the part of an unfinished answer that no further token can change.

    Held back: a possible beginning of an end symbol, an incomplete character, trailing white space, which is
    stripped from an answer, and "Assistant:" at its beginning.
    """
    for end in ends:
        text = text.split(end)[0]
        begun = max(n for n in range(len(end)) if text.endswith(end[:n]))
        text = text[: len(text) - begun]
    text = text.rstrip("\ufffd").strip()
    return "" if ANSWERER.startswith(text) else text.removeprefix(ANSWERER).strip()
