"""Every model of the study with what it descends from, as notebooks 01 to 04 make them.

All of it is found again by its content; what is missing is made. Notebooks 03 to 06 start here.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas
from torch import Tensor

from mglib.config import TrainConfig
from mglib.curation.critic import Critic, sentence_scores
from mglib.curation.repair import repair
from mglib.curation.select import Curation
from mglib.data import released
from mglib.data.narratives import read_narratives
from mglib.data.own import read_cc_sbu_align
from mglib.data.quarantine import strict
from mglib.data.records import read_json
from mglib.data.splits import Split
from mglib.evals import generate
from mglib.model import prompts
from mglib.model.blip2 import KEYWORDS
from mglib.model.decoding import Decoding
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.model.vision import Vision
from mglib.study import blip2 as blip2_release
from mglib.study import finetune, naming, stages, web
from mglib.study.blip2 import Blip2
from mglib.study.curation import curated
from mglib.study.stages import Trained
from mglib.study.study import PublishedStudy, Study
from mglib.training.feature_cache import Features
from mglib.weights import sources
from mglib.world.build import build
from mglib.world.scene import SPECIAL_SPLITS


@dataclass(frozen=True, kw_only=True)
class Stage1:
    """MiniGPT-4 after stage 1, and what it was made from; splits, tokens and queries by a split's name.

    A profile made from published files has no BLIP-2 that speaks, and its stage 1 streams: nothing of `train`
    is kept.
    """

    splits: dict[str, Split]
    vision: Vision
    tokens: dict[str, Features]  # (N, D_v) a picture
    blip2: Blip2 | None
    queries: dict[str, Features]  # (Q, D_q) a picture
    language: Language
    model: MiniGPT4
    trained: Trained


def stage1(study: Study, *names: str) -> Stage1:
    """Make everything up to stage 1, with the features of the named splits, and those of `train` if kept."""
    if isinstance(study, PublishedStudy):
        return stage1_of_release(study, names)
    build(study.profile.world, font=sources.font(), folder=study.world)
    splits = {name: study.split(name) for name in ("train", *names)}
    vision = study.vision()
    tokens = {name: study.tokens(split, vision) for name, split in splits.items()}
    blip2 = blip2_release.load(study)
    qformer, state = blip2.model.qformer, blip2.state
    queries = {name: study.queries(split, tokens[name], qformer, state) for name, split in splits.items()}
    language = study.language()
    model, trained = stages.stage1(study, qformer, state, language, splits["train"], queries["train"])
    return Stage1(
        splits=splits,
        vision=vision,
        tokens=tokens,
        blip2=blip2,
        queries=queries,
        language=language,
        model=model,
        trained=trained,
    )


def stage1_of_release(study: PublishedStudy, names: Sequence[str]) -> Stage1:
    """Join the published parts with stage 1 as `make train` or the authors left it, or train it."""
    model, trained = web.after_stage1(study)
    splits = {name: study.split(name) for name in names}
    tokens = {name: study.tokens(split, model.vision) for name, split in splits.items()}
    queries = {
        name: study.queries(split, tokens[name], model.qformer, study.qformer_state)
        for name, split in splits.items()
    }
    return Stage1(
        splits=splits,
        vision=model.vision,
        tokens=tokens,
        blip2=None,
        queries=queries,
        language=model.language,
        model=model,
        trained=trained,
    )


def started(study: Study, base: Stage1) -> MiniGPT4:
    """Return the model as it was before the first step of stage 1."""
    if base.blip2 is None:
        return untrained(study, base)
    parts = base.model.qformer, base.language, base.splits["train"], base.queries["train"]
    return stages.start(study, *parts)


def untrained(study: Study, base: Stage1) -> MiniGPT4:
    """Return the model with a random projection: a control."""
    if base.blip2 is not None:
        first = stages.first(base.queries["train"])
        return stages.attach(study, base.model.qformer, base.language, first)
    return web.assembled(study, base.vision, base.model.qformer, base.language)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Texts of one kind about pictures of the pool; each `hold_out`-th is kept back for choices."""

    shown: list[Tensor]  # (Q, D_q) each
    texts: list[str]
    held_shown: list[Tensor]
    held_texts: list[str]


