"""The paper's Table 1 and its Figures 2 to 4: tasks beyond captioning.

The tasks with a checklist belong to the small world; a study of real pictures has none of them. Each model's
wording and decoding were chosen on val (`make tune`) and are set in the profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pandas
from PIL import Image

from mglib import frame, metrics
from mglib.config import Asked, EvalConfig
from mglib.errors import needed
from mglib.evals import checklist, generate
from mglib.evals.checklist import CHECKLISTS, Answers, Checklist, Judged
from mglib.metrics import Estimate
from mglib.model import prompts
from mglib.model.decoding import Decoding
from mglib.study import display_names
from mglib.study.models import PromptedModel, language_size, prompted_stage1, side_by_side
from mglib.study.stage1 import Stage1, behind_weaker
from mglib.study.stage2 import stage2_data, train_stage2
from mglib.study.study import Study
from mglib.world.scene import Scene, read_scenes

JUDGED = ("blip2", "blip2_ft", "stage1", "locna", "weak_lm", "minigpt4")
TRUTH = "The image shows: {facts} {request}"  # what a language model reads instead of seeing a picture
# The models that are tuned, with the wordings that are compared: the first is as trained. A caption model is
# tried with three, so that it is asked in the way that suits it best.
CAPTION_WORDINGS = (prompts.IMAGE, f"{prompts.IMAGE} {{}}", f"{{}} {prompts.IMAGE}")
WORDINGS = {
    "blip2": CAPTION_WORDINGS,
    "blip2_ft": CAPTION_WORDINGS,
    "minigpt4": (prompts.with_image("{}"),),
}
ALIKE = dict.fromkeys(("stage1", "locna", "weak_lm"), "minigpt4")  # use the settings of another model
STORIES = {  # what the paper shows without a table; the words are ours
    "sketches": "Write the HTML of a website that looks like this sketch.",
    "unusual": "What is unusual about this image?",
    "notes": "What is written in this image?",
    "story": "Can you write a short story about this image?",
}
Said = dict[str, dict[str, list[str]]]  # model -> task -> one answer per picture
# A model, and its language model alone, which reads the truth in words instead of seeing the picture.
ORACLES = {"weak_lm": "text_oracle_weak", "minigpt4": "text_oracle"}
REMARKS = {
    **dict.fromkeys(ORACLES.values(), "no picture: the truth in words, decoded as MiniGPT-4"),
    "facts": "no model: the picture's truth",
}


class Participant(NamedTuple):
    """A model with its wording and decoding; `way` is the decoding's name."""

    prompted: PromptedModel
    way: str
    decoding: Decoding


class Page(NamedTuple):
    """What a figure shows: pictures, the request, and what some models answered."""

    name: str
    request: str
    pictures: list[Image.Image]
    answers: dict[str, list[str]]


def checklists() -> pandas.DataFrame:
    """List every item of every checklist."""
    lines = [
        {
            "task": task,
            "request": sheet.request,
            "the answer": item.says,
            "judged by": "picture" if item.of_picture else "text alone",
            "essential": "yes" if item.essential else "",
        }
        for task, sheet in CHECKLISTS.items()
        for item in sheet.items
    ]
    return pandas.DataFrame(lines)


def tasks(study: Study) -> Mapping[str, Checklist]:
    """Return the tasks for which a study has pictures."""
    return CHECKLISTS if study.special_tests else {}


def shown(study: Study) -> dict[str, list[Scene]]:
    """Return the test pictures of each task."""
    return {
        task: read_scenes(needed(study.scenes(f"{one.kind}_test"), "scene graphs"))
        for task, one in tasks(study).items()
    }


def decodings(study: Study) -> dict[str, Decoding]:
    """Return the candidate decodings of an answer to a request."""
    return generate.decoding_configs(study.profile.evaluation.task_tokens, seed=study.seed)


