"""The trained model in other formats: the official .pth, and transformers' BLIP-2."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from timm.models.eva import Eva
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2VisionConfig,
    BlipImageProcessorPil,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import IMAGE, Template, prompt_tokens, tokenize, with_image
from mglib.model.qformer import QFormer
from mglib.model.vision import Vision
from mglib.paths import atomic_write, new_folder, write_text
from mglib.weights.official import listed, rename
from mglib.weights.vicuna import BY_TOKEN

IMAGE_TOKEN = "<image>"  # one for each visual token; the slots that transformers fills
# From our names to those of transformers: rules applied in order.
TRANSFORMERS = {
    r"^vision\.encoder\.cls_token": "vision_model.embeddings.class_embedding",
    r"^vision\.encoder\.pos_embed": "vision_model.embeddings.position_embedding",
    r"^vision\.encoder\.patch_embed\.proj": "vision_model.embeddings.patch_embedding",
    r"^vision\.encoder\.blocks\.(\d+)\.norm": r"vision_model.encoder.layers.\1.layer_norm",
    r"^vision\.encoder\.blocks": "vision_model.encoder.layers",
    r"\.attn\.": ".self_attn.",
    r"self_attn\.proj\b": "self_attn.projection",
    r"^qformer\.ln_vision": "vision_model.post_layernorm",
    r"^qformer\.query_tokens": "query_tokens",
    r"^qformer\.bert": "qformer",
    r"^projection": "language_projection",
}


def export_official(projection: nn.Linear, path: Path, *, config: dict[str, Any]) -> None:
    """Write a projection as the official trainer does, for the official code's `ckpt:` setting.

    `config` is plain data that describes the run. Our `load_projection` reads it back.
    """
    model = {f"llama_proj.{name}": value.detach().cpu() for name, value in projection.state_dict().items()}
    with atomic_write(path) as temporary:
        torch.save({"model": model, "config": config, "epoch": 0}, temporary)


def export_blip2(model: MiniGPT4, folder: Path, *, language: str, template: Template) -> None:
    """Write the whole model as a folder for transformers' `Blip2ForConditionalGeneration`: weights, processor
    with the chat template, and CARD, which says where its numbers differ.

    Raises ValueError when transformers cannot express the model, FileExistsError when the folder exists.
    """
    require_eva(model)
    processor = build_processor(model, template)
    image_token = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    with new_folder(folder) as built:
        build_blip2(model, image_token).save_pretrained(built, max_shard_size="5GB")
        processor.save_pretrained(built)
        write_text(built / "README.md", model_card(model, language=language, template=template))


def require_eva(model: MiniGPT4) -> None:
    """Raise ValueError unless transformers' BLIP-2 can express the model."""
    reasons = {
        "has no image encoder (it was built on cached features)": not isinstance(model.vision, Vision),
        "has no Q-Former": not isinstance(model.qformer, QFormer),
        "has a quantised language model": getattr(model.language.model, "is_quantized", False),
    }
    if not any(reasons.values()):
        vision = model.vision
        reasons |= {
            f"encodes with {vision.config.timm_name}": not isinstance(vision.encoder, Eva),
            "averages neighbouring patches": vision.config.pool != 1,
            "has a norm behind its last block": vision.config.final_norm,
            "has a Q-Former that also reads text": model.qformer.config.vocabulary > 0,
        }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise ValueError(
            f"This model {' and '.join(found)}. transformers' BLIP-2 has an EVA ViT without final norm, a "
            "Q-Former for queries alone, and whole weights: use mglib.weights.saved.save_pretrained."
        )


def build_blip2(model: MiniGPT4, image_token: int) -> Blip2ForConditionalGeneration:
    """Return the model in transformers' classes, to be saved: our weights, and empty buffers."""
    config = blip2_config(model, image_token)
    with torch.device("meta"):  # the weights are assigned below, so none are initialised
        blip2 = Blip2ForConditionalGeneration(config)
    state = blip2_state(model, config.text_config.vocab_size)
    unknown = blip2.load_state_dict(state, strict=False, assign=True).unexpected_keys
    blip2.tie_weights()  # a tied head is not in the state
    empty = [name for name, value in blip2.named_parameters() if value.is_meta]
    if unknown or empty:
        raise RuntimeError(
            f"This version of transformers calls weights otherwise ({listed(unknown + empty)}): install "
            "requirements.lock and run the same command again."
        )
    text = model.language.model.generation_config
    blip2.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
        suppress_tokens=[image_token],
    )
    return blip2.eval()


def blip2_config(model: MiniGPT4, image_token: int) -> Blip2Config:
    """Return the model's configuration in transformers."""
    look, encoder, qformer = model.vision.config, model.vision.encoder, model.qformer
    block = encoder.blocks[0]
    vision = Blip2VisionConfig(
        hidden_size=look.width,
        intermediate_size=block.mlp.fc1.out_features,
        num_hidden_layers=len(encoder.blocks),
        num_attention_heads=block.attn.num_heads,
        image_size=look.image_size,
        patch_size=look.patch_size,
        layer_norm_eps=block.norm1.eps,
    )
    text = deepcopy(model.language.model.config)
    text.vocab_size = max(text.vocab_size, image_token + 1)
    return Blip2Config(
        vision_config=vision,
        qformer_config=deepcopy(qformer.bert.config),
        text_config=text,
        num_query_tokens=qformer.config.queries,
        image_token_index=image_token,
    )


