"""Conversion of a released language model to a folder that transformers loads in a second."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mglib.weights.tensors import require_content

# By `model_type`. SmolLM2's 4-bit values times a half-precision scale plus an offset need fp32 to be exact:
# stored in bf16, the logits of a paragraph would change by up to 0.13 in an fp32 run. Qwen2 (0.5B) would take
# 2.5 GB in fp32; it is stored in bf16, the precision of its original.
DTYPES = {"llama": torch.float32, "qwen2": torch.bfloat16}
CONTENTS = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "f5b84f20539d15d6bad41b35754507b2d164cfe4ea25707ec40562e0ef6c8d78",
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": (
        "46572785be3240bc35987ba12e7df77aece92be621f99f91862d7883cfbbcdbe"
    ),
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": (
        "f97bf54728a52e62600f847155683bcf472e108dcf746e601c752364c98e076f"
    ),
}


def make_from_gguf(fetched: Path, built: Path) -> None:
    """Write a GGUF file's model and tokenizer into `built`; raises RuntimeError if the weights differ."""
    (file,) = fetched.glob("*.gguf")
    model, tokenizer = from_gguf(file)
    require_content(state_of(model), CONTENTS[file.name], origin=file.name)
    save(model, tokenizer, built)


def make_from_hub(snapshot: Path, built: Path) -> None:
    """Write the original release into `built`, in its own dtype."""
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype="auto")
    save(model, AutoTokenizer.from_pretrained(snapshot), built)


def from_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a quantised model and its tokenizer with the chat template; de-quantising takes 12 s or more."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    dtype = DTYPES[config.model_type]
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    # The stored model is an ordinary one: with this entry, transformers would look for a quantiser.
    del model.config.quantization_config
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    RESTORE[config.model_type](tokenizer)
    return model, tokenizer


def split_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    """Split digits one by one, as the original SmolLM2 does: GGUF names the tokenizer type, not its rules."""
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )


def without_bos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Remove the BOS token, which the original Qwen2 does not have: GGUF names one."""
    tokenizer.bos_token = None


RESTORE = {"llama": split_digits, "qwen2": without_bos}


def state_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the weights, without a head that is tied to the token embedding."""
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return {
        name: value for name, value in model.state_dict().items() if not (tied and name == "lm_head.weight")
    }


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what `from_pretrained` reads; transformers itself refuses to save a model that came from GGUF."""
    save_file(state_of(model), folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
