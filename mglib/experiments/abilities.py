"""The paper's Table 1 and its Figures 2 to 4: what is asked of the models that no caption gives.

The tasks with a checklist belong to the small world; a study of real pictures has none of them. How a model
is asked and how it decodes was chosen on val (`make tune`) and stands in the profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas
from PIL import Image

from mglib import metrics
from mglib.config import Asked, EvalConfig
from mglib.evals import checklist, generate
from mglib.evals.checklist import CHECKLISTS, Answers, Checklist, Judged
from mglib.metrics import Estimate, paired
from mglib.model import prompts
from mglib.model.decoding import Decoding
from mglib.study import display_names
from mglib.study.models import PromptedModel, side_by_side
from mglib.study.stage1 import Stage1
from mglib.study.study import Study
from mglib.world.scene import Scene, read_scenes

JUDGED = ("blip2", "blip2_ft", "stage1", "locna", "minigpt4")
TOLD = "The image shows: {facts} {request}"  # what a language model is told instead of seeing a picture
# The models that have a way of their own, with the wordings that are compared: the first is as trained.
# A caption model is tried in three, so that it is asked in the way that suits it.
CAPTION_WORDINGS = (prompts.IMAGE, f"{prompts.IMAGE} {{}}", f"{{}} {prompts.IMAGE}")
WORDINGS = {
    "blip2": CAPTION_WORDINGS,
    "blip2_ft": CAPTION_WORDINGS,
    "minigpt4": (prompts.with_image("{}"),),
}
ALIKE = {"stage1": "minigpt4", "locna": "minigpt4"}  # take over what suits another
STORIES = {  # what the paper shows without a table; the words are ours
    "sketches": "Write the HTML of a website that looks like this sketch.",
    "unusual": "What is unusual about this image?",
    "notes": "What is written in this image?",
    "story": "Can you write a short story about this image?",
}
Rates = dict[str, dict[str, Estimate | None]]  # system -> task and "total", or a measure
Said = dict[str, dict[str, list[str]]]  # model -> task -> an answer a picture


@dataclass(frozen=True)
class Participant:
    """A model as it is asked here, and how it decodes; `way` is the decoding's name."""

    prompted: PromptedModel
    way: str
    decoding: Decoding


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What the checklists say of every answer beside its own picture, and beside another of its task."""

    right: Judged
    swapped: Judged

    def success(self) -> Rates:
        """Return the share of requests that each system meets, by task and in all."""
        return checklist.rates(self.right, "success")

    def items(self) -> Rates:
        """Return the share of items that its answers fulfil."""
        return checklist.rates(self.right, "items")

    def items_swapped(self) -> Rates:
        """Return the share of items that is left beside another picture."""
        return checklist.rates(self.swapped, "items")

    def overview(self) -> Rates:
        """Return what each system meets in all: requests, items, and items of another picture."""
        shares = {
            "requests met": self.success(),
            "items met": self.items(),
            "items, another picture": self.items_swapped(),
        }
        systems = display_names.ordered(self.right)
        return {name: {what: rates[name]["total"] for what, rates in shares.items()} for name in systems}

    def drops(self) -> dict[str, Estimate | None]:
        """Return the difference of both shares, paired."""
        return checklist.drops(self.right, self.swapped)

    def gains(self) -> dict[str, dict[str, Estimate | None]]:
        """Return by how much MiniGPT-4 meets more requests and items than others, paired."""
        scored = {"requests": "success", "items": "items"}
        pooled = {what: checklist.pooled(self.right, score) for what, score in scored.items()}
        return {
            name: {f"gain.{what}": paired(one["minigpt4"], one[name]) for what, one in pooled.items()}
            for name in ("blip2", "locna")
            if name in self.right
        }


@dataclass(frozen=True, kw_only=True)
class Page:
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
    """Return the tasks of which a study has pictures."""
    return CHECKLISTS if study.special_tests else {}


def shown(study: Study) -> dict[str, list[Scene]]:
    """Return the test pictures of each task."""
    return {task: read_scenes(study.scenes(f"{one.kind}_test")) for task, one in tasks(study).items()}


def decodings(study: Study) -> dict[str, Decoding]:
    """Return the ways of decoding an answer to a request."""
    return generate.decoding_configs(study.profile.evaluation.task_tokens, seed=study.seed)


def tried(study: Study, base: Stage1, models: Mapping[str, PromptedModel]) -> pandas.DataFrame:
    """Try the decodings and wordings on val: the share of all tasks' items that answers fulfil."""
    return pandas.DataFrame(
        {"model": name, "decoding": way, "wording": wording, **metrics.columns("items", items)}
        for name, (way, decoding) in product(WORDINGS, decodings(study).items())
        for wording in WORDINGS[name]
        for items in [items_on_val(study, base, replace(models[name], wording=wording), decoding, name)]
    )


