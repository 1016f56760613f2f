"""Stage 2 (paper, section 3.3): the projection is trained further on detailed descriptions in a conversation.

One function trains MiniGPT-4 and its variants: other texts make the one on Localized Narratives and the
oracle, another model and template make BLIP-2 FT.
"""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mglib.config import TrainConfig
from mglib.curation.select import Curation
from mglib.data.own import read_cc_sbu_align
from mglib.data.quarantine import strict
from mglib.data.splits import Pairs
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import CAPTION, IGNORE, Template
from mglib.paths import hash_json
from mglib.study import display_names
from mglib.study.curation import curation_of
from mglib.study.models import PromptedModel, prompted_blip2, prompted_stage1
from mglib.study.stage1 import Stage1, picture_layout
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.weights.tensors import hash_tensors

HELD_OUT = 10  # every tenth text is held out, for model selection
FILL = {"ids": 0, "mask": 0, "slots": False, "labels": IGNORE}  # padding of a row, as in `training_batch`


@dataclass(frozen=True)
class Stage2Data:
    """Texts of one kind about pictures of the pool; every `HELD_OUT`-th is held out."""

    queries: list[Tensor]  # (Q, D_q) each
    texts: list[str]
    held_queries: list[Tensor] = field(default_factory=list)
    held_texts: list[str] = field(default_factory=list)


def stage2_data(study: Study, base: Stage1) -> dict[str, Stage2Data]:
    """Return what stage 2 and its variants learn from; `base` holds the pool.

    *curated*: notebook 03's texts. In a small world, further texts about the same pictures: *locna*:
    Localized Narratives; *oracle*: true descriptions. In a release, texts about other pictures: *official*:
    the authors' own curated pairs.
    """
    ids, queries, texts = kept_texts(base, *curation_of(study, base))
    found = {"curated": (queries, texts)}
    for kind, others in study.pool_texts().items():
        known = [index for index, one in enumerate(ids) if int(one) in others]  # special pictures have none
        found[kind] = [queries[index] for index in known], [others[int(ids[index])] for index in known]
    for kind, name in study.stage2_splits.items():
        split = study.split(name)
        seen = study.queries(split, study.tokens(split, base.vision), base.model.qformer)
        found[kind] = list(seen), list(split.captions)
    return {kind: held_out_split(*both) for kind, both in found.items()}


def kept_texts(base: Stage1, curation: Curation, folder: Path) -> tuple[list[str], list[Tensor], list[str]]:
    """Read a curated folder: each picture's id, its queries (Q, D_q), and its text."""
    index = {one.description.image_id: row for row, one in enumerate(curation.pictures)}
    pairs = list(strict(read_cc_sbu_align(folder)))
    ids = [pair.file.stem for pair in pairs]
    return ids, [base.queries["pool"][index[one]] for one in ids], [pair.answer for pair in pairs]


def held_out_split(queries: list[Tensor], texts: list[str]) -> Stage2Data:
    """Hold out every `HELD_OUT`-th text with its picture, starting with the first."""
    learnt, said = list(queries), list(texts)
    del learnt[::HELD_OUT], said[::HELD_OUT]
    return Stage2Data(learnt, said, queries[::HELD_OUT], texts[::HELD_OUT])


def prompted_models(study: Study, base: Stage1) -> dict[str, PromptedModel]:
    """Return the models that the evaluation compares.

    *stage1* and, if there is one, *blip2*: before stage 2; *minigpt4* and *blip2_ft*: after it; all others:
    after it with other texts, by their kind.
    """
    learnt = stage2_data(study, base)
    found = {"stage1": prompted_stage1(study, base)}
    plans = [("minigpt4", "stage1", "curated")]
    if study.has_blip2:
        found = {"blip2": prompted_blip2(study.blip2), **found}
        plans.insert(0, ("blip2_ft", "blip2", "curated"))
    plans += [(kind, "stage1", kind) for kind in learnt if kind != "curated"]
    for name, start, kind in plans:
        found[name], _ = train_stage2(study, found[start], learnt[kind], what=name)
    return display_names.ordered(found)


