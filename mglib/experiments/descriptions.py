"""Descriptions of test pictures: what they cover (paper, Table 2), what they invent (Table 5), and what the
language model contributes (section 4.3.2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas
from PIL import Image

from mglib import frame, metrics
from mglib.config import EvalConfig
from mglib.errors import needed
from mglib.evals import chair, chair_official, checklist, coverage, generate
from mglib.evals.chair import Mentions, Reading, Truth
from mglib.evals.chair_official import OFFICIAL, OFFICIAL_RULES
from mglib.evals.checklist import Judged
from mglib.evals.hallucination import LONG, SHORT
from mglib.experiments import stage1
from mglib.metrics import Counts, paired
from mglib.model.decoding import Decoding
from mglib.paper import QUOTED
from mglib.study import display_names
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1, random_model
from mglib.study.study import Study
from mglib.world.scene import read_scenes

Counted = dict[str, dict[str, Counts]]  # row -> measure -> what was counted
# Models whose row in Table 5 is not named *long.* plus the model's name.
ROWS = {"blip2": "blip2", "blip2_ft": "blip2_ft", "everything": "everything", "minigpt4": "long"}
COMPARED = ("blip2", "long.stage1", "short", "long")  # rows of Table 5 that further readings look at
SQUARE = {
    "blip2": "caption model, before",
    "blip2_ft": "caption model, after",
    "stage1": "chat model, before",
    "minigpt4": "chat model, after",
}
EFFECTS = {  # the first minus the second
    "chat_model_before": ("stage1", "blip2"),
    "chat_model_after": ("minigpt4", "blip2_ft"),
    "texts_caption_model": ("blip2_ft", "blip2"),
    "texts_chat_model": ("minigpt4", "stage1"),
}
# The texts' effect on the chat model minus their effect on the caption model, as one sum minus another.
TWICE = (("minigpt4", "blip2"), ("stage1", "blip2_ft"))
DIFFERENCES = {  # of CHAIR_i between rows of Table 5
    "long_less_short": ("long", "short"),
    "short_less_blip2": ("short", "blip2"),
}


@dataclass(frozen=True, kw_only=True)
class Descriptions:
    """The models' descriptions of the first pictures of a split, and the name of each model's decoding.

    The long ones include a degenerate row, *everything*: the same list of all objects for every picture.
    """

    split: str
    references: Sequence[Sequence[str]]
    decodings: dict[str, str]
    long: dict[str, list[str]]
    short: dict[str, list[str]]
    note: str

    @property
    def rows(self) -> dict[str, list[str]]:
        """All answers by their row names in Table 5."""
        found = {row(name): texts for name, texts in self.long.items()}
        found |= {"short": self.short["minigpt4"], "short.stage1": self.short["stage1"]}
        return display_names.ordered(found)


def row(name: str) -> str:
    """Return the row name of a model's long descriptions in Table 5."""
    return ROWS.get(name, f"long.{name}")


# --- Generation ---


def decodings(study: Study) -> dict[str, Decoding]:
    """Return the decodings of a description that are compared."""
    return generate.decoding_configs(study.profile.evaluation.long_tokens, seed=study.seed)


def decoding(config: EvalConfig, language: str) -> str:
    """Return the name of the decoding of descriptions with the language model of *minigpt4* or of *blip2*:
    what `make tune` found, else greedy.
    """
    return dict(config.descriptions).get(language, "greedy")


