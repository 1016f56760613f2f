"""Descriptions of the test pictures, counted for Table 2 (coverage), Table 5 (CHAIR) and section 4.3.2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas
from torch import Tensor

from mglib import metrics
from mglib.config import EvalConfig
from mglib.data.scenes import read_scenes
from mglib.evals import caption_scores, chair, chair_official, checklist, coverage, evaluate, facts
from mglib.evals.chair import Mentions, Reading, Truth
from mglib.evals.chair_official import OFFICIAL, OFFICIAL_RULES
from mglib.evals.checklist import Judged
from mglib.evals.coverage import Judge
from mglib.evals.hallucination import LONG, SHORT
from mglib.metrics import Counts, Estimate, Vocabulary
from mglib.model.decoding import Decoding
from mglib.study import display_names
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

Counted = dict[str, dict[str, Counts]]  # row -> measure -> what was counted
Row = dict[str, Estimate | None]  # by measure
COMPARED = ("blip2", "long.stage1", "short", "long")  # rows of Table 5 that further readings look at
SQUARE = {
    "blip2": "caption model, before",
    "blip2_ft": "caption model, after",
    "stage1": "chat model, before",
    "minigpt4": "chat model, after",
}
SPEAKERS = ("blip2", "minigpt4")  # a model for each language model: all others decode like theirs
ROWS = {"stage1": "long.stage1", "minigpt4": "long"}  # of Table 5, where they have other names
DIFFERENCES = {  # of CHAIR_i between rows of Table 5: the paper's three, and what the critic is worth
    "long_less_short": ("long", "short"),
    "short_less_blip2": ("short", "blip2"),
    "no_critic_less_minigpt4": ("long.no_critic", "long"),
}
EFFECTS = {
    "chat_model_before": ("stage1", "blip2"),
    "chat_model_after": ("minigpt4", "blip2_ft"),
    "texts_caption_model": ("blip2_ft", "blip2"),
    "texts_chat_model": ("minigpt4", "stage1"),
}


@dataclass(frozen=True, kw_only=True)
class Descriptions:
    """What the models say of the first pictures of a split, and how each decodes."""

    split: str
    references: Sequence[Sequence[str]]
    ways: dict[str, str]
    long: dict[str, list[str]]
    short: dict[str, list[str]]

    @property
    def decoded(self) -> str:
        """Say in a line what each model decodes by."""
        return "; ".join(f"{display_names.of(name)}: {way}" for name, way in self.ways.items())

    @property
    def with_everything(self) -> dict[str, list[str]]:
        """The long ones, and the degenerate row: one list of all objects for every picture."""
        return {**self.long, "everything": [coverage.everything()] * len(self.references)}

    @property
    def rows(self) -> dict[str, list[str]]:
        """All answers by the names that Table 5 has for them."""
        found = {"long": self.long["minigpt4"], "short": self.short["minigpt4"]}
        found |= {name: self.long[name] for name in ("blip2", "blip2_ft") if name in self.long}
        found |= {"everything": self.with_everything["everything"], "short.stage1": self.short["stage1"]}
        others = {name: texts for name, texts in self.long.items() if name not in {"minigpt4", *found}}
        return display_names.ordered(found | {f"long.{name}": texts for name, texts in others.items()})


def judge(study: Study, split: str) -> Judge | None:
    """Return the judge of coverage; None where references come without facts."""
    if study.profile.world is None:
        return None
    return coverage.fact_judge(coverage.read_facts(study.world / split))


def decodings(study: Study) -> dict[str, Decoding]:
    """Return the ways of decoding a description."""
    return evaluate.ways(study.profile.evaluation.long_tokens, seed=study.seed)


def tried(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> pandas.DataFrame:
    """Try the decodings on val with each language model: how many of five references are covered."""
    asked, known, lines = study.profile.evaluation, judge(study, "val"), []
    some = list(base.queries["val"])[: asked.described_pictures // 2]
    references = base.splits["val"].references[: len(some)]
    for name, (way, chosen) in product(SPEAKERS, decodings(study).items()):
        texts = models[name].answers(some, LONG, chosen, batch_size=asked.batch_size, what=f"{name}, {way}")
        covered = coverage.references_covered(texts, references, known).estimate()
        lines.append({"model": name, "decoding": way, **metrics.columns("references_covered", covered)})
    return pandas.DataFrame(lines)


def way(config: EvalConfig, speaker: str) -> str:
    """Name what one of SPEAKERS decodes descriptions by: what the profile has chosen, or greedily."""
    return dict(config.descriptions).get(speaker, "greedy")


def ways(study: Study, models: Mapping[str, PromptedModel]) -> dict[str, str]:
    """Name what each model decodes by: all with one language model alike."""
    chat, captions = "minigpt4", "blip2"
    return {
        name: way(study.profile.evaluation, chat if one.reads else captions) for name, one in models.items()
    }


def describe(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> Descriptions:
    """Let all models describe the first test pictures at length, and the two chat models shortly too."""
    asked, split, chosen = study.profile.evaluation, study.tests[0], ways(study, models)
    shown, size = list(base.queries[split])[: asked.described_pictures], asked.batch_size
    long, short = {}, {}
    for name in models:
        long[name] = at_length(study, models[name], shown, chosen[name], f"{name}, long")
    for name in ("stage1", "minigpt4"):
        brief = replace(decodings(study)[chosen[name]], max_new_tokens=asked.brief_tokens)
        short[name] = models[name].answers(shown, SHORT, brief, batch_size=size, what=f"{name}, short")
    references = base.splits[split].references[: len(shown)]
    return Descriptions(split=split, references=references, ways=chosen, long=long, short=short)


def at_length(study: Study, one: PromptedModel, shown: Sequence[Tensor], way: str, what: str) -> list[str]:
    """Let a model describe pictures, (Q, D_q) each, with the paper's long prompt."""
    size = study.profile.evaluation.batch_size
    return one.answers(shown, LONG, decodings(study)[way], batch_size=size, what=what)