def lessons(study: Study, base: Stage1) -> dict[str, Lesson]:
    """Return what stage 2 and its variants learn from; `base` holds the pool.

    *curated*: notebook 03's texts; *no_critic*, where a critic looks: what is kept when none does. About the
    same pictures as *curated*, where they belong to a small world: *locna*: Localized Narratives; *oracle*:
    true descriptions. Of a release, about other pictures: *official*: the authors' own curated pairs.
    """
    every = study.profile.stage2_hold_out
    ids, shown, texts = kept_texts(base, *curation_of(study, base))
    found = {"curated": lesson(shown, texts, every)}
    if study.profile.curation.fitting is not None:
        _, pictures, uncritical = kept_texts(base, *curation_of(study, base, critical=False))
        found["no_critic"] = lesson(pictures, uncritical, every)
    if isinstance(study, PublishedStudy):
        official = study.split(released.ALIGNMENT)
        seen = study.queries(
            official, study.tokens(official, base.vision), base.model.qformer, study.qformer_state
        )
        return {**found, "official": lesson(list(seen), official.captions, every)}
    others = other_texts(study)
    return found | {
        kind: lesson(shown, [said[int(one)] for one in ids], every) for kind, said in others.items()
    }


def kept_texts(base: Stage1, curation: Curation, folder: Path) -> tuple[list[str], list[Tensor], list[str]]:
    """Read a curated folder: each picture's id, its queries (Q, D_q), and its text."""
    place = {one.description.image_id: row for row, one in enumerate(curation.pictures)}
    pairs = list(strict(read_cc_sbu_align(folder)))
    ids = [pair.image_id for pair in pairs]
    return ids, [base.queries["pool"][place[one]] for one in ids], [pair.caption for pair in pairs]


def lesson(shown: Sequence[Tensor], texts: Sequence[str], every: int) -> Lesson:
    """Keep each `every`-th text with its picture back."""
    (learnt, held), (said, kept_back) = (finetune.hold_out(items, every) for items in (shown, texts))
    return Lesson(shown=learnt, texts=said, held_shown=held, held_texts=kept_back)


def other_texts(study: Study) -> dict[str, dict[int, str]]:
    """Return what the small world has to say about the pool, by the number of a picture."""
    pool = study.world / "pool"
    narratives = strict(read_narratives(pool / "localized_narratives.jsonl"))
    narrated = {int(one.image_id): one.caption for one in narratives}
    notes = read_json(pool / "descriptions.json")["annotations"]
    described = {int(one["image_id"]): one["caption"] for one in notes}
    return {"locna": narrated, "oracle": described}


def curation_of(
    study: Study,
    base: Stage1,
    rewriter: Callable[[str], str] = repair,
    *,
    critical: bool = True,
) -> tuple[Curation, Path]:
    """Curate the pool with the stage-1 model and, where the profile asks for one, a critic (`critical`).

    What was curated before with the same settings is found again.
    """
    judges = critical and study.profile.curation.fitting is not None
    return curated(
        study,
        base.model,
        base.trained.state,
        base.queries["pool"],
        rewriter,
        critic=partial(critic(study, base), base.tokens["pool"]) if judges else None,
    )


def critic(study: Study, base: Stage1) -> Critic:
    """Return BLIP-2's contrast as a critic of sentences about pictures, given by their vision tokens.

    Raises ValueError where the Q-Former comes without its text branch.
    """
    if base.blip2 is None:
        raise ValueError(
            "The released Q-Former is read without its text branch, so it cannot judge texts: set "
            "`fitting` to None and `temperatures` to () in the profile's curation."
        )
    return partial(
        sentence_scores,
        base.blip2.representation,
        tokenizer=base.blip2.language.tokenizer,
        max_text=study.profile.pretrain.max_text,
    )


