"""The frozen language model: the same numbers as transformers, computed only where they are needed."""

import copy

import pytest
import torch

from mglib.model.language import Language


@pytest.mark.parametrize("end", [None, ""])
def test_a_tokenizer_without_an_end_symbol_is_told_when_it_is_loaded(llama, tokenizer, end):
    without = copy.deepcopy(tokenizer)
    without.eos_token = end
    with pytest.raises(ValueError, match=r"no end symbol: set eos_token in its tokenizer_config\.json"):
        Language(model=llama(), tokenizer=without)


def test_logits_of_chosen_rows_are_those_of_the_full_model(language, tokenizer, random):
    ids = torch.randint(len(tokenizer), (2, 7), generator=random)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    full = language.model(input_ids=ids, attention_mask=mask).logits
    row, position = torch.tensor([0, 0, 1]), torch.tensor([6, 2, 3])
    hidden = language(language.embed(ids), mask)
    assert hidden.shape == (2, 7, 48)
    torch.testing.assert_close(language.logits(hidden[row, position]), full[row, position])


def test_a_gradient_passes_through_to_the_embeddings(language, random):
    embeddings = torch.randn(1, 5, 48, generator=random, requires_grad=True)
    language.logits(language(embeddings, torch.ones(1, 5))[0, -1:])[0, 3].backward()
    assert (embeddings.grad.abs().sum(-1) > 0).all()
    assert all(parameter.grad is None for parameter in language.parameters())


def test_a_stored_folder_comes_back_in_the_asked_precision(language, tokenizer, tmp_path):
    language.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = Language.load(tmp_path, dtype=torch.float32, attention="eager")
    ids = torch.tensor([tokenizer("a red bus")["input_ids"]])
    mask = torch.ones_like(ids)
    torch.testing.assert_close(again(again.embed(ids), mask), language(language.embed(ids), mask))
    assert again.tokenizer("a red bus")["input_ids"] == ids[0].tolist()
    half = Language.load(tmp_path, dtype=torch.bfloat16, attention="eager")
    assert half.model.dtype == torch.bfloat16


def test_its_settings_do_not_tell_where_it_lies(language, tokenizer, tmp_path):
    read = []
    for name in ("here", "there"):
        language.model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        read.append(Language.load(tmp_path / name, dtype=torch.float32, attention="eager").settings())
    assert read[0] == read[1] and read[0]["hidden_size"] == 48
