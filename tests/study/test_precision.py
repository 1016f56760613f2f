"""If a processor only emulates bfloat16, nothing is multiplied in it: no training, encoding or answer."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mglib.evals import generate
from mglib.experiments import ablations, lora, spatial_captions
from mglib.experiments.dpo import Preference, dpo
from mglib.experiments.exams import ExamPrompt
from mglib.model import prompts
from mglib.model.blip2 import KEYWORDS
from mglib.model.decoding import Decoding, greedy
from mglib.study import pretrain
from mglib.study.models import PromptedModel
from mglib.study.stage1 import train_stage1
from mglib.study.stage2 import Stage2Data, train_stage2

PRODUCTS = {
    "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "matmul", "linear", "einsum", "convolution",
    "conv2d", "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
}  # fmt: skip


class RefuseHalf(TorchDispatchMode):
    """Counts matrix products and raises AssertionError if one has a 16-bit operand."""

    def __init__(self):
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._opname in PRODUCTS:
            self.products += 1
            halves = [each for each in args if isinstance(each, torch.Tensor) and each.dtype.itemsize == 2]
            assert not halves, f"{func._opname} in {halves[0].dtype}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def refuse():
    """Refuse products in half precision during the test, and require that some products were made."""
    with RefuseHalf() as mode:
        yield mode
    assert mode.products > 0


def test_the_guard_sees_what_it_must_refuse():
    half = torch.ones(2, 2, dtype=torch.bfloat16)
    with RefuseHalf(), pytest.raises(AssertionError, match="mm in torch"):
        half @ half
    with RefuseHalf(), torch.inference_mode(), pytest.raises(AssertionError):
        torch.nn.functional.linear(half, half)


def test_pictures_are_encoded_and_every_model_trained_and_asked_in_float32(tiny, split, language, refuse):
    tokens = tiny.tokens(split, tiny.vision())
    writer, written = pretrain.caption_lm(tiny, split)
    _, represented = pretrain.representation(tiny, writer.tokenizer, split, tokens)
    blip2, _ = pretrain.generative(tiny, represented, writer, written, split, tokens)
    queries = tiny.queries(split, tokens, blip2.qformer)
    model, first = train_stage1(tiny, blip2.qformer, language, split, queries)
    texts, template = split.captions, prompts.VICUNA
    data = Stage2Data(list(queries), texts)
    train_stage2(tiny, PromptedModel(model=model, template=template), data, what="stage1")
    captioner = PromptedModel(model=blip2, template=KEYWORDS, wording=prompts.IMAGE)
    train_stage2(tiny, captioner, data, what="blip2")
    base = SimpleNamespace(
        model=model,
        trained=first,
        language=language,
        splits={"train": split},
        tokens={"train": tokens},
        queries={"train": list(queries)},
    )
    for name in ablations.ARMS:
        arm, _ = ablations.train_arm(tiny, name, base, tiny.profile.stage1)
        ask(arm, ablations.queries(arm.qformer, list(tokens)))
    asked = [(place, "what is it", text) for place, text in enumerate(texts)]
    taught = lora.learn(tiny, base, asked, ExamPrompt(template, "{}"))[0]["lora"]
    spatial_captions.arm(tiny, "control", model, first.state, list(queries), texts)
    pairs = [Preference(place, text, "A boat.", 0.1) for place, text in enumerate(texts[:4])]
    dpo(
        tiny,
        PromptedModel(model=model, template=template),
        list(queries),
        pairs,
        tiny.profile.preference.train,
        what="dpo",
    )
    for each in (model, taught, blip2):
        ask(each, list(queries))


def ask(model, queries):
    """Let a model write, by sampling and greedily, and score texts."""
    for decoding in (greedy(4), Decoding(max_new_tokens=4)):
        generate.answers(
            model, queries, prompts.CAPTION, prompts.IMAGE, decoding, batch_size=4, what="captions"
        )
    texts = ["a cat"] * len(queries)
    generate.losses(model, queries, texts, prompts.CAPTION, max_answer=8, batch_size=4)
