"""The whole model at tiny size: what is trained, where visual tokens go, and what the loss is."""

import pytest
import torch
from torch import nn

from mglib.model.minigpt4 import answer_losses, init_projection
from mglib.model.prompts import CAPTION, IGNORE, IMAGE, VICUNA, training_batch, with_image
from mglib.training import checkpoint
from mglib.weights import tensors


def pixels(count, seed=0):
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def layout(tokenizer, answers, *, template=CAPTION, question=IMAGE):
    return training_batch(tokenizer, template, [question] * len(answers), answers, queries=3, max_answer=32)


def batch_of(model, answers, **how):
    return {"pixels": pixels(len(answers)), **layout(model.language.tokenizer, answers, **how)}


def test_only_the_projection_gets_a_gradient(model, captions):
    tiny = model().train()
    tiny(batch_of(tiny, captions))["loss"].backward()
    with_gradient = {name for name, p in tiny.named_parameters() if p.grad is not None}
    assert with_gradient == {"projection.weight", "projection.bias"} == set(checkpoint.trainable(tiny))
    assert all(tiny.get_parameter(name).grad.abs().sum() > 0 for name in with_gradient)


def test_frozen_parts_are_frozen_and_stay_in_evaluation_mode(model):
    tiny = model().train()
    assert tiny.training and tiny.projection.training
    for part in (tiny.vision.train(), tiny.language.train()):
        assert not any(module.training for module in part.modules())
        assert not any(weight.requires_grad for weight in part.parameters())


def test_visual_tokens_fill_exactly_their_slots(model, captions):
    tiny = model()
    batch = batch_of(tiny, captions, template=VICUNA, question=with_image("What is it?"))
    embedded = tiny.embed(batch)
    visual = tiny.projection(tiny.qformer(tiny.vision(batch["pixels"])))  # (B, 3, D_l)
    words = tiny.language.model.get_input_embeddings()(batch["ids"])
    assert torch.equal(embedded[batch["slots"]], visual.flatten(0, 1))
    assert torch.equal(embedded[~batch["slots"]], words[~batch["slots"]])
    for row in range(len(captions)):  # each picture in its own row, in the order of the queries
        assert torch.equal(embedded[row, batch["slots"][row]], visual[row])


@pytest.mark.parametrize("questions", [["no picture", IMAGE], [f"{IMAGE}{IMAGE}", IMAGE]])
def test_a_question_without_exactly_one_picture_is_refused(model, questions):
    """Scattering would silently shift the pictures of all later rows."""
    tiny = model()
    batch = training_batch(tiny.language.tokenizer, CAPTION, questions, ["a", "a"], queries=3, max_answer=8)
    with pytest.raises(ValueError, match=r"slot|picture"):
        tiny.embed({"queries": torch.randn(2, 3, 32), **batch})


def test_padding_does_not_change_the_loss(model, captions):
    tiny = model()
    together = tiny(batch_of(tiny, captions))
    assert len({len(caption) for caption in captions}) > 1
    pictures, total, count = pixels(len(captions)), 0.0, 0
    for index, caption in enumerate(captions):
        alone = tiny({"pixels": pictures[index : index + 1], **layout(tiny.language.tokenizer, [caption])})
        total, count = total + alone["loss"], count + alone["count"]
    assert together["count"] == count
    torch.testing.assert_close(together["loss"], total, rtol=1e-5, atol=1e-4)


def test_what_stands_in_the_padding_does_not_matter(model, captions):
    tiny = model()
    batch = batch_of(tiny, captions)
    other = {**batch, "ids": torch.where(batch["mask"].bool(), batch["ids"], 7)}
    assert not torch.equal(batch["ids"], other["ids"])
    torch.testing.assert_close(tiny(batch)["loss"], tiny(other)["loss"])


