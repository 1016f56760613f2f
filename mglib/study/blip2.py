"""BLIP-2 mini as released with this repository: every run starts from it, as the paper does from BLIP-2.

`mglib.study.pretrain` makes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from mglib.config import PretrainConfig
from mglib.data.records import read_json
from mglib.metrics import read_rows
from mglib.model.blip2 import Representation, WriteFromKeywords, caption_language
from mglib.model.device import attention
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.paths import sha256
from mglib.training.checkpoint import freeze

# The three trainings in their order, each with the file of its weights.
TRAININGS = {
    "caption LM": "caption_lm.safetensors",
    "representation": "representation.safetensors",
    "generative": "generative.safetensors",
}
TOKENIZER, LOG, CARD = "tokenizer.json", "log.csv", "card.json"


@dataclass(frozen=True)
class Blip2:
    """BLIP-2 mini, frozen: its language model, its Q-Former with the text branch, and the whole model."""

    language: Language
    representation: Representation
    model: MiniGPT4
    logs: dict[str, list[dict[str, float]]]  # some steps of each training
    card: dict[str, Any]

    def trainings(self) -> pandas.DataFrame:
        """Return steps, minutes and last loss of each training."""
        return pandas.DataFrame(self.card["trainings"]).T.rename_axis("training").reset_index()


def load(
    folder: Path, config: PretrainConfig, qformer: Callable[..., Any], *, weights: str, device: torch.device
) -> Blip2:
    """Read a release; `qformer(text_branch=...)` builds the Q-Formers that it fills.

    Raises ValueError if it is damaged or was trained on another image encoder than that of `weights`.
    """
    card = checked(folder, weights)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / TOKENIZER), pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    )
    language = caption_language(config.caption_lm, tokenizer, seed=card["seed"], attention=attention(device))
    freeze(WriteFromKeywords(language), folder / TRAININGS["caption LM"])
    representation = Representation(qformer=qformer(text_branch=True), tokenizer=tokenizer, config=config)
    model = assemble(vision=nn.Identity(), qformer=qformer(text_branch=False), language=language)
    for module, training in ((representation, "representation"), (model, "generative")):
        freeze(module, folder / TRAININGS[training]).to(device)
    return Blip2(language, representation, model, read_logs(folder / LOG), card)


def checked(folder: Path, weights: str) -> dict[str, Any]:
    """Return a release's card after verifying its files' hashes."""
    card = read_json(folder / CARD)
    for name, digest in card["sha256"].items():
        if not (folder / name).exists() or sha256(folder / name) != digest:
            raise ValueError(
                f"{folder / name} is absent or damaged: take it back with `git checkout -- {folder}`, or "
                "make BLIP-2 mini again with `make reproduce PRETRAIN=1`."
            )
    if card["weights"] != weights:
        raise ValueError(
            f"BLIP-2 mini in {folder} was trained behind the image encoder of WEIGHTS={card['weights']}: "
            f"make it again behind that of WEIGHTS={weights} with "
            f"`make reproduce PRETRAIN=1 WEIGHTS={weights}`."
        )
    return card


def read_logs(file: Path) -> dict[str, list[dict[str, float]]]:
    """Read the logged steps of each training."""
    logs: dict[str, list[dict[str, float]]] = {name: [] for name in TRAININGS}
    for row in read_rows(file):
        logs[row.pop("training")].append({key: float(value) for key, value in row.items() if value})
    return logs
