"""A profile's whole model with random weights, made where it is used: no file, no network.

Random weights of the right shapes take the time and the memory of trained ones. What is imported here needs
torch, transformers, timm, safetensors and accelerate alone, so that it runs on a bare machine.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mglib.config import Profile, TrainConfig
from mglib.model import prompts
from mglib.model.blip2 import train_tokenizer
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.paper_profiles import GPUS
from mglib.study.flops import build
from mglib.weights.vicuna import Precision, options

CAPTION = "a dog and a bicycle in front of a house on the street"
LONGEST = " ".join([CAPTION] * 40)  # a token a word: longer than any stage's answers may be
DESCRIBE = prompts.with_image("Describe this image in detail.")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def memory_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows the words of this module as about one token each, as a real one would."""
    texts = [CAPTION, DESCRIBE, CHAT, prompts.VICUNA.prompt(DESCRIBE), prompts.LLAMA2.prompt(DESCRIBE)]
    tokenizer = train_tokenizer(texts, 2_048)
    tokenizer.chat_template = CHAT
    return tokenizer


def random_model(profile: Profile, device: torch.device, dtype: torch.dtype) -> MiniGPT4:
    """Build a profile's model on a device, what is frozen there in `dtype` as a study has it."""
    model = build(profile, device)
    model.vision.to(dtype)
    model.language.to(dtype)
    model.language.tokenizer = memory_tokenizer()
    return model.eval()


def quantised(model: MiniGPT4, precision: Precision) -> MiniGPT4:
    """Return the model with its language model in 8 or 4 bits, loaded as from a folder; raises RuntimeError
    where bitsandbytes is missing.
    """
    whole = model.language.model
    loaded = type(whole).from_pretrained(
        None, config=whole.config, state_dict=whole.state_dict(), **options(precision)
    )
    return model.sharing(language=Language(model=loaded, tokenizer=model.language.tokenizer))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a stage's samples look like on one card."""

    template: Template
    question: str
    config: TrainConfig
    at_once: int  # samples of one step


def layouts(profile: Profile) -> dict[str, Layout]:
    """Return both stages as they are trained on one card: of the paper's stage 1 it has one share of four."""
    form = prompts.template(profile.language.template, memory_tokenizer())
    first, second = profile.stage1, profile.stage2
    cards = 1 if profile.release is None else GPUS
    return {
        "stage 1": Layout(
            template=prompts.CAPTION,
            question=prompts.IMAGE,
            config=first,
            at_once=first.batch_size // cards,
        ),
        "stage 2": Layout(template=form, question=DESCRIBE, config=second, at_once=second.batch_size),
    }


def sample_batch(profile: Profile, layout: Layout, size: int, device: torch.device) -> dict[str, Tensor]:
    """Return `size` samples with the longest answers: pictures where a profile streams them, queries where it
    keeps those.
    """
    queries = profile.qformer.queries
    laid = prompts.training_batch(
        memory_tokenizer(),
        layout.template,
        [layout.question] * size,
        [LONGEST] * size,
        queries=queries,
        max_answer=layout.config.max_answer,
    )
    batch = {name: value.to(device) for name, value in laid.items()}
    if profile.release is None:
        return {"queries": torch.randn(size, queries, profile.qformer.width, device=device), **batch}
    return {"pixels": pictures(profile, size, device), **batch}


def pictures(profile: Profile, size: int, device: torch.device) -> Tensor:
    """Return so many random pictures as the encoder takes them, (B, 3, S, S)."""
    side = profile.vision.image_size
    return torch.randn(size, 3, side, side, device=device)