def train_stage2(
    study: Study,
    start: PromptedModel,
    data: Stage2Data,
    *,
    what: str,
    config: TrainConfig | None = None,
    questions: Sequence[str] | None = None,
) -> tuple[PromptedModel, Trained]:
    """Train the projection of `start` on pictures and their texts.

    `start` itself is unchanged: the returned model has its own projection. Each batch is asked one of
    `questions`, by default the model's own for stage 2. The texts are not cleaned (official: stage 1's are).
    Raises ValueError if picture, question and answer are longer than the language model's context.
    """
    config, questions = config or study.profile.stage2, questions or start.questions
    model = with_own_projection(start.model)
    collate = instructed(model, start.template, questions, config.max_answer, seed=study.seed)
    pairs = Pairs("queries", data.queries, data.texts)
    trained = train(
        study,
        model,
        pairs,
        pairs.collate(collate),
        config,
        f"stage2-{what}",
        queries=hash_tensors(dict(enumerate(data.queries))),
        texts=hash_json(list(data.texts)),
        wording=hash_json([asdict(start.template), list(questions)]),
    )
    return replace(start, model=model), trained


def with_own_projection(start: MiniGPT4) -> MiniGPT4:
    """Share all frozen parts of a model and copy its projection, the only part to be trained."""
    start.vision.requires_grad_(False)
    start.qformer.requires_grad_(False)
    return start.sharing(projection=deepcopy(start.projection).requires_grad_(True))


def instructed(
    model: MiniGPT4, template: Template, questions: Sequence[str], max_answer: int, *, seed: int
) -> Callable[[list[str]], dict[str, Tensor]]:
    """Return a function that lays out texts after a picture and a question, drawn once per batch (official).

    The draw depends on the seed and on the batch itself, so a resumed training draws the same.
    """
    longest = model.language.model.config.max_position_embeddings
    tokenizer, Q = model.language.tokenizer, model.qformer.config.queries

    def layout(texts: list[str]) -> dict[str, Tensor]:
        question = random.Random(f"{seed}/{hash_json(texts)}").choice(questions)
        asked = [question] * len(texts)
        batch = prompts.training_batch(tokenizer, template, asked, texts, queries=Q, max_answer=max_answer)
        if batch["ids"].shape[1] > longest:
            raise ValueError(
                f"Picture, question and answer take {batch['ids'].shape[1]} tokens and this language model "
                f"reads {longest}: lower `max_answer` of stage 2 (now {max_answer})."
            )
        return batch

    return layout


# --- Replay of stage 1's pairs, against forgetting (Robins 1995, rehearsal) ---


def replaying(
    study: Study,
    model: MiniGPT4,
    collate: Callable[[list], dict[str, Tensor]],
    queries: Sequence[Tensor],
    captions: Sequence[str],
) -> Callable[[list], dict[str, Tensor]]:
    """Return a function that lays out a batch as `collate` does and appends as many of stage 1's pairs, in
    stage 1's form; `queries` holds their (Q, D_q).

    The draw depends on the seed and on the batch itself, so a resumed training draws the same.
    """
    pairs = Pairs("queries", queries, captions)
    form = picture_layout(
        model.language, CAPTION, model.qformer.config.queries, study.profile.stage1.max_answer
    )
    again = pairs.collate(form)

    def both(rows: list) -> dict[str, Tensor]:
        new = collate(rows)
        drawn = random.Random(f"{study.seed}/{hash_json(new['ids'].tolist())}")
        return stacked(new, again([pairs[drawn.randrange(len(pairs))] for _ in rows]))

    return both


def stacked(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Any]:
    """Concatenate two batches, the shorter one padded on the right."""
    longest = max(one["ids"].shape[1], other["ids"].shape[1])

    def filled(batch: dict[str, Tensor], name: str) -> Tensor:
        rows = batch[name]
        missing = longest - rows.shape[1] if name in FILL else 0
        return nn.functional.pad(rows, (0, missing), value=FILL[name]) if missing else rows

    return {name: torch.cat([filled(one, name), filled(other, name)]) for name in one}
