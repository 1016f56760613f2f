"""Questions with right answers: POPE's yes or no, and A-OKVQA and GQA for Table 4 and ICLR Table 7."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas
from torch import Tensor

from mglib import metrics
from mglib.evals import pope, vqa
from mglib.evals.choices import Scores, posed
from mglib.evals.generate import answers
from mglib.evals.pope import Question
from mglib.evals.vqa import Exam, Prior, Result
from mglib.experiments import ablations, descriptions
from mglib.metrics import Counts, Estimate
from mglib.model import prompts
from mglib.model.decoding import greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.study import display_names
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

REQUESTS = ("{}", "{} Answer yes or no.", "Look at the image and answer with yes or no. {}")
TASKS = {
    "aokvqa.choice": "aokvqa",
    "aokvqa.choice_per_token": "aokvqa_per_token",
    "aokvqa.direct": "aokvqa_direct",
    "gqa": "gqa",
    "aokvqa.direct_format": "aokvqa_direct_format",
    "gqa.format": "gqa_format",
}
NOTES = {
    "aokvqa.choice": "four choices, by summed loss",
    "aokvqa.choice_per_token": "four choices, by loss per token",
    "aokvqa.direct": "soft accuracy of the answer's head",
    "gqa": "exact match of the answer's head",
    "aokvqa.direct_format": "the answer's head has a word, and no more than the longest right answer",
    "gqa.format": "the answer's head has a word, and no more than the longest right answer",
}

# --- POPE ---


def pope_questions(study: Study, base: Stage1, split: str, most: int) -> dict[str, list[Question]]:
    """Draw the questions of all three ways about the first pictures of a split."""
    objects, known = base.splits[split].objects, descriptions.truths(study, base, split)
    drawn = {way: pope.questions(objects, known, way, seed=0) for way in pope.WAYS}
    return {way: [one for one in every if one.picture < most] for way, every in drawn.items()}


def poll(
    study: Study, base: Stage1, one: PromptedModel, asked: Sequence[Question], request: str, split: str
) -> list[str]:
    """Ask a model each different question once; returns an answer to each that was given."""
    every = list(dict.fromkeys((question.picture, question.text) for question in asked))
    shown = base.queries[split]
    texts = answers(
        one.model,
        [shown[place] for place, _ in every],
        one.template,
        [one.question(request.replace("{}", text)) for _, text in every],
        greedy(study.profile.evaluation.short_tokens),
        batch_size=study.profile.evaluation.batch_size,
        what=f"yes or no, {split}",
    )
    told = dict(zip(every, texts, strict=True))
    return [told[question.picture, question.text] for question in asked]


def pope_choices(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel]
) -> tuple[pandas.DataFrame, str]:
    """Try the requests on val with MiniGPT-4; returns all lines, and the most accurate request."""
    few, lines = study.profile.evaluation.pope_pictures // 4, []
    asked = pope_questions(study, base, "val", few)["random"]
    for request in REQUESTS:
        counts = pope.counts(asked, poll(study, base, models["minigpt4"], asked, request, "val"))
        found = {what: counts[what].estimate().value for what in ("accuracy", "unparsed")}
        lines.append({"model": "minigpt4", "wording": request, **found})
    tried = pandas.DataFrame(lines)
    return tried, tried["wording"][tried["accuracy"].idxmax()]


def pope_table(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], request: str
) -> dict[str, dict[str, Counts]]:
    """Ask MiniGPT-4 and stage 1 about the test pictures in all three ways; *yes* always says yes."""
    split, rows = study.tests[0], {}
    drawn = pope_questions(study, base, split, study.profile.evaluation.pope_pictures)
    every = [one for some in drawn.values() for one in some]
    for name in ("stage1", "minigpt4"):
        told = iter(poll(study, base, models[name], every, request, split))
        for way, asked in drawn.items():
            row = way if name == "minigpt4" else f"{way}.{name}"
            rows[row] = pope.counts(asked, [next(told) for _ in asked])
    rows["yes"] = pope.counts(drawn["random"], ["yes"] * len(drawn["random"]))
    return rows


def over_yes(rows: Mapping[str, Mapping[str, Counts]]) -> dict[str, dict[str, Estimate | None]]:
    """Return by how much MiniGPT-4 is more accurate than the constant yes, paired.

    One constant serves all ways: they ask equally many questions about a picture, half of them about what is
    there.
    """
    constant = rows["yes"]["accuracy"]
    return {
        f"{way}.over_yes": {"gain.accuracy": metrics.paired(rows[way]["accuracy"], constant)}
        for way in pope.WAYS
    }


# --- A-OKVQA and GQA ---


@dataclass(frozen=True)
class Way:
    """One way of asking for all models: in which template, in which words."""

    template: Template
    prompt: str  # "{}" is the question

    def text(self, question: str) -> str:
        """Write what a model reads of a question."""
        return self.template.prompt(posed(self.prompt, question))


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One exam put to several rows of a table."""

    exam: Exam
    split: str
    scores: dict[str, dict[str, Scores]]  # row -> task
    said: dict[str, list[str]]  # model -> its answers to GQA

    def estimates(self) -> dict[str, dict[str, Estimate | None]]:
        """Return what each row scores, by the tasks' short names; without a model there is no format."""
        return {
            row: {name: scores[task].estimate() for task, name in TASKS.items() if task in scores}
            for row, scores in self.scores.items()
        }

    def notes(self) -> dict[str, str]:
        """Say of each task how it is counted and on how many questions."""
        some = next(iter(self.scores.values()))
        return {
            name: f"{NOTES[task]}; {len(some[task].values)} questions on {self.split}; n counts pictures"
            for task, name in TASKS.items()
        }

    def less(self, row: str, other: str) -> dict[str, Estimate | None]:
        """Return one row less another, question by question and clustered by picture."""
        one, two = self.scores[row], self.scores[other]
        return {name: one[task].minus(two[task]) for task, name in TASKS.items() if task in one}

    def structures(self) -> tuple[dict[str, dict[str, Estimate | None]], dict[str, str]]:
        """Return GQA by the structure of its questions, and of how many there are of each."""
        kinds = self.exam.graph_kinds("structural")
        parts = {row: scores["gqa"].by(kinds) for row, scores in self.scores.items()}
        rows = {row: {kind: one.estimate() for kind, one in some.items()} for row, some in parts.items()}
        sizes = {kind: len(one.values) for some in parts.values() for kind, one in some.items()}
        about = {kind: f"exact match on {n} questions; n counts pictures" for kind, n in sizes.items()}
        return rows, about

    def examples(self, most: int) -> pandas.DataFrame:
        """List the first questions of GQA with their answers."""
        lines = [
            {
                "question": one.question,
                "truth": one.answer,
                **{display_names.of(row): said[place] for row, said in self.said.items()},
            }
            for place, (_, one) in enumerate(self.exam.graph[:most])
        ]
        return pandas.DataFrame(lines)


