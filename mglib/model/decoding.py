"""Batched decoding, greedy or with the official sampling; each row has its own seed and its own end."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase, RepetitionPenaltyLogitsProcessor
from transformers.generation import GenerationConfig

from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template, generation_batch

LIKELY = 1024  # the nucleus is first searched among this many top tokens


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How tokens are chosen; the defaults are the official chat's (`conversation.py`), at a fixed seed."""

    sample: bool = True
    top_p: float = 0.9
    temperature: float = 1.0
    repetition_penalty: float = 1.05
    max_new_tokens: int = 300
    seed: int = 0
    beams: int = 1  # beam width (`num_beams` in the official demo)

    def __post_init__(self) -> None:
        if self.beams < 1 or (self.sample and not (self.temperature >= 1e-3 and 0 < self.top_p <= 1)):
            raise ValueError(
                f"{self}: take beams >= 1, temperature >= 0.001, 0 < top_p <= 1, or sample=False for greedy."
            )


def greedy(max_new_tokens: int) -> Decoding:
    """Return settings that always take the likeliest token."""
    return Decoding(sample=False, repetition_penalty=1.0, max_new_tokens=max_new_tokens)


def row_seed(seed: int, name: object) -> int:
    """Derive the seed of one row from a base seed and the row's name: a number or a picture's id."""
    return int.from_bytes(sha256(f"{seed}/{name}".encode()).digest()[:6])


