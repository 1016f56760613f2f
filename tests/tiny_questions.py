"""Questions of A-OKVQA and GQA, as the readers give them."""

from dataclasses import replace

from mglib.data.questions import ChoiceQuestion, GraphQuestion, QuestionTypes


def choice(picture: int, **changes) -> ChoiceQuestion:
    """Return a question of A-OKVQA about a picture; the answer is a dog."""
    question = ChoiceQuestion(
        split="val",
        image_id=picture,
        question_id=str(picture),
        question="what is it",
        choices=("dog", "cat", "cow", "bus"),
        correct_choice_idx=0,
        direct_answers=("dog",) * 10,
        difficult_direct_answer=False,
    )
    return replace(question, **changes)


def graph(picture: int, answer: str, kind="exist", structural="verify", *, question="is it old"):
    """Return a question of GQA about a picture."""
    types = QuestionTypes(structural, "obj", kind)
    return GraphQuestion(image_id=str(picture), question=question, answer=answer, balanced=True, types=types)