def questions(study: Study, use: str, part: int = 1) -> Exam:
    """Return what is asked for a use, or about so much less of its pictures."""
    asked = study.profile.evaluation
    exam = study.exam(study.questioned[use])
    return exam.first(choice=asked.choice_pictures // part, graph=asked.graph_pictures // part)


def put(study: Study, model: MiniGPT4, queries: Sequence[Tensor], exam: Exam, way: Way, what: str) -> Result:
    """Put an exam to a model in one way of asking; `queries` holds (Q, D_q) of each picture of the split."""
    asked = study.profile.evaluation
    return vqa.examine(
        model,
        queries,
        way.template,
        exam,
        prompt=way.prompt,
        batch_size=asked.batch_size // 2,
        short_tokens=asked.short_tokens,
        what=what,
    )


def ways(study: Study, base: Stage1) -> tuple[Way, ...]:
    """Return the ways of asking that are tried."""
    chat = prompts.template(study.profile.language.template, base.language.tokenizer)
    _, blip2, v2, _ = vqa.PROMPTS
    return Way(chat, v2), Way(chat, blip2), Way(prompts.CAPTION, blip2)


def choices(study: Study, base: Stage1, model: MiniGPT4) -> tuple[pandas.DataFrame, Way]:
    """Try the ways of asking on val; returns all lines, and the way with the best mean of three tasks."""
    exam, lines = questions(study, "val", part=3), []
    shown = ablations.queries(model, base.tokens[study.questioned["val"]])
    for way in ways(study, base):
        result = put(study, model, shown, exam, way, "val")
        points = {task: scores.estimate().value for task, scores in result.scores.items()}
        mean = sum(points[task] for task in ("aokvqa.choice", "aokvqa.direct", "gqa")) / 3
        scored = {name: points[task] for task, name in TASKS.items() if task in points}
        asked = {"template": way.template.name, "wording": way.prompt}
        lines.append({**asked, **scored, "mean of three": mean})
    best = max(range(len(lines)), key=lambda place: lines[place]["mean of three"])
    return pandas.DataFrame(lines), ways(study, base)[best]


def shuffled(shown: Sequence[Tensor], *, seed: int) -> list[Tensor]:
    """Give every question another picture of its split."""
    return [shown[place] for place in metrics.derangement(len(shown), seed=seed)]


def of_arms(study: Study, base: Stage1, models: Mapping[str, MiniGPT4], way: Way) -> Sitting:
    """Examine the arms of the ablation on the test split, and the rows that a model has to beat.

    *blank* and *shuffled*: the base arm before a picture of one colour, and before another picture;
    *majority* and *chance*: the training questions' answers, no model.
    """
    exam, split = questions(study, "test"), study.questioned["test"]
    results = {}
    for name, model in models.items():
        results[name] = put(study, model, ablations.queries(model, base.tokens[split]), exam, way, name)
    first = models["base"]
    shown = ablations.queries(first, base.tokens[split])
    controls = {
        "blank": [vqa.blank(base.vision, first.qformer)] * len(shown),
        "shuffled": shuffled(shown, seed=study.seed),
    }
    scores = {name: result.scores for name, result in results.items()}
    for name, other in controls.items():
        scores[name] = put(study, first, other, exam, way, name).scores
    prior = Prior.of(study.exam(study.questioned["train"]))
    scores |= {"majority": vqa.majority(exam, prior), "chance": vqa.chance(exam, prior)}
    said = {name: result.graph for name, result in results.items()}
    return Sitting(exam=exam, split=split, scores=scores, said=said)


def of_learnt(study: Study, base: Stage1, models: Mapping[str, MiniGPT4], way: Way) -> Sitting:
    """Examine models that learnt from questions; *lora_shuffled* is shown other pictures: the control."""
    exam, split = questions(study, "test"), study.questioned["test"]
    shown = list(base.queries[split])
    rows = {name: (model, shown) for name, model in models.items()}
    if "lora" in models:
        rows["lora_shuffled"] = (models["lora"], shuffled(shown, seed=study.seed))
    results = {name: put(study, model, seen, exam, way, name) for name, (model, seen) in rows.items()}
    return Sitting(
        exam=exam,
        split=split,
        scores={name: result.scores for name, result in results.items()},
        said={name: result.graph for name, result in results.items()},
    )
