"""The questions of A-OKVQA, GQA and POPE."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mglib.data.quarantine import Fault, unique
from mglib.data.records import FileName, Name, Text, as_text, fit_all, read_items, read_lines
from mglib.errors import needed

ShortAnswer = Annotated[str, BeforeValidator(as_text)]  # 2 as "2"


@dataclass(frozen=True, kw_only=True)
class ChoiceQuestion:
    """A question of A-OKVQA; the test split has neither the right choice nor the answers."""

    split: str
    image_id: int  # COCO's
    question_id: Name
    question: Text
    choices: tuple[Name, ...]
    correct_choice_idx: int | None = None
    direct_answers: tuple[ShortAnswer, ...] = ()  # by ten annotators
    difficult_direct_answer: bool | None = None

    def __post_init__(self) -> None:
        if self.correct_choice_idx is not None and not 0 <= self.correct_choice_idx < len(self.choices):
            raise ValueError(f"choice {self.correct_choice_idx} is not one of the {len(self.choices)}")

    @property
    def right(self) -> int:
        """The index of the right choice; raises ValueError if it is held out."""
        return needed(self.correct_choice_idx, f"the right choice of question {self.question_id}")


@dataclass(frozen=True)
class QuestionTypes:
    """GQA's kinds: how a question is built (query, verify, ...) and what it is about (obj, rel, ...)."""

    structural: str
    semantic: str
    detailed: str


@dataclass(frozen=True, kw_only=True)
class GraphQuestion:
    """A question of GQA; the test splits have no answers and no types."""

    question_id: str = ""  # its key in the file
    image_id: Annotated[FileName, Field(validation_alias="imageId")]
    question: Text
    answer: ShortAnswer | None = None
    balanced: Annotated[bool, Field(validation_alias="isBalanced")]  # the official scorer counts only these
    types: QuestionTypes | None = None

    @property
    def truth(self) -> str:
        """The answer; raises ValueError if it is held out."""
        return needed(self.answer, f"the answer to question {self.question_id}")

    @property
    def detailed(self) -> str:
        """The detailed type; raises ValueError if types are held out."""
        return needed(self.types, f"the types of question {self.question_id}").detailed


@dataclass(frozen=True, kw_only=True)
class YesNoQuestion:
    """A question of POPE: is this object in the picture?"""

    question_id: Name  # each official file counts from 1
    image: FileName
    text: Text
    label: Literal["yes", "no"]


def read_a_okvqa(path: Path) -> Iterator[ChoiceQuestion | Fault]:
    """Yield the questions of a file such as `aokvqa_v1p0_val.json`, a JSON array."""
    found = fit_all(ChoiceQuestion, read_items(path), path)
    return unique(found, path, lambda question: question.question_id)


def read_gqa(path: Path) -> Iterator[GraphQuestion | Fault]:
    """Yield the questions of a file such as `testdev_balanced_questions.json`, keyed by question id."""
    rows = (
        (key, row | {"question_id": key} if isinstance(row, dict) else row) for key, row in read_items(path)
    )
    return fit_all(GraphQuestion, rows, path)


def read_pope(path: Path) -> Iterator[YesNoQuestion | Fault]:
    """Yield the questions of a file such as `coco_pope_random.json`, which is JSON lines."""
    found = fit_all(YesNoQuestion, read_lines(path), path)
    return unique(found, path, lambda question: question.question_id)
