"""Several turns in one prompt, and decoding that draws each row from a generator of its own.

`mglib.generate` answers one question and draws a whole batch from one seed. Here a row's text does not depend
on its neighbours, tokens come one step at a time, and the keys and values can outlive an answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from mglib.generate import Decoding, until_end
from mglib.language import Language
from mglib.model import MiniGPT4
from mglib.prompts import VICUNA, Template, generation_batch

ANSWER = "(the answer stands here)"  # marks its place when a chat template is taken apart


@dataclass(frozen=True, kw_only=True)
class Turns:
    """How a conversation is written: its first turn, and what stands between an answer and the next one."""

    first: Template
    following: str  # "{}" is the question; holds what ends the answer before it

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return the symbols at which an answer is over."""
        return (self.first.end, tokenizer.eos_token)


# The official chat (`conversation.py`, CONV_VISION_Vicuna0): a system text, and no space before ###Assistant,
# where the template of training has one.
VICUNA_CHAT = Turns(
    first=replace(
        VICUNA,
        turn="Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I "
        "provide it to you. Please answer my questions.###Human: {}###Assistant: ",
    ),
    following="###Human: {}###Assistant: ",
)


def turns(form: Template, tokenizer: PreTrainedTokenizerBase) -> Turns:
    """Continue a template of one turn; raises ValueError for one that holds no conversation."""
    if form == VICUNA:  # "###" ends the answer and begins the next turn
        return Turns(first=form, following=form.turn)
    if form.name != "chat":
        raise ValueError(f"The template {form.name!r} has no second turn: use 'vicuna' or 'chat'.")
    messages = [
        {"role": "user", "content": "{}"},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "{}"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return Turns(first=form, following=text.split(ANSWER)[1])


@torch.inference_mode()
def steps(
    language: Language,
    embeddings: Tensor,
    mask: Tensor,
    decoding: Decoding,
    seeds: Sequence[int],
    cache: DynamicCache,
) -> Iterator[Tensor]:
    """Yield the next token of every row, (B,), `max_new_tokens` times; the caller stops when it has enough.

    `embeddings` (B, S, D_l) is what the cache does not hold yet, `mask` (B, T) covers all, T - S positions of
    it cached and padded on the left. The repetition penalty counts new tokens only, as in the official chat,
    which also gives embeddings and no ids. The token that was yielded last is not in the cache.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    ids = torch.zeros(len(mask), 0, dtype=torch.long, device=mask.device)  # (B, new)
    for _ in range(decoding.max_new_tokens):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -embeddings.shape[1] :]  # (B, S)
        hidden = language.model.get_decoder()(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state  # (B, S, D_l)
        chosen = choose(language.logits(hidden[:, -1]).float(), ids, decoding, generators)  # (B,)
        yield chosen
        ids = torch.cat([ids, chosen.unsqueeze(1)], dim=1)
        embeddings = language.embed(chosen.unsqueeze(1))  # (B, 1, D_l)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)


def choose(scores: Tensor, ids: Tensor, decoding: Decoding, generators: Sequence[torch.Generator]) -> Tensor:
    """Pick one token a row from scores (B, V), given the row's earlier new tokens (B, new)."""
    rules = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        rules.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if not decoding.sample:
        return rules(ids, scores).argmax(1)
    rules += [TemperatureLogitsWarper(decoding.temperature), TopPLogitsWarper(decoding.top_p)]
    return draw(rules(ids, scores), generators)


def draw(scores: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token a row, (B,), from unnormalised log-probabilities (B, V): one random number a row."""
    heights = scores.softmax(1).cpu().double().cumsum(1)  # (B, V)
    marks = torch.stack([torch.rand(1, generator=each, dtype=torch.double) for each in generators])  # (B, 1)
    # `right`: a token without probability is never the first whose height exceeds the mark.
    chosen = torch.searchsorted(heights, marks * heights[:, -1:], right=True).squeeze(1)
    return chosen.to(scores.device)


@torch.inference_mode()
def reply(
    model: MiniGPT4,
    images: dict[str, Tensor],
    turns: Turns,
    transcripts: Sequence[str],
    decoding: Decoding,
    seeds: Sequence[int],
) -> list[str]:
    """Return the next answer in each of B conversations, given as all the text before it.

    `images` holds `pixels`, `tokens` or `queries` of one picture a row; each transcript holds prompts.IMAGE
    once. Row and seed alone decide what a row says, up to rounding.
    """
    language, device = model.language, model.projection.weight.device
    tokenizer, ends = language.tokenizer, turns.ends(language.tokenizer)
    whole = replace(turns.first, turn="{}")
    layout = generation_batch(tokenizer, whole, transcripts, queries=model.qformer.config.queries)
    batch = {name: value.to(device) for name, value in {**images, **layout}.items()}
    rows: list[list[int]] = [[] for _ in transcripts]
    over = [False] * len(rows)
    for tokens in steps(language, model.embed(batch), batch["mask"], decoding, seeds, DynamicCache()):
        for index, token in enumerate(tokens.tolist()):
            if not over[index]:
                rows[index].append(token)
                over[index] = has_ended(tokenizer, rows[index], ends)
        if all(over):
            break
    return [until_end(tokenizer.decode(row), *ends) for row in rows]


def has_ended(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: Sequence[str]) -> bool:
    """Tell whether the last token has completed an end symbol.

    Looking at as many tokens as the longest symbol has letters is enough, and costs the same at every step.
    """
    tail = tokenizer.decode(ids[-max(map(len, ends)) :])
    return any(end in tail for end in ends)
