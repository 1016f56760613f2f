"""The recipes of CONTRIBUTING.md, each followed once in tiny."""

from dataclasses import dataclass

import pytest
import torch
from tiny_study import make_study, write_notebook
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, Qwen2Config, Qwen2ForCausalLM

from mglib.config import VisionConfig
from mglib.data.quarantine import Fault
from mglib.data.records import Text, fit_all, read_lines
from mglib.metrics import Counts
from mglib.model.decoding import answer, greedy
from mglib.model.language import Language
from mglib.model.minigpt4 import assemble
from mglib.model.prompts import IMAGE, Template, training_batch
from mglib.model.vision import Vision
from mglib.repro import reproduce
from mglib.settings import Settings


def test_an_image_encoder():
    settings = VisionConfig(timm_name="test_vit3", width=96, image_size=64, patch_size=16, final_norm=True)
    assert Vision(config=settings)(torch.zeros(2, 3, 64, 64)).shape == (2, settings.tokens, settings.width)


@pytest.mark.parametrize("kind", ["qwen2", "gpt_neox"])
def test_a_language_model(kind, tokenizer, qformer):
    shape = {"vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 96}
    shape |= {"num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 128}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**shape, num_key_value_heads=2))
        else:
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**shape))
    reader = qformer().requires_grad_(False)
    minigpt4 = assemble(
        vision=torch.nn.Identity(), qformer=reader, language=Language(model=model, tokenizer=tokenizer)
    )
    form = Template(name="own", bos=True, turn="ask {} say ", end="\n")
    batch = training_batch(
        tokenizer, form, [f"{IMAGE} what"] * 2, ["a cat", "a boat"], queries=3, max_answer=8
    )
    queries = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    minigpt4({"queries": queries, **batch})["loss"].backward()
    trained = {name for name, weight in minigpt4.named_parameters() if weight.grad is not None}
    assert trained == {"projection.weight", "projection.bias"}
    said = answer(minigpt4, {"queries": queries}, form, [f"{IMAGE} what"] * 2, greedy(4))
    assert len(said) == 2 and all(isinstance(text, str) for text in said)


@dataclass(frozen=True)
class Haiku:
    """A record of a data set that nobody has yet."""

    image_id: int
    text: Text


def test_a_data_set(tmp_path):
    file = tmp_path / "haiku.jsonl"
    file.write_text(
        '{"image_id": 1, "text": "old pond"}\n{"image_id": "x", "text": "frog"}\n{"image_id": 2\n'
    )
    good, *bad = fit_all(Haiku, read_lines(file), file)
    assert good == Haiku(1, "old pond") and [type(one) for one in bad] == [Fault, Fault]
    assert [one.sample for one in bad] == ["line 2", "line 3"] and "image_id" in bad[0].reason


def test_a_metric():
    def share_of_questions(answers: list[str]) -> Counts:
        """How many sentences of an answer are questions."""
        return Counts(
            [text.count("?") for text in answers], [text.count("?") + text.count(".") for text in answers]
        )

    found = share_of_questions(["A dog. Is it?", "A cat."]).estimate()
    assert (found.value, found.n) == (pytest.approx(1 / 3), 2) and found.low <= found.value <= found.high
    assert share_of_questions(["?"] * 9).estimate().value == 1  # an answer of questions alone is found out
    assert share_of_questions(["no end"]).estimate() is None


def test_a_notebook(tmp_path, monkeypatch):
    make_study(tmp_path)
    for name in ("PYTHONPATH", "JUPYTER_PREFER_ENV_PATH", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "")
    write_notebook(tmp_path / "notebooks" / "03_three.ipynb", "print(profile, seed, weights)")
    reproduce.run(Settings(), notebooks="03", root=tmp_path)
    assert "mini 0 wheel" in (tmp_path / "runs" / "mini" / "03_three.ipynb").read_text()
