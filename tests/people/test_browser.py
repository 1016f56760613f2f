"""The widgets in a real browser: JupyterLab, started here, in headless Chromium, with a tiny random model.

Left out by default. `pytest -m browser` runs it; it needs `pip install playwright` (no browser of its own)
and Chromium, on the PATH or named by the environment variable CHROMIUM.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

import nbformat
import pytest
from nbformat import v4
from PIL import Image
from servers import free_port, wait_for

from mglib.curation.verdicts import verdicts
from mglib.model.decoding import greedy
from mglib.paths import ROOT, write_json

pytestmark = pytest.mark.browser

TOKEN = token_hex()
CONNECTED = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
NEWS = "@jupyterlab/apputils-extension:announcements"
CHAT = """
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from mglib.chat.widget import ChatPanel
from mglib.config import QFormerConfig, VisionConfig
from mglib.model.dialogue import Turns
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.blip2 import train_tokenizer
from mglib.model.prompts import Template
from mglib.model.qformer import QFormer
from mglib.chat.speaker import Speaker
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
panel = ChatPanel(Speaker(model=model, turns=lines, vision=eye))
panel.settings["sample"].value = False
panel.settings["max_new_tokens"].value = 60
panel.box
"""
REVIEW = """
import io
from pathlib import Path
from PIL import Image
from mglib.people.review import Review, Reviewer

def picture(color):
    file = io.BytesIO()
    Image.new("RGB", (224, 224), color).save(file, "JPEG")
    return file.getvalue()

texts = [(color, f"The picture is {color}. It shows nothing else.") for color in ("red", "green", "blue")]
Reviewer(Review(texts, Path("log.jsonl")), picture).box
"""


@pytest.fixture(scope="module")
def browser():
    """Start Chromium, or skip by the name of what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH: install Chromium, or name it by CHROMIUM")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab with a configuration of its own; returns its address and its folder."""
    root, port = tmp_path_factory.mktemp("lab"), free_port()
    own = {f"JUPYTER_{kind}_DIR": str(root / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    path = {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1", "IPYTHONDIR": str(root / "ipython")}
    options = {
        "ServerApp.port": port,
        "ServerApp.root_dir": root,
        "IdentityProvider.token": TOKEN,
        "LabApp.expose_app_in_browser": True,
    }
    write_json(root / "config" / "labconfig" / "page_config.json", {"disabledExtensions": {NEWS: True}})
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (root / "log.txt").open("w") as log, subprocess.Popen(
        command, env={**os.environ, **own, **path}, stdout=log, stderr=log
    ) as process:  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/api", process)
            yield f"http://127.0.0.1:{port}", root
        finally:
            process.terminate()


@pytest.fixture
def show(browser, lab, tmp_path):
    """Return a function that opens a notebook of one cell in JupyterLab, runs it and returns the page."""
    url, root = lab
    opened = []

    def run(name, cell):
        notebook = v4.new_notebook(cells=[v4.new_code_cell(cell.strip())])
        notebook.metadata["kernelspec"] = {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        }
        nbformat.write(notebook, root / f"{name}.ipynb")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(500_000)  # a kernel on a busy machine takes long to import torch
        opened.append((name, page))
        page.goto(f"{url}/doc/tree/{name}.ipynb?token={TOKEN}")
        page.wait_for_function(CONNECTED)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells') && null")
        return page

    yield run
    for name, page in opened:
        page.screenshot(path=tmp_path / f"{name}.png")
        print(f"the page at the end: {tmp_path / name}.png")
        page.close()


def picture(folder: Path) -> Path:
    image = Image.new("RGB", (300, 200), "skyblue")
    image.paste("seagreen", (0, 130, 300, 200))
    image.save(folder / "meadow.png")
    return folder / "meadow.png"


def test_a_picture_is_uploaded_and_a_streamed_answer_read(show, tmp_path):
    page = show("chat", CHAT)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Your own").click()
    chooser.value.set_files(picture(tmp_path))
    page.get_by_text("Pictures for the next question: 1").wait_for()
    page.locator(".widget-image").wait_for()
    page.evaluate(
        """() => {
            window.lengths = [];
            const log = document.querySelector('.mglib-log');
            const note = () => window.lengths.push(log.textContent.length);
            new MutationObserver(note).observe(log, {childList: true, subtree: true, characterData: true});
        }"""
    )
    question = page.get_by_placeholder("Ask about the picture")
    question.fill("what is it")
    question.press("Enter")
    page.locator("button[data-text*='what is it']").wait_for(
        state="attached"
    )  # what is copied has the finished turn
    lengths = page.evaluate("window.lengths")
    assert len(set(lengths)) > 5 and lengths == sorted(lengths)

    here: dict = {}
    exec(CHAT, here)
    talk = here["panel"].talk
    talk.show(Image.open(picture(tmp_path)))
    answer = "".join(talk.ask("what is it", greedy(60)))
    shown = page.locator(".mglib-log").inner_text().split()
    assert answer and shown[-len(answer.split()) :] == answer.split()


def test_texts_are_accepted_edited_and_rejected_by_keys(show, lab):
    page, log = show("review", REVIEW), lab[1] / "log.jsonl"
    keys = page.get_by_placeholder("click here, then press a, e, r or u")
    text = page.locator("textarea:visible").first
    keys.click()
    for key, progress in (("a", "1 of 3"), ("r", "2 of 3"), ("u", "1 of 3")):
        page.keyboard.press(key)
        page.get_by_text(progress, exact=True).wait_for()
    page.keyboard.press("e")
    page.wait_for_function("document.activeElement.tagName === 'TEXTAREA'")
    page.keyboard.press("Control+a")
    page.keyboard.type("A green picture.")
    keys.click()
    page.keyboard.press("a")
    page.get_by_text("2 of 3", exact=True).wait_for()
    page.keyboard.press("r")
    page.get_by_text("all have a verdict").wait_for()
    given = verdicts(log)
    assert [(one.keep, one.text) for one in given.values()] == [
        (True, "The picture is red. It shows nothing else."),
        (True, "A green picture."),
        (False, "The picture is blue. It shows nothing else."),
    ]
    assert text.input_value() == ""
