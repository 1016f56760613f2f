"""Answers as other programs write them, with what a reader takes for the answer, labelled by hand."""

import pytest

from mglib.evals.cleaning import clean, spoken

ASKED = "Is there a cat in the image?"
VICUNA = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human's questions."
)
FORMS = {
    "an answer": {
        "No": "No",
        " Yes, there is a cat.\n": "Yes, there is a cat.",
        "There is no cat.": "There is no cat.",
        "A user stands at a desk.": "A user stands at a desk.",
        "The sign reads: no entry": "The sign reads: no entry",
        "Vitamin A: none": "Vitamin A: none",
        "It is 10:30.": "It is 10:30.",
        "2*3*4 boxes": "2*3*4 boxes",
        "a file my_cat_1.jpg": "a file my_cat_1.jpg",
        "You are looking at a cat.": "You are looking at a cat.",
        "x < y and y > z": "x < y and y > z",
        "": "",
    },
    "a prompt before it": {
        "USER: Is there a cat? ASSISTANT: No": "No",
        f"USER: <image>\n{ASKED} ASSISTANT: No": "No",
        f"USER:  \n{ASKED}\nAnswer the question using a single word or phrase. ASSISTANT: Yes": "Yes",
        f"{VICUNA} USER: {ASKED} ASSISTANT: No, there is not.": "No, there is not.",
        f"{VICUNA}###Human: {ASKED}###Assistant: No": "No",
        "Give the following image: <Img>ImageContent</Img>. "
        f"###Human: <Img></Img> {ASKED} ###Assistant: No": "No",
        f"### Human: {ASKED}\n### Assistant: No": "No",
        f"[INST] <image>\n{ASKED} [/INST] No": "No",
        f"<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{ASKED} [/INST] No </s>": "No",
        f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{ASKED}<|im_end|>\n"
        "<|im_start|>assistant\nNo<|im_end|>": "No",
        f"system\nYou are a helpful assistant.\nuser\n{ASKED}\nassistant\nNo": "No",
        f"user\n\n{ASKED}\nassistant\nNo": "No",
        f"user \n{ASKED}assistant\nNo": "No",
        f"<start_of_turn>user\n{ASKED}<end_of_turn>\n<start_of_turn>model\nNo": "No",
        f"<|start_header_id|>user<|end_header_id|>\n\n{ASKED}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nNo<|eot_id|>": "No",
        f"<|user|>\n{ASKED}<|end|>\n<|assistant|>\nNo": "No",
        f"Human: {ASKED}\nAssistant: No": "No",
        f"Question: {ASKED} Short answer: No": "No",
        f"Question: {ASKED} Answer: No": "No",
        f"Q: {ASKED}\nA: No": "No",
        f"{ASKED} No": "No",
        f"{ASKED.lower()}\nNo": "No",
        "Assistant: No": "No",
        "ASSISTANT: No": "No",
        f"USER: Is it red? ASSISTANT: Yes USER: {ASKED} ASSISTANT: No": "No",
    },
    "signs behind it": {
        "No</s>": "No",
        "No<|im_end|>": "No",
        "No.<|endoftext|>No.<|endoftext|>": "No.",
        "No<|eot_id|>": "No",
        "No<end_of_turn>\n<eos>": "No",
        "No ###": "No",
        "No.###Human: and a dog?###Assistant: Yes": "No.",
        "No. USER: Is there a dog? ASSISTANT: Yes": "No.",
        "No\nUser: Is there a dog?\nAssistant: Yes": "No",
        "No\nQuestion: Is there a dog? Answer: Yes": "No",
        "<s> No </s><pad><pad>": "No",
    },
    "signs that nobody sees, or wide ones": {
        "\ufeffNo": "No",
        "\u200bN\u200bo\u200f": "No",
        "\u2060No\u2060": "No",
        "a sur\u00adfer": "a surfer",
        "\uff2e\uff4f": "No",
        "\uff39\uff45\uff53\uff0c\u3000there is": "Yes, there is",
        "\u200bUSER: Is there? ASSISTANT\uff1a No": "No",
    },
    "markup": {
        "**No**": "No",
        "**No**, there is *only* a `dog`.": "No, there is only a dog.",
        "***No***": "No",
        "__No__": "No",
        "_No_": "No",
        "# No": "No",
        "> No": "No",
        "- No": "No",
        "* No": "No",
        "```\nNo\n```": "No",
        "```text\nNo\n```": "No",
        "[No](https://a.b/c)": "No",
        "<p>No</p>": "No",
        "A <b>dog</b><br>and a cat": "A dog\nand a cat",
        "<p>a dog</p> {<12><3><45><67>} runs": "a dog  runs",
        "<think>Is it a cat? Yes or no.</think>\nNo": "No",
        "<think>hm</think><answer>No</answer>": "No",
        "\\boxed{No}": "No",
        "### Objects\n- a dog\n- a cat": "Objects\na dog\na cat",
    },
    "a label": {
        "Answer: No": "No",
        "Answer: Yes, nothing covers it": "Yes, nothing covers it",
        "**Answer:** Yes, nothing covers it": "Yes, nothing covers it",
        "Final answer: No": "No",
        "The answer is: No": "No",
        "The answer is no.": "no.",
        "Response: No": "No",
        "A: No": "No",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_answer_is_what_a_reader_takes_for_it(form):
    assert {text: clean(text, [ASKED]) for text in FORMS[form]} == FORMS[form]


def test_the_list_is_long():
    assert sum(map(len, FORMS.values())) >= 80


def test_what_was_cleaned_is_clean():
    for text in (text for some in FORMS.values() for text in some.values()):
        assert clean(text, [ASKED]) == text.strip()


def test_the_official_readings_keep_how_an_answer_is_written():
    assert spoken("USER: Is it red? ASSISTANT: **No**</s>") == "**No**"