# --- Table 2 ---


def parser_agreement() -> Counted:
    """Measure the parser of facts on labelled answers, by kind of fact."""
    labelled = coverage.read_labels()
    return coverage.agreement([facts.parse(text) for text, _ in labelled], [true for _, true in labelled])


def covered(study: Study, told: Descriptions) -> Counted:
    """Count what each model's long descriptions cover; empty where there is no judge."""
    known = judge(study, told.split)
    return coverage.counted(told.with_everything, told.references, known) if known else {}


def gains(covered: Counted) -> dict[str, dict[str, Estimate | None]]:
    """Return by how much MiniGPT-4 covers more than others, paired."""
    return {
        name: {
            f"gain.{what}": metrics.paired(covered["minigpt4"][what], covered[name][what])
            for what in ("covered", "references_covered")
        }
        for name in (("blip2", "blip2_ft", "stage1") if covered else ())
    }


def caption_metrics(told: Descriptions) -> dict[str, dict[str, Estimate | None]]:
    """Score the long descriptions by COCO's own measures."""
    scored = caption_scores.score(told.with_everything, told.references)
    return {name: one.estimates() for name, one in scored.items()}


# --- Table 5 ---


def nameable(study: Study) -> Vocabulary:
    """Return the names of everything that can be invented about a study's pictures, scenery too."""
    return chair.photo_vocabulary() if study.profile.world is None else chair.vocabulary()


def readings() -> tuple[str, str]:
    """Name the further readings of Table 5."""
    return "coco", chair_official.at_hand()


def vocabulary(study: Study, reading: str) -> Mentions:
    """Return what finds mentions: of all nameable objects, of COCO's alone, or by the official rules.

    Raises FileNotFoundError where the official reading is asked for without the authors' synonyms.
    """
    if reading in (OFFICIAL, OFFICIAL_RULES):
        return chair_official.vocabulary(reading)
    drawn = study.profile.world is not None
    return chair.coco_vocabulary() if reading == "coco" and drawn else nameable(study)


def truths(study: Study, base: Stage1, split: str, reading: str = "all") -> list[Truth]:
    """Say what each picture of a split shows; the official rules know annotated objects alone."""
    scenes = study.scenes(split) if reading not in (OFFICIAL, OFFICIAL_RULES) else None
    words = vocabulary(study, reading)
    return chair.truths(base.splits[split], words, read_scenes(scenes) if scenes else None)


def read(
    study: Study, base: Stage1, split: str, answers: Mapping[str, Sequence[str]], reading: str = "all"
) -> dict[str, list[Reading]]:
    """Find what each row's answers to the first pictures of a split mention, beside what these show."""
    known, words = truths(study, base, split, reading), vocabulary(study, reading)
    return {name: chair.read(texts, known[: len(texts)], words) for name, texts in answers.items()}


def counted(readings: Mapping[str, Sequence[Reading]]) -> Counted:
    """Count CHAIR and what stands beside it for each row."""
    return {name: chair.counts(some) for name, some in readings.items()}


def differences(counted: Counted) -> dict[str, dict[str, Estimate | None]]:
    """Return by how much more the first row of each of DIFFERENCES invents than the second, paired."""
    return {
        name: {"chair_i": metrics.paired(counted[one]["chair_i"], counted[other]["chair_i"])}
        for name, (one, other) in DIFFERENCES.items()
        if one in counted and other in counted
    }


def less(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Call each of DIFFERENCES by the names of its two rows."""
    names = {name: " less ".join(map(display_names.of, pair)) for name, pair in DIFFERENCES.items()}
    return {names[name]: row for name, row in rows.items()}


def compared(rows: Mapping) -> dict:
    """Return the rows that further readings look at."""
    return {name: rows[name] for name in COMPARED if name in rows}


def matched(readings: Mapping[str, Sequence[Reading]]) -> Counted:
    """Count CHAIR on the first mentions alone: as many for each row as the most silent one makes."""
    return counted(chair.matched(readings))


def by_rank(readings: Mapping[str, Sequence[Reading]], most: int = 8) -> dict[str, list[Estimate | None]]:
    """Return CHAIR_i of each row's first mentions, second mentions, and so on."""
    return {name: [one.estimate() for one in chair.by_rank(some, most)] for name, some in readings.items()}


def elsewhere(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], ways: Mapping[str, str], split: str
) -> dict[str, list[str]]:
    """Let MiniGPT-4 and BLIP-2 describe the first pictures of another test split."""
    rows = list(base.queries[split])[: study.profile.evaluation.described_pictures]
    return {
        row: at_length(study, models[name], rows, ways[name], f"{name}, {split}")
        for row, name in {"blip2": "blip2", "long": "minigpt4"}.items()
    }


# --- Section 4.3.2: {caption model, chat model} x {before, after the curated descriptions} ---


def square(judged: Judged, covered: Counted, counted: Counted) -> Counted:
    """Gather what was counted of the four models; empty where Table 1 has no pictures."""
    items = checklist.pooled(judged, "items")
    return {
        name: {
            "items": items[name],
            **covered[name],
            **{what: counted[ROWS.get(name, name)][what] for what in ("chair_i", "object_recall")},
        }
        for name in (SQUARE if judged else ())
    }


def effects(measured: Counted) -> dict[str, dict[str, Estimate | None]]:
    """Return what the chat model and what the curated texts change, paired over the same pictures."""
    return {
        label: {what: metrics.paired(measured[one][what], measured[other][what]) for what in measured[one]}
        for label, (one, other) in EFFECTS.items()
        if measured
    }
