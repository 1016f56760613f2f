"""Decoding with a random model, and with one whose next token depends on the last token alone."""

from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache, TopPLogitsWarper

from mglib.model.decoding import (
    Decoding,
    Steps,
    answer,
    choose,
    draw,
    greedy,
    has_ended,
    row_seed,
    search,
    until_end,
)
from mglib.model.prompts import CAPTION, IMAGE, Template, generation_batch, tokenize

QUESTIONS = [f"{IMAGE}a", f"{IMAGE} what is in this picture", f"{IMAGE}", f"{IMAGE} two dogs"]
VICUNA_END = Template(name="three signs", bos=True, turn="{}", end="###")


def pictures(count, seed=0):
    return {"queries": torch.randn(count, 3, 32, generator=torch.Generator().manual_seed(seed))}


@pytest.fixture(scope="module")
def by_heart(llama, tokenizer, model):
    """Return a function that builds a model whose next letter is looked up in a dict: {"a": "b"}."""

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


def test_an_end_symbol_of_several_tokens_is_seen(by_heart, tokenizer):
    assert len(tokenize(tokenizer, "###")) == 3
    following = {"b": "c", "c": "#", "#": "#", "h": "i", "i": "j", "j": "#"}
    texts = answer(by_heart(following), pictures(2), VICUNA_END, [f"{IMAGE}b", f"{IMAGE}h"], greedy(30))
    assert texts == ["c", "ij"]


def test_the_models_own_end_token_ends_a_row_too(by_heart):
    following = {"b": "c", "c": "[EOS]", "[EOS]": "q", "q": "q"}
    assert answer(by_heart(following), pictures(1), CAPTION, [f"{IMAGE}b"], greedy(20)) == ["c"]


def test_an_answer_is_at_most_as_long_as_asked(by_heart):
    endless = by_heart({"b": "c", "c": "d", "d": "c"})
    assert answer(endless, pictures(1), CAPTION, [f"{IMAGE}b"], greedy(5)) == ["cdcdc"]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("sample", [False, True], ids=["greedy", "drawn"])
def test_a_row_says_the_same_alone_and_among_others(model, sample, beams):
    """What is drawn depends on the seed and the row alone."""
    tiny, images, state = model(), pictures(4), torch.get_rng_state()
    decoding = Decoding(max_new_tokens=12, sample=sample, beams=beams, repetition_penalty=1.0)
    together = answer(tiny, images, CAPTION, QUESTIONS, decoding)
    alone = [
        answer(tiny, {"queries": images["queries"][[row]]}, CAPTION, [question], decoding, first=row)[0]
        for row, question in enumerate(QUESTIONS)
    ]
    assert together == alone and len(set(together)) == 4
    assert (together == answer(tiny, images, CAPTION, QUESTIONS, replace(decoding, seed=1))) != sample
    assert torch.equal(torch.get_rng_state(), state)


def test_greedy_takes_what_the_full_logits_say(model):
    tiny, images = model(), pictures(1)
    text = answer(tiny, images, CAPTION, QUESTIONS[:1], greedy(6))[0]
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


def test_rows_of_one_batch_draw_from_different_seeds(model):
    images = {"queries": pictures(1)["queries"].expand(3, -1, -1)}
    assert len(set(answer(model(), images, CAPTION, [IMAGE] * 3, Decoding(max_new_tokens=12)))) == 3
    assert len({row_seed(seed, row) for seed in range(9) for row in range(9)}) == 81


def test_rows_that_have_ended_leave_the_batch(by_heart):
    sizes, tiny = [], by_heart(ALPHABET)
    tiny.language.model.get_decoder().register_forward_hook(lambda *given: sizes.append(len(given[2][0])))
    questions = [f"{IMAGE}{letter}" for letter in "chbkc"]
    assert answer(tiny, pictures(5), CAPTION, questions, greedy(20)) == ["", "ijkl", "c", "l", ""]
    assert sizes == [5, 5, 1, 1, 1]  # two end with the first token, two more with the second


def test_who_leaves_does_not_change_what_the_others_say(model):
    """Rows are taken out after different steps, and the others continue unchanged."""
    tiny = model()
    layout = generation_batch(tiny.language.tokenizer, CAPTION, QUESTIONS, queries=3)
    embedded = tiny.embed({**pictures(4), **layout})

    def run(leave):
        steps = Steps(
            tiny.language, embedded, layout["mask"], Decoding(max_new_tokens=9), range(4), DynamicCache()
        )
        rows, said = [0, 1, 2, 3], [[] for _ in range(4)]
        for number, tokens in enumerate(steps):
            for row, token in zip(rows, tokens.tolist(), strict=True):
                said[row].append(token)
            if number in leave:
                places = [place for place, row in enumerate(rows) if row != leave[number]]
                steps.keep(places)
                rows = [rows[place] for place in places]
        return said

    whole = run({})
    assert [len(ids) for ids in whole] == [9] * 4 and len(set(map(tuple, whole))) == 4
    left = run({1: 2, 4: 0, 6: 3})
    assert left == [whole[0][:5], whole[1], whole[2][:2], whole[3][:7]]


