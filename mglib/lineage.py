"""Every model of the study with what it descends from, as notebooks 01 to 04 make them.

All of it is found again by its content; what is missing is made. Notebooks 03 to 06 start here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from mglib import evaluate, finetune, prompts, stages
from mglib.curate import Curation
from mglib.curation import curated
from mglib.data.alignment import read_cc_sbu_align
from mglib.data.narratives import read_narratives
from mglib.data.quarantine import strict
from mglib.data.records import read_json
from mglib.data.splits import Split
from mglib.features import Features
from mglib.generate import Decoding
from mglib.language import Language
from mglib.model import MiniGPT4
from mglib.pretrain import KEYWORDS
from mglib.prompts import Template
from mglib.stages import Blip2, Trained
from mglib.study import Study
from mglib.vision import Vision
from mglib.weights import sources
from mglib.world.build import build


@dataclass(frozen=True, kw_only=True)
class Stage1:
    """MiniGPT-4 after stage 1, and what it was made from; splits, tokens and queries by a split's name."""

    splits: dict[str, Split]
    vision: Vision
    tokens: dict[str, Features]  # (N, D_v) a picture
    blip2: Blip2
    queries: dict[str, Features]  # (Q, D_q) a picture
    language: Language
    model: MiniGPT4
    trained: Trained


def stage1(study: Study, *names: str) -> Stage1:
    """Make everything up to stage 1, with the features of `train` and of the named splits."""
    build(study.profile.world, font=sources.font(), folder=study.world)
    splits = {name: study.split(name) for name in ("train", *names)}
    vision = study.vision()
    tokens = {name: study.tokens(split, vision) for name, split in splits.items()}
    blip2 = stages.blip2(study, splits["train"], tokens["train"])
    qformer, state = blip2.model.qformer, blip2.generated.state
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


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Texts of one kind about pictures of the pool; each `hold_out`-th is kept back for choices."""

    shown: list[Tensor]  # (Q, D_q) each
    texts: list[str]
    held_shown: list[Tensor]
    held_texts: list[str]


def lessons(study: Study, base: Stage1) -> dict[str, Lesson]:
    """Return what stage 2 and its variants learn from, about the same pictures: those kept by curation.

    *curated*: notebook 03's texts; *locna*: Localized Narratives; *oracle*: true descriptions. `base` holds
    the pool.
    """
    curation, folder = curation_of(study, base)
    place = {int(one.description.image_id): row for row, one in enumerate(curation.pictures)}
    pairs = list(strict(read_cc_sbu_align(folder)))
    pool, ids = study.world / "pool", [int(pair.image_id) for pair in pairs]
    narratives = strict(read_narratives(pool / "localized_narratives.jsonl"))
    narrated = {int(one.image_id): one.caption for one in narratives}
    notes = read_json(pool / "descriptions.json")["annotations"]
    described = {int(one["image_id"]): one["caption"] for one in notes}
    every = study.profile.stage2_hold_out
    shown, held = finetune.hold_out([base.queries["pool"][place[number]] for number in ids], every)
    texts = {
        "curated": [pair.caption for pair in pairs],
        "locna": [narrated[number] for number in ids],
        "oracle": [described[number] for number in ids],
    }
    found = {}
    for kind, said in texts.items():
        learnt, kept_back = finetune.hold_out(said, every)
        found[kind] = Lesson(shown=shown, texts=learnt, held_shown=held, held_texts=kept_back)
    return found


def curation_of(study: Study, base: Stage1) -> tuple[Curation, Path]:
    """Curate the pool with the stage-1 model, or find the curated folder again."""
    return curated(study, base.model, base.trained.state, base.queries["pool"])


@dataclass(frozen=True, kw_only=True)
class Respondent:
    """A model and how it is asked: in a conversation, or, where `wording` has no "{}", by the picture
    alone.
    """

    model: MiniGPT4
    form: Template
    wording: str = prompts.with_image("{}")  # "{}" is the question

    @property
    def reads(self) -> bool:
        """Whether it is told the question at all."""
        return "{}" in self.wording

    def question(self, text: str) -> str:
        """Put a question into the form that the model was trained with."""
        return self.wording.replace("{}", text)

    def answers(
        self, queries: Sequence[Tensor], text: str, decoding: Decoding, *, batch_size: int, what: str
    ) -> list[str]:
        """Ask the same question about every picture; `queries` holds (Q, D_q) of each."""
        return evaluate.answers(
            self.model, queries, self.form, self.question(text), decoding, batch_size=batch_size, what=what
        )


def respondents(study: Study, base: Stage1) -> dict[str, tuple[Respondent, Trained]]:
    """Return the models that the evaluation compares, with the last training of each.

    *blip2* and *stage1*: before stage 2; *blip2_ft* and *minigpt4*: after it; *locna* and *oracle*: after it
    with other texts.
    """
    learnt = lessons(study, base)
    chat = prompts.template(study.profile.language.template, base.language.tokenizer)
    captioner = Respondent(model=base.blip2.model, form=KEYWORDS, wording=prompts.IMAGE)
    found = {
        "blip2": (captioner, base.blip2.generated),
        "stage1": (Respondent(model=base.model, form=chat), base.trained),
    }
    for name, start, kind in (
        ("blip2_ft", "blip2", "curated"),
        ("minigpt4", "stage1", "curated"),
        ("locna", "stage1", "locna"),
        ("oracle", "stage1", "oracle"),
    ):
        first, lesson = found[start][0], learnt[kind]
        questions = tuple(dict.fromkeys(map(first.question, finetune.INSTRUCTIONS)))
        model, trained = finetune.stage2(
            study,
            first.model,
            lesson.shown,
            lesson.texts,
            form=first.form,
            questions=questions,
            what=f"stage2-{name}",
        )
        found[name] = (replace(first, model=model), trained)
    return found
