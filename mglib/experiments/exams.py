"""Questions with right answers: POPE's yes or no, and A-OKVQA and GQA for Table 4 and ICLR Table 7."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas
from torch import Tensor

from mglib import frame, metrics
from mglib.errors import needed
from mglib.evals import pope, vqa
from mglib.evals.choices import Scores
from mglib.evals.pope import Question
from mglib.evals.vqa import Exam, Prior
from mglib.experiments import ablations, descriptions
from mglib.model import prompts
from mglib.model.decoding import greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.study import display_names
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

REQUESTS = ("{}", "{} Answer yes or no.", "Look at the image and answer with yes or no. {}")
MEASURES = {  # of Tables 4 and 7: how `vqa.examine` counts them
    "aokvqa": "four choices, by summed loss",
    "aokvqa_per_token": "four choices, by loss per token",
    "aokvqa_direct": "soft accuracy of the answer's head",
    "gqa": "exact match of the answer's head",
    "gqa_format": "the answer's head has a word, and no more than the longest right answer",
}
AVERAGED = ("aokvqa", "aokvqa_direct", "gqa")  # by which the prompt is chosen
COMPARED = ("aokvqa", "aokvqa_per_token", "gqa")
DIFFERENCES = {  # by table: the split, and for each name the rows that are added and those subtracted
    "t4": ("difference", {name: ([name], ["base"]) for name in (*ablations.ARMS[1:], "blank", "shuffled")}),
    "t7": (
        "",
        {
            "lora_less_base": (["lora"], ["base"]),
            "lora_less_lora_shuffled": (["lora"], ["lora_shuffled"]),
            "base_less_base_shuffled": (["base"], ["base_shuffled"]),
            "seen_more": (["lora", "base_shuffled"], ["lora_shuffled", "base"]),
        },
    ),
}

# --- POPE ---


def pope_questions(study: Study, base: Stage1, split: str, most: int) -> dict[str, list[Question]]:
    """Draw the questions about the first pictures of a split in each of POPE's three ways."""
    objects, known = base.splits[split].objects, descriptions.truths(study, base, split)
    drawn = {way: pope.questions(objects, known, way, seed=0) for way in pope.WAYS}
    return {way: [one for one in every if one.picture in range(most)] for way, every in drawn.items()}


def poll(
    study: Study, base: Stage1, one: PromptedModel, asked: Sequence[Question], request: str, split: str
) -> list[str]:
    """Ask a model each distinct question once; returns an answer for every question, duplicates included."""
    config = study.profile.evaluation
    every = list(dict.fromkeys((question.picture, question.text) for question in asked))
    texts = one.answers(
        [base.queries[split][picture] for picture, _ in every],  # type: ignore[index]  # indices in the split
        [request.replace("{}", text) for _, text in every],
        greedy(config.short_tokens),
        batch_size=config.batch_size,
        what=f"yes or no, {split}",
    )
    said = dict(zip(every, texts, strict=True))
    return [said[question.picture, question.text] for question in asked]


def pope_request(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel]
) -> tuple[pandas.DataFrame, str]:
    """Try the requests on val with MiniGPT-4; returns all scores and the most accurate request."""
    few, lines = study.profile.evaluation.pope_pictures // 4, []
    asked = pope_questions(study, base, "val", few)["random"]
    for request in REQUESTS:
        counts = pope.counts(asked, poll(study, base, models["minigpt4"], asked, request, "val"))
        found = {
            what: needed(counts[what].estimate(), "questions").value for what in ("accuracy", "unparsed")
        }
        lines.append({"wording": request, **found})
    tried = pandas.DataFrame(lines)
    return tried, REQUESTS[tried["accuracy"].argmax()]


def pope_table(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], request: str
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Ask MiniGPT-4 and stage 1 about the test pictures in all three ways; *yes* always says yes.

    Returns all scores and, paired, the accuracy of MiniGPT-4 minus that of the constant yes. One constant
    serves all three ways: they ask the same number of questions about a picture, half of them about what is
    there.
    """
    split, most, counts = study.tests[0], study.profile.evaluation.pope_pictures, {}
    drawn = pope_questions(study, base, split, most)
    every = [one for some in drawn.values() for one in some]
    for name in ("stage1", "minigpt4"):
        said = iter(poll(study, base, models[name], every, request, split))
        for way, asked in drawn.items():
            row = way if name == "minigpt4" else f"{way}.{name}"
            counts[row] = pope.counts(asked, [next(said) for _ in asked])
    counts["yes"] = pope.counts(drawn["random"], ["yes"] * len(drawn["random"]))
    shown = ("accuracy", "f1", "yes_ratio", "unparsed")
    scores = {row: {what: one[what] for what in shown} for row, one in counts.items()}
    accuracies = {row: {"gain.accuracy": one["accuracy"]} for row, one in counts.items()}
    gains = frame.differences(accuracies, {f"{way}.over_yes": (way, "yes") for way in drawn})
    note = f"first {most} of {split}, greedy, asked {request!r}; not in the paper"
    apart = f"MiniGPT-4 minus the constant yes, paired; {note}"
    return frame.rows("pope", scores, note=note), frame.rows("pope", gains, note=apart)


# --- A-OKVQA and GQA ---


@dataclass(frozen=True)
class ExamPrompt:
    """How all models are asked: in which template, in which words."""

    template: Template
    wording: str  # "{}" is the question


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An exam about a split; by table row, the scores of each measure and the answers to GQA."""

    exam: Exam
    split: str
    scores: dict[str, dict[str, Scores]]
    said: dict[str, list[str]]


