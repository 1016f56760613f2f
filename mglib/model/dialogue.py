"""Multi-turn prompts: how a conversation is written, and how its next answer is generated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mglib.model.decoding import Decoding, write
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import LLAMA2, VICUNA, Template, chat_text

ANSWER = "(the answer stands here)"  # a placeholder, used to take a chat template apart


@dataclass(frozen=True, kw_only=True)
class Turns:
    """How a conversation is written: its first turn, and the text between one answer and the next."""

    first: Template
    following: str  # "{}" is the question; begins with what ends the previous answer
    between: str = " "  # joins two pictures of one question; the official chat begins a turn with each

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return the symbols that end an answer."""
        return (self.first.end, tokenizer.eos_token)


# The official chat (`conversation.py`, CONV_VISION_Vicuna0): a system text, no space before ###Assistant.
VICUNA_CHAT = Turns(
    first=replace(
        VICUNA,
        turn="Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I "
        "provide it to you. Please answer my questions.###Human: {}###Assistant: ",
    ),
    following="###Human: {}###Assistant: ",
    between="###Human: ",
)


def turns(template: Template, tokenizer: PreTrainedTokenizerBase) -> Turns:
    """Extend a single-turn template to a conversation; raises ValueError if it has no second turn."""
    if template == VICUNA:  # "###" ends the answer and begins the next turn
        return Turns(first=template, following=template.turn, between="###Human: ")
    if template == LLAMA2:
        return Turns(first=template, following=f"</s><s>{template.turn}", between="<s>[INST] ")
    if template.name != "chat":
        raise ValueError(f"The template {template.name!r} has no second turn: use 'vicuna' or 'chat'.")
    messages = [
        {"role": "user", "content": "{}"},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "{}"},
    ]
    text = chat_text(tokenizer, messages, add_generation_prompt=True)
    return Turns(first=template, following=text.split(ANSWER)[1])


def reply(
    model: MiniGPT4,
    images: dict[str, Tensor],
    turns: Turns,
    transcripts: Sequence[str],
    decoding: Decoding,
    seeds: Sequence[int],
) -> list[str]:
    """Return the next answer in each of B conversations, each given as its whole text so far.

    `images` holds `pixels`, `tokens` or `queries`, one picture per row; each transcript holds prompts.IMAGE
    once.
    """
    return write(model, images, replace(turns.first, turn="{}"), transcripts, decoding, seeds)
