"""ICLR T7: the language model is trained too, on questions, by low-rank updates (LoRA, Hu et al. 2021).

The projection is trained along with it; encoder and Q-Former stay frozen.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mglib.evals.choices import posed
from mglib.evals.vqa import Exam
from mglib.experiments.exams import ExamPrompt
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.paths import hash_json, sha256
from mglib.study.stage1 import Stage1
from mglib.study.study import Study
from mglib.study.train import train
from mglib.training.loop import Log
from mglib.weights.lora import with_lora

Asked = tuple[int, str, str]  # the picture's place, the question, the answer


class Answered(Dataset):
    """Questions with their answers and the Q-Former's output for their pictures."""

    def __init__(self, queries: Sequence[Tensor], asked: Sequence[Asked]) -> None:
        self.queries, self.asked = queries, asked

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int) -> tuple[Tensor, str, str]:
        picture, question, answer = self.asked[index]
        return self.queries[picture], question, answer


def answering(
    model: MiniGPT4, template: Template, prompt: str, max_answer: int
) -> Callable[[list[tuple[Tensor, str, str]]], dict[str, Tensor]]:
    """Return a collate function that lays out a batch of questions in the prompt of the evaluation."""

    def collate(rows: list[tuple[Tensor, str, str]]) -> dict[str, Tensor]:
        queries, questions, answers = zip(*rows, strict=True)
        layout = prompts.training_batch(
            model.language.tokenizer,
            template,
            [posed(prompt, question) for question in questions],
            answers,
            queries=model.qformer.config.queries,
            max_answer=max_answer,
        )
        return {"queries": torch.stack(queries), **layout}

    return collate


def lessons(exam: Exam, *, seed: int) -> list[Asked]:
    """Return training questions: all of A-OKVQA, answered by the right choice, and as many of GQA.

    GQA's are sampled by the seed; otherwise A-OKVQA, with one question per picture, would be only a sixth.
    """
    choice = [(picture, one.question, one.choices[one.right]) for picture, one in exam.choice]
    graph = [(picture, one.question, one.truth) for picture, one in exam.graph]
    return choice + random.Random(f"{seed}/lessons").sample(graph, min(len(choice), len(graph)))


def learn(
    study: Study, base: Stage1, asked: Sequence[Asked], prompt: ExamPrompt
) -> tuple[dict[str, MiniGPT4], Log]:
    """Train *lora* from stage 1's model, *base*, on questions about its pictures, in the evaluation's prompt.

    Returns both models and the training's log; only *base* if the profile has no `lora`.
    """
    config = study.profile.lora
    if config is None:
        return {"base": base.model}, []
    model = with_lora(base.model, config, seed=study.seed)
    trained = train(
        study,
        model,
        Answered(base.queries["train"], asked),
        answering(model, prompt.template, prompt.wording, config.train.max_answer),
        config.train,
        "lora",
        lora=asdict(config),
        stage1=sha256(base.trained.state),
        questions=hash_json(list(asked)),
        wording=hash_json([asdict(prompt.template), prompt.wording]),
    )
    return {"base": base.model, "lora": model}, trained.log
