"""Tiny language models of other families, as transformers folders with a chat template each."""

from copy import deepcopy

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|head|>\n\n{{ m.content | trim }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|head|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n"
    "{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
NEOX = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES = {  # transformers' model type: template, special tokens, the end token, and further settings
    "llama": (LLAMA3, ["<|start|>", "<|head|>", "<|eot|>"], "<|eot|>", {}),
    "qwen2": (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>", {}),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<end_of_turn>", {"head_dim": 12}),
    "gemma3_text": (GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<end_of_turn>", {"head_dim": 12}),
    "phi": (PHI, ["<|user|>", "<|assistant|>", "<|end|>"], "<|end|>", {}),
    "phi3": (PHI, ["<|user|>", "<|assistant|>", "<|end|>"], "<|end|>", {"pad_token_id": 0}),
    "gpt_neox": (NEOX, ["<|user|>", "<|assistant|>"], "[EOS]", {}),
}


def llama(vocabulary, *, seed=0, width=48, heads=4, layers=2, **more):
    """Return a Llama with random weights, spread wide, so that its text varies."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        **{"max_position_embeddings": 256, "initializer_range": 0.2, **more},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def ends(tokenizer):
    """Return the settings of a language model that name its tokenizer's special tokens."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


def write(folder, kind, tokenizer, **more):
    """Write a model with random weights and its tokenizer, as transformers does."""
    form, special, _, own = FAMILIES.get(kind, FAMILIES["gemma"])
    spoken = deepcopy(tokenizer)
    spoken.add_special_tokens({"additional_special_tokens": special})
    spoken.chat_template = form
    ends = {"bos_token_id": spoken.bos_token_id, "eos_token_id": spoken.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(spoken), **ends, **{**SHAPE, **own, **more})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    spoken.save_pretrained(folder)
    return folder
