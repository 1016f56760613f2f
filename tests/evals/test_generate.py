"""What a model is asked about a split: one result for each picture, in their order."""

import pytest
import torch

from mglib.evals import generate
from mglib.model.decoding import Decoding, answer, greedy, until_end
from mglib.model.prompts import CAPTION, IMAGE, VICUNA, tokenize, training_batch


@pytest.fixture
def queries(random):
    return list(torch.randn(8, 3, 32, generator=random))


def test_answers_come_one_for_each_picture_in_their_order(model, queries):
    tiny = model()
    with torch.no_grad():
        tiny.projection.weight.mul_(20)  # so that pictures matter
    found = generate.answers(tiny, queries, CAPTION, IMAGE, greedy(8), batch_size=3, what="test")
    alone = [answer(tiny, {"queries": one[None]}, CAPTION, [IMAGE], greedy(8))[0] for one in queries]
    assert found == alone and len(set(found)) > 4


def test_a_blind_answer_is_the_language_models_own(model):
    tiny, questions = model(), ["a red bus", "two dogs in the park and a cat", "a boat"]
    found = generate.blind_answers(tiny, VICUNA, questions, greedy(8), batch_size=2, what="test")
    for text, question in zip(found, questions, strict=True):
        ids = [tiny.language.tokenizer.bos_token_id]
        ids += tokenize(tiny.language.tokenizer, VICUNA.prompt(question))
        given = torch.tensor([ids])
        alone = tiny.language.model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=8, do_sample=False
        )[0, len(ids) :]
        whole = tiny.language.tokenizer.decode(alone)
        assert text == until_end(whole, VICUNA.end, tiny.language.tokenizer.eos_token)
    assert len(set(found)) == 3


def test_blind_answers_hang_on_words_alone_and_on_their_row(model):
    tiny, questions = model(), ["a red bus"] * 4
    sampled = Decoding(max_new_tokens=8, seed=1)
    found = generate.blind_answers(tiny, CAPTION, questions, sampled, batch_size=3, what="test")
    assert len(set(found)) > 1
    with torch.no_grad():
        tiny.projection.weight.mul_(20)
    assert generate.blind_answers(tiny, CAPTION, questions, sampled, batch_size=1, what="test") == found
    assert tiny.qformer.config.queries == 3  # the model itself still sees


def test_each_loss_is_that_of_its_own_picture_and_caption(model, queries, captions):
    tiny = model()
    sums, counts = generate.losses(tiny, queries, captions, CAPTION, max_answer=32, batch_size=5)
    for index, caption in enumerate(captions):
        row = training_batch(tiny.language.tokenizer, CAPTION, [IMAGE], [caption], queries=3, max_answer=32)
        alone = tiny({"queries": queries[index][None], **row})
        assert sums[index] == pytest.approx(alone["loss"].item(), rel=1e-5)
        assert counts[index] == len(tokenize(tiny.language.tokenizer, caption)) + 1
    with pytest.raises(ValueError):
        generate.losses(tiny, queries, captions[:5], CAPTION, max_answer=32, batch_size=3)
