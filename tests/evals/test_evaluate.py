"""What a model is asked about a split: one result for each picture, in their order."""

import pytest
import torch
from torch import nn

from mglib.evals import evaluate
from mglib.metrics import recall_at
from mglib.model.decoding import Decoding, answer, greedy, until_end
from mglib.model.prompts import CAPTION, IMAGE, VICUNA, tokenize, training_batch


@pytest.fixture
def queries(random):
    return list(torch.randn(8, 3, 32, generator=random))


def test_answers_come_one_for_each_picture_in_their_order(model, queries):
    tiny = model()
    with torch.no_grad():
        tiny.projection.weight.mul_(20)  # so that pictures matter
    found = evaluate.answers(tiny, queries, CAPTION, IMAGE, greedy(8), batch_size=3, what="test")
    alone = [answer(tiny, {"queries": one[None]}, CAPTION, [IMAGE], greedy(8))[0] for one in queries]
    assert found == alone and len(set(found)) > 4


def test_a_blind_answer_is_the_language_models_own(model):
    tiny, questions = model(), ["a red bus", "two dogs in the park and a cat", "a boat"]
    found = evaluate.blind_answers(tiny, VICUNA, questions, greedy(8), batch_size=2, what="test")
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
    found = evaluate.blind_answers(tiny, CAPTION, questions, sampled, batch_size=3, what="test")
    again = evaluate.blind_answers(tiny, CAPTION, questions, sampled, batch_size=1, what="test")
    assert found == again and len(set(found)) > 1
    with torch.no_grad():
        tiny.projection.weight.mul_(20)
    assert evaluate.blind_answers(tiny, CAPTION, questions, sampled, batch_size=3, what="test") == found
    assert tiny.qformer.config.queries == 3  # the model itself still sees


def layout(tiny, captions):
    return training_batch(
        tiny.language.tokenizer, CAPTION, [IMAGE] * len(captions), captions, queries=3, max_answer=32
    )


def test_losses_of_all_pictures_sum_to_the_models_loss(model, queries, captions):
    tiny = model()
    sums, counts = evaluate.losses(tiny, queries, captions, CAPTION, max_answer=32, batch_size=3)
    whole = tiny({"queries": torch.stack(queries), **layout(tiny, captions)})
    assert sum(sums) == pytest.approx(whole["loss"].item(), rel=1e-5)
    assert sum(counts) == whole["count"]


def test_each_loss_is_that_of_its_own_picture_and_caption(model, queries, captions):
    tiny = model()
    sums, counts = evaluate.losses(tiny, queries, captions, CAPTION, max_answer=32, batch_size=5)
    for index, caption in enumerate(captions):
        alone = tiny({"queries": queries[index][None], **layout(tiny, [caption])})
        assert sums[index] == pytest.approx(alone["loss"].item(), rel=1e-5)
        assert counts[index] == len(tokenize(tiny.language.tokenizer, caption)) + 1


def test_losses_need_a_caption_for_each_picture(model, queries, captions):
    with pytest.raises(ValueError):
        evaluate.losses(model(), queries, captions[:5], CAPTION, max_answer=32, batch_size=3)


class Oracle(nn.Module):
    """Stands for a trained representation: knows which picture each number word means."""

    words = ("zero", "one", "two", "three", "four", "five")

    def __init__(self, tokenizer, meant):
        super().__init__()
        self.known = [tuple(tokenize(tokenizer, word)) for word in self.words]
        self.meant = meant
        self.qformer = nn.Identity()
        self.positions = nn.Embedding(1, 1)  # tells where the module stands

    def encode_image(self, queries):
        return queries

    def encode_text(self, text, text_mask):
        rows = [tuple(row[mask].tolist()[1:-1]) for row, mask in zip(text, text_mask, strict=True)]
        return torch.stack([torch.eye(6)[self.meant[self.known.index(row)]] for row in rows])


def pictures():
    """Return six pictures: one query that says which it is, and one that says nothing."""
    return [torch.stack([0.1 * torch.ones(6), torch.eye(6)[number]]) for number in range(6)]


def find(tokenizer, meant, references):
    return evaluate.retrieval(
        Oracle(tokenizer, meant), pictures(), references, tokenizer=tokenizer, max_text=24, batch_size=4
    )


def test_retrieval_is_perfect_where_pictures_and_texts_agree(tokenizer):
    scores = find(tokenizer, [0, 1, 2, 3, 4, 5], [[word] * 5 for word in Oracle.words])
    assert set(scores) == {f"retrieval_{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5)}
    assert all(score.value == 1 and score.n == 6 for score in scores.values())


def test_retrieval_finds_nothing_where_they_contradict_each_other(tokenizer):
    scores = find(tokenizer, [1, 2, 3, 4, 5, 0], [[word] * 5 for word in Oracle.words])
    assert scores["retrieval_i2t_r1"].value == scores["retrieval_t2i_r1"].value == 0


def test_a_references_result_counts_within_its_picture(tokenizer):
    references = [["zero", "one", "one", "one", "one"], *([word] * 5 for word in Oracle.words[1:])]
    scores = find(tokenizer, [0, 1, 2, 3, 4, 5], references)
    assert scores["retrieval_i2t_r1"].value > 0.8  # picture 0 has one right text, which is first
    assert scores["retrieval_t2i_r1"].value == pytest.approx((1 / 5 + 5) / 6)


def test_chance_is_that_of_drawing_blindly():
    missed = (15 * 14 * 13 * 12 * 11) / (20 * 19 * 18 * 17 * 16)
    assert evaluate.chance([["a"] * 5] * 4) == pytest.approx(
        {
            "retrieval_i2t_r1": 1 / 4,
            "retrieval_t2i_r1": 1 / 4,
            "retrieval_i2t_r5": 1 - missed,
            "retrieval_t2i_r5": 1.0,  # all four pictures are among five
        }
    )


def test_chance_is_what_random_similarities_score(random):
    correct = torch.arange(8).unsqueeze(1) == torch.arange(8).repeat_interleave(3)
    drawn = [torch.rand(8, 24, generator=random) for _ in range(2000)]
    found = {}
    for k in (1, 5):
        hits = torch.tensor([recall_at(similarity, correct, k) for similarity in drawn])
        found[f"retrieval_i2t_r{k}"] = hits.mean().item()
        hits = torch.tensor([recall_at(similarity.T, correct.T, k) for similarity in drawn])
        found[f"retrieval_t2i_r{k}"] = hits.mean().item()
    assert evaluate.chance([["a"] * 3] * 8) == pytest.approx(found, abs=0.02)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_retrieval_runs_where_the_representation_is(representation, tokenizer, random):
    module = representation().cuda().eval()
    tokens = list(torch.randn(6, 5, 64, generator=random))
    references = [[word] for word in Oracle.words]
    scores = evaluate.retrieval(module, tokens, references, tokenizer=tokenizer, max_text=24, batch_size=4)
    assert all(0 <= score.value <= 1 for score in scores.values())
