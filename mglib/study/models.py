"""A model with the way it is prompted, and the models of the study before stage 2."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import pandas
from torch import Tensor

from mglib.evals import generate
from mglib.model import prompts
from mglib.model.blip2 import KEYWORDS
from mglib.model.decoding import Decoding
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.study import display_names
from mglib.study.blip2 import Blip2
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

# The official four (`prompts/alignment.txt`).
INSTRUCTIONS = (
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
)


@dataclass(frozen=True, kw_only=True)
class PromptedModel:
    """A model and how it is prompted: in a conversation or, without "{}" in `wording`, by picture alone."""

    model: MiniGPT4
    template: Template
    wording: str = prompts.with_image("{}")  # "{}" is the question

    @property
    def reads(self) -> bool:
        """Whether the model reads the question at all."""
        return "{}" in self.wording

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions that stage 2 asks it."""
        return tuple(dict.fromkeys(map(self.question, INSTRUCTIONS)))

    def question(self, text: str) -> str:
        """Put a question into the words that the model was trained with."""
        return self.wording.replace("{}", text)

    def answers(
        self,
        queries: Sequence[Tensor],
        text: str | Sequence[str],
        decoding: Decoding,
        *,
        batch_size: int,
        what: str,
    ) -> list[str]:
        """Ask the same question about every picture, or each its own; `queries` holds (Q, D_q) of each."""
        asked = self.question(text) if isinstance(text, str) else [self.question(one) for one in text]
        return generate.answers(
            self.model, queries, self.template, asked, decoding, batch_size=batch_size, what=what
        )


def prompted_blip2(blip2: Blip2) -> PromptedModel:
    """Return BLIP-2 mini, whose language model has never read a question."""
    return PromptedModel(model=blip2.model, template=KEYWORDS, wording=prompts.IMAGE)


def prompted_stage1(study: Study, base: Stage1) -> PromptedModel:
    """Return the model after stage 1, asked in the language model's conversation."""
    chat = prompts.template(study.profile.language.template, base.language.tokenizer)
    return PromptedModel(model=base.model, template=chat)


def overview(models: Mapping[str, PromptedModel]) -> pandas.DataFrame:
    """List the models with the parameters of their language model and how a question reaches them."""
    lines = [
        {
            "model": display_names.of(name),
            "its language model": f"{language_size(one) / 1e6:,.1f} million parameters",
            "asked": one.template.prompt(one.question("QUESTION")),
        }
        for name, one in models.items()
    ]
    return pandas.DataFrame(lines)


def language_size(one: PromptedModel) -> int:
    """Return the number of parameters of a model's language model."""
    return sum(weight.numel() for weight in one.model.language.parameters())


def side_by_side(models: Container[str]) -> tuple[str, str]:
    """Return the two models whose answers figures compare: BLIP-2, or without it stage 1, and MiniGPT-4."""
    return "blip2" if "blip2" in models else "stage1", "minigpt4"