@dataclass(frozen=True, kw_only=True)
class PromptedModel:
    """A model and how it is asked: in a conversation, or, where `wording` has no "{}", by the picture
    alone.
    """

    model: MiniGPT4
    template: Template
    wording: str = prompts.with_image("{}")  # "{}" is the question

    @property
    def reads(self) -> bool:
        """Whether it is told the question at all."""
        return "{}" in self.wording

    @property
    def questions(self) -> tuple[str, ...]:
        """What stage 2 asks it."""
        return tuple(dict.fromkeys(map(self.question, finetune.INSTRUCTIONS)))

    def question(self, text: str) -> str:
        """Put a question into the words that the model was trained with."""
        return self.wording.replace("{}", text)

    def answers(
        self, queries: Sequence[Tensor], text: str, decoding: Decoding, *, batch_size: int, what: str
    ) -> list[str]:
        """Ask the same question about every picture; `queries` holds (Q, D_q) of each."""
        return generate.answers(
            self.model,
            queries,
            self.template,
            self.question(text),
            decoding,
            batch_size=batch_size,
            what=what,
        )


def prompted_blip2(blip2: Blip2) -> PromptedModel:
    """Return BLIP-2 mini, whose language model has never read a question."""
    return PromptedModel(model=blip2.model, template=KEYWORDS, wording=prompts.IMAGE)


def prompted_stage1(study: Study, base: Stage1) -> PromptedModel:
    """Return the model after stage 1, asked in the language model's conversation."""
    chat = prompts.template(study.profile.language.template, base.language.tokenizer)
    return PromptedModel(model=base.model, template=chat)


def stage2(
    study: Study, start: PromptedModel, lesson: Lesson, *, what: str, config: TrainConfig | None = None
) -> tuple[PromptedModel, Trained]:
    """Fine-tune a model on texts of one kind; the one that is given stays as it is."""
    model, trained = finetune.stage2(
        study,
        start.model,
        lesson.shown,
        lesson.texts,
        template=start.template,
        questions=start.questions,
        config=config,
        what=f"stage2-{what}",
    )
    return replace(start, model=model), trained


def prompted_models(study: Study, base: Stage1) -> dict[str, PromptedModel]:
    """Return the models that the evaluation compares.

    *stage1* and, where there is one, *blip2*: before stage 2; *minigpt4* and *blip2_ft*: after it;
    all others: after it with other texts, by the name of their lesson.
    """
    learnt = lessons(study, base)
    found = {"stage1": prompted_stage1(study, base)}
    plans = [("minigpt4", "stage1", "curated")]
    if base.blip2 is not None:
        found = {"blip2": prompted_blip2(base.blip2), **found}
        plans.insert(0, ("blip2_ft", "blip2", "curated"))
    plans += [(kind, "stage1", kind) for kind in learnt if kind != "curated"]
    for name, start, kind in plans:
        found[name], _ = stage2(study, found[start], learnt[kind], what=name)
    return naming.ordered(found)


def evaluated(study: Study) -> list[str]:
    """Return the splits that the evaluation of all models needs; some may stand there twice."""
    special = [name for name in SPECIAL_SPLITS if name.endswith("_test")] if study.profile.world else []
    return ["val", "pool", *study.tests, *study.questioned.values(), *special]


def overview(models: Mapping[str, PromptedModel]) -> pandas.DataFrame:
    """List the models with the size of their language model and how a question reaches them."""
    lines = [
        {
            "model": naming.name(name),
            "parameters of its language model": sum(p.numel() for p in one.model.language.parameters()),
            "asked": one.template.prompt(one.question("QUESTION")),
        }
        for name, one in models.items()
    ]
    return pandas.DataFrame(lines)


def side_by_side(models: Container[str]) -> tuple[str, str]:
    """Name the two whose answers figures show beside each other: BLIP-2, or else stage 1, and MiniGPT-4."""
    return "blip2" if "blip2" in models else "stage1", "minigpt4"
