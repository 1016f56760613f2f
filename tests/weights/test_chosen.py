"""Tiny language models of other families: loaded, trained with, and stopped as their templates say."""

from copy import deepcopy
from importlib.util import find_spec

import pytest
import torch
from tiny_languages import FAMILIES, write

from mglib.fullscale.counts import matrices
from mglib.model.decoding import answer, greedy
from mglib.model.dialogue import turns
from mglib.model.minigpt4 import assemble
from mglib.model.prompts import CAPTION, IMAGE, generation_batch, template, training_batch
from mglib.weights import chosen

FLOAT32 = {"dtype": torch.float32, "quantised": None, "attention": "sdpa"}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_read_trained_behind_and_stopped(tmp_path, tokenizer, qformer, captions, descend, kind):
    language = chosen.load(write(tmp_path / kind, kind, tokenizer), **FLOAT32)
    end, spoken = FAMILIES[kind][2], language.tokenizer
    chat = template("chat", spoken)
    assert (language.width, spoken.eos_token, chat.end) == (48, end, end)
    assert turns(chat, spoken).following.startswith(end)
    model = assemble(vision=torch.nn.Identity(), qformer=qformer().requires_grad_(False), language=language)
    queries = torch.randn(8, 3, 32, generator=torch.Generator().manual_seed(0))
    for form, asked in ((CAPTION, IMAGE), (chat, f"{IMAGE} what")):
        batch = training_batch(spoken, form, [asked] * 8, captions, queries=3, max_answer=12)
        losses = descend(model, {"queries": queries, **batch}, 4)
        assert losses[-1] < losses[0]
        with_grad = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert with_grad == {"projection.weight", "projection.bias"}
    # It writes what transformers' own generation does.
    images, asked = {"queries": queries[:2]}, [f"{IMAGE} what", f"{IMAGE} two dogs in the park"]
    layout = generation_batch(spoken, chat, asked, queries=3)
    with torch.inference_mode():
        ids = language.model.generate(
            inputs_embeds=model.embed({**images, **layout}),
            attention_mask=layout["mask"],
            do_sample=False,
            max_new_tokens=6,
            eos_token_id=spoken.eos_token_id,
            pad_token_id=spoken.eos_token_id,
        )
    own = [spoken.decode(row).split(chat.end)[0].strip() for row in ids]
    assert answer(model, images, chat, asked, greedy(6)) == own


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_held_in_fewer_bits(tmp_path, tokenizer, qformer, kind, bits):
    if find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed, by which language models are loaded in 8 and 4 bits")
    wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}  # its kernels want multiples of 32
    folder = write(tmp_path / kind, kind, tokenizer, **wide)
    whole, few = (chosen.load(folder, **{**FLOAT32, "quantised": each}) for each in (None, bits))
    assert {weight.itemsize for weight in matrices(few)} == {1}
    assert whole.settings() != few.settings()  # by which trainings are found
    place = few.model.device
    model = assemble(vision=torch.nn.Identity(), qformer=qformer(), language=few).to(place)
    queries = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)).to(place)
    chat = template("chat", few.tokenizer)
    assert len(answer(model, {"queries": queries}, chat, [f"{IMAGE} what"] * 2, greedy(4))) == 2


def test_a_model_that_bends_its_logits_is_refused(tmp_path, tokenizer):
    folder = write(tmp_path / "gemma2", "gemma2", tokenizer, head_dim=12, final_logit_softcapping=0.01)
    with pytest.raises(ValueError, match="more than embedding, decoder and head"):
        chosen.load(folder, **{**FLOAT32, "attention": "eager"})


def test_a_model_without_a_template_or_without_an_end_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no chat template"):
        chosen.answer_end(tokenizer)
    endless = deepcopy(tokenizer)
    endless.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(ValueError, match="nothing would say"):
        chosen.answer_end(endless)


def test_a_model_is_known_by_its_content(tmp_path, tokenizer):
    first = write(tmp_path / "one", "llama", tokenizer)
    assert chosen.find(str(first)) == first
    assert chosen.identity(first) == chosen.identity(write(tmp_path / "two", "llama", tokenizer))
    assert chosen.identity(first) != chosen.identity(write(tmp_path / "three", "qwen2", tokenizer))


def test_a_model_that_is_nowhere_is_told(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr(chosen, "snapshot_download", unreachable)
    with pytest.raises(
        RuntimeError, match=r"nobody/nothing could not be fetched .*\(OSError: no connection\)"
    ):
        chosen.find("nobody/nothing")