class Steps:
    """Decodes B rows token by token, `max_new_tokens` times or until the caller stops: an iterator over the
    next token of every row, (B,). The latest token is not in the cache yet.
    """

    def __init__(
        self,
        language: Language,
        embeddings: Tensor,
        mask: Tensor,
        decoding: Decoding,
        seeds: Sequence[int],
        cache: DynamicCache,
    ) -> None:
        """`embeddings` (B, S, D_l) holds the positions that are not cached yet; `mask` (B, T) covers all T,
        padded on the left, T - S of them cached.
        """
        self.language, self.decoding, self.cache = language, decoding, cache
        self.unread, self.mask = embeddings, mask
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.ids = torch.zeros(len(mask), 0, dtype=torch.long, device=mask.device)  # (B, new)

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.decoding.max_new_tokens):
            yield self.step()

    @torch.inference_mode()
    def step(self) -> Tensor:
        """Run the model on the uncached positions and choose one token per row, (B,)."""
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -self.unread.shape[1] :]  # (B, S)
        hidden = self.language.model.get_decoder()(
            inputs_embeds=self.unread,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state  # (B, S, D_l)
        scores = self.language.logits(hidden[:, -1]).float()  # (B, V)
        chosen = choose(scores, self.ids, self.decoding, self.generators)  # (B,)
        self.ids = torch.cat([self.ids, chosen.unsqueeze(1)], dim=1)
        self.unread = self.language.embed(chosen.unsqueeze(1))  # (B, 1, D_l)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        return chosen

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Continue with the given rows only."""
        places = torch.tensor(rows, device=self.mask.device)
        self.unread, self.mask, self.ids = (kept[places] for kept in (self.unread, self.mask, self.ids))
        self.generators = [self.generators[row] for row in rows]
        self.cache.batch_select_indices(places)


def choose(scores: Tensor, ids: Tensor, decoding: Decoding, generators: Sequence[torch.Generator]) -> Tensor:
    """Pick one token per row from scores (B, V), given the row's earlier new tokens (B, new).

    The repetition penalty counts new tokens only, as in the official chat, which passes embeddings too.
    """
    if not scores.amax(1).isfinite().all():
        raise FloatingPointError("The language model's scores are nan or infinite: load it in fp32 or bf16.")
    if decoding.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty)(ids, scores)
    if not decoding.sample:
        return scores.argmax(1)
    marks = torch.cat([torch.rand(1, 1, generator=each, dtype=torch.double) for each in generators])  # (B, 1)
    return draw(scores / decoding.temperature, decoding.top_p, marks)


def draw(scores: Tensor, top_p: float, marks: Tensor, likely: int = LIKELY) -> Tensor:
    """Draw one token per row, (B,), from the nucleus of scores (B, V), by one random number each, (B, 1).

    The nucleus (Holtzman et al. 2020) is the smallest set of likeliest tokens whose sum reaches `top_p`.
    The `likely` best tokens nearly always contain it; only rows where they do not are sorted in full.
    """
    best, tokens = scores.topk(min(likely, scores.shape[1]))  # (B, K), the likeliest first
    chances = (best - scores.logsumexp(1, keepdim=True)).cpu().double().exp()
    chances *= chances.cumsum(1) - chances < top_p  # the tokens before it do not reach `top_p`
    heights = chances.cumsum(1)  # (B, K)
    # `right`: a token of zero probability is never the first whose height exceeds the mark.
    places = torch.searchsorted(heights, marks * heights[:, -1:], right=True)  # (B, 1)
    chosen = tokens.gather(1, places.to(tokens.device)).squeeze(1)
    unfinished = (heights[:, -1] < top_p).nonzero().squeeze(1)
    if len(unfinished) and likely < scores.shape[1]:
        rows = unfinished.to(scores.device)
        chosen[rows] = draw(scores[rows], top_p, marks[unfinished], likely=scores.shape[1])
    return chosen


def answer(
    model: MiniGPT4,
    images: dict[str, Tensor],
    template: Template,
    questions: Sequence[str],
    decoding: Decoding,
    *,
    first: int = 0,
) -> list[str]:
    """Answer one question per picture; each question holds the picture's placeholder.

    `images` holds `pixels`, `tokens` or `queries` of B pictures, as a batch of `MiniGPT4` does. A row's seed
    is derived from `decoding.seed` and the row's number, counted from `first`.
    """
    seeds = [row_seed(decoding.seed, first + row) for row in range(len(questions))]
    return respond(model, images, template, questions, decoding, seeds)


@torch.inference_mode()
def write(
    model: MiniGPT4,
    images: dict[str, Tensor],
    template: Template,
    questions: Sequence[str],
    decoding: Decoding,
    seeds: Sequence[int],
) -> list[str]:
    """Answer as `answer` does, with one seed per row: row and seed alone determine its text, up to rounding.

    Prompts are padded on the left. Finished rows leave the batch as soon as they make up half of it.
    """
    language, tokenizer = model.language, model.language.tokenizer
    layout = generation_batch(tokenizer, template, questions, queries=model.qformer.config.queries)
    device = model.projection.weight.device
    batch = {name: value.to(device) for name, value in {**images, **layout}.items()}
    ends = (template.end, tokenizer.eos_token)
    said: list[list[int]] = [[] for _ in questions]
    rows = list(range(len(said)))  # indices of the questions still in the batch
    steps = Steps(language, model.embed(batch), batch["mask"], decoding, seeds, DynamicCache())
    going = set(rows)
    for tokens in steps:
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row in going:
                said[row].append(token)
                if has_ended(tokenizer, said[row], ends):
                    going.remove(row)
        if not going:
            break
        if 2 * len(going) <= len(rows):
            steps.keep([place for place, row in enumerate(rows) if row in going])
            rows = [row for row in rows if row in going]
    return [until_end(tokenizer.decode(ids), *ends) for ids in said]


@torch.inference_mode()
def respond(
    model: MiniGPT4,
    images: dict[str, Tensor],
    template: Template,
    questions: Sequence[str],
    decoding: Decoding,
    seeds: Sequence[int],
) -> list[str]:
    """Answer as `write` does, or with the best beam of each row if there are several."""
    if decoding.beams == 1:
        return write(model, images, template, questions, decoding, seeds)
    tokenizer, device = model.language.tokenizer, model.projection.weight.device
    layout = generation_batch(tokenizer, template, questions, queries=model.qformer.config.queries)
    batch = {name: value.to(device) for name, value in {**images, **layout}.items()}
    ends = (template.end, tokenizer.eos_token)
    found = search(model.language, model.embed(batch), batch["mask"], decoding, seeds, ends)
    return [until_end(tokenizer.decode(ids), *ends) for ids in found]


@torch.inference_mode()
def search(
    language: Language,
    embeddings: Tensor,
    mask: Tensor,
    decoding: Decoding,
    seeds: Sequence[int],
    ends: Sequence[str],
) -> list[list[int]]:
    """Return transformers' best beam after each row of (B, T, D_l), padded left; sampled rows one by one."""
    if decoding.sample and len(seeds) > 1:
        rows = ((embeddings[row : row + 1], mask[row : row + 1], [seed]) for row, seed in enumerate(seeds))
        return [search(language, one, seen, decoding, seed, ends)[0] for one, seen, seed in rows]
    tokenizer = language.tokenizer
    settings = GenerationConfig(
        num_beams=decoding.beams,
        do_sample=decoding.sample,
        temperature=decoding.temperature if decoding.sample else 1.0,
        top_p=decoding.top_p if decoding.sample else 1.0,
        top_k=0,
        repetition_penalty=decoding.repetition_penalty,  # acts on log-probabilities here
        max_new_tokens=decoding.max_new_tokens,
        pad_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )

    def ended(ids: Tensor, _: object) -> Tensor:
        return torch.tensor([has_ended(tokenizer, row, ends) for row in ids.tolist()], device=ids.device)

    with torch.random.fork_rng(), warnings.catch_warnings():
        # transformers warns that the penalty counts new tokens only, which is intended (see `choose`)
        warnings.filterwarnings("ignore", message="Passing `repetition_penalty`")
        torch.manual_seed(seeds[0])
        found = language.model.generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            generation_config=settings,
            stopping_criteria=[ended],
        )
    return found.tolist()


def has_ended(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: Sequence[str]) -> bool:
    """Return whether the last token completes an end symbol.

    Decodes as many tokens as the longest symbol has characters.
    """
    tail = tokenizer.decode(ids[-max(map(len, ends)) :])
    return any(end in tail for end in ends)


def until_end(text: str, *ends: str) -> str:
    """Cut a text at its first end symbol and drop all up to "Assistant:", as the official chat does."""
    for end in ends:
        text = text.split(end)[0]
    return text.split("Assistant:")[-1].strip()