def examine(
    study: Study,
    use: str,
    rows: Mapping[str, tuple[MiniGPT4, Sequence[Tensor]]],
    prompt: ExamPrompt,
    *,
    part: int = 1,
) -> Answered:
    """Examine models on the split for a use, or on 1/`part` of its pictures; each model comes with (Q, D_q)
    of every picture of the split.
    """
    config, split = study.profile.evaluation, study.questioned[use]
    whole = study.exam(split)
    exam = whole.first(choice=config.choice_pictures // part, graph=config.graph_pictures // part)
    answered = Answered(exam=exam, split=split, scores={}, said={})
    for name, (model, queries) in rows.items():
        answered.scores[name], answered.said[name] = vqa.examine(
            model,
            queries,
            prompt.template,
            exam,
            prompt=prompt.wording,
            batch_size=config.batch_size // 2,
            short_tokens=config.short_tokens,
            what=name,
        )
    return answered


def choose_prompt(study: Study, base: Stage1, model: MiniGPT4) -> tuple[pandas.DataFrame, ExamPrompt]:
    """Try three prompts on val; returns all scores and the prompt with the best mean of three measures."""
    chat = prompts.template(study.profile.language.template, model.language.tokenizer)
    _, blip2, v2, _ = vqa.PROMPTS
    offered = ExamPrompt(chat, v2), ExamPrompt(chat, blip2), ExamPrompt(prompts.CAPTION, blip2)
    lines, row = [], {"val": (model, ablations.queries(model.qformer, base.tokens[study.questioned["val"]]))}
    for prompt in offered:
        scores = examine(study, "val", row, prompt, part=3).scores["val"]
        found = {name: needed(one.estimate(), "questions").value for name, one in scores.items()}
        mean = sum(found[name] for name in AVERAGED) / 3
        asked = {"template": prompt.template.name, "wording": prompt.wording}
        lines.append({**asked, **found, "mean of three": mean})
    tried = pandas.DataFrame(lines)
    return tried, offered[tried["mean of three"].argmax()]


def examine_arms(study: Study, base: Stage1, models: Mapping[str, MiniGPT4], prompt: ExamPrompt) -> Answered:
    """Examine the arms of the ablation on the test split, and the baselines that they have to beat.

    *blank* and *shuffled*: the base arm with a picture of one colour, and with another picture; *majority*
    and *chance*: the training questions' answers, no model.
    """
    tokens = base.tokens[study.questioned["test"]]
    rows = {name: (one, ablations.queries(one.qformer, tokens)) for name, one in models.items()}
    first, own = rows["base"]
    rows["blank"] = first, [vqa.blank(base.vision, first.qformer)] * len(own)
    rows["shuffled"] = first, shuffled(own, seed=study.seed)
    answered = examine(study, "test", rows, prompt)
    prior = Prior.of(study.exam(study.questioned["train"]))
    for name, blindly in {"majority": vqa.majority, "chance": vqa.chance}.items():
        answered.scores[name] = blindly(answered.exam, prior)
    return answered


def examine_learnt(
    study: Study, base: Stage1, models: Mapping[str, MiniGPT4], prompt: ExamPrompt
) -> Answered:
    """Examine models trained on questions, each also with other pictures (*..._shuffled*): the difference is
    due to what they see.
    """
    queries = list(base.queries[study.questioned["test"]])
    others = shuffled(queries, seed=study.seed)
    rows = {name: (model, queries) for name, model in models.items()}
    if "lora" in models:
        rows |= {f"{name}_shuffled": (model, others) for name, model in models.items()}
    return examine(study, "test", rows, prompt)


def shuffled(queries: Sequence[Tensor], *, seed: int) -> list[Tensor]:
    """Return the queries with each picture replaced by another one of the split."""
    return [queries[index] for index in metrics.derangement(len(queries), seed=seed)]


def points(task: str, answered: Answered) -> pandas.DataFrame:
    """Return the scores of each row of a table; rows without a model have no format score."""
    rows = {row: {name: one.counts() for name, one in some.items()} for row, some in answered.scores.items()}
    some, about = next(iter(answered.scores.values())), f"questions on {answered.split}; n counts pictures"
    notes = {name: f"{MEASURES[name]}; {len(one.values)} {about}" for name, one in some.items()}
    return frame.rows(task, rows, note=notes)


def differences(task: str, answered: Answered) -> pandas.DataFrame:
    """Return the DIFFERENCES of a table, question by question and clustered by picture."""
    (split, pairs), scores = DIFFERENCES[task], answered.scores

    def total(rows: Sequence[str], what: str) -> Scores:
        every = [scores[row][what] for row in rows]
        return Scores(tuple(map(sum, zip(*(one.values for one in every), strict=True))), every[0].pictures)

    rows = {
        name: {what: total(plus, what).minus(total(minus, what)) for what in COMPARED}
        for name, (plus, minus) in pairs.items()
        if scores.keys() >= {*plus, *minus}
    }
    remarks = {name: f"{' + '.join(plus)} minus {' + '.join(minus)}" for name, (plus, minus) in pairs.items()}
    return frame.rows(task, rows, note="paired, clustered by picture", remarks=remarks, split=split)


def examples(answered: Answered, models: Iterable[str], most: int) -> pandas.DataFrame:
    """List the first questions of GQA with the models' answers."""
    asked = [one for _, one in answered.exam.graph[:most]]
    said = {display_names.of(name): answered.said[name][:most] for name in models}
    truth = {"question": [one.question for one in asked], "truth": [one.answer for one in asked]}
    return pandas.DataFrame(truth | said)
