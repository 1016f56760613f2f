"""What the paper's size needs, before hours are spent: `make plan`.

Parameters, FLOPs and activations are counted on the modules themselves, on torch's meta device, without
weights or memory. Hours follow from them by the share of an A100's peak that the paper's own ten hours imply:
they are estimates, unmeasured.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor, UntypedStorage, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from mglib.config import ConcatConfig, Profile, TrainConfig
from mglib.model import device as devices
from mglib.model.decoding import Decoding
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4, assemble
from mglib.model.qformer import QFormer
from mglib.model.token_concat import Concat
from mglib.model.vision import Vision
from mglib.paper_profiles import GPUS, STAGE2_AS_PUBLISHED, STAGE2_AS_WRITTEN, VICUNA_7B
from mglib.weights.chosen import configuration

PROMPT = 32  # tokens around the picture in stage 2, about
PICTURE = 25_000  # bytes of a web picture as JPEG at 224 to 256 pixels, and its texts, about
# The paper (section 3.1): about ten hours on four A100, which are 36 pairs a second on each. Taken to be
# 7B's; were they 13B's, the share of the peak that follows would be larger and all estimates shorter.
PAPER_HOURS = 10.0
FEWER = (8, 4)  # bits, by bitsandbytes
BLOCK = 64  # weights that share a scale in 4 bits
FEWER_BITS = (
    "Fewer bits: `pip install bitsandbytes`, and BITS=8 or BITS=4 with PROFILE; parts of a step of stage "
    "2: `accumulate` in its stage2. Where nothing fits, take a smaller LANGUAGE, or the profile mini."
)
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
class Machine:
    """One accelerator; its speeds and price are given for an A100 alone."""

    name: str
    memory: float  # bytes
    share: float = 0.9  # of it that is left to tensors: a card's context and allocator take a tenth
    width: int = 2  # bytes of a frozen weight that is not quantised (`mglib.model.device.frozen_dtype`)
    flops: float = 0.0  # a second, bfloat16, as its maker says
    bandwidth: float = 0.0  # bytes a second from its memory
    dollars: float = 0.0  # an hour: an assumption, prices move

    @property
    def usable(self) -> float:
        return self.share * self.memory


A100 = Machine(name="A100 80 GB", memory=80e9, flops=312e12, bandwidth=2.0e12, dollars=2.0)
CARDS = tuple(Machine(name=f"card, {size} GB", memory=size * 1e9) for size in (8, 12, 16, 24, 48, 80))
# Apple's GPU may take about two thirds of the common memory (Metal's `recommendedMaxWorkingSetSize`; larger
# machines allow three quarters).
APPLE = tuple(
    Machine(name=f"Apple, {size} GB", memory=size * 1e9, share=2 / 3, width=4) for size in (16, 32, 64)
)


def here() -> Machine | None:
    """Return this machine's GPU; None where there is none."""
    found = devices.pick()
    if found.type == "cpu":
        return None
    name, width = f"here, {devices.processor(found)}", devices.frozen_dtype(found).itemsize
    if found.type == "cuda":
        return Machine(name=name, memory=torch.cuda.get_device_properties(found).total_memory, width=width)
    return Machine(name=name, memory=torch.mps.recommended_max_memory(), share=1.0, width=width)


# --- counts ---


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one sample costs in training."""

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
    """Return how a profile's language model is built; raises as `configuration` where it is the user's."""
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
    held: set[UntypedStorage] = set()  # not tensors: a weight is saved in views of its storage

    def keep(value: Tensor) -> Tensor:
        held.add(value.untyped_storage())
        return value

    with torch.device("meta"):
        with torch.no_grad(), FlopCounterMode(display=False) as looking:
            tokens = model.vision(torch.empty(1, 3, size, size))
            require_shape("vision tokens", tokens, (1, vision.tokens, vision.width))
            queries = model.qformer(tokens)
            require_shape("queries", queries, (1, chosen.qformer.queries, chosen.qformer.width))
            words = model.language.embed(torch.empty(1, 1, dtype=torch.long))
            require_shape("words", words, (1, 1, chosen.language.width or model.language.width))
        saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
        with FlopCounterMode(display=False) as reading, saved:
            sample_loss(model, queries, text=text, answer=answer).backward()
    weights = {parameter.untyped_storage() for parameter in model.parameters()}
    return Cost(
        look=looking.get_total_flops(),
        read=reading.get_total_flops(),
        activations=sum(storage.nbytes() for storage in held - weights),
    )


def sample_loss(model: MiniGPT4, queries: Tensor, *, text: int, answer: int) -> Tensor:
    """Return the loss of one sample without values: MiniGPT4's forward without what needs them."""
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


