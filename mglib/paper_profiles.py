"""The paper's own profiles: the official configurations' values, and which published files they need.

Two choices for stage 2: `STAGE2_AS_WRITTEN` is what the paper says, `STAGE2_AS_PUBLISHED` the official
configuration.
"""

from dataclasses import replace

from mglib.config import (
    ConcatConfig,
    EvalConfig,
    LanguageConfig,
    LlamaShape,
    Profile,
    QFormerConfig,
    ReleaseConfig,
    TrainConfig,
    VisionConfig,
    WebConfig,
)

EVA_GIANT = VisionConfig(
    timm_name="eva_giant_patch14_clip_224", width=1408, depth=39, final_norm=False
)  # mean and standard deviation are CLIP's: the defaults

GPUS = 4  # of the paper's stage 1
# `minigpt4_stage1_pretrain.yaml`: 4 epochs of 5,000 steps on 4 GPUs with 64 pairs each.
STAGE1 = TrainConfig(
    steps=20_000,
    batch_size=256,
    lr=1e-4,
    min_lr=8e-5,
    warmup_steps=5_000,
    save_every=500,
    keep=(0.1, 0.3, 0.5, 1.0),  # where the paper measures coverage along stage 1
)

# The paper says 400 steps for stage 2; `minigpt4_stage2_finetune.yaml` has 5 epochs of 200.
STAGE2_AS_WRITTEN = TrainConfig(
    steps=400,
    batch_size=12,
    lr=3e-5,
    min_lr=1e-5,
    warmup_steps=200,
    max_answer=160,
)
STAGE2_AS_PUBLISHED = replace(STAGE2_AS_WRITTEN, steps=1_000)

WEB = (
    WebConfig(name="laion", shards="laion/{00000..10488}.tar", weight=115),
    WebConfig(name="cc_sbu", shards="cc_sbu/{00000..01255}.tar", weight=14),
)

# All pictures and questions that the data sets have, as in the paper, and answers of the official length.
EVALUATION = EvalConfig(
    long_tokens=300,
    brief_tokens=60,
    failure_tokens=300,
    choice_pictures=4_800,
    graph_pictures=398,
    limit_pictures=500,
    described_pictures=4_800,
    pope_pictures=500,
)

RELEASE = ReleaseConfig(
    language="weights/vicuna-7b-v0",
    llama=LlamaShape(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32001,  # Vicuna v0 has one token more than LLaMA
    ),
    projection="weights/minigpt4_stage1_7b.pth",
    web=WEB,
)

VICUNA_7B = Profile(
    name="vicuna-7b",
    vision=EVA_GIANT,
    qformer=QFormerConfig(),
    language=LanguageConfig(name="vicuna-7b-v0", width=4096, template="vicuna"),
    stage1=STAGE1,
    stage2=STAGE2_AS_WRITTEN,
    evaluation=EVALUATION,
    release=RELEASE,
)

VICUNA_13B = replace(
    VICUNA_7B,
    name="vicuna-13b",
    language=LanguageConfig(name="vicuna-13b-v0", width=5120, template="vicuna"),
    release=replace(
        RELEASE,
        language="weights/vicuna-13b-v0",
        llama=LlamaShape(
            hidden_size=5120,
            intermediate_size=13824,
            num_hidden_layers=40,
            num_attention_heads=40,
            vocab_size=32001,
        ),
        projection="weights/minigpt4_stage1_13b.pth",
    ),
)

# The official LLaMA-2 variant has no Q-Former; only its weights after both stages were published.
LLAMA2_7B = replace(
    VICUNA_7B,
    name="llama2-7b",
    qformer=ConcatConfig(tokens=EVA_GIANT.tokens, vision_width=EVA_GIANT.width),
    language=LanguageConfig(name="llama-2-7b-chat", width=4096, template="llama2"),
    release=replace(
        RELEASE,
        qformer=None,
        language="weights/llama-2-7b-chat",
        llama=replace(RELEASE.llama, vocab_size=32000),
        projection=None,
    ),
)