def tried(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> pandas.DataFrame:
    """Try the decodings and wordings on val: the share of all tasks' items that answers fulfil."""
    return pandas.DataFrame(
        {
            "model": name,
            "decoding": way,
            "wording": wording,
            **metrics.columns("items", found["items"]),
            "requests": found["requests"].value,
        }
        for name, (way, decoding) in product(WORDINGS, decodings(study).items())
        for wording in WORDINGS[name]
        for found in [on_val(study, base, replace(models[name], wording=wording), decoding, name)]
    )


def on_val(
    study: Study, base: Stage1, asked: PromptedModel, decoding: Decoding, name: str
) -> dict[str, Estimate]:
    """Return the share of items and of requests that a model's answers meet on val, over all tasks; and that
    of items when judged against another picture of the task.
    """
    size, said, pictures = study.profile.evaluation.batch_size, {}, {}
    for task, sheet in tasks(study).items():
        split = f"{sheet.kind}_val"
        said[task] = asked.answers(base.queries[split], sheet.request, decoding, batch_size=size, what=name)
        pictures[task] = read_scenes(needed(study.scenes(split), "scene graphs"))
    own, other = judge({name: said}, pictures)
    scores = {"items": (own, "items"), "requests": (own, "success"), "swapped items": (other, "items")}
    return {
        what: needed(checklist.pooled(judged, score)[name].estimate(), "answers")
        for what, (judged, score) in scores.items()
    }


def as_minigpt4(study: Study, base: Stage1, model: PromptedModel) -> dict[str, float]:
    """Return the scores of `on_val` for a model that decodes as MiniGPT-4 does."""
    way = asked(study.profile.evaluation, "minigpt4").decoding
    found = on_val(study, base, model, decodings(study)[way], "minigpt4")
    return {what: one.value for what, one in found.items()}


def with_weaker(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> dict[str, PromptedModel]:
    """Return the models, with *weak_lm* if the profile has a weaker language model: both stages trained with
    the same encoder and Q-Former, on the same pairs and curated texts.
    """
    if study.profile.weak_language is None:
        return dict(models)
    weak, start = behind_weaker(study, base)
    lessons = stage2_data(study, base)["curated"]
    model, _ = train_stage2(weak, prompted_stage1(weak, start), lessons, what="weak-lm")
    return {**models, "weak_lm": model}


def asked(config: EvalConfig, name: str) -> Asked:
    """Return how a model is asked: as the profile sets for it or its model in ALIKE, else officially."""
    return dict(config.abilities).get(ALIKE.get(name, name), Asked())


def participants(study: Study, models: Mapping[str, PromptedModel]) -> dict[str, Participant]:
    """Return the available models of JUDGED, each with its chosen wording and decoding."""
    known, found = decodings(study), {}
    for name in (name for name in JUDGED if name in models):
        how = asked(study.profile.evaluation, name)
        prompted = replace(models[name], wording=how.wording or models[name].wording)
        found[name] = Participant(prompted, how.decoding, known[how.decoding])
    return found


def overview(participants: Mapping[str, Participant]) -> pandas.DataFrame:
    """List each model's decoding and wording, by the keys of the settings."""
    return pandas.DataFrame(
        {"model": name, "decoding": one.way, "wording": one.prompted.wording}
        for name, one in participants.items()
    )


def answers(study: Study, base: Stage1, participants: Mapping[str, Participant]) -> Said:
    """Ask the models of Table 1 about the test pictures of each task."""
    size, said = study.profile.evaluation.batch_size, Said()
    for (name, one), (task, sheet) in product(participants.items(), tasks(study).items()):
        queries, what = base.queries[f"{sheet.kind}_test"], f"{name}, {task}"
        texts = one.prompted.answers(queries, sheet.request, one.decoding, batch_size=size, what=what)
        said.setdefault(name, {})[task] = texts
    return said


def text_oracles(
    study: Study, participants: Mapping[str, Participant], shown: Mapping[str, Sequence[Scene]]
) -> Said:
    """Give the language models of ORACLES the truth in words instead of the pictures: their ceilings.

    Each decodes as its model does; empty if there are no pictures.
    """
    return {
        system: read_in_words(study, participants[name], shown, what=system)
        for name, system in ORACLES.items()
        if shown and name in participants
    }


def read_in_words(
    study: Study, one: Participant, shown: Mapping[str, Sequence[Scene]], *, what: str
) -> dict[str, list[str]]:
    """Let a model's language model answer each task's request about the truth in words."""
    (prompted, _, decoding), size = one, study.profile.evaluation.batch_size
    return {
        task: generate.blind_answers(
            prompted.model,
            prompted.template,
            in_words(scenes, CHECKLISTS[task].request),
            decoding,
            batch_size=size,
            what=f"{what}, {task}",
        )
        for task, scenes in shown.items()
    }


def in_words(pictures: Sequence[Scene], request: str) -> list[str]:
    """Return a request for each picture, with the truth in words in place of the picture."""
    return [TRUTH.format(facts=each.in_words, request=request) for each in pictures]


def judge(said: Mapping[str, Answers], shown: Mapping[str, list[Scene]]) -> tuple[Judged, Judged]:
    """Judge every answer against its own picture, and against another one of its task.

    *facts* is added to the systems: a list of what the picture shows, from its truth.
    """
    systems = dict(said)
    if shown:
        systems["facts"] = {task: [one.in_words for one in some] for task, some in shown.items()}
    systems = display_names.ordered(systems)
    return checklist.judged(systems, shown), checklist.judged(systems, checklist.exchanged(shown))


def table1(study: Study, judged: Judged, participants: Mapping[str, Participant]) -> pandas.DataFrame:
    """Return the share of requests that each system meets, by task and in total."""
    remarks = {name: one.way for name, one in participants.items()} | REMARKS
    return frame.rows("t1", checklist.counts(judged, "success"), note=_note(study), remarks=remarks)


def by_size(table: pandas.DataFrame, participants: Mapping[str, Participant]) -> pandas.DataFrame:
    """Return the rows of `table1` over all tasks that show the effect of a larger language model, with its
    number of parameters, `size`, and what it was `given`: the picture, or the truth in words.
    """
    totals, found = table[table["measure"] == "total"], []
    for name, oracle in ORACLES.items():
        for system, given in ((name, "the picture"), (oracle, "the truth in words (text oracle)")):
            rows = totals[totals["system"] == system]
            if len(rows):
                found.append(rows.assign(size=language_size(participants[name].prompted), given=given))
    return frame.concat(*found)


def table1_items(study: Study, judged: Judged, swapped: Judged) -> pandas.DataFrame:
    """Return the share of items met in total, the same against another picture, and the paired difference.

    An item about the text alone does not change when pictures are swapped.
    """
    own, other = (checklist.pooled(one, "items") for one in (judged, swapped))
    rows = {
        name: {
            "items.total": own[name],
            "swapped.total": other[name],
            "drop": metrics.paired(own[name], other[name]),
        }
        for name in own
    }
    notes = {
        "items.total": _note(study),
        "swapped.total": f"share of items against another picture's truth; {_note(study)}",
        "drop": "share of items against the right picture minus that against another, paired",
    }
    return frame.rows("t1", rows, note=notes)


def table1_gains(study: Study, judged: Judged) -> pandas.DataFrame:
    """Return how many more requests and items MiniGPT-4 meets than the others, paired."""
    requests, items = (checklist.pooled(judged, score) for score in ("success", "items"))
    met = {name: {"gain.requests": requests[name], "gain.items": items[name]} for name in judged}
    pairs = {f"over_{name}": ("minigpt4", name) for name in ("blip2", "locna", "weak_lm")}
    note = f"MiniGPT-4 minus the other, paired; {_note(study)}"
    return frame.rows("t1", frame.differences(met, pairs), note=note)


def _note(study: Study) -> str:
    most = study.profile.evaluation.task_tokens
    return f"checklist judge, drawn pictures, at most {most} tokens; in the paper people judge"


def pages(study: Study, base: Stage1, said: Said) -> list[Page]:
    """Return each task's first pictures with the answers of two models side by side."""
    few, found = study.profile.evaluation.shown // 4, []
    for task, sheet in tasks(study).items():
        texts = {name: said[name][task] for name in side_by_side(said)}
        found.append(Page(task, sheet.request, base.splits[f"{sheet.kind}_test"].first(few), texts))
    return found


def stories(study: Study, base: Stage1, participants: Mapping[str, Participant]) -> list[Page]:
    """Ask two models about the first pictures of each further kind; a story may be about any picture."""
    config, found = study.profile.evaluation, []
    few, size = config.shown // 4, config.batch_size
    for kind, request in STORIES.items():
        split, texts = study.tests[0] if kind == "story" else f"{kind}_test", {}
        if split in base.queries:
            rows = list(base.queries[split])[:few]
            for name in side_by_side(participants):
                prompted, _, decoding = participants[name]
                what = f"{name}, {kind}"
                texts[name] = prompted.answers(rows, request, decoding, batch_size=size, what=what)
            found.append(Page(kind, request, base.splits[split].first(few), texts))
    return found
