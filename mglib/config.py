"""The settings of a run as frozen dataclasses: each default is written once, here.

Letters used for shapes everywhere in the package:
B pictures, N vision tokens, Q queries, T text tokens, D_v vision width, D_q Q-Former width, D_l
language-model width.
"""

from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Shares of the web captions that carry each fault of the web (the rest are plain short captions)."""

    clipped: float = 0.05  # cut in the middle of a phrase
    shouting: float = 0.05  # upper case and exclamation marks
    mismatched: float = 0.03  # belongs to another picture
    long: float = 0.20  # two or three sentences, mostly repetition


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The small world: how many pictures each split has, and how noisy its captions are."""

    seed: int = 0
    size: int = 256  # pixels, square
    train: int
    pool: int
    val: int
    test_seen: int
    test_new_pairs: int
    test_new_objects: int
    new_pair_share: float = 0.15  # of the pairs of objects that can co-occur, held out for test_new_pairs
    cc_sbu_share: float = 14 / 129  # of train's web captions; the others are LAION's (the paper: 115 : 14)
    # Pictures of each special kind (memes, dishes, ...): for stage 1, in the pool, for choices, for tests.
    special_train: int = 0
    special_pool: int = 0
    special_val: int = 5
    special_test: int = 25
    # BLIP-2's own world, drawn by `make pretrain` alone: plain scenes, and pictures of each special kind.
    pretrain: int = 0
    special_pretrain: int = 0
    noise: NoiseConfig = field(default_factory=NoiseConfig)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The frozen image encoder, a timm model, and the preprocessing that belongs to it."""

    timm_name: str
    width: int  # D_v
    image_size: int = 224
    patch_size: int = 14
    depth: int | None = None  # blocks kept; None keeps all (EVA ViT-g: 39 of 40)
    final_norm: bool = True
    pool: int = 1  # side of the square of patches that is averaged into one token; 1 keeps every patch
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @property
    def tokens(self) -> int:
        """N: the CLS token and the (pooled) patches."""
        return 1 + (self.image_size // self.patch_size // self.pool) ** 2


@dataclass(frozen=True, kw_only=True)
class QFormerConfig:
    """BLIP-2's querying transformer; the defaults are the paper's."""

    width: int = 768  # D_q
    layers: int = 12
    heads: int = 12
    queries: int = 32  # Q
    cross_attention_frequency: int = 2
    vocabulary: int = 0  # of the text branch used by BLIP-2's pretraining; 0: no text branch

    def without_text(self) -> "QFormerConfig":
        """Return the configuration of the Q-Former as MiniGPT-4 uses it."""
        return replace(self, vocabulary=0)


@dataclass(frozen=True, kw_only=True)
class ConcatConfig:
    """The LLaMA-2 variant's replacement of the Q-Former: neighbouring vision tokens, joined."""

    tokens: int  # N of the encoder, CLS among them
    vision_width: int  # D_v
    neighbours: int = 4

    @property
    def queries(self) -> int:
        """Q: the CLS token is dropped."""
        return (self.tokens - 1) // self.neighbours

    @property
    def width(self) -> int:
        """D_q."""
        return self.neighbours * self.vision_width


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """The frozen language model: where it comes from and how it is prompted."""

    name: str
    width: int  # D_l; 0: that of the model at `place`
    template: str  # prompts.TEMPLATES: how questions are put to it from stage 2 on
    # A folder or a name on the hub that replaces the profile's own model; the width is then that model's.
    place: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run: the official optimizer and schedule with this run's numbers."""

    steps: int
    batch_size: int  # of one step, over all processes and parts
    lr: float
    min_lr: float
    warmup_lr: float = 1e-6
    warmup_steps: int
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = None  # largest gradient norm; the paper does not clip
    muon: bool = False  # the weights of linear layers take Muon's steps, the rest AdamW's
    accumulate: int = 1  # parts into which each process cuts its share of a batch: less memory, same step
    max_answer: int = 32  # tokens, end symbol included
    save_every: int = 100
    keep: tuple[float, ...] = (1.0,)  # fractions of the run at which the trained weights are kept


