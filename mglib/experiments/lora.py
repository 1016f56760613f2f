"""ICLR T7: the language model learns too, by low-rank updates (LoRA, Hu et al. 2021), from questions.

A model keeps its projection in training; encoder and Q-Former stay frozen.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mglib.evals.choices import posed
from mglib.evals.vqa import Exam
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.paths import hash_json, sha256
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.weights.lora import with_lora

Asked = tuple[int, str, str]  # the picture's place, the question, the answer


def lessons(exam: Exam, *, seed: int) -> list[Asked]:
    """Return questions to learn from: all of A-OKVQA, answered by the right choice, and as many of GQA.

    GQA's are drawn by the seed; without that A-OKVQA, with one question a picture, would be a sixth.
    """
    choice = [(place, one.question, one.choices[one.correct_choice_idx]) for place, one in exam.choice]
    graph = [(place, one.question, one.answer) for place, one in exam.graph]
    return choice + random.Random(f"{seed}/lessons").sample(graph, min(len(choice), len(graph)))


class Answered(Dataset):
    """Questions with their answers and what the Q-Former made of their pictures."""

    def __init__(self, queries: Sequence[Tensor], asked: Sequence[Asked]) -> None:
        self.queries, self.asked = queries, asked

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int) -> tuple[Tensor, str, str]:
        place, question, answer = self.asked[index]
        return self.queries[place], question, answer


def answering(
    model: MiniGPT4, template: Template, prompt: str, max_answer: int
) -> Callable[[list[tuple[Tensor, str, str]]], dict[str, Tensor]]:
    """Return what lays out a batch of questions in the prompt that they will be asked with."""

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


def learn(
    study: Study,
    start: MiniGPT4,
    state: Path,
    queries: Sequence[Tensor],
    asked: Sequence[Asked],
    *,
    template: Template,
    prompt: str,
) -> tuple[MiniGPT4, Trained]:
    """Train a model (kept in `state`) on questions about pictures, of which `queries` holds (Q, D_q) each."""
    config = study.profile.lora
    model = with_lora(start, config, seed=study.seed)
    trained = train(
        study,
        model,
        Answered(queries, asked),
        answering(model, template, prompt, config.train.max_answer),
        config.train,
        "lora",
        lora=asdict(config),
        stage1=sha256(state),
        questions=hash_json(list(asked)),
        wording=hash_json([asdict(template), prompt]),
    )
    return model, trained