def blip2_state(model: MiniGPT4, vocabulary: int) -> dict[str, Tensor]:
    """Return the weights under transformers' names, the vocabulary padded with zero rows; `qkv.bias` joins
    q_bias, zeros for the keys, and v_bias.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("language.")}
    state = {rename(name, TRANSFORMERS): value for name, value in own.items()}
    for name in [name for name in state if name.endswith(".q_bias")]:
        q, v = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.zeros_like(v), v])
    for name, value in model.language.model.state_dict().items():
        if name in BY_TOKEN and len(value) < vocabulary:
            value = torch.cat([value, value.new_zeros(vocabulary - len(value), value.shape[1])])
        state[f"language_model.{name}"] = value
    return state


def build_processor(model: MiniGPT4, template: Template) -> Blip2Processor:
    """Return the processor that turns pictures and a conversation into the model's inputs.

    The tokenizer's chat template writes the queries' tokens where the picture belongs; the processor itself
    would put them before the whole text, and loses a template of its own.
    """
    look = model.vision.config
    pictures = BlipImageProcessorPil(
        size={"height": look.image_size, "width": look.image_size},
        image_mean=list(look.mean),
        image_std=list(look.std),
    )
    tokenizer = deepcopy(model.language.tokenizer)  # the processor adds IMAGE_TOKEN to it
    processor = Blip2Processor(pictures, tokenizer)
    queries = model.qformer.config.queries
    # We tokenise each piece of text separately. LLaMA's tokenizer puts a space before such a piece, but only
    # with its older settings before a piece after a picture: otherwise the template has to write it.
    for lead in ("", " "):
        tokenizer.chat_template = chat_template(template, queries, lead)
        if same_sequence(tokenizer, template, queries):
            return processor
    raise ValueError(
        "This tokenizer splits the words next to a picture in transformers' processor otherwise than in "
        "training, so the exported model would answer worse. Use mglib.weights.saved.save_pretrained."
    )


def same_sequence(tokenizer: PreTrainedTokenizerBase, template: Template, queries: int) -> bool:
    """Return whether the tokenizer's chat template gives the ids that the model was trained on."""
    words = "Describe this image in detail."
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": words}]}]
    found = tokenize(tokenizer, tokenizer.apply_chat_template(turn, tokenize=False))
    ids, slots = prompt_tokens(tokenizer, template, with_image(words), queries=queries)
    image = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    return found == [image if slot else token for token, slot in zip(ids, slots, strict=True)]


def chat_template(template: Template, queries: int, lead: str = "") -> str:
    """Write a prompt template in Jinja; a user's turn ends with the prefix of the assistant's answer.

    `lead` is put before the text after BOS and after a picture.
    """
    before, after = template.turn.split("{}")
    words = {
        "BOS": "{{ bos_token }}" + lead if template.bos else "",
        "BEFORE": json.dumps(before),
        "AFTER": json.dumps(after),
        "PICTURE": json.dumps(with_image("").replace(IMAGE, IMAGE_TOKEN * queries + lead)),
        "END": json.dumps(template.end),
    }
    return re.sub("|".join(words), lambda found: words[found[0]], JINJA)


# The dashes on the left strip the line breaks; there is none after BOS, where a space may have to go.
JINJA = """BOS{% for message in messages %}
    {%- if message.role == "user" %}{{ BEFORE }}{% endif %}
    {%- if message.content is string %}{{ message.content }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type == "image" %}{{ PICTURE }}{% else %}{{ part.text }}{% endif %}
        {%- endfor %}
    {%- endif %}
    {%- if message.role == "user" %}{{ AFTER }}{% else %}{{ END }}{% endif %}
{%- endfor %}"""


def model_card(model: MiniGPT4, *, language: str, template: Template) -> str:
    """Return the model card: what the folder is, how to use it, and where its numbers differ from ours."""
    return CARD.format(
        language=language,
        width=model.projection.in_features,
        out=model.projection.out_features,
        queries=model.qformer.config.queries,
        encoder=model.vision.config.timm_name,
        blocks=len(model.vision.encoder.blocks),
        end=template.end,
        eps=f"{model.vision.encoder.blocks[0].norm1.eps:g}",
        ours=f"{model.qformer.ln_vision.eps:g}",
    )


CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
license: other
tags:
- minigpt-4
- blip-2
---

# MiniGPT-4 with {language}

A frozen {encoder} ({blocks} blocks, no final norm), a frozen Q-Former with {queries} queries, one trained
linear projection ({width} to {out}) and a frozen {language}, as in MiniGPT-4
(arXiv 2304.10592). The licences of the frozen parts apply, that of the language model first of all.

```python
from transformers import Blip2ForConditionalGeneration, Blip2Processor

processor = Blip2Processor.from_pretrained(folder, backend="pil")
model = Blip2ForConditionalGeneration.from_pretrained(folder)
question = [{{"role": "user", "content": [
    {{"type": "image"}}, {{"type": "text", "text": "Describe this image in detail."}}]}}]
text = processor.tokenizer.apply_chat_template(question, tokenize=False)
inputs = processor(images=picture, text=text, add_special_tokens=False, return_tensors="pt")
answer = model.generate(
    **inputs,
    max_new_tokens=300,
    suppress_tokens=[model.config.image_token_index],
    stop_strings=["{end}"],
    tokenizer=processor.tokenizer,
)
print(processor.decode(answer[0]))
```

The chat template writes the picture's {queries} `<image>` tokens between `<Img>` and `</Img>`. The token was
added for transformers: its embedding and its row of the head are zero, so suppress it when you generate.

**Where it differs.** transformers uses one LayerNorm eps for the whole vision model, here {eps}. The norm
before the Q-Former (`vision_model.post_layernorm`) was trained with {ours}. A token of variance v therefore
comes out of that norm larger by a factor of sqrt((v + {ours}) / (v + {eps})), which is less than
1 + {ours} / (2 v). With equal eps the logits in float32 agree to 1e-5. transformers' default image processor
resizes by another library; with `backend="pil"` the pixels are those of training.
"""
