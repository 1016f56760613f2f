"""Prompt templates and the sequence that the language model reads (official `minigpt4/models/mini_gpt4.py`).

[BOS] + text + Q visual tokens + text + answer + end symbol + padding. Each piece of text is tokenised
separately, without special tokens, so the picture's position never changes how nearby words are split.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

IMAGE = "<ImageHere>"  # replaced by the Q visual tokens
IGNORE = -100  # a label that the loss ignores
DATE = date(2024, 7, 26)  # given to chat templates as today's date (Llama 3's default)


@dataclass(frozen=True, kw_only=True)
class Template:
    """How a question is put to a language model, and the symbol that ends an answer."""

    name: str
    bos: bool  # whether the tokenizer's BOS token comes first
    turn: str  # "{}" is the question
    end: str

    def prompt(self, question: str) -> str:
        """Return the text before the answer; `question` holds IMAGE where the picture goes."""
        return self.turn.replace("{}", question)


# Stage 1: the picture alone, then its caption (official `prompt_path: ""`, end symbol "\n").
CAPTION = Template(name="caption", bos=True, turn="{}", end="\n")
# The paper's conversation template. In training there is a space before ###Assistant.
VICUNA = Template(name="vicuna", bos=True, turn="###Human: {} ###Assistant: ", end="###")
# The variant with LLaMA-2-chat (official `minigpt4_llama2.yaml`).
LLAMA2 = Template(name="llama2", bos=True, turn="[INST] {} [/INST] ", end="</s>")


def chat(tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the chat template that the language model itself was tuned with.

    Its text already includes the start of a conversation, so no BOS is added.
    """
    if tokenizer.chat_template is None:
        raise ValueError("This language model has no chat template of its own: use the template 'vicuna'.")
    turn = chat_text(tokenizer, [{"role": "user", "content": "{}"}], add_generation_prompt=True)
    return Template(name="chat", bos=False, turn=turn, end=tokenizer.eos_token)


def chat_text(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], **how: bool) -> str:
    """Format turns with the tokenizer's chat template, with DATE always in place of today's date."""
    dated = re.sub(
        r"strftime_now\((['\"])(.*?)\1\)",
        lambda call: repr(DATE.strftime(call[2])),
        tokenizer.get_chat_template(),
    )
    return tokenizer.apply_chat_template(turns, chat_template=dated, tokenize=False, **how)


def template(name: str, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template that a profile asks for by name."""
    if name == "chat":
        return chat(tokenizer)
    known = {one.name: one for one in (CAPTION, VICUNA, LLAMA2)}
    if name not in known:
        raise ValueError(f"Unknown prompt template {name!r}: choose one of {', '.join([*known, 'chat'])}.")
    return known[name]


def with_image(question: str) -> str:
    """Put the picture before a question, between the paper's markers."""
    return f"<Img>{IMAGE}</Img> {question}"


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenise one piece of text without adding special tokens."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, template: Template, question: str, *, queries: int
) -> tuple[list[int], list[bool]]:
    """Return the ids before the answer and, for each, whether it is a slot of the picture."""
    ids = [tokenizer.bos_token_id] if template.bos and tokenizer.bos_token_id is not None else []
    slots = [False] * len(ids)
    for number, segment in enumerate(template.prompt(question).split(IMAGE)):
        if number:  # a picture goes between two segments; its ids are placeholders
            ids += [0] * queries
            slots += [True] * queries
        piece = tokenize(tokenizer, segment)
        ids += piece
        slots += [False] * len(piece)
    return ids, slots


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase, answer: str, end: str, *, longest: int = 1 << 30
) -> list[int]:
    """Tokenise an answer with its end symbol, as the official code does: alone, LLaMA's has other ids.
    Deviation: only the answer is truncated, so that every sample teaches the model to stop.
    """
    whole, last = (tokenize(tokenizer, text + end) for text in (answer, "a"))
    last = last[len(tokenize(tokenizer, "a")) :]
    return whole if len(whole) <= longest else tokenize(tokenizer, answer)[: longest - len(last)] + last


def pad(rows: Sequence[Sequence], value: int | bool, *, left: bool) -> Tensor:
    """Stack rows of unequal length into (B, T), padded with `value` on one side."""
    longest = max(len(row) for row in rows)
    fill = [[value] * (longest - len(row)) for row in rows]
    return torch.tensor([[*f, *row] if left else [*row, *f] for f, row in zip(fill, rows, strict=True)])


def training_batch(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    queries: int,
    max_answer: int,
) -> dict[str, Tensor]:
    """Lay out a batch for training: ids, mask, slots and labels, each (B, T), padded on the right.

    Only the answer and its end symbol carry labels, and by their place, never by their id: some models use
    one token both as padding and as end.
    """
    ids, mask, slots, labels = [], [], [], []
    for question, answer in zip(questions, answers, strict=True):
        before, places = prompt_tokens(tokenizer, template, question, queries=queries)
        target = answer_tokens(tokenizer, answer, template.end, longest=max_answer)
        ids.append(before + target)
        mask.append([1] * len(ids[-1]))
        slots.append(places + [False] * len(target))
        labels.append([IGNORE] * len(before) + target)
    return {
        "ids": pad(ids, 0, left=False),
        "mask": pad(mask, 0, left=False),
        "slots": pad(slots, False, left=False),
        "labels": pad(labels, IGNORE, left=False),
    }


def generation_batch(
    tokenizer: PreTrainedTokenizerBase, template: Template, questions: Sequence[str], *, queries: int
) -> dict[str, Tensor]:
    """Lay out prompts for generation: ids, mask and slots, each (B, T), padded on the left."""
    rows = [prompt_tokens(tokenizer, template, question, queries=queries) for question in questions]
    ids, slots = [row[0] for row in rows], [row[1] for row in rows]
    mask = [[1] * len(row) for row in ids]
    return {
        "ids": pad(ids, 0, left=True),
        "mask": pad(mask, 0, left=True),
        "slots": pad(slots, False, left=True),
    }
