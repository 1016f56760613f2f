"""Decoding with a random model, and with one whose every next token is known by heart."""

from dataclasses import replace

import pytest
import torch

from mglib.generate import Decoding, answer, greedy, until_end
from mglib.prompts import CAPTION, IMAGE, Template, tokenize

QUESTIONS = [f"{IMAGE}a", f"{IMAGE} what is in this picture", f"{IMAGE}", f"{IMAGE} two dogs"]
VICUNA_END = Template(name="three signs", bos=True, turn="{}", end="###")


def pictures(count, seed=0):
    return {"queries": torch.randn(count, 3, 32, generator=torch.Generator().manual_seed(seed))}


@pytest.fixture(scope="module")
def by_heart(llama, tokenizer, model):
    """Return a function that makes a model say one letter after the other, as a dict tells: {"a": "b"}."""

    def make(following):
        language = llama(layers=1)
        with torch.no_grad():
            for layer in language.model.layers:  # the residual stream is the last token's embedding
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            embeddings = language.get_input_embeddings().weight
            head = language.get_output_embeddings().weight.zero_()
            for before, after in following.items():
                (one,), (two,) = tokenize(tokenizer, before), tokenize(tokenizer, after)
                head[two] += embeddings[one] / embeddings[one].norm()
        return model(language=language)

    return make


ALPHABET = {"h": "i", "i": "j", "j": "k", "k": "l", "l": "\n", "b": "c", "c": "\n", "\n": "z", "z": "z"}


def test_each_row_stops_at_its_own_end_symbol_and_the_text_after_it_is_cut(by_heart):
    texts = answer(by_heart(ALPHABET), pictures(2), CAPTION, [f"{IMAGE}b", f"{IMAGE}h"], greedy(20))
    assert texts == ["c", "ijkl"]


def test_an_end_symbol_of_several_tokens_is_seen(by_heart, tokenizer):
    assert len(tokenize(tokenizer, "###")) == 3
    following = {"b": "c", "c": "#", "#": "#", "h": "i", "i": "j", "j": "#"}
    texts = answer(by_heart(following), pictures(2), VICUNA_END, [f"{IMAGE}b", f"{IMAGE}h"], greedy(30))
    assert texts == ["c", "ij"]


def test_generation_ends_when_every_row_has_ended(by_heart):
    tiny = by_heart(ALPHABET)
    steps = []
    tiny.language.model.register_forward_hook(lambda *_: steps.append(1))
    answer(tiny, pictures(2), CAPTION, [f"{IMAGE}b", f"{IMAGE}h"], greedy(200))
    assert len(steps) == 5  # i, j, k, l and the end


def test_the_models_own_end_token_ends_a_row_too(by_heart):
    following = {"b": "c", "c": "[EOS]", "[EOS]": "q", "q": "q"}
    assert answer(by_heart(following), pictures(1), CAPTION, [f"{IMAGE}b"], greedy(20)) == ["c"]


def test_an_answer_is_at_most_as_long_as_asked(by_heart):
    endless = by_heart({"b": "c", "c": "d", "d": "c"})
    assert answer(endless, pictures(1), CAPTION, [f"{IMAGE}b"], greedy(5)) == ["cdcdc"]


def test_batched_answers_are_the_single_ones(model):
    tiny, images = model(), pictures(4)
    together = answer(tiny, images, CAPTION, QUESTIONS, greedy(12))
    alone = [
        answer(tiny, {"queries": images["queries"][row : row + 1]}, CAPTION, [question], greedy(12))[0]
        for row, question in enumerate(QUESTIONS)
    ]
    assert together == alone and len(set(together)) == 4


def test_greedy_takes_what_the_full_logits_say(model):
    tiny, images = model(), pictures(1)
    text = answer(tiny, images, CAPTION, QUESTIONS[:1], greedy(6))[0]
    from mglib.prompts import generation_batch

    batch = {**images, **generation_batch(tiny.language.tokenizer, CAPTION, QUESTIONS[:1], queries=3)}
    embedded, ids = tiny.embed(batch), []
    for _ in range(6):  # without any cache
        ids.append(tiny.language.model(inputs_embeds=embedded).logits[0, -1].argmax())
        embedded = torch.cat([embedded, tiny.language.embed(ids[-1].reshape(1, 1))], dim=1)
    assert text == until_end(tiny.language.tokenizer.decode(ids), "\n", "[EOS]")


def test_answers_depend_on_the_picture(model):
    tiny = model()
    with torch.no_grad():
        tiny.projection.weight.mul_(20)
    texts = answer(tiny, pictures(2), CAPTION, [IMAGE, IMAGE], greedy(12))
    assert texts[0] != texts[1]


def test_the_same_seed_draws_the_same_text_and_another_one_another(model):
    tiny = model()
    drawn = [
        answer(tiny, pictures(2), CAPTION, QUESTIONS[:2], Decoding(max_new_tokens=10, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_global_random_state_is_left_alone(model):
    before = torch.get_rng_state()
    answer(model(), pictures(1), CAPTION, [IMAGE], Decoding(max_new_tokens=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_greedy_ignores_the_seed(model):
    tiny = model()
    texts = {
        tuple(answer(tiny, pictures(2), CAPTION, QUESTIONS[:2], replace(greedy(10), seed=seed)))
        for seed in range(3)
    }
    assert len(texts) == 1


def test_hardly_any_probability_mass_is_as_good_as_greedy(model):
    tiny = model()
    narrow = Decoding(top_p=1e-6, repetition_penalty=1.0, max_new_tokens=10)
    asked = (pictures(2), CAPTION, QUESTIONS[:2])
    assert answer(tiny, *asked, narrow) == answer(tiny, *asked, greedy(10))


def test_the_defaults_are_the_official_chats():
    assert Decoding() == Decoding(
        sample=True, top_p=0.9, temperature=1.0, repetition_penalty=1.05, max_new_tokens=300, seed=0
    )


def test_a_text_is_cut_at_the_first_of_its_ends():
    assert until_end(" a dog.###Human: and###", "###", "[EOS]") == "a dog."
    assert until_end("a dog[EOS]\nmore\n", "\n", "[EOS]") == "a dog"
    assert until_end("a dog", "\n") == "a dog"
