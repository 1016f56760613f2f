"""Extract a model's answer from the output of other programs: without prompt, end symbols and markup.

`spoken` finds the answer in such a text; `clean` also removes what a reader does not see.
"""

import re
import unicodedata
from collections.abc import Iterable

INVISIBLE = dict.fromkeys((0xFEFF, *range(0x200B, 0x2010), 0x2060, 0x00AD))

SPECIAL = r"</?s>|<\|[^<>|]*\|>|<(?:bos|eos|pad|unk|image|imagehere|end_of_\w+)>|</?img>"
SPECIALS = re.compile(rf"(?:\s|{SPECIAL})*", re.I)
# Speakers in chat templates: a special token, a word with a colon, or a word alone on its line.
USER_SYMBOL = (
    r"<\|im_start\|>\s*(?:user|system)\b|<\|start_header_id\|>\s*(?:user|system)\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*user\b|<\|(?:user|system)\|>|\[INST\]"
)
ASSISTANT_SYMBOL = (
    r"<\|im_start\|>\s*assistant\b|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model\b|<\|assistant\|>|\[/INST\]"
)
OPENING = r"(?:^|(?<=[\s>#.!?]))(?:\#{2,3}\s*)?"  # before a speaker's name
USER = re.compile(
    rf"{USER_SYMBOL}|{OPENING}(?:USER|User|HUMAN|Human|Question|Q)\s?:|^(?:user|human)[ ]*$", re.M
)
ASSISTANT = re.compile(
    rf"{ASSISTANT_SYMBOL}|{OPENING}(?:ASSISTANT|Assistant|GPT|AI|(?:Short |Final )?[Aa]nswer|A)\s?:"
    r"|(?:^|(?<=[.!?]))assistant[ ]*$",
    re.M,
)
SYSTEM = re.compile(
    r"A (?:chat|conversation) between|Give the following image|You (?:are|will be)\b|system\b|<<SYS>>"
    r"|Below is an? |The following is a |This is a (?:chat|conversation)"
)
# What ends an answer: an end symbol, or the next turn, which some models write themselves.
END = re.compile(
    rf"{SPECIAL}|<start_of_turn>|\[/?INST\]|(?<=\S)[ \t]*\#\#\#|\#\#\#\s*$"  # leading ### is a heading
    r"|(?:^|(?<=[\s.!?]))(?:USER|HUMAN|ASSISTANT)\s?:|^(?:user|human|assistant)[ ]*$"
    r"|(?:^|(?<=[.!?])[ ]|\#\#\#\s*)(?:User|Human|Assistant|Question|Q)\s?:",
    re.M | re.I,
)
LABEL = re.compile(
    r"^\W*(?:(?:(?:the|my) )?(?:short |final |correct )?(?:answer|response|reply)(?: is)?\s*:"
    r"|(?:the|my) answer is\b|a\s*:)\W*",
    re.I,
)
# Reasoning before an answer; some programs leave its first tag out, and a token limit may leave out its last.
REASONING = re.compile(r"\A(?:(?!<think>).)*?</think>|<think>.*?(?:</think>|\Z)", re.S | re.I)
TAGGED = re.compile(r".*<answer>(.*?)(?:</answer>.*|$)", re.S | re.I)
MARKUP = (
    (re.compile(r"<br ?/?>", re.I), "\n"),
    (re.compile(r"<box>.*?</box>|\{(?:<\d+>)+\}|</?(?:p|b|i|em|strong|u|span|div|ref)>", re.I), ""),
    (re.compile(r"^\s*```\w*[ ]*$|```", re.M), ""),
    (re.compile(r"!?\[([^\]\n]+)\]\([^)\s]*\)"), r"\1"),  # a link
    (re.compile(r"\\(?:boxed|text|textbf)\{(?:\\text(?:bf)?\{)?([^{}]*)\}+"), r"\1"),
    (re.compile(r"(?<![\w*])(\*{1,3}|_{1,3}|~~|`)(?=\S)([^\n]+?)(?<=\S)\1(?![\w*])"), r"\2"),
    (re.compile(r"^[ \t]*(?:#{1,6}|>|[*+•-])[ \t]+", re.M), ""),
)


def spoken(text: str, questions: Iterable[str | None] = ()) -> str:
    """Return the answer in a text, without a prompt or reasoning before it or end symbols and further turns
    after it.

    `questions` are wordings of the request that the prompt may contain.
    """
    text = SPECIALS.sub("", text, count=1)
    text = TAGGED.sub(r"\1", REASONING.sub("", text[after_prompt(text, questions) :]))
    text = SPECIALS.sub("", text, count=1)
    end = END.search(text, 1)
    return text[: end.start() if end else None].strip()


def after_prompt(text: str, questions: Iterable[str | None]) -> int:
    """Return where the answer begins: after the prompt, if the text has one."""
    for question in filter(None, questions):
        asked = re.search(r"\s+".join(map(re.escape, question.split())), text, re.I)
        if asked and (answer := ASSISTANT.search(text, asked.end())):
            return answer.end()
        if asked and not said(text[: asked.start()]) and said(text[asked.end() :]):  # the question alone
            return len(text) - len(re.sub(r"^[\s?.:]*", "", text[asked.end() :]))
    user, answer = USER.search(text), ASSISTANT.search(text)
    if not answer:
        return 0
    before = text[: min(answer.start(), user.start() if user else answer.start())]
    return answer.end() if not said(before) or SYSTEM.match(before) else 0


def said(text: str) -> bool:
    """Return whether a text contains a word."""
    return bool(re.search(r"\w", text))


def clean(text: str, questions: Iterable[str | None] = ()) -> str:
    """Return the answer in a text as a reader sees it: `spoken`, NFKC-normalised, without invisible
    characters, markup or a label such as "Answer:".
    """
    text = spoken(unicodedata.normalize("NFKC", text.translate(INVISIBLE)), questions)
    for sign, kept in MARKUP:
        text = sign.sub(kept, text)
    text = text.strip()
    return LABEL.sub("", text) or text
