"""Options scored after prompts that are run only once: the same losses as the model's own, one by one."""

import pytest
import torch

from mglib.evals import choices
from mglib.evals.choices import ClosedQuestion, Losses, Scores
from mglib.model.blip2 import KEYWORDS
from mglib.model.prompts import CAPTION, VICUNA, training_batch

ASKED = [
    ClosedQuestion(
        picture=1, text="what is it", options=("a cat", "a red bus", "a dog on the grass"), right=1
    ),
    ClosedQuestion(picture=0, text="how many birds are over the sea", options=("two", "three"), right=0),
    ClosedQuestion(picture=1, text="is it old", options=("one", "a boat"), right=0),
]


@pytest.fixture
def queries(random):
    return list(torch.randn(2, 3, 32, generator=random))


def alone(tiny, queries, template, question, option):
    """Return the model's own loss of one option after the whole prompt."""
    layout = training_batch(
        tiny.language.tokenizer,
        template,
        [choices.posed("now: {}", question.text)],
        [option],
        queries=3,
        max_answer=99,
    )
    return tiny({"queries": queries[question.picture][None], **layout})


@pytest.mark.parametrize("template", [VICUNA, CAPTION, KEYWORDS], ids=lambda template: template.name)
def test_each_option_has_the_loss_that_it_has_alone(model, queries, template):
    tiny = model()
    with torch.no_grad():
        tiny.projection.weight.mul_(20)  # so that pictures matter
    found = choices.option_losses(tiny, queries, template, ASKED, prompt="now: {}", batch_size=2, what="test")
    for question, losses in zip(ASKED, found, strict=True):
        for place, option in enumerate(question.options):
            own = alone(tiny, queries, template, question, option)
            assert losses.sums[place] == pytest.approx(own["loss"].item(), rel=1e-4)
            assert losses.counts[place] == own["count"]


def test_the_prompt_is_run_once_for_all_its_options(model, queries):
    tiny, rows = model(), []
    tiny.language.model.get_decoder().register_forward_pre_hook(
        lambda _, __, given: rows.append(given["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    choices.option_losses(tiny, queries, VICUNA, ASKED, prompt="{}", batch_size=3, what="test")
    (prompts, length), (options, short) = rows
    assert (prompts, options) == (3, 7) and short < length


def test_the_headline_is_the_whole_answers_loss_and_the_other_that_of_a_token():
    losses = Losses((2.0, 3.0, 2.5), (1, 3, 2))
    assert losses.summed() == 0 and losses.per_token() == 1
    assert choices.right([losses], ASKED[:1]).values == (0.0,)
    assert choices.right([losses], ASKED[:1], Losses.per_token).values == (1.0,)


def test_errors_are_clustered_by_picture():
    apart = Scores((1.0, 0.0) * 50, tuple(range(100)))
    # The same scores, but only four pictures of 25 questions, all right or all wrong.
    together = Scores((1.0,) * 50 + (0.0,) * 50, tuple(place // 25 for place in range(100)))
    one, other = apart.estimate(), together.estimate()
    assert one.value == other.value == 0.5 and (one.n, other.n) == (100, 4)
    assert other.high - other.low > 3 * (one.high - one.low)


def test_scores_by_kind_are_those_of_its_questions_and_only_the_same_questions_are_compared():
    scores = Scores((1.0, 0.0, 1.0), (4, 4, 7))
    assert scores.by(["b", "a", "b"]) == {"a": Scores((0.0,), (4,)), "b": Scores((1.0, 1.0), (4, 7))}
    with pytest.raises(ValueError, match="different questions"):
        scores.minus(Scores((1.0, 0.0, 1.0), (4, 4, 8)))


def test_an_option_that_is_offered_twice_is_right_in_both_places():
    twice = ClosedQuestion(picture=0, text="what is it", options=("dog", "cat", "dog"), right=2)
    likeliest = [Losses((1.0, 2.0, 1.0), (1, 1, 1)), Losses((2.0, 1.0, 2.0), (1, 1, 1))]
    assert choices.right(likeliest, [twice, twice]).values == (1.0, 0.0)
