"""A-OKVQA and GQA (the paper's T4): four choices by their loss, short answers against those of people or the
scene graph, and the baselines that a model has to beat.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mglib.data.coco import ImageEntry
from mglib.data.quarantine import strict
from mglib.data.questions import ChoiceQuestion, GraphQuestion, read_a_okvqa, read_gqa
from mglib.data.records import fit_list, read_json
from mglib.evals.choices import ClosedQuestion, Losses, Scores, option_losses, posed, right
from mglib.evals.generate import answers
from mglib.mentions import word_list
from mglib.model.decoding import greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.model.vision import Vision

# Candidates; one of them is chosen on val for all models (the paper does not name its own).
PROMPTS = (
    "{}",
    "Question: {} Short answer:",  # BLIP-2's
    "Based on the image, respond to this question with a short answer: {}",  # MiniGPT-v2's
    "{} Answer with a single word or a short phrase.",
)
# The official VQA evaluation (VQAv2's `vqaEval.py`): its punctuation, articles and number words.
SIGNS = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = {"a", "an", "the"}
DIGITS = {word: str(number) for number, word in enumerate(word_list("number words"))} | {"none": "0"}
LABEL = re.compile(r"^\W*(?:(?:short |final )?answer|a)\s*:\s*", re.IGNORECASE)
# Abbreviated titles, whose full stop ends no sentence, and words that begin one after an initial.
TITLES, BEGINNINGS = word_list("titles"), word_list("beginnings")
# Typographic characters to typed ones; markdown's asterisks are dropped.
TYPED = str.maketrans(
    {
        **dict.fromkeys("‘’‛′´ʼ", "'"),
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("–—‐‑−", "-"),
        "。": ".",
        "*": None,
    }
)


Row = tuple[int, Any]  # a picture's index in the split and a question about it


def normalise(text: str) -> str:
    """Return an answer as the official VQA evaluation compares it: no articles, no punctuation, digits.

    Deviations: instead of its table of contractions ("dont" is "don't") apostrophes are dropped on both
    sides, and so are invisible characters; typographic characters count as typed ones.
    """
    text = unicodedata.normalize("NFKC", text.translate(TYPED)).translate(TYPED)
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    given = " ".join(text.replace("'", "").split())
    text, number = given, re.search(r"\d,\d", given)
    for sign in SIGNS:  # next to a space (or with a number such as 1,000) it is dropped, else it separates
        beside = f"{sign} " in given or f" {sign}" in given
        text = text.replace(sign, "" if beside or number else " ")
    text = re.sub(r"\.(?!\d)", "", text)
    words = (DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(word for word in words if word not in ARTICLES)


def head(said: str) -> str:
    """Return what comes before the first comma, colon, semicolon, full stop or line break of an answer,
    without a label such as "Answer:".

    The full stop of an abbreviation or an initial does not count. Deviation, the same for all models: a chat
    model says "No, there is no bear." where these sets have "no".
    """
    said = LABEL.sub("", said.strip())
    ends = (stop.start() for stop in re.finditer(r"[,.;:\n…。](?!\d)", said))
    return said[: next((end for end in ends if not goes_on(said, end)), None)]


def goes_on(said: str, at: int) -> bool:
    """Return whether a full stop ends an abbreviation or an initial: "Dr. Pepper", "U.S. flag", "No. 7"."""
    word, rest = re.split(r"[\s.]", said[:at])[-1].lower(), said[at + 1 :]
    if said[at] != "." or not rest.strip():
        return False
    following = rest.split()[0]
    if len(word) == 1 and word.isalpha():
        return rest[0] == "." or not (rest[0].isspace() and following.lower() in BEGINNINGS)
    return word in TITLES or (word == "no" and following[0].isdigit())


def soft_accuracy(said: str, people: Iterable[str]) -> float:
    """Return min(count / 3, 1), where `count` people gave this answer (official A-OKVQA evaluation)."""
    return min(sum(normalise(said) == normalise(other) for other in people) / 3, 1.0)


def exact(said: str, truth: str) -> float:
    """Return whether an answer is the scene graph's."""
    return float(normalise(said) == normalise(truth))