@dataclass(frozen=True, kw_only=True)
class CaptionLMConfig:
    """BLIP-2 mini's own small language model, trained to write a caption from shuffled keywords."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How mini's Q-Former was made: BLIP-2's representation learning, then generative learning (LAVIS)."""

    release: str = "blip2_mini"  # the folder of data/ that runs start from
    max_text: int = 24  # tokens of a caption that the Q-Former reads
    embedding: int = 256  # width in which pictures and texts are compared
    caption_lm: CaptionLMConfig
    representation: TrainConfig
    generative: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a model is prompted and decodes for Table 1's requests; the defaults are the official way."""

    decoding: str = "sampled"  # of `mglib.evals.generate.decoding_configs`
    wording: str | None = None  # "{}" is the request; None: as the model was trained


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How much is generated and shown; the defaults are mini's."""

    shown: int = 8
    batch_size: int = 64
    max_new_tokens: int = 32  # of a caption
    long_tokens: int = 80  # of a detailed description
    brief_tokens: int = 40  # of one in less than 20 words
    short_tokens: int = 10  # of an answer to a question of A-OKVQA or GQA
    task_tokens: int = 160  # of an answer to a request of Table 1: a recipe takes more than 80
    failure_tokens: int = 90  # of an answer of Table 3, and of a description in the study of limitations
    fault_pictures: int = 100  # asked for a detailed description after stage 1
    failure_pictures: int = 100  # of test_seen, each described and put into a poem (Table 3)
    choice_pictures: int = 150  # of a split, asked about with A-OKVQA
    graph_pictures: int = 50  # and with GQA, which has some five questions a picture
    along_pictures: int = 100  # captioned at each kept checkpoint of stage 1 (ICLR Table 8)
    limit_pictures: int = 75  # of each test split, described for the study of limitations
    described_pictures: int = 140  # of a split, for Tables 2 and 5
    pope_pictures: int = 40
    # How models are prompted and decode if `make tune` found better than the official way: a model's name and
    # its way in Table 1, and the name of its decoding for descriptions (Tables 2 and 5).
    abilities: tuple[tuple[str, Asked], ...] = ()
    descriptions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class WellFormed:
    """What a description must look like to be kept; a stand-in for the paper's manual check of each text."""

    min_words: int = 15
    max_words: int = 300
    min_sentences: int = 2
    max_repetition: float = 0.34  # share of sentences that tell nothing new (`repetition_ratio`)


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """How the pool is described and what is kept of it (paper, section 3.2); the defaults are the paper's."""

    max_new_tokens: int = 300  # of an answer
    short: int = 80  # tokens; a model is asked to continue an answer that is not longer
    batch_size: int = 32
    well_formed: WellFormed = field(default_factory=WellFormed)
    temperature: float = 1.0  # of the sampling; the official chat's
    temperatures: tuple[float, ...] = ()  # candidates, compared on val by the critic (`make tune`)
    val_pictures: int = 48  # described for that


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """The learning rates of the ablation's arms, which otherwise train as stage 1 does."""

    lrs: tuple[tuple[str, float], ...] = ()  # of arms for which another rate than stage 1's was better
    rates: tuple[float, ...] = ()  # candidates, the same for each arm, compared on val by `make tune`
    rate_steps: int = 60  # of each short run


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank updates of the language model (Hu et al. 2021), trained with the projection on questions."""

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """Preference optimisation of the projection (DPO) on answers about the first `pictures` of the pool."""

    train: TrainConfig
    rates: tuple[float, ...] = ()  # candidates, compared on held-out pairs by `make tune`
    beta: float = 0.1  # weight of the penalty for leaving the start (Rafailov et al. 2023)
    pictures: int = 200
    max_new_tokens: int = 48  # of an answer
    tested: int = 80  # pictures of test_seen


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """Shards of one source of web pairs, below `mglib.paths.DOWNLOADS`, and its weight in the mixture."""

    name: str
    shards: str  # webdataset's notation: laion/{00000..00009}.tar
    weight: float


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """The values that a language model's `transformers.LlamaConfig` must have; all others are defaults."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """Published files that a profile is made from, below `mglib.paths.DOWNLOADS`."""

    vision: str = "weights/eva_vit_g.pth"
    qformer: str | None = "weights/blip2_pretrained_flant5xxl.pth"  # None: the variant without a Q-Former
    language: str  # a transformers folder
    llama: LlamaShape
    # For cards that cannot hold the language model whole; None: bf16 if the processor supports it.
    quantised: Literal["8bit", "4bit"] | None = None
    projection: str | None  # the authors' result of stage 1 alone, for the shortcut; None: not published
    web: tuple[WebConfig, ...]
    readers: int = 4  # processes that read shards, for each source and GPU; the official number
    coco_val: int = 200  # pictures of COCO's val2017, the first by id, for choices; all others are the test
    gqa_val: int = 100  # pictures of GQA's val questions, the first by id, for choices
    pool: str = "cc_sbu/{00000..00001}.tar"  # shards whose first good pictures are curated


@dataclass(frozen=True, kw_only=True)
class Stage1Trial:
    """A whole run of stage 1 with these values; the rest is as in the profile."""

    warm_start: float | None  # as in `Profile`
    lr: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything that tells one run of the study from another."""

    name: str
    vision: VisionConfig
    qformer: QFormerConfig | ConcatConfig
    language: LanguageConfig
    world: WorldConfig | None = None  # None: the data sets of the paper
    pretrain: PretrainConfig | None = None  # None: the Q-Former comes from the BLIP-2 release
    stage1: TrainConfig
    # Penalty of the regression that the projection starts from (`mglib.training.warm_start`); None: it
    # starts at random, as in the paper.
    warm_start: float | None = None
    stage1_trials: tuple[Stage1Trial, ...] = ()  # compared on val by `make tune`
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    stage2: TrainConfig
    stage2_rates: tuple[float, ...] = ()  # candidates, compared on val by `make tune`
    curation: CurationConfig = field(default_factory=CurationConfig)
    ablation: AblationConfig | None = None  # None: the arms are not trained
    lora: LoRAConfig | None = None
    release: ReleaseConfig | None = None  # None: the parts of `mglib.weights.sources`
    preference: PreferenceConfig | None = None
    # A weaker language model, trained behind the same encoder for Table 1; None: not compared.
    weak_language: LanguageConfig | None = None
    # The training of each arm that continues stage 1, with or without spatial captions; None: not tested.
    spatial: TrainConfig | None = None
