"""Preference optimisation on a tiny model: which answers are compared, the loss, and what learns."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_parts import tiny_study

from mglib.config import EvalConfig, PreferenceConfig
from mglib.experiments.dpo import (
    Comparing,
    Pairs,
    Preference,
    by_coin,
    collate,
    dpo,
    dpo_losses,
    draws,
    drifts,
    held_out_losses,
    log_probs,
    of_both,
    preferences,
)
from mglib.model.prompts import VICUNA
from mglib.study.models import PromptedModel
from mglib.study.stage2 import instructed, with_own_projection

PAIRS = [
    Preference(0, "A dog sits in the park.", "A cat.", 0.3),
    Preference(1, "A boat.", "Two birds fly over the sea!", 0.2),
    Preference(3, "A red bus waits.", "An apple on a plate.", 0.1),
    Preference(2, "Three birds.", "A dog and a cat.", 0.4),
]


@pytest.fixture
def study(tmp_path, monkeypatch, vision_config, train_config):
    """Return a study whose trainings go to a temporary folder."""
    config = PreferenceConfig(
        train=train_config(steps=30, batch_size=4, max_answer=40, lr=1e-2, weight_decay=0.0),
        rates=(1e-3,),
        max_new_tokens=12,
        beta=0.5,
    )
    sizes = EvalConfig(batch_size=8)
    return tiny_study(tmp_path, monkeypatch, vision_config, preference=config, evaluation=sizes)


@pytest.fixture
def start(model):
    return PromptedModel(model=model(), template=VICUNA)


@pytest.fixture
def queries(random):
    return list(torch.randn(4, 3, 32, generator=random))


def batch_of(study, start, queries, pairs=PAIRS):
    """Return the module before training and one batch of these pairs."""
    module = Comparing(with_own_projection(start.model), beta=study.profile.preference.beta)
    layout = instructed(module.model, VICUNA, (start.question("Describe this image in detail."),), 40, seed=0)
    data = Pairs(queries, pairs, of_both(study, start, queries, pairs))
    return module, collate(layout)([data[index] for index in range(len(data))])


# --- which answers are compared ---


def test_the_best_answer_is_compared_with_the_worst():
    said = [["a", "d", "same"], ["b", "e", "same"], ["c", "f", "same"]]
    scores = [[0.1, 0.9, 0.5], [0.4, 0.2, 0.5], [0.2, 0.3, 0.5]]
    found = preferences(said, scores, clearest=1.0)
    assert found == [
        Preference(0, "b", "a", pytest.approx(0.3)),
        Preference(1, "d", "e", pytest.approx(0.7)),
    ]


def test_only_the_clearest_differences_are_kept_in_the_order_of_their_pictures():
    said = [["a"] * 8, ["b"] * 8]
    scores = [[0.1, 0.8, 0.3, 0.7, 0.2, 0.6, 0.4, 0.5], [0.0] * 8]
    assert [pair.place for pair in preferences(said, scores, clearest=0.5)] == [1, 3, 5, 7]


def test_equal_answers_leave_nothing_to_compare():
    with pytest.raises(ValueError, match="draw more often"):
        preferences([["a"], ["a"]], [[0.1], [0.2]], clearest=1.0)


def test_a_coin_turns_about_half_of_the_same_pairs():
    pairs = [Preference(place, "good", "bad", 0.5) for place in range(200)]
    turned = by_coin(pairs, seed=0)
    count = sum(
        one == Preference(pair.place, "bad", "good", -0.5) for one, pair in zip(turned, pairs, strict=True)
    )
    assert 70 < count < 130
    assert sum(one == pair for one, pair in zip(turned, pairs, strict=True)) == 200 - count
    assert turned == by_coin(pairs, seed=0) != by_coin(pairs, seed=1)


def test_draws_differ_and_repeat_with_the_seed(study, start, queries):
    config = study.profile.preference
    one, again, other = (draws(start, queries, config, seed=seed, batch_size=3) for seed in (0, 0, 1))
    assert len(one) == 2 and all(len(texts) == 4 for texts in one)
    assert one == again != other and one[0] != one[1]


def test_a_torn_last_sentence_is_no_part_of_an_answer(study, queries):
    class Says:
        def answers(self, queries, text, decoding, **rest):
            return ["A dog sits. It is brown! And a", "Only a torn", "Whole.", ""]

    said = draws(Says(), queries, study.profile.preference, seed=0, batch_size=4)
    assert said == [["A dog sits. It is brown!", "Only a torn", "Whole.", ""]] * 2


# --- the loss ---


def test_the_loss_is_that_of_the_paper():
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([-1.0, 3.0])
    by_hand = [math.log(1 + math.exp(-0.1 * 3)), math.log(1 + math.exp(0.1 * 4))]
    assert dpo_losses(chosen, rejected, 0.1).tolist() == pytest.approx(by_hand)


def test_before_the_first_step_each_pair_costs_ln_2(study, start, queries):
    module, batch = batch_of(study, start, queries)
    output = module(batch)
    assert output["count"] == 4
    assert output["loss"].item() / 4 == pytest.approx(math.log(2), abs=1e-4)
    assert output["moved_chosen"].item() == pytest.approx(0, abs=1e-3)


def test_the_modules_loss_is_the_formula_on_the_models_log_probabilities(study, start, queries, model):
    module, batch = batch_of(study, start, queries)
    with torch.no_grad():
        module.model.projection.weight.mul_(1.5)
    moved = replace(start, model=module.model)
    ratios = of_both(study, moved, queries, PAIRS) - of_both(study, start, queries, PAIRS)
    by_hand = [math.log(1 + math.exp(-0.5 * (one - other))) for one, other in ratios.tolist()]
    assert max(abs(cost - math.log(2)) for cost in by_hand) > 0.01  # it has really moved
    assert module(batch)["loss"].item() == pytest.approx(sum(by_hand), rel=1e-4)
    assert held_out_losses(study, start, moved, queries, PAIRS) == pytest.approx(by_hand, rel=1e-4)


def test_the_first_gradient_pulls_both_answers_apart(study, start, queries):
    """At the start it is -beta / 2 times the gradient of log p(chosen) - log p(rejected)."""
    module, batch = batch_of(study, start, queries)
    weight = module.model.projection.weight
    (found,) = torch.autograd.grad(module(batch)["loss"], weight)

    def answer_loss(rows):
        part = {name: value[rows] for name, value in batch.items() if name != "reference"}
        return module.model(part)["loss"]

    (by_hand,) = torch.autograd.grad(answer_loss(slice(0, 4)) - answer_loss(slice(4, 8)), weight)
    assert torch.allclose(found, 0.5 / 2 * by_hand, rtol=1e-3, atol=1e-6)


def test_a_batch_holds_the_preferred_answers_first_each_with_its_picture(study, start, queries, tokenizer):
    _, batch = batch_of(study, start, queries, PAIRS[2:])
    said = [tokenizer.decode(row[row >= 0]) for row in batch["labels"]]
    assert said == [
        f"{text}###"
        for text in ("A red bus waits.", "Three birds.", "An apple on a plate.", "A dog and a cat.")
    ]
    assert torch.equal(batch["queries"], torch.stack([queries[place] for place in (3, 2, 3, 2)]))
    alone = log_probs(study, start, [queries[2]], ["Three birds."])
    assert batch["reference"][1].item() == pytest.approx(alone.item(), rel=1e-4)


def test_a_log_probability_is_the_models_loss_with_its_sign_turned(study, start, queries):
    module, batch = batch_of(study, start, queries, PAIRS[:1])
    whole = module.model({name: value for name, value in batch.items() if name != "reference"})
    assert batch["reference"].sum().item() == pytest.approx(-whole["loss"].item(), rel=1e-5)


# --- the training ---


def test_training_makes_the_preferred_answers_likelier(study, start, queries):
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    preferred, run = dpo(study, start, queries, PAIRS, study.profile.preference.train)
    assert run.log[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert run.log[-1]["loss"] < 0.3 and run.log[-1]["in_order"] == 1
    assert max(held_out_losses(study, start, preferred, queries, PAIRS)) < math.log(2)
    assert all(torch.equal(value, before[name]) for name, value in start.model.state_dict().items())
    after = preferred.model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        "projection.weight",
        "projection.bias",
    }


def test_turned_preferences_teach_the_opposite(study, start, queries):
    turned = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]
    opposite, _ = dpo(study, start, queries, turned, study.profile.preference.train)
    assert min(held_out_losses(study, start, opposite, queries, PAIRS)) > math.log(2)


def test_the_start_has_not_drifted_and_what_learnt_an_answer_has(study, start, queries):
    texts = [pair.chosen for pair in PAIRS]
    shown = [queries[pair.place] for pair in PAIRS]
    assert drifts(study, start, start, shown, texts) == [0] * 4
    preferred, _ = dpo(study, start, queries, PAIRS, study.profile.preference.train)
    expected = log_probs(study, preferred, shown, texts) - log_probs(study, start, shown, texts)
    assert drifts(study, start, preferred, shown, texts) == pytest.approx(expected.tolist())
    assert max(map(abs, expected.tolist())) > 0.1


def test_the_folder_depends_on_all_that_matters(study, start, queries, model, train_config):
    short = train_config(steps=2, batch_size=4, max_answer=40)

    def folder(*, start=start, queries=queries, pairs=PAIRS, config=short, what="dpo"):
        return dpo(study, start, queries, pairs, config, what=what)[1].folder

    other = [
        folder(start=replace(start, model=model(seed=1))),
        folder(queries=[2 * each for each in queries]),
        folder(pairs=by_coin(PAIRS, seed=0)),
        folder(config=replace(short, lr=1e-3)),
    ]
    assert len({folder(), *other}) == len(other) + 1
    assert folder() == folder(what="dpo-random")  # the name is only a label
