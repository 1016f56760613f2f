"""The contrastive critic: sentences compared with their own picture and with the others."""

import pytest
import torch
from torch import nn

from mglib.curation.critic import answer_scores, pieces, sentence_scores
from mglib.model.prompts import tokenize

WORDS = ("bus", "dog", "cat", "boat")


class Knows(nn.Module):
    """Stands in for a trained representation: a text's embedding has a 1 for each known word in it."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.qformer = nn.Identity()
        self.positions = nn.Embedding(1, 1)  # gives the module's device
        self.read = []

    def encode_image(self, queries):
        return queries

    def encode_text(self, text, text_mask):
        said = [self.tokenizer.decode(row[mask][1:-1]) for row, mask in zip(text, text_mask, strict=True)]
        self.read += said
        return torch.tensor([[float(word in one) for word in WORDS] for one in said])


@pytest.fixture
def knows(tokenizer):
    return Knows(tokenizer)


class OnDisk(list):
    """Rows that are read one by one, as cached features are."""

    def __getitem__(self, index):
        return super().__getitem__(index.__index__())


def score(knows, texts, **changes):
    tokens = OnDisk(torch.eye(4)[: len(texts), None, :])  # each picture shows its own word: (1, 4)
    settings = {"tokenizer": knows.tokenizer, "max_text": 24, "batch_size": 3, **changes}
    return sentence_scores(knows, tokens, texts, **settings)


def test_a_sentence_counts_for_its_own_picture_and_against_the_others(knows):
    found = score(knows, ["A bus. A dog!", "A dog.", "It is nice.", "A boat and a cat."])
    assert found == [
        pytest.approx([1, -1 / 3]),  # true; said of another picture
        pytest.approx([1]),
        pytest.approx([0]),  # fits all alike
        pytest.approx([1 - 1 / 3]),
    ]


def test_texts_are_read_as_the_training_captions_are(knows):
    score(knows, ["A BUS (red)!", "A dog: it sits."])
    assert knows.read == ["a bus red", "a dog it sits"]


def test_a_long_sentence_is_read_in_pieces_whose_mean_counts(knows, tokenizer):
    sentence = "a bus on the street by the sea and a dog in the park under a table on the grass"
    parts = pieces(sentence, tokenizer, 6)
    assert len(parts) > 2 and "".join(parts).replace(" ", "") == sentence.replace(" ", "")
    assert all(len(tokenize(tokenizer, part)) <= 7 for part in parts)  # a cut word may take one more
    own = [float("bus" in part) - float("dog" in part) for part in parts]
    found = score(knows, [sentence, "A cat."], max_text=8)
    assert found[0] == pytest.approx([sum(own) / len(parts)])


def test_an_answer_without_a_sentence_has_no_score_and_counts_as_zero(knows):
    found = score(knows, ["", "A dog. A dog. A bus."])
    assert answer_scores(found) == pytest.approx([0, (1 + 1 - 1) / 3])
    assert score(knows, ["", " "]) == [[], []]


def test_a_real_representation_scores_alike_in_any_batch(representation, tokenizer, captions, random):
    tokens = list(torch.randn(8, 5, 64, generator=random))
    texts = [f"{caption}. {captions[0]}." for caption in captions]
    many, few = (
        sentence_scores(
            representation().eval(), tokens, texts, tokenizer=tokenizer, max_text=24, batch_size=size
        )
        for size in (64, 3)
    )
    assert [pytest.approx(scores, abs=1e-5) for scores in many] == few
    assert [len(scores) for scores in many] == [2] * 8
    # All pictures together are neither for nor against a text.
    assert sum(scores[1] for scores in many) == pytest.approx(0, abs=1e-4)


def test_one_picture_cannot_be_compared(knows):
    with pytest.raises(ValueError, match="give each of two pictures or more"):
        score(knows, ["A bus."])