@dataclass(frozen=True, kw_only=True)
class Exam:
    """The questions of a split, each with its picture's index in the split."""

    choice: tuple[tuple[int, ChoiceQuestion], ...]  # A-OKVQA
    graph: tuple[tuple[int, GraphQuestion], ...]  # GQA

    def __post_init__(self) -> None:
        """Raise ValueError if answers, without which none could be right, or GQA's types are missing."""
        bare = [one.question_id for _, one in self.choice if one.correct_choice_idx is None]
        bare += [one.question_id for _, one in self.direct if not one.direct_answers]
        bare += [one.question_id for _, one in self.graph if one.answer is None]
        if bare:
            raise ValueError(
                f"{len(bare)} questions have no answer, the first is {bare[0]}: the test splits of A-OKVQA "
                "and GQA keep theirs back, so take the val or testdev files."
            )
        if untyped := [one.question_id for _, one in self.graph if one.types is None]:
            raise ValueError(
                f"{len(untyped)} questions of GQA have no `types`, by which answers are counted, the first "
                f"is {untyped[0]}: take the file as it is published."
            )

    @classmethod
    def read(cls, folder: Path) -> "Exam":
        """Read `aokvqa.json` and `gqa_balanced_questions.json` next to a split's pictures."""
        choice, graph = folder / "aokvqa.json", folder / "gqa_balanced_questions.json"
        places = picture_places(folder)
        return cls(
            choice=tuple(placed(strict(read_a_okvqa(choice)), places, choice)),
            graph=tuple(placed(strict(read_gqa(graph)), places, graph)),
        )

    def first(self, *, choice: int, graph: int) -> "Exam":
        """Return the questions about the first `choice` pictures of A-OKVQA and the first `graph` of GQA."""

        def of_first(rows: Sequence[Row], most: int) -> tuple[Row, ...]:
            few = sorted({place for place, _ in rows})[:most]
            return tuple(row for row in rows if row[0] in few)

        return Exam(choice=of_first(self.choice, choice), graph=of_first(self.graph, graph))

    @property
    def closed(self) -> list[ClosedQuestion]:
        """A-OKVQA's questions with their four choices."""
        return [
            ClosedQuestion(picture=at, text=one.question, options=one.choices, right=one.right)
            for at, one in self.choice
        ]

    @property
    def direct(self) -> list[tuple[int, ChoiceQuestion]]:
        """A-OKVQA's questions to be answered without choices: all but the difficult ones, on which the ten
        annotators agree too little.
        """
        return [row for row in self.choice if not row[1].difficult_direct_answer]

    def graph_kinds(self, kind: str) -> list[str]:
        """Return the "structural", "semantic" or "detailed" type of each of GQA's questions."""
        return [getattr(question.types, kind) for _, question in self.graph]


Asked = TypeVar("Asked", ChoiceQuestion, GraphQuestion)


def placed(asked: Iterable[Asked], places: dict[int, int], file: Path) -> list[tuple[int, Asked]]:
    """Join questions to their pictures' indices; raises ValueError if some are about other pictures."""
    rows, odd = [], []
    for one in asked:
        name = str(one.image_id)  # the names of GQA's own pictures need not be numbers
        place = places.get(int(name)) if name.isdecimal() else None
        if place is None:
            odd.append(name)
        else:
            rows.append((place, one))
    if odd:
        raise ValueError(
            f"{file}: {len(odd)} questions are about pictures that {file.parent} lacks, the first is picture "
            f"{odd[0]}. Take the questions of this split, or add its pictures."
        )
    return rows


def picture_places(folder: Path) -> dict[int, int]:
    """Return each picture's index in its split, by its COCO id.

    Sharded pictures are in the order of their `instances.json`, loose ones in that of their ids.
    """
    path = folder / "instances.json"
    ids = [entry.id for entry in strict(fit_list(ImageEntry, read_json(path), "images", path))]
    order = ids if any(folder.glob("*.tar")) else sorted(ids)
    return {image_id: place for place, image_id in enumerate(order)}


def examine(
    model: MiniGPT4,
    queries: Sequence[Tensor],
    template: Template,
    exam: Exam,
    *,
    prompt: str,
    batch_size: int,
    short_tokens: int,
    what: str,
) -> tuple[dict[str, Scores], list[str]]:
    """Run an exam on a model; `queries` holds the Q-Former's output for each picture of the split, (Q, D_q).

    Returns the scores by measure, and its answers to GQA's questions. Measures: *aokvqa*, choices by the
    summed loss (the headline); *aokvqa_per_token*; *aokvqa_direct* and *gqa*, answers given greedily with at
    most `short_tokens` tokens; *gqa_format*, whether the head of an answer has a length that could be right.
    """
    closed = exam.closed
    losses = option_losses(
        model, queries, template, closed, prompt=prompt, batch_size=batch_size, what=f"{what}, choices"
    )
    said = {}
    for task, rows in (("direct", exam.direct), ("graph", exam.graph)):
        said[task] = answers(
            model,
            [queries[place] for place, _ in rows],
            template,
            [posed(prompt, question.question) for _, question in rows],
            greedy(short_tokens),
            batch_size=batch_size,
            what=f"{what}, {task}",
        )
    scores = {
        "aokvqa": right(losses, closed),
        "aokvqa_per_token": right(losses, closed, Losses.per_token),
        **open_scores(exam, said["direct"], said["graph"]),
        "gqa_format": by_picture(exam.graph, fits(said["graph"], [one.truth for _, one in exam.graph])),
    }
    return scores, said["graph"]


