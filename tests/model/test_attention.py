"""The CPU's attention gives the same as transformers' own."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from mglib.model.attention import GROUPED


@torch.no_grad()
@pytest.mark.parametrize("sets", [1, 2, 4])
def test_heads_that_share_keys_attend_as_in_transformers(sets):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=sets,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    ids, mask = torch.randint(32, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    mask[0, :3] = 0  # padded on the left
    logits = {}
    for kind in ("eager", GROUPED):
        model.set_attn_implementation(kind)
        first = model(input_ids=ids[:, :6], attention_mask=mask[:, :6], use_cache=True)
        last = model(input_ids=ids[:, 6:], attention_mask=mask, past_key_values=first.past_key_values)
        logits[kind] = torch.cat([first.logits, last.logits], 1)[:, 3:]
    torch.testing.assert_close(logits[GROUPED], logits["eager"])