def tried(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> pandas.DataFrame:
    """Try the decodings on val with each language model: how many of five references are covered.

    An answer that fails by Table 3's rules covers none, since one that loops may name everything on the way.
    """
    asked, lines = study.profile.evaluation, []
    known = needed(study.judge("val"), "facts of the references")
    some = list(base.queries["val"])[: asked.described_pictures // 2]
    references = base.splits["val"].references[: len(some)]
    for name, (way, chosen) in product(("blip2", "minigpt4"), decodings(study).items()):
        texts = models[name].answers(some, LONG, chosen, batch_size=asked.batch_size, what=f"{name}, {way}")
        failures = stage1.detected(study, base, "val", texts, asked.long_tokens)
        sound = ["" if failed else text for text, failed in zip(texts, failures, strict=True)]
        covered = metrics.columns(
            "references_covered", coverage.references_covered(sound, references, known).estimate()
        )
        share = sum(map(bool, failures)) / len(texts)
        lines.append({"model": name, "decoding": way, **covered, "failed": share})
    return pandas.DataFrame(lines)


def describe(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> Descriptions:
    """Let all models describe the first test pictures at length, and the two chat models also briefly."""
    asked, split, ways = study.profile.evaluation, study.tests[0], decodings(study)
    chosen = {name: decoding(asked, "minigpt4" if one.reads else "blip2") for name, one in models.items()}
    queries = list(base.queries[split])[: asked.described_pictures]

    def say(name: str, text: str, most: int, what: str) -> list[str]:
        way = replace(ways[chosen[name]], max_new_tokens=most)
        return models[name].answers(queries, text, way, batch_size=asked.batch_size, what=f"{name}, {what}")

    long = {name: say(name, LONG, asked.long_tokens, "long") for name in models}
    return Descriptions(
        split=split,
        references=base.splits[split].references[: len(queries)],
        decodings=chosen,
        long=long | {"everything": [coverage.everything()] * len(queries)},
        short={name: say(name, SHORT, asked.brief_tokens, "short") for name in ("stage1", "minigpt4")},
        note=f"first {len(queries)} of {split}, at most {asked.long_tokens} tokens",
    )


def at_a_glance(
    study: Study, base: Stage1, told: Descriptions, *, count: int
) -> tuple[list[Image.Image], dict[str, list[str]]]:
    """Return the first pictures that were described, with a caption before stage 1 (a random projection), one
    after it, and the description after stage 2.
    """
    shown = list(base.queries[told.split])[:count]
    said = {
        "before stage 1": stage1.captions(study, random_model(study, base), shown, what="random projection"),
        "after stage 1": stage1.captions(study, base.model, shown, what="stage 1"),
        "after stage 2": list(told.long["minigpt4"][:count]),
    }
    return base.splits[told.split].first(count), said


# --- Table 2 ---


def parser_agreement() -> pandas.DataFrame:
    """Measure the parser of facts on labelled answers, by kind of fact."""
    labelled = coverage.read_labels()
    found = coverage.agreement([coverage.parse(text) for text, _ in labelled], [true for _, true in labelled])
    note = "facts parsed from answers against labels made by reading them (a language model's, not people's)"
    rows = {kind: {f"parser.{what}": counts for what, counts in one.items()} for kind, one in found.items()}
    return frame.rows("t2", rows, note=note)


def covered(study: Study, told: Descriptions) -> Counted:
    """Count what each model's long descriptions cover; empty if there is no judge."""
    known = study.judge(told.split)
    return coverage.counted(told.long, told.references, known) if known else {}


def table2(told: Descriptions, covered: Counted) -> pandas.DataFrame:
    """Return each model's coverage, and that of the degenerate row, which is due to length."""
    remarks = told.decodings | {"everything": "degenerate: one list of all objects"}
    note = f"{told.note}; stored facts judge, in the paper ChatGPT"
    return frame.rows("t2", covered, note=note, remarks=remarks)


def table2_gains(told: Descriptions, covered: Counted) -> pandas.DataFrame:
    """Return how much more MiniGPT-4 covers than the others, paired."""
    wanted = ("covered", "references_covered")
    gains = {name: {f"gain.{what}": one[what] for what in wanted} for name, one in covered.items()}
    pairs = {f"over_{name}": ("minigpt4", name) for name in ("blip2", "blip2_ft", "stage1")}
    note = f"MiniGPT-4 minus the other, paired; {told.note}"
    return frame.rows("t2", frame.differences(gains, pairs), note=note)


# --- Table 5 ---


def vocabulary(study: Study, reading: str) -> Mentions:
    """Return the vocabulary of mentions: *all* nameable objects, *coco*'s only, or by the official rules.

    Raises FileNotFoundError if the official reading is requested but the authors' synonyms are missing.
    """
    if reading in (OFFICIAL, OFFICIAL_RULES):
        return chair_official.vocabulary(reading)
    return study.coco_vocabulary() if reading == "coco" else study.nameable()


def truths(study: Study, base: Stage1, split: str, reading: str = "all") -> list[Truth]:
    """Return what each picture of a split shows; the official rules know only annotated objects."""
    scenes = study.scenes(split) if reading not in (OFFICIAL, OFFICIAL_RULES) else None
    words = vocabulary(study, reading)
    return chair.truths(base.splits[split], words, read_scenes(scenes) if scenes else None)


def read(
    study: Study, base: Stage1, split: str, answers: Mapping[str, Sequence[str]], reading: str = "all"
) -> dict[str, list[Reading]]:
    """Find what each row's answers about the first pictures of a split mention, with what these show."""
    known, words = truths(study, base, split, reading), vocabulary(study, reading)
    return {name: chair.read(texts, known[: len(texts)], words) for name, texts in answers.items()}


def counted(readings: Mapping[str, Sequence[Reading]]) -> Counted:
    """Count CHAIR, recall and length for each row."""
    return {name: chair.counts(some) for name, some in readings.items()}


def table5(told: Descriptions, counted: Counted) -> pandas.DataFrame:
    """Return what each row invents and names, and its length; other systems' rows are the paper's."""
    measures = ("chair_i", "object_recall", "length", "unlisted")
    rows: dict[str, dict[str, frame.Measured]] = {
        name: {what: one[what] for what in measures} for name, one in counted.items()
    }
    rows |= {name: dict.fromkeys(("chair_i", "length")) for name in sorted(QUOTED)}
    remarks = told.decodings | {"everything": "degenerate: one list of all objects"}
    note = f"{told.note}, all nameable objects; the paper's on COCO"
    return frame.rows("t5", rows, note=note, remarks=remarks)


def table5_differences(told: Descriptions, counted: Counted) -> pandas.DataFrame:
    """Return how much more the first row of each of DIFFERENCES invents than the second, paired."""
    chair_i = {name: {"chair_i": one["chair_i"]} for name, one in counted.items()}
    return frame.rows("t5", frame.differences(chair_i, DIFFERENCES), note=f"paired; {told.note}")


def further_readings(
    study: Study, base: Stage1, told: Descriptions, readings: Mapping[str, Sequence[Reading]]
) -> pandas.DataFrame:
    """Return CHAIR_i of the COMPARED rows under other readings.

    *matched*: cut, picture by picture, to the fewest mentions that any row makes. *coco*: COCO's categories
    only. *official_rules*: the official code's rules; *official*: the same with its authors' synonyms.
    """
    rows = {name: readings[name] for name in COMPARED if name in readings}
    texts = {name: told.rows[name] for name in rows}
    ways = {"matched": chair.matched(rows)}
    for reading in ("coco", chair_official.at_hand()):
        ways[reading] = read(study, base, told.split, texts, reading)
    found = []
    for way, some in ways.items():
        chair_i = {name: {"chair_i": one["chair_i"]} for name, one in counted(some).items()}
        note = f"{way} reading of the same answers; {told.note}"
        found.append(frame.rows("t5", chair_i, note=note, split=way))
    return frame.concat(*found)


def by_rank(told: Descriptions, readings: Mapping[str, Sequence[Reading]], most: int = 3) -> pandas.DataFrame:
    """Return CHAIR_i of the first, second, ... mentions in the answers of the COMPARED rows."""
    ranks = {name: chair.by_rank(readings[name], most) for name in COMPARED if name in readings}
    found = []
    for rank in range(most):
        chair_i = {name: {"chair_i": counts[rank]} for name, counts in ranks.items()}
        note = f"mention {rank + 1} of each answer; {told.note}"
        found.append(frame.rows("t5", chair_i, note=note, split=f"mention_{rank + 1}"))
    return frame.concat(*found)


# --- Section 4.3.2: {caption model, chat model} x {before, after the curated descriptions} ---


def square(judged: Judged, covered: Counted, counted: Counted) -> Counted:
    """Gather what was counted of the four models: items of Table 1, coverage, inventions and recall."""
    items = checklist.pooled(judged, "items")
    return {
        name: {
            "items": items[name],
            **{what: covered[name][what] for what in ("covered", "length")},
            **{what: counted[row(name)][what] for what in ("chair_i", "object_recall")},
        }
        for name in SQUARE
        if name in items
    }


def square_table(measured: Counted) -> pandas.DataFrame:
    """Return these counts as a table, with the display names of SQUARE."""
    return frame.rows("", {SQUARE[name]: one for name, one in measured.items()})


def effects(measured: Counted) -> pandas.DataFrame:
    """Return the effects of the chat model and of the curated texts, paired over the same pictures."""
    found = frame.differences(measured, EFFECTS)
    if measured.keys() >= SQUARE.keys():
        gains = {}
        for what in ("items", "covered"):
            pairs = [zip(*(measured[name][what].found for name in names), strict=True) for names in TWICE]
            gains[what] = paired(*(metrics.each(list(map(sum, rows))) for rows in pairs))
        found["texts_chat_minus_caption"] = gains
    note = (
        "paired difference over the same pictures; items: Table 1's checklists, the rest: long descriptions"
    )
    return frame.rows("effect", found, note=note)
