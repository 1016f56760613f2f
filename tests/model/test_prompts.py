"""The sequence that the language model reads, position by position."""

import copy

import pytest
import torch
from transformers import LlamaTokenizer

from mglib.model.prompts import (
    CAPTION,
    IGNORE,
    IMAGE,
    VICUNA,
    Template,
    chat,
    generation_batch,
    prompt_tokens,
    template,
    tokenize,
    training_batch,
    with_image,
)


def lay_out(tokenizer, template, answers, *, question=IMAGE, queries=3, max_answer=32):
    return training_batch(
        tokenizer, template, [question] * len(answers), answers, queries=queries, max_answer=max_answer
    )


def test_stage_1_reads_bos_then_the_picture_then_the_caption_and_its_end(tokenizer):
    batch = lay_out(tokenizer, CAPTION, ["a dog", "a red bus on the street"])
    short, long = tokenize(tokenizer, "a dog"), tokenize(tokenizer, "a red bus on the street")
    end, bos = tokenize(tokenizer, "\n"), tokenizer.bos_token_id
    rest = len(long) - len(short)
    assert batch["ids"].tolist() == [
        [bos, 0, 0, 0, *short, *end, *[0] * rest],
        [bos, 0, 0, 0, *long, *end],
    ]
    assert batch["labels"].tolist() == [
        [*[IGNORE] * 4, *short, *end, *[IGNORE] * rest],
        [*[IGNORE] * 4, *long, *end],
    ]
    assert batch["mask"].tolist() == [
        [*[1] * (4 + len(short) + 1), *[0] * rest],
        [1] * (4 + len(long) + 1),
    ]
    assert batch["slots"].tolist() == [[False, True, True, True, *[False] * (batch["ids"].shape[1] - 4)]] * 2


def test_stage_2_puts_the_question_around_the_picture(tokenizer):
    batch = lay_out(tokenizer, VICUNA, ["a boat"], question=with_image("What is it?"))
    before = tokenize(tokenizer, "###Human: <Img>")
    after = tokenize(tokenizer, "</Img> What is it? ###Assistant: ")
    answer = tokenize(tokenizer, "a boat") + tokenize(tokenizer, "###")
    assert batch["ids"][0].tolist() == [tokenizer.bos_token_id, *before, 0, 0, 0, *after, *answer]
    start = 1 + len(before)
    assert batch["slots"][0].nonzero().flatten().tolist() == [start, start + 1, start + 2]
    assert batch["labels"][0].tolist() == [*[IGNORE] * (start + 3 + len(after)), *answer]


def test_labels_go_by_place_where_the_end_symbol_has_the_id_of_the_padding(tokenizer):
    template = Template(name="one id for both", bos=True, turn="{}", end="[PAD]")
    assert tokenize(tokenizer, template.end) == [0]
    batch = lay_out(tokenizer, template, ["a dog", "a red bus on the street"])
    last = 4 + len(tokenize(tokenizer, "a dog"))
    assert batch["labels"][0, last] == 0 and batch["mask"][0, last] == 1
    assert (batch["labels"][0, last + 1 :] == IGNORE).all() and (batch["mask"][0, last + 1 :] == 0).all()
    assert batch["labels"][1, -1] == 0


@pytest.mark.parametrize("template", [CAPTION, VICUNA], ids=lambda template: template.name)
def test_a_cut_answer_keeps_its_end_symbol(tokenizer, template):
    text = "a red bus on the street by the sea"
    batch = lay_out(tokenizer, template, [text], max_answer=6)
    end = tokenize(tokenizer, template.end)
    labels = batch["labels"][batch["labels"] != IGNORE].tolist()
    assert labels == [*tokenize(tokenizer, text)[: 6 - len(end)], *end]
    assert len(labels) == 6


def test_an_answer_that_just_fits_is_not_cut(tokenizer):
    words = tokenize(tokenizer, "a dog")
    batch = lay_out(tokenizer, CAPTION, ["a dog"], max_answer=len(words) + 1)
    assert batch["labels"][batch["labels"] != IGNORE].tolist() == words + tokenize(tokenizer, "\n")


def test_the_pieces_beside_the_picture_are_tokenised_apart(tokenizer):
    together = tokenize(tokenizer, "street")
    apart = tokenize(tokenizer, "str") + tokenize(tokenizer, "eet")
    assert together != apart  # else this test would show nothing
    ids, slots = prompt_tokens(tokenizer, CAPTION, f"str{IMAGE}eet", queries=1)
    assert [token for token, slot in zip(ids, slots, strict=True) if not slot] == [
        tokenizer.bos_token_id,
        *apart,
    ]


@pytest.fixture
def llamas():
    """Return a tokenizer like LLaMA's, which puts a piece for a space before a text on its own."""
    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *"▁abcdgo.#",
        "##",
        "###",
        "▁###",
    ]
    merges = [("#", "#"), ("##", "#"), ("▁", "###")]
    return LlamaTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=merges)