def test_hardly_any_probability_mass_is_as_good_as_greedy(model):
    tiny = model()
    narrow = Decoding(top_p=1e-6, repetition_penalty=1.0, max_new_tokens=10)
    asked = (pictures(2), CAPTION, QUESTIONS[:2])
    assert answer(tiny, *asked, narrow) == answer(tiny, *asked, greedy(10))


def test_the_defaults_are_the_official_chats():
    assert Decoding() == Decoding(
        sample=True, top_p=0.9, temperature=1.0, repetition_penalty=1.05, max_new_tokens=300, seed=0, beams=1
    )


# --- several beams ---


def with_beams(count, tokens=8, **changes):
    return replace(greedy(tokens), beams=count, **changes)


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_beams_are_those_of_transformers(model, penalty):
    tiny, images = model(), pictures(4)
    tokenizer = tiny.language.tokenizer
    texts = answer(tiny, images, CAPTION, QUESTIONS, with_beams(3, repetition_penalty=penalty))
    layout = generation_batch(tokenizer, CAPTION, QUESTIONS, queries=3)
    ids = tiny.language.model.generate(
        inputs_embeds=tiny.embed({**images, **layout}),
        attention_mask=layout["mask"],
        num_beams=3,
        max_new_tokens=8,
        repetition_penalty=penalty,
        stop_strings=["\n"],
        tokenizer=tokenizer,
    )
    assert texts == [until_end(tokenizer.decode(row), "\n", "[EOS]") for row in ids]
    assert texts != answer(tiny, images, CAPTION, QUESTIONS, replace(greedy(8), repetition_penalty=penalty))


@torch.inference_mode()
def test_the_best_beam_is_likelier_than_the_greedy_answer(model):
    tiny, images = model(), pictures(1)
    tokenizer, language = tiny.language.tokenizer, tiny.language
    layout = generation_batch(tokenizer, CAPTION, QUESTIONS[:1], queries=3)
    embedded = tiny.embed({**images, **layout})

    def likelihood(ids):
        whole = torch.cat([embedded, language.embed(torch.tensor([ids]))], dim=1)
        scores = language.model(inputs_embeds=whole).logits[0].log_softmax(1)
        before = embedded.shape[1] - 1
        return sum(scores[before + place, token].item() for place, token in enumerate(ids))

    def best(beams):
        return search(language, embedded, layout["mask"], with_beams(beams, 5), [0], ("never",))[0]

    assert likelihood(best(8)) > likelihood(best(1))
    steps = Steps(language, embedded, layout["mask"], greedy(5), [0], DynamicCache())
    assert best(1) == [token.item() for token in steps]


def test_beams_stop_at_an_end_of_several_tokens_and_at_the_limit(by_heart):
    following = {"b": "c", "c": "#", "#": "#", "h": "i", "i": "j", "j": "i"}
    asked = [f"{IMAGE}b", f"{IMAGE}h"]
    assert answer(by_heart(following), pictures(2), VICUNA_END, asked, with_beams(2, 6)) == ["c", "ijijij"]
    ends = by_heart({"b": "c", "c": "[EOS]", "[EOS]": "q", "q": "q"})
    assert answer(ends, pictures(1), CAPTION, asked[:1], with_beams(2, 20)) == ["c"]


def test_one_beam_is_no_search(model, monkeypatch):
    tiny = model()
    monkeypatch.setattr(tiny.language.model, "generate", None)
    assert answer(tiny, pictures(2), CAPTION, QUESTIONS[:2], with_beams(1)) == answer(
        tiny, pictures(2), CAPTION, QUESTIONS[:2], greedy(8)
    )


def test_what_a_model_has_as_its_own_settings_is_not_taken(model):
    tiny, images = model(), pictures(2)
    texts = answer(tiny, images, CAPTION, QUESTIONS[:2], with_beams(3))
    own = tiny.language.model.generation_config
    own.repetition_penalty, own.max_length, own.do_sample, own.temperature = 9.0, 3, True, 5.0
    assert answer(tiny, images, CAPTION, QUESTIONS[:2], with_beams(3)) == texts


