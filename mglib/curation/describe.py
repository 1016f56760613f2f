"""Descriptions by the stage-1 model for curation (paper, section 3.2); an interrupted run resumes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from mglib.data.journal import append, read_log
from mglib.keys import hash_source
from mglib.locks import locked
from mglib.model.decoding import Decoding, row_seed
from mglib.model.dialogue import Turns, reply
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import tokenize, with_image
from mglib.paths import hash_json

QUESTION = "Describe this image in detail. Give as many details as possible. Say everything you see."
CONTINUE = "Continue"


@dataclass(frozen=True)
class Description:
    """What the stage-1 model said about one picture: one answer, or two if the first was short."""

    image_id: str
    answers: tuple[str, ...]
    tokens: tuple[int, ...]  # number in each answer, without the end symbol
    seed: int

    @property
    def text(self) -> str:
        """The answers, joined."""
        return " ".join(answer for answer in self.answers if answer)

    @property
    def continued(self) -> bool:
        return len(self.answers) > 1


def describe(
    model: MiniGPT4,
    queries: Sequence[Tensor],
    ids: Sequence[str],
    turns: Turns,
    decoding: Decoding,
    *,
    short: int,
    folder: Path,
    depends: Sequence[object],
    batch_size: int,
) -> list[Description]:
    """Let the stage-1 model describe every picture; `queries` holds the Q-Former's output of each, (Q, D_q).

    Answers of `short` tokens or fewer are continued. The lines go to a file in `folder` that is named by the
    settings and by what else they depend on (`depends`: the hashes of projection and Q-Former, the
    precision). An interrupted run resumes there and ends in the same file as an uninterrupted one: each
    picture has its own seeds, and the batch boundaries stay the same.
    """
    if len(queries) != len(ids) or len(set(ids)) < len(ids):
        raise ValueError(f"{len(queries)} pictures have {len(set(ids))} different ids: each needs one.")
    chosen = asdict(decoding)
    if chosen.pop("beams") > 1:
        raise ValueError("The pool is described token by token: leave `beams` at 1.")
    settings = [QUESTION, CONTINUE, short, asdict(turns), chosen, batch_size, list(ids)]
    code = hash_source(describe_batch, type(model), type(model.language))
    file = folder / f"described-{hash_json([settings, [str(item) for item in depends], code])}.jsonl"
    with locked(file):
        done = read_descriptions(file)
        if [line.image_id for line in done] != list(ids[: len(done)]):
            raise ValueError(
                f"{file} lists other pictures than these: delete it and run the same command again."
            )
        if len(done) == len(ids):
            return done
        starts = range(len(done) // batch_size * batch_size, len(ids), batch_size)
        for start in tqdm(starts, desc="descriptions", mininterval=10):
            rows = range(len(ids))[start : start + batch_size]
            pictures = torch.stack([queries[row] for row in rows])
            made = describe_batch(model, pictures, [ids[row] for row in rows], turns, decoding, short)
            append(file, map(asdict, made[max(0, len(done) - start) :]))
        return read_descriptions(file)


def describe_batch(
    model: MiniGPT4, queries: Tensor, ids: Sequence[str], turns: Turns, decoding: Decoding, short: int
) -> list[Description]:
    """Describe B pictures, given as (B, Q, D_q), in one batch, then continue the short answers."""
    tokenizer = model.language.tokenizer
    seeds = [row_seed(decoding.seed, image_id) for image_id in ids]  # a second answer uses seed + 1
    prompt = turns.first.prompt(with_image(QUESTION))
    firsts = reply(model, {"queries": queries}, turns, [prompt] * len(ids), decoding, seeds)
    made = [
        Description(image_id, (text,), (len(tokenize(tokenizer, text)),), seed)
        for image_id, text, seed in zip(ids, firsts, seeds, strict=True)
    ]
    brief = [row for row, one in enumerate(made) if one.tokens[0] <= short]
    if brief:
        go_on = turns.following.replace("{}", CONTINUE)
        prompts = [prompt + firsts[row] + go_on for row in brief]
        more = reply(
            model, {"queries": queries[brief]}, turns, prompts, decoding, [seeds[row] + 1 for row in brief]
        )
        for row, text in zip(brief, more, strict=True):
            one, count = made[row], len(tokenize(tokenizer, text))
            made[row] = replace(one, answers=(*one.answers, text), tokens=(*one.tokens, count))
    return made


def read_descriptions(file: Path) -> list[Description]:
    """Read the finished lines of a file, none if there is no file, and cut off a torn last line.

    Raises ValueError for any other line that is not a description.
    """
    made = []
    for number, entry in enumerate(read_log(file), start=1):
        try:
            made.append(
                Description(entry["image_id"], tuple(entry["answers"]), tuple(entry["tokens"]), entry["seed"])
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{file}, line {number} is damaged ({error!r}): delete the file and run the command again."
            ) from error
    return made
