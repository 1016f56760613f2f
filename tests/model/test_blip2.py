"""BLIP-2 at small size: which position sees which, what is a negative, and that every part learns."""

import pytest
import torch

from mglib.model.blip2 import (
    KEYWORDS,
    Representation,
    WriteFromKeywords,
    caption_language,
    contrastive_loss,
    text_batch,
    train_tokenizer,
)
from mglib.model.language import Language
from mglib.model.minigpt4 import answer_losses
from mglib.model.prompts import tokenize, training_batch

# --- the tokenizer ---


@pytest.mark.parametrize(
    "text",
    [
        "a red bus on the street",
        "zyzzyva quokkas xylophoning",  # never seen
        "4021 birds , 17 of them blue .",
        "don't stop - it's a café",
        "naïve 猫 🐶 ß",
        "  two  spaces ",
        "two\nlines\n",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenize(tokenizer, text)) == text


def test_seen_words_take_few_tokens_and_unseen_ones_no_unknown(tokenizer):
    assert len(tokenize(tokenizer, "a red bus")) < len(tokenize(tokenizer, "q zxw vkq"))
    assert tokenizer.unk_token is None


def test_special_symbols_are_single_tokens_and_bear_their_roles(tokenizer):
    for symbol in ("[PAD]", "[BOS]", "[EOS]", "[CLS]", "[DEC]", "[SEP]"):
        assert len(tokenize(tokenizer, symbol)) == 1
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("[PAD]", "[BOS]", "[EOS]")


def test_the_vocabulary_has_the_asked_size_and_is_reproducible(captions):
    one, other = (train_tokenizer(captions, 290) for _ in range(2))
    assert len(one) == 290 and one.get_vocab() == other.get_vocab()


# --- the caption LM ---


def keyword_batch(tokenizer, captions):
    questions = [" ".join(reversed(caption.split())) for caption in captions]
    return training_batch(tokenizer, KEYWORDS, questions, captions, queries=0, max_answer=24)


def test_the_caption_lm_learns_to_write_from_keywords(tokenizer, captions, pretrain_config, descend):
    language = caption_language(pretrain_config.caption_lm, tokenizer, seed=0, attention="eager")
    writer = WriteFromKeywords(language)
    assert all(parameter.requires_grad for parameter in writer.parameters())
    losses = descend(writer, keyword_batch(tokenizer, captions), steps=40)
    assert losses[0] > 4 and losses[-1] < 0.3


def test_the_caption_lm_is_drawn_from_its_seed_alone(tokenizer, pretrain_config):
    before = torch.get_rng_state()
    models = [
        caption_language(pretrain_config.caption_lm, tokenizer, seed=seed, attention="eager")
        for seed in (0, 0, 1)
    ]
    weights = [language.model.get_input_embeddings().weight for language in models]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_writers_loss_is_that_of_the_caption_alone(tokenizer, captions, llama):
    writer = WriteFromKeywords(Language(model=llama(), tokenizer=tokenizer))
    batch = keyword_batch(tokenizer, captions)
    output = writer(batch)
    assert output["count"] == sum(len(tokenize(tokenizer, caption)) + 1 for caption in captions)
    losses, _ = answer_losses(writer.language, writer.language.embed(batch["ids"]), batch)
    assert output["loss"] == losses.sum()


# --- representation learning ---


class Recording(Representation):
    """Keeps what the Q-Former last returned and which pairs were last matched."""

    def read(self, seen, text, mask):
        self.hidden = super().read(seen, text, mask)
        return self.hidden

    def matching(self, seen, text, text_mask, similarity):
        self.compared = similarity
        return super().matching(seen, text, text_mask, similarity)

    def match_logits(self, seen, text, text_mask):
        self.matched = (seen, text)
        return super().match_logits(seen, text, text_mask)


@pytest.fixture(scope="module")
def seen():
    return torch.randn(8, 5, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def texts(tokenizer, captions):
    batch = text_batch(tokenizer, captions, 24)
    return batch["text"], batch["text_mask"]


def test_texts_begin_with_cls_end_with_eos_and_are_cut_to_length(tokenizer):
    batch = text_batch(tokenizer, ["a boat", "a red bus on the street by the sea"], 6)
    first, last = tokenizer.convert_tokens_to_ids(["[CLS]", "[EOS]"])
    short = tokenize(tokenizer, "a boat")
    long = tokenize(tokenizer, "a red bus on the street by the sea")[:4]
    gap = 4 - len(short)
    assert batch["text"].tolist() == [[first, *short, last, *[0] * gap], [first, *long, last]]
    assert batch["text_mask"].tolist() == [[*[True] * (6 - gap), *[False] * gap], [True] * 6]


def test_in_generation_the_queries_do_not_see_the_text(representation, seen, texts):
    module = representation()
    text, mask = texts
    queries, _ = module.generation(module.qformer.see(seen), text, mask)
    other, _ = module.generation(module.qformer.see(seen), (text.roll(1, 0)[:, :9] + 1) % 256, mask[:, :9])
    torch.testing.assert_close(queries, other)
    torch.testing.assert_close(queries, module.qformer(seen))


def test_in_generation_a_position_sees_itself_and_what_is_before_it_alone(representation, seen, texts):
    module = representation(Recording)
    text, mask = texts
    module.generation(seen, text, mask)
    before = module.hidden
    changed = text.clone()
    changed[:, 4] = (text[:, 4] + 1) % 256
    module.generation(seen, changed, mask)
    difference = (module.hidden - before).abs().amax((0, 2))  # (Q + T,)
    assert difference[: 3 + 4].max() < 1e-6
    assert difference[3 + 4 :].min() > 1e-5


def test_in_generation_the_text_sees_the_picture(representation, seen, texts):
    module = representation(Recording)
    text, mask = texts
    module.generation(seen, text, mask)
    before = module.hidden
    module.generation(seen.roll(1, 0), text, mask)
    assert (module.hidden - before)[:, 3:].abs().amax(-1).min() > 1e-6


def test_the_generation_loss_is_that_of_each_next_token(representation, seen, texts):
    module = representation(Recording)
    text, mask = texts
    _, loss = module.generation(seen, text, mask)
    total, count = 0.0, 0
    for row, length in enumerate(mask.sum(1).tolist()):
        for place in range(length - 1):
            features = module.before_words(module.hidden[row, 3 + place])
            scores = (module.words.weight @ features + module.word_bias).log_softmax(0)
            total = total - 0.9 * scores[text[row, place + 1]] - 0.1 * scores.mean()
            count += 1
    torch.testing.assert_close(loss, total / count)


def test_generation_starts_from_its_own_symbol(representation, seen, texts):
    module = representation()
    text, mask = texts
    other = text.clone()
    other[:, 0] = 9
    assert torch.equal(module.generation(seen, text, mask)[1], module.generation(seen, other, mask)[1])


def longer(text, mask):
    """Pad texts by three more positions, with the ids of real tokens in all padding."""
    return (
        torch.cat([torch.where(mask, text, 20), torch.full((len(text), 3), 30)], 1),
        torch.cat([mask, torch.zeros(len(text), 3, dtype=torch.bool)], 1),
    )


def test_a_texts_embedding_does_not_depend_on_padding_or_neighbours(representation, texts):
    module = representation()
    text, mask = texts
    embedded = module.encode_text(text, mask)
    torch.testing.assert_close(module.encode_text(*longer(text, mask)), embedded)
    length = int(mask[4].sum())
    torch.testing.assert_close(module.encode_text(text[4:5, :length], mask[4:5, :length]), embedded[4:5])
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(8))


def test_a_texts_embedding_sees_its_last_word(representation, texts):
    module = representation()
    text, mask = texts
    other = text.clone()
    last = int(mask[0].sum()) - 2
    other[0, last] = (text[0, last] + 1) % 256
    difference = (module.encode_text(other, mask) - module.encode_text(text, mask)).abs().amax(1)
    assert difference[0] > 1e-5 and difference[1:].max() < 1e-6


def test_similarity_takes_the_best_query_and_divides_by_the_temperature(representation, seen, texts):
    module = representation()
    queries = module.qformer(seen)
    image, words = module.encode_image(queries), module.encode_text(*texts)
    found = module.similarity(image, words)
    for picture in range(3):
        for caption in range(3):
            best = max(image[picture, query] @ words[caption] for query in range(3))
            torch.testing.assert_close(found[picture, caption], best / 0.07)


def test_equal_captions_are_no_negatives(representation, tokenizer, seen):
    module = representation(Recording)
    batch = text_batch(tokenizer, ["a boat", "a dog", "a boat", "a boat on the sea"], 24)
    module({"tokens": seen[:4], **batch})
    equal = torch.zeros(4, 4, dtype=torch.bool)
    equal[0, 2] = equal[2, 0] = True
    assert torch.equal(module.compared.isinf(), equal)


def test_contrast_is_cross_entropy_with_smoothed_labels():
    similarity = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    own = torch.nn.functional.cross_entropy(similarity, torch.arange(4), label_smoothing=0.1)
    torch.testing.assert_close(contrastive_loss(similarity, torch.eye(4, dtype=torch.bool)), own)


def test_equal_captions_share_the_label():
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    similarity = torch.zeros(4, 4)
    similarity[0, 2] = 9.0  # picture 0 finds the text of picture 2, which reads like its own
    assert contrastive_loss(similarity, same) < contrastive_loss(similarity, torch.eye(4, dtype=torch.bool))


def test_each_side_of_the_contrast_learns_from_the_other_as_it_stands(representation, seen, texts):
    """As in the official `blip2_qformer.py`: features gathered from all processes have no gradient."""
    module = representation()
    text, mask = texts
    image, words = module.encode_image(module.qformer(seen)), module.encode_text(text, mask)
    same = torch.eye(8, dtype=torch.bool)
    to_texts = contrastive_loss(module.similarity(image, words.detach()), same)
    to_images = contrastive_loss(module.similarity(image.detach(), words).T, same)
    expected = torch.autograd.grad((to_texts + to_images) / 2, module.to_image.weight, retain_graph=True)[0]
    torch.testing.assert_close(
        expected, torch.autograd.grad(to_texts / 2, module.to_image.weight, retain_graph=True)[0]
    )
    module.zero_grad()
    output = module({"tokens": seen, "text": text, "text_mask": mask})
    (output["loss"] / output["count"]).backward()
    torch.testing.assert_close(module.to_image.weight.grad, expected)


def test_matching_sees_picture_and_text(representation, seen, texts):
    module = representation()
    text, mask = texts
    logits = module.match_logits(seen, text, mask)
    assert logits.shape == (8, 2)
    for other in (
        module.match_logits(seen.roll(1, 0), text, mask),
        module.match_logits(seen, text.roll(1, 0), mask.roll(1, 0)),
    ):
        assert (logits - other).abs().amax(1).min() > 1e-6


def test_matching_ignores_padding(representation, seen, texts):
    module = representation()
    text, mask = texts
    torch.testing.assert_close(
        module.match_logits(seen, *longer(text, mask)), module.match_logits(seen, text, mask)
    )


def numbers_of(rows, all_rows):
    return [next(i for i, whole in enumerate(all_rows) if torch.equal(whole, row)) for row in rows]


def test_a_negative_is_never_the_pair_itself_and_likely_the_most_similar(representation, seen, texts):
    module = representation(Recording)
    text, mask = texts
    similarity = 25 * torch.eye(8) + 20 * torch.eye(8).roll(3, 1)  # picture i is like text i, then i + 3
    torch.manual_seed(0)
    for _ in range(3):
        module.matching(seen, text, mask, similarity)
        pictures, captions = numbers_of(module.matched[0], seen), numbers_of(module.matched[1], text)
        assert pictures[:2] == captions[:2] == [0, 4]
        assert (pictures[2], captions[2]) == (0, 3)  # another text
        assert (pictures[3], captions[3]) == (1, 4)  # another picture: of those, the most like text 4


@pytest.mark.parametrize("sure", [0, 500], ids=["all are alike", "each is like itself alone"])
def test_no_pair_is_its_own_negative(representation, seen, texts, sure):
    module = representation(Recording)
    text, mask = texts
    torch.manual_seed(0)
    for _ in range(30):
        module.matching(seen, text, mask, sure * torch.eye(8))
        pictures, captions = numbers_of(module.matched[0], seen), numbers_of(module.matched[1], text)
        assert all(picture != caption for picture, caption in zip(pictures[2:], captions[2:], strict=True))


def test_the_parts_of_the_loss_add_up(representation, seen, texts):
    output = representation()({"tokens": seen, "text": texts[0], "text_mask": texts[1]})
    parts = output["contrast"] + output["matching"] + output["generation"]
    assert output["count"] == 8
    torch.testing.assert_close(output["loss"].detach() / 8, parts)


def test_every_parameter_is_trained(representation, seen, texts):
    module = representation()
    module({"tokens": seen, "text": texts[0], "text_mask": texts[1]})["loss"].backward()
    idle = {name for name, parameter in module.named_parameters() if parameter.grad is None}
    assert idle == set()


def test_representation_learning_overfits_a_batch(representation, seen, texts, descend):
    module = representation()
    batch = {"tokens": seen, "text": texts[0], "text_mask": texts[1]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        losses = descend(module, batch, steps=100, lr=5e-3)
        after = module(batch)
    assert losses[-1] < 0.5 * losses[0]
    assert after["contrast"] < 0.6 and after["matching"] < 0.3  # the smoothed labels alone cost 0.45