def test_draws_follow_the_probabilities():
    chances = torch.tensor([0.5, 0.0, 0.3, 0.2])
    scores = (chances.log() + 3).expand(4000, -1)  # a constant changes nothing
    marks = (torch.arange(4000, dtype=torch.double).unsqueeze(1) + 0.5) / 4000
    shares = draw(scores, 1.0, marks).bincount(minlength=4) / 4000
    assert torch.allclose(shares, chances, atol=1e-3)


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0, 8.0])  # from nearly uniform to very peaked
@pytest.mark.parametrize("likely", [1, 7, 50, 400])
def test_the_nucleus_is_that_of_a_full_sort(random, spread, likely):
    scores = torch.randn(3, 300, generator=random) * spread + torch.linspace(0, 1e-3, 300)  # no ties
    count = 5000
    marks = (torch.arange(count, dtype=torch.double).unsqueeze(1) + 0.5) / count
    for row, whole in zip(scores, TopPLogitsWarper(0.9)(None, scores).softmax(1), strict=True):
        shares = draw(row.expand(count, -1), 0.9, marks, likely).bincount(minlength=300) / count
        assert (whole[shares > 0] > 0).all()
        assert torch.allclose(shares, whole, atol=2.5 / count)


def test_rows_whose_nucleus_is_wide_do_not_change_the_others(random):
    scores = torch.randn(6, 300, generator=random) * torch.tensor([0.1, 8, 0.1, 8, 8, 0.1]).unsqueeze(1)
    marks = torch.rand(6, 1, generator=random, dtype=torch.double)
    together = draw(scores, 0.9, marks, likely=20)
    alone = [draw(scores[row : row + 1], 0.9, marks[row : row + 1], likely=20) for row in range(6)]
    assert together.tolist() == torch.cat(alone).tolist()
    assert together.tolist() == draw(scores, 0.9, marks, likely=300).tolist()


def test_the_nucleus_and_the_penalty_change_what_is_chosen():
    scores, none = torch.tensor([[2.0, 1.9, 0.0]]), torch.zeros(1, 0, dtype=torch.long)
    generators = [torch.Generator().manual_seed(0)]
    assert choose(scores, none, greedy(1), generators).tolist() == [0]
    penalised = replace(greedy(1), repetition_penalty=1.2)
    assert choose(scores, torch.tensor([[0]]), penalised, generators).tolist() == [1]  # 2 / 1.2 < 1.9
    narrow = Decoding(top_p=0.4)  # the first alone reaches 0.4 of the mass
    assert {choose(scores, none, narrow, generators).item() for _ in range(50)} == {0}


def test_the_end_is_seen_with_the_token_that_completes_it(tokenizer):
    ids = tokenizer("two dogs###", add_special_tokens=False)["input_ids"]
    assert [has_ended(tokenizer, ids[: n + 1], ["###", "[EOS]"]) for n in range(len(ids))] == [
        *([False] * (len(ids) - 1)),
        True,
    ]


def test_a_text_is_cut_at_the_first_of_its_ends():
    assert until_end(" a dog.###Human: and###", "###", "[EOS]") == "a dog."
    assert until_end("a dog[EOS]\nmore\n", "\n", "[EOS]") == "a dog"
    assert until_end("a dog", "\n") == "a dog"
    assert until_end("Assistant: A dog sits.", "###", "</s>") == "A dog sits."
    assert until_end("Human: what? Assistant: A dog.###Human: and###", "###", "</s>") == "A dog."


@pytest.mark.parametrize(
    "setting", [{"temperature": 0}, {"temperature": 1e-40}, {"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}]
)
def test_a_setting_that_draws_nothing_is_refused(setting):
    with pytest.raises(ValueError, match="sample=False for greedy"):
        Decoding(**setting)
    assert Decoding(sample=False, **setting)
    with pytest.raises(ValueError, match="take beams"):
        with_beams(0)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("decoding", [greedy(1), Decoding()])
def test_scores_that_are_no_numbers_are_told(decoding, broken):
    scores = torch.full((2, 9), broken if broken < 0 else 0.0)
    scores[0] = 1.0
    scores[1, 3] = broken
    with pytest.raises(FloatingPointError, match="nan or infinite"):
        choose(scores, torch.zeros(2, 0, dtype=torch.long), decoding, [torch.Generator()] * 2)


class OnAppleGpu(torch.Tensor):
    """A tensor that refuses float64 until it is on the CPU."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.double or any(one is torch.float64 for one in args):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor).cpu()
        return super().__torch_function__(func, types, args, kwargs or {})


def test_float64_is_used_on_the_cpu_alone(random):
    scores, marks = torch.randn(3, 50, generator=random), torch.rand(3, 1, dtype=torch.double)
    with pytest.raises(TypeError):
        scores.as_subclass(OnAppleGpu).double()
    assert draw(scores.as_subclass(OnAppleGpu), 0.9, marks).tolist() == draw(scores, 0.9, marks).tolist()