@pytest.mark.parametrize(
    ("template", "end", "alone"), [(VICUNA, ["###"], ["▁###"]), (CAPTION, ["<0x0A>"], ["▁", "<0x0A>"])]
)
def test_an_answer_and_its_end_have_the_ids_of_the_official_code(llamas, template, end, alone):
    assert llamas.convert_ids_to_tokens(tokenize(llamas, template.end)) == alone
    together = ["▁", "d", "o", "g", ".", *end]
    for longest, expected in ((9, together), (5, [*together[: 5 - len(end)], *end])):
        labels = lay_out(llamas, template, ["dog."], max_answer=longest)["labels"][0]
        assert llamas.convert_ids_to_tokens(labels[labels != IGNORE]) == expected


def test_a_tokenizer_without_bos_has_prompts_without_it(tokenizer):
    without = copy.deepcopy(tokenizer)
    without.bos_token = None
    with_it = lay_out(tokenizer, CAPTION, ["a dog"])["ids"][0].tolist()
    assert lay_out(without, CAPTION, ["a dog"])["ids"][0].tolist() == with_it[1:]
    assert generation_batch(without, VICUNA, [IMAGE], queries=3)["ids"].shape[1] > 3


def test_a_picture_can_stand_several_times_or_nowhere(tokenizer):
    _, slots = prompt_tokens(tokenizer, CAPTION, f"{IMAGE} and {IMAGE}", queries=2)
    assert sum(slots) == 4
    _, slots = prompt_tokens(tokenizer, CAPTION, "no picture", queries=2)
    assert sum(slots) == 0


def test_prompts_are_padded_on_the_left_for_generation(tokenizer):
    batch = generation_batch(tokenizer, CAPTION, [IMAGE, f"{IMAGE}a red bus"], queries=2)
    words = tokenize(tokenizer, "a red bus")
    bos, gap = tokenizer.bos_token_id, len(words)
    assert batch["ids"].tolist() == [[*[0] * gap, bos, 0, 0], [bos, 0, 0, *words]]
    assert batch["mask"].tolist() == [[*[0] * gap, 1, 1, 1], [1] * (3 + gap)]
    assert batch["slots"].tolist() == [
        [*[False] * gap, False, True, True],
        [False, True, True, *[False] * gap],
    ]


def test_a_generation_prompt_is_the_training_prompt(tokenizer):
    question = with_image("What is it?")
    prompt = generation_batch(tokenizer, VICUNA, [question], queries=3)
    trained = lay_out(tokenizer, VICUNA, ["a boat"], question=question)
    length = prompt["ids"].shape[1]
    for name in ("ids", "mask", "slots"):
        assert torch.equal(trained[name][:, :length], prompt[name])
    assert (trained["labels"][:, :length] == IGNORE).all() and trained["labels"][0, length] != IGNORE


def test_the_templates_are_the_official_ones():
    assert VICUNA.prompt(with_image("What does {} mean?")) == (
        "###Human: <Img><ImageHere></Img> What does {} mean? ###Assistant: "
    )
    assert VICUNA.end == "###" and VICUNA.bos
    assert CAPTION.prompt(IMAGE) == IMAGE and CAPTION.end == "\n" and CAPTION.bos


def test_templates_are_found_by_name_or_what_can_be_had_is_said(tokenizer):
    assert template("caption", tokenizer) is CAPTION and template("vicuna", tokenizer) is VICUNA
    with pytest.raises(ValueError, match="'vicunia': choose one of caption, vicuna, llama2, chat"):
        template("vicunia", tokenizer)
    with pytest.raises(ValueError, match="no chat template of its own: use the template 'vicuna'"):
        template("chat", tokenizer)


def test_a_chat_template_with_todays_date_is_the_same_on_every_day(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "Today is {{ strftime_now('%d %b %Y') }}. {{ messages[0]['content'] }}"
    assert chat(tokenizer).turn == "Today is 26 Jul 2024. {}"


@pytest.mark.weights
def test_the_chat_template_begins_once_and_ends_with_the_models_own_symbol(smollm2):
    template = chat(smollm2)
    ids, slots = prompt_tokens(smollm2, template, with_image("What is it?"), queries=2)
    own = smollm2.apply_chat_template(
        [{"role": "user", "content": "What is it?"}], tokenize=False, add_generation_prompt=True
    )
    assert ids[: len(tokenize(smollm2, own.split("What")[0]))] == tokenize(smollm2, own.split("What")[0])
    assert ids[:2].count(smollm2.convert_tokens_to_ids("<|im_start|>")) == 1
    assert sum(slots) == 2
    assert tokenize(smollm2, template.end) == [smollm2.eos_token_id]


@pytest.mark.weights
def test_the_real_tokenizer_learns_to_stop_though_it_pads_with_its_end_symbol(smollm2):
    template = chat(smollm2)
    batch = lay_out(
        smollm2, template, ["A dog.", "A dog in front of an old red bus."], question=with_image("What?")
    )
    for mask, labels in zip(batch["mask"], batch["labels"], strict=True):
        assert labels[mask.sum() - 1] == smollm2.eos_token_id
        assert (labels[mask.sum() :] == IGNORE).all()
