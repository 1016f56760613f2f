"""notebooks/chat.ipynb in a real browser, with a tiny random model in the place of the trained one.

`pytest -m browser` runs it (tests/browsers.py).
"""

import re

import nbformat
import pytest
from nbformat import v4
from PIL import Image

from mglib.chat.conversation import Conversation
from mglib.paths import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TINY = """
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from mglib.chat.chat_model import ChatModel
from mglib.config import QFormerConfig, VisionConfig
from mglib.model.blip2 import train_tokenizer
from mglib.model.decoding import greedy
from mglib.model.dialogue import Turns
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.model.qformer import QFormer
from mglib.model.vision import Vision

torch.manual_seed(0)
torch.set_num_threads(1)
tokenizer = train_tokenizer(["a red bus on the street", "two dogs in the park", "a cat under a table"], 270)
llama = LlamaConfig(vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
                    num_attention_heads=4, max_position_embeddings=512, initializer_range=0.2)
eye = VisionConfig(timm_name="test_vit", width=64, image_size=64, patch_size=16, depth=1, pool=2)
model = MiniGPT4(
    vision=Vision(config=eye),
    qformer=QFormer(config=QFormerConfig(width=32, layers=2, heads=4, queries=3), vision_width=64).eval(),
    projection=nn.Linear(32, 48),
    language=Language(model=LlamaForCausalLM(llama), tokenizer=tokenizer),
)
lines = Turns(first=Template(name="lines", bos=True, turn="q {} a ", end="zz"), following="zz q {} a ")
chat_model = ChatModel(
    model=model,
    turns=lines,
    vision=eye,
    decoding=greedy(60),
    origin={"profile": "tiny"},
    language="TinyLlama",
    trained="tiny.safetensors (SHA-256 0123456789ab)",
)
"""
LOADED = "import mglib.chat.chat_model\nmglib.chat.chat_model.load = lambda profile: chat_model\n"
WATCH = """() => {
    window.lengths = [];
    const log = document.querySelector('.mglib-log');
    const note = () => window.lengths.push(log.textContent.length);
    new MutationObserver(note).observe(log, {childList: true, subtree: true, characterData: true});
}"""


def letters(text: str) -> str:
    """Keep the letters only: a browser renders white space and control characters differently."""
    return re.sub("[^A-Za-z]", "", text)


def test_the_notebook_shows_weights_picture_answers_and_their_pace(show, tmp_path):
    image = Image.new("RGB", (200, 300), "skyblue")
    image.paste("seagreen", (0, 200, 200, 300))
    image.save(tmp_path / "meadow.png")
    notebook = nbformat.read(ROOT / "notebooks" / "chat.ipynb", as_version=4)
    notebook.cells.insert(0, v4.new_code_cell(TINY + LOADED))
    page = show("chat", notebook)
    here: dict = {}
    exec(TINY, here)
    talk = Conversation(here["chat_model"])
    talk.show(image)

    page.get_by_text(f"Weights: {talk.chat_model.weights()}").wait_for()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Your own").click()
    chooser.value.set_files(tmp_path / "meadow.png")
    page.get_by_text(talk.chat_model.sees(image, "meadow.png")).wait_for()
    shown = page.locator(".widget-image").bounding_box()
    assert shown["height"] == pytest.approx(200, abs=1)
    assert shown["width"] / shown["height"] == pytest.approx(2 / 3, abs=0.02)

    page.evaluate(WATCH)
    first, second = "Describe this image in detail.", "where is it"
    page.get_by_role("button", name=first).click()
    # The copy button's text has finished turns only.
    page.locator(f"button[data-text*='{first}']").wait_for(state="attached")
    lengths = page.evaluate("window.lengths")
    assert len(set(lengths)) > 5 and lengths == sorted(lengths)
    question = page.get_by_placeholder("Ask about the picture")
    question.fill(second)
    question.press("Enter")
    page.locator(f"button[data-text*='{second}']").wait_for(state="attached")

    log = page.locator(".mglib-log").inner_text()
    for asked in (first, second):
        answer = letters("".join(talk.ask(asked, talk.chat_model.decoding)))
        assert answer and answer in letters(log)
    paces = re.findall(r"(\d+) tokens in [\d.]+ s: [\d.]+ tokens a second", log)
    assert [int(count) for count in paces] == [one.tokens for one in talk.history]
