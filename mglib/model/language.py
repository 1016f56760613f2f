"""The frozen language model: embeddings in, hidden states out, logits only for chosen positions."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


class Language(nn.Module):
    """A causal language model with its tokenizer, frozen."""

    def __init__(self, *, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        if tokenizer is not None and not tokenizer.eos_token:
            raise ValueError("This tokenizer has no end symbol: set eos_token in its tokenizer_config.json.")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, *, dtype: torch.dtype, attention: str) -> "Language":
        """Load a transformers folder in the given precision."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
        return cls(model=model, tokenizer=AutoTokenizer.from_pretrained(folder))

    @property
    def width(self) -> int:
        """D_l."""
        return self.model.get_input_embeddings().weight.shape[1]

    def settings(self) -> dict[str, Any]:
        """Return the model's configuration without the folder that it was read from."""
        return {name: value for name, value in self.model.config.to_dict().items() if name != "_name_or_path"}

    def train(self, mode: bool = True) -> "Language":
        """Stay in evaluation mode: a frozen model has no other."""
        return super().train(False)

    def embed(self, ids: Tensor) -> Tensor:
        """Look up token embeddings: (B, T) -> (B, T, D_l)."""
        return self.model.get_input_embeddings()(ids)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Run the decoder without its head: (B, T, D_l) and (B, T) -> (B, T, D_l)."""
        return self.model.get_decoder()(
            inputs_embeds=embeddings, attention_mask=mask, use_cache=False
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the vocabulary for chosen positions: (M, D_l) -> (M, V)."""
        return self.model.get_output_embeddings()(hidden)