def conversation(language: Language, positions: int) -> DynamicCache:
    """Return the keys and values of one conversation of so many positions, without memory."""
    kept = DynamicCache(config=language.model.config)
    with torch.device("meta"), torch.no_grad():
        language.model.get_decoder()(
            inputs_embeds=language.embed(torch.empty(1, positions, dtype=torch.long)),
            attention_mask=torch.empty(1, 1, positions, positions, dtype=torch.bool),
            past_key_values=kept,
            use_cache=True,
        )
    return kept


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A profile's model on the meta device, what a pair of each stage costs (answers as long as they may
    get), and a conversation of the official length.
    """

    model: MiniGPT4
    first: Cost
    second: Cost
    cache: DynamicCache


@cache
def counted(chosen: Profile) -> Counts:
    """Count a profile's parts; raises RuntimeError for another language model that cannot be read."""
    model, first, second = build(chosen), chosen.stage1.max_answer, STAGE2_AS_WRITTEN.max_answer
    return Counts(
        model=model,
        first=cost(model, chosen, text=1 + first, answer=first),  # the prompt of stage 1 is BOS alone
        second=cost(model, chosen, text=PROMPT + second, answer=second),
        cache=conversation(model.language, chosen.qformer.queries + PROMPT + Decoding.max_new_tokens),
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
        """One conversation."""
        return self.weights + self.cache + self.working

    def training(self, sample: float, samples: int) -> float:
        """A step on so many pairs at once: the projection has a gradient and AdamW's two moments."""
        return self.weights + 3 * self.projection + self.working + sample * samples


def memory(chosen: Profile, bits: int, width: int = 2) -> Memory:
    """Return a profile's bytes: Q-Former and projection are in float32, the rest has `width` bytes a weight,
    but for a language model in 8 or 4 bits.
    """
    found = counted(chosen)
    blocks, largest = len(found.cache.layers), max(map(torch.numel, matrices(found.model.language)))
    return Memory(
        vision=width * parameters(found.model.vision),
        qformer=4 * parameters(found.model.qformer),
        projection=4 * parameters(found.model.projection),
        language=language_bytes(found.model.language, bits, width),
        cache=width * sum(layer.keys.numel() + layer.values.numel() for layer in found.cache.layers),
        # A pass holds about two blocks at a time, and a quantised matrix is unpacked where it is used.
        working=2 * found.second.activations / blocks * width / 2 + (width * largest if bits in FEWER else 0),
        first=found.first.activations * width / 2,
        second=found.second.activations * width / 2,
    )


def language_bytes(language: Language, bits: int, width: int) -> float:
    """Return the bytes of a language model's weights in so many bits.

    With 8 or 4 of them the matrices of its blocks are quantised, with their scales; embeddings, head, norms
    and biases keep `width` bytes, as transformers has it.
    """
    quantised = {id(weight) for weight in matrices(language)} if bits in FEWER else set()
    held = 0.0
    for weight in language.parameters():
        if id(weight) in quantised:
            scales = len(weight) if bits == 8 else weight.numel() / BLOCK
            held += weight.numel() * bits / 8 + 4 * scales
        else:
            held += weight.numel() * width
    return held


def matrices(language: Language) -> list[nn.Parameter]:
    """Return the weights that bitsandbytes takes on: every matrix but the embeddings and the head."""
    head = language.model.get_output_embeddings()
    kinds = (nn.Linear, Conv1D)
    return [part.weight for part in language.modules() if isinstance(part, kinds) and part is not head]


# --- what fits ---


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a task fits a machine."""

    bits: int
    held: float  # bytes
    accumulate: int = 1  # parts of a step

    def __str__(self) -> str:
        found = f"{self.bits} bits, {self.held / 1e9:.1f} GB"
        return found if self.accumulate == 1 else f"{found}, ACCUMULATE={self.accumulate}"


def named_bits(chosen: Profile) -> int | None:
    """Return the bits in which a profile's language model is held; None: as many as can be."""
    named = chosen.release and chosen.release.quantised
    return int(named.removesuffix("bit")) if named else None


def step_fit(
    held: Memory, sample: float, config: TrainConfig, room: float, bits: int, gpus: int = 1
) -> Fit | None:
    """Return a step in the fewest parts (`accumulate`) that fit `room` bytes; None if one sample does not."""
    for number in range(1, config.batch_size // gpus + 1):
        samples, rest = divmod(config.batch_size, gpus * number)
        if not rest and (whole := held.training(sample, samples)) <= room:
            return Fit(bits=bits, held=whole, accumulate=number)
    return None


def fitting(chosen: Profile, machine: Machine) -> dict[str, Fit | None]:
    """Return how a machine can talk and train with a profile, each with the most bits that fit, or with those
    that the profile names; None: not at all.
    """
    named = named_bits(chosen)
    found: dict[str, Fit | None] = {"talk": None, "stage 2": None, "stage 1": None}
    for bits in (named,) if named else (8 * machine.width, *FEWER):
        held, room = memory(chosen, bits, machine.width), machine.usable
        fits = {
            "talk": Fit(bits=bits, held=held.talking) if held.talking <= room else None,
            "stage 2": step_fit(held, held.second, STAGE2_AS_WRITTEN, room, bits),
            "stage 1": step_fit(held, held.first, chosen.stage1, room, bits),
        }
        found = {task: found[task] or fit for task, fit in fits.items()}
    return found


# --- hours ---


@cache
def utilisation() -> float:
    """Return the share of an A100's peak that the paper's stage 1 made use of."""
    stage = VICUNA_7B.stage1
    flops = counted(VICUNA_7B).first.flops * stage.steps * stage.batch_size
    return flops / (PAPER_HOURS * 3600 * GPUS * A100.flops)


def hours(flops: float, *, gpus: int = 1, machine: Machine = A100) -> float:
    """Return the hours that so many FLOPs take at the paper's share of the peak; linear in the GPUs."""
    return flops / (machine.flops * utilisation() * gpus) / 3600


def tokens_a_second(chosen: Profile, answers: int, machine: Machine = A100) -> float:
    """Return how fast so many answers at once are written, where each token reads all weights from memory."""
    bits = named_bits(chosen) or 16
    return answers * machine.bandwidth / memory(chosen, bits).language


# --- the plan ---


def plan(chosen: Profile) -> str:
    """Return a profile's plan: its parts, what the stages take, and what fits which machine."""
    found, stage, asked = counted(chosen), chosen.stage1, chosen.evaluation
    model, first = found.model, found.first
    parts = {"encoder": model.vision, "Q-Former": model.qformer, "language model": model.language}
    pictures = 1 / (3600 * hours(first.look))
    lines = [
        f"{chosen.name}: every part was built on the meta device and one sample passed through.",
        *(f"  {name:16} {parameters(part):>15,} parameters, frozen" for name, part in parts.items()),
        f"  {'projection':16} {parameters(model.projection):>15,} parameters, trained",
        f"stage 1: {stage.steps:,} steps of {stage.batch_size}, {first.flops / 1e12:.2f} TFLOP a pair "
        f"({first.look / first.flops:.0%} before the projection), "
        f"{stage.steps * stage.batch_size * PICTURE / 1e9:,.0f} GB of shards read",
        *training_lines(chosen, first, stage),
    ]
    for name, config in {"as written": STAGE2_AS_WRITTEN, "as published": STAGE2_AS_PUBLISHED}.items():
        lines.append(f"stage 2 ({name}): {config.steps:,} steps of {config.batch_size}")
        lines += training_lines(chosen, found.second, config)
    lines += [
        f"notebooks (one process each, on one GPU): {pictures:,.0f} pictures a second looked at, "
        f"{tokens_a_second(chosen, asked.batch_size):,.0f} tokens a second written, "
        f"{asked.batch_size} answers at once",
        *fitting_lines(chosen),
        f"Estimates from FLOPs at {utilisation():.0%} of the peak of an {A100.name}, the share that the "
        "paper's ten hours imply; longest answers; memory without the allocator's reserve. Unmeasured.",
    ]
    return "\n".join(lines)


def training_lines(chosen: Profile, sample: Cost, config: TrainConfig) -> Iterator[str]:
    """Yield what a training takes on one A100 and on four."""
    bits = named_bits(chosen) or 16
    held = memory(chosen, bits)
    for gpus in (1, 4):
        if config.batch_size % gpus:
            continue
        fit = step_fit(held, sample.activations, config, A100.usable, bits, gpus)
        if fit is None:
            yield f"  {gpus} GPU: no sample fits {A100.memory / 1e9:.0f} GB: take BITS=8 or BITS=4"
            continue
        time = hours(sample.flops * config.steps * config.batch_size, gpus=gpus)
        samples = config.batch_size // gpus // fit.accumulate
        yield (
            f"  {gpus} GPU: {time:6.1f} h, {time * gpus * A100.dollars:,.0f} dollars, "
            f"{fit.held / 1e9:.0f} GB with {samples} samples at once (ACCUMULATE={fit.accumulate})"
        )


def fitting_lines(chosen: Profile) -> Iterator[str]:
    """Yield what a small machine holds, and what this one can do."""
    whole, eight, four = (memory(chosen, bits) for bits in (16, *FEWER))
    named = named_bits(chosen)
    yield (
        f"in memory: encoder {whole.vision / 1e9:.1f} GB, Q-Former {whole.qformer / 1e9:.2f}, projection "
        f"{whole.projection / 1e9:.3f}, language model {whole.language / 1e9:.1f} "
        f"({eight.language / 1e9:.1f} GB in 8 bits, {four.language / 1e9:.1f} GB in 4 bits); "
        f"a conversation's keys and values {whole.cache / 1e9:.2f}; "
        f"a pair of stage 1 {whole.first / 1e9:.2f}, of stage 2 {whole.second / 1e9:.2f}"
    )
    yield (
        f"what fits, the language model in {f'{named} bits' if named else 'as many bits as can be'} "
        "(on Apple's GPU whole weights are float32):"
    )
    yield f"  {'machine':14} {'talk':20} {'stage 2':36} stage 1"
    for machine in filter(None, (*CARDS, *APPLE, here())):
        talk, second, first = (str(fit or "-") for fit in fitting(chosen, machine).values())
        yield f"  {machine.name:14} {talk:20} {second:36} {first}"
    yield FEWER_BITS