def by_picture(rows: Iterable[tuple[int, Any]], values: Iterable[float]) -> Scores:
    """Return the scores of an exam's questions, with their pictures."""
    return Scores(tuple(values), tuple(place for place, _ in rows))


def open_scores(exam: Exam, direct: Sequence[str], graph: Sequence[str]) -> dict[str, Scores]:
    """Score the heads of the answers to an exam's open questions."""
    asked = zip(direct, exam.direct, strict=True)
    people = [soft_accuracy(head(said), one.direct_answers) for said, (_, one) in asked]
    truth = [exact(head(said), one.truth) for said, (_, one) in zip(graph, exam.graph, strict=True)]
    return {"aokvqa_direct": by_picture(exam.direct, people), "gqa": by_picture(exam.graph, truth)}


def fits(said: Sequence[str], right: Sequence[str]) -> tuple[float, ...]:
    """Return for each answer whether its head has any words, and no more than the longest right one."""
    longest = max((len(normalise(text).split()) for text in right), default=0)
    return tuple(float(1 <= len(normalise(head(text)).split()) <= longest) for text in said)


@torch.inference_mode()
def blank(vision: Vision, qformer: nn.Module) -> Tensor:
    """Return a Q-Former's output for a blank picture in the encoder's mean colour, (Q, D_q)."""
    side, weight = vision.config.image_size, next(vision.parameters())
    pixels = torch.zeros(1, 3, side, side, device=weight.device)
    return qformer(vision(pixels))[0].cpu()


# --- Rows that need no model ---


@dataclass(frozen=True)
class Prior:
    """How often each normalised answer is right in the training questions.

    GQA's answers are counted by detailed type, which a question's wording reveals.
    """

    choice: Counter[str]
    direct: Counter[str]
    graph: defaultdict[str, Counter[str]]

    @classmethod
    def of(cls, exam: Exam) -> "Prior":
        """Count the answers of a training exam."""
        graph: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for _, question in exam.graph:
            graph[question.detailed][normalise(question.truth)] += 1
        return cls(
            Counter(normalise(question.choices[question.right]) for _, question in exam.choice),
            Counter(normalise(said) for _, question in exam.direct for said in question.direct_answers),
            graph,
        )


def majority(exam: Exam, prior: Prior) -> dict[str, Scores]:
    """Score the answer that was most often right in training; among choices, the most frequent of them.

    Equally frequent choices share the point, as a random draw among them would on average.
    """

    def most(counts: Counter[str]) -> str:
        return counts.most_common(1)[0][0] if counts else ""

    def best(question: ChoiceQuestion) -> float:
        counts = [prior.choice[normalise(choice)] for choice in question.choices]
        return (counts[question.right] == max(counts)) / counts.count(max(counts))

    direct = [most(prior.direct)] * len(exam.direct)
    graph = [most(prior.graph[kind]) for kind in exam.graph_kinds("detailed")]
    return {**choice_rows(exam, best), **open_scores(exam, direct, graph)}


def chance(exam: Exam, prior: Prior) -> dict[str, Scores]:
    """Return the expected score of random answers: one of the choices, or an answer of the training questions
    drawn by how often it was right there.
    """

    def of_people(one: ChoiceQuestion) -> float:
        said = {normalise(text) for text in one.direct_answers}
        hits = sum(prior.direct[text] * soft_accuracy(text, one.direct_answers) for text in said)
        return hits / prior.direct.total()

    def of_truth(one: GraphQuestion) -> float:
        counts = prior.graph[one.detailed]
        return counts[normalise(one.truth)] / max(1, counts.total())

    return {
        **choice_rows(exam, lambda question: 1 / len(question.choices)),
        "aokvqa_direct": by_picture(exam.direct, (of_people(one) for _, one in exam.direct)),
        "gqa": by_picture(exam.graph, (of_truth(one) for _, one in exam.graph)),
    }


def choice_rows(exam: Exam, score: Callable[[ChoiceQuestion], float]) -> dict[str, Scores]:
    """Score the choices by a rule that uses no losses: both measures are the same."""
    scores = by_picture(exam.choice, (score(question) for _, question in exam.choice))
    return {"aokvqa": scores, "aokvqa_per_token": scores}