def test_the_loss_is_that_of_transformers(model, captions):
    tiny = model()
    batch = batch_of(tiny, captions, template=VICUNA, question=with_image("What is it?"))
    ours = tiny(batch)
    theirs = tiny.language.model(
        inputs_embeds=tiny.embed(batch), attention_mask=batch["mask"], labels=batch["labels"]
    ).loss
    assert ours["count"] == (batch["labels"] != IGNORE).sum()
    torch.testing.assert_close(ours["loss"] / ours["count"], theirs)


def test_gathered_losses_are_those_of_the_full_logits(model, captions):
    tiny = model()
    batch = batch_of(tiny, captions)
    losses, row = answer_losses(tiny.language, tiny.embed(batch), batch)
    full = tiny.language.model(inputs_embeds=tiny.embed(batch), attention_mask=batch["mask"]).logits
    place = 0
    for b, labels in enumerate(batch["labels"].tolist()):
        for t, label in enumerate(labels):
            if label != IGNORE:  # predicted one position before
                assert row[place] == b
                torch.testing.assert_close(losses[place], -full[b, t - 1].log_softmax(-1)[label])
                place += 1
    assert place == len(losses)


def test_pixels_tokens_and_queries_give_the_same_loss(model, captions):
    tiny = model()
    batch = batch_of(tiny, captions)
    words = {name: value for name, value in batch.items() if name != "pixels"}
    tokens = tiny.vision(batch["pixels"])
    losses = [
        tiny({**words, **seen})["loss"]
        for seen in ({"pixels": batch["pixels"]}, {"tokens": tokens}, {"queries": tiny.qformer(tokens)})
    ]
    assert losses[0] == losses[1] == losses[2]


def test_the_loss_depends_on_the_picture(model, captions):
    tiny = model()
    words = layout(tiny.language.tokenizer, captions)
    one, other = ({"pixels": pixels(len(captions), seed), **words} for seed in (0, 1))
    assert abs(tiny(one)["loss"] - tiny(other)["loss"]) > 1e-3


def test_one_batch_overfits(model, captions, descend):
    tiny = model().requires_grad_(True)
    losses = descend(tiny, batch_of(tiny, captions), steps=40, lr=1e-2)
    assert losses[0] > 3 and losses[-1] < 0.1


def test_the_projection_alone_lowers_the_loss(model, captions, descend):
    tiny = model()
    losses = descend(tiny, batch_of(tiny, captions[:2]), steps=40, lr=3e-2)
    assert losses[-1] < 0.7 * losses[0]


def test_saved_and_loaded_weights_give_the_same_logits(model, captions, tmp_path, descend):
    tiny = model()
    batch = batch_of(tiny, captions)
    descend(tiny, batch, steps=2, lr=1e-2)
    tensors.save_weights(tmp_path / "a.safetensors", checkpoint.trainable(tiny), {"step": 2})
    fresh = model()
    before = fresh.language(fresh.embed(batch), batch["mask"])
    checkpoint.restore(fresh, tmp_path / "a.safetensors")
    hidden, expected = (m.language(m.embed(batch), batch["mask"]) for m in (fresh, tiny))
    assert torch.equal(fresh.language.logits(hidden), tiny.language.logits(expected))
    assert not torch.equal(before, hidden)


def test_a_fresh_projection_gives_visual_tokens_the_spread_of_words(random):
    projection = nn.Linear(96, 512)
    queries = 3 * torch.randn(200, 4, 96, generator=random)
    words = 0.02 * torch.randn(1000, 512, generator=random) + 0.1
    init_projection(projection, queries, words, seed=1)  # another stream than the queries'
    assert projection(queries).std().item() == pytest.approx(0.02, rel=0.05)
    assert projection.bias.abs().sum() == 0


def test_a_fresh_projection_is_drawn_from_its_seed_alone(random):
    queries, words = torch.randn(5, 8, generator=random), torch.randn(9, 8, generator=random)
    layers = [nn.Linear(8, 8) for _ in range(3)]
    state = torch.get_rng_state()
    for layer, seed in zip(layers, (0, 0, 1), strict=True):
        init_projection(layer, queries, words, seed=seed)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert not torch.equal(layers[0].weight, layers[2].weight)
    assert torch.equal(torch.get_rng_state(), state)