def items_on_val(
    study: Study, base: Stage1, asked: PromptedModel, decoding: Decoding, name: str
) -> Estimate | None:
    """Return the share of all tasks' items that a model's answers fulfil on val."""
    size, items = study.profile.evaluation.batch_size, []
    for sheet in tasks(study).values():
        split = f"{sheet.kind}_val"
        texts = asked.answers(base.queries[split], sheet.request, decoding, batch_size=size, what=name)
        items += checklist.scores(sheet, texts, read_scenes(study.scenes(split)))["items"]
    return metrics.mean(items)


def asked(config: EvalConfig, name: str) -> Asked:
    """Return how a model is asked: as the profile says of it or of the one it is like, else officially."""
    return dict(config.abilities).get(ALIKE.get(name, name), Asked())


def participants(study: Study, models: Mapping[str, PromptedModel]) -> dict[str, Participant]:
    """Return those of JUDGED that there are, each in the way that was chosen for it."""
    known, found = decodings(study), {}
    for name in (name for name in JUDGED if name in models):
        how = asked(study.profile.evaluation, name)
        prompted = models[name] if how.wording is None else replace(models[name], wording=how.wording)
        found[name] = Participant(prompted, how.decoding, known[how.decoding])
    return found


def overview(participants: Mapping[str, Participant]) -> pandas.DataFrame:
    """List how each model decodes and in which words it is asked; in the keys of settings."""
    return pandas.DataFrame(
        {"model": name, "decoding": one.way, "wording": one.prompted.wording}
        for name, one in participants.items()
    )


def answers(study: Study, base: Stage1, participants: Mapping[str, Participant]) -> Said:
    """Ask the models of Table 1 about the test pictures of each task."""
    size, said = study.profile.evaluation.batch_size, {}
    for name, (task, sheet) in product(JUDGED, tasks(study).items()):
        one, queries = participants[name], base.queries[f"{sheet.kind}_test"]
        said.setdefault(name, {})[task] = one.prompted.answers(
            queries, sheet.request, one.decoding, batch_size=size, what=f"{name}, {task}"
        )
    return said


def told(
    study: Study, one: Participant, shown: Mapping[str, Sequence[Scene]]
) -> dict[str, dict[str, list[str]]]:
    """Tell a model's language model the truth in words instead of showing it the pictures: the ceiling.

    It is the system *told*, and decodes as the model does; empty where there are no pictures.
    """
    size, answers = study.profile.evaluation.batch_size, {}
    for task, pictures in shown.items():
        request = CHECKLISTS[task].request
        questions = [TOLD.format(facts=each.in_words, request=request) for each in pictures]
        answers[task] = generate.blind_answers(
            one.prompted.model,
            one.prompted.template,
            questions,
            one.decoding,
            batch_size=size,
            what=f"told, {task}",
        )
    return {"told": answers} if answers else {}


def judged(said: Mapping[str, Answers], shown: Mapping[str, list[Scene]]) -> Verdicts:
    """Judge every answer against its own picture and against another one of its task.

    *facts* joins the systems: a list of what the picture shows, as its truth has it.
    """
    systems = dict(said)
    if shown:
        systems["facts"] = {task: [one.in_words for one in some] for task, some in shown.items()}
    systems = display_names.ordered(systems)
    other = checklist.judged(systems, checklist.exchanged(shown))
    return Verdicts(right=checklist.judged(systems, shown), swapped=other)


def pages(study: Study, base: Stage1, said: Said) -> list[Page]:
    """Return for each task its first pictures with what was answered, two models side by side."""
    few = study.profile.evaluation.shown // 4
    return [
        Page(
            name=task,
            request=sheet.request,
            pictures=base.splits[f"{sheet.kind}_test"].first(few),
            answers={name: said[name][task] for name in side_by_side(said)},
        )
        for task, sheet in tasks(study).items()
    ]


def stories(study: Study, base: Stage1, participants: Mapping[str, Participant]) -> list[Page]:
    """Ask two models about the first pictures of each further kind; a story can be told of any picture."""
    asked, found = study.profile.evaluation, []
    few, size = asked.shown // 4, asked.batch_size
    for kind, request in STORIES.items():
        split = study.tests[0] if kind == "story" else f"{kind}_test"
        if split not in base.queries:
            continue
        rows = list(base.queries[split])[:few]
        texts = {
            name: participants[name].prompted.answers(
                rows, request, participants[name].decoding, batch_size=size, what=f"{name}, {kind}"
            )
            for name in side_by_side(participants)
        }
        pictures = base.splits[split].first(few)
        found.append(Page(name=kind, request=request, pictures=pictures, answers=texts))
    return found
