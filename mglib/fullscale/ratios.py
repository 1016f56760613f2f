"""Speed, as ratios measured side by side in one run: `make bench`, kept in runs/bench.json.

Seconds depend on the machine and on what else runs on it, so both ways of doing a thing take turns, and
the median of their paired ratios is told with its range.
"""

from dataclasses import asdict
from datetime import date

import torch

from mglib.config import Profile
from mglib.fullscale.random_model import CAPTION
from mglib.fullscale.timing import Comparison, compare
from mglib.fullscale.usual import beside_ours, usual_step
from mglib.model import device, prompts
from mglib.model.decoding import answer, greedy
from mglib.model.language import Language
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.qformer import QFormer
from mglib.paths import RUNS, write_json
from mglib.study.flops import Sizes
from mglib.study.machine import here
from mglib.study.stage1 import attach
from mglib.study.study import Study
from mglib.training.muon import Muon
from mglib.weights import sources

Batch = dict[str, torch.Tensor]


def full_logits_step(model: MiniGPT4, batch: Batch) -> None:
    """One training step that scores every position, as a language model does by default."""
    labels = batch["labels"]
    model.language.model(
        inputs_embeds=model.embed(batch), attention_mask=batch["mask"], labels=labels
    ).loss.backward()


def gathered_step(model: MiniGPT4, batch: Batch) -> None:
    """One training step of ours."""
    output = model(batch)
    (output["loss"] / output["count"]).backward()


def caption_batch(study: Study, model: MiniGPT4) -> Batch:
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


def comparisons(study: Study) -> list[Comparison]:
    """Return what is compared."""
    qformer, ours = study.qformer().to(study.device).eval(), device.attention(study.device)
    theirs = "sdpa" if ours == "eager" else "eager"
    usual, other = (with_queries(study, qformer, attention) for attention in (ours, theirs))
    batch = caption_batch(study, usual)
    return [muon_steps(study), *training_steps(study, usual, other, batch), generation(study, usual, batch)]


def with_queries(study: Study, qformer: QFormer, attention: str) -> MiniGPT4:
    """Return the profile's model on random queries, its language model attending in this way."""
    folder = sources.language_folder(study.weights)
    language = Language.load(folder, dtype=study.dtype, attention=attention).to(study.device)
    shape = study.profile.qformer
    features = torch.randn(study.profile.stage1.batch_size, shape.queries, shape.width)
    return attach(study, qformer, language, features)


def muon_steps(study: Study) -> Comparison:
    """Compare torch's Muon with ours."""
    always, chosen = muons(study)
    return Comparison(
        name="Muon's step of one matrix: bfloat16 always / what is fast here",
        other=always.step,
        ours=chosen.step,
    )


def training_steps(study: Study, usual: MiniGPT4, other: MiniGPT4, batch: Batch) -> list[Comparison]:
    """Compare other ways to make one training step with ours; `other` is the model that attends otherwise."""
    profile = study.profile
    vision, qformer = study.vision(), usual.qformer
    size, side = profile.stage1.batch_size, profile.vision.image_size
    pixels = torch.randn(size, 3, side, side, device=study.device)
    theirs = beside_ours(profile, usual, study.dtype)
    text, answers = batch["ids"].shape[1] - profile.qformer.queries, int((batch["labels"] >= 0).sum()) / size
    work = Sizes.of(profile).learn(size, text, answers)

    def uncached() -> None:
        with torch.inference_mode():
            kept = qformer(vision(pixels))
        gathered_step(usual, {**batch, "queries": kept.clone()})

    ways = {
        "transformers' BLIP-2 / ours": lambda: usual_step(theirs, batch, pixels),
        "logits everywhere / where labels are": lambda: full_logits_step(usual, batch),
        "the other attention / ours": lambda: gathered_step(other, batch),
        "encoding pictures / queries kept": uncached,
    }

    def ours() -> None:
        gathered_step(usual, batch)

    return [
        Comparison(name=f"training step: {name}", other=way, ours=ours, work=work)
        for name, way in ways.items()
    ]


def generation(study: Study, model: MiniGPT4, batch: Batch) -> Comparison:
    """Compare captions that are written one by one with a batch of them."""
    size, length = study.profile.stage1.batch_size, 12

    def generate(rows: int) -> None:
        for start in range(0, size, rows):
            images = {"queries": batch["queries"][start : start + rows]}
            answer(model, images, prompts.CAPTION, [prompts.IMAGE] * rows, greedy(length))

    return Comparison(
        name="generation: one by one / batched",
        other=lambda: generate(1),
        ours=lambda: generate(size),
        work=Sizes.of(study.profile).write(size, length, prompt=1),
    )


def run(chosen: Profile, *, rounds: int = 5) -> None:
    """Measure what the package claims to save, with the parts of one profile."""
    study, machine = Study.of(chosen, seed=0, weights="wheel"), here()
    print(f"{chosen.name}, batch {chosen.stage1.batch_size}, on {machine}")
    print("other way / our way, the median with its range, then our seconds")
    found = []
    for one in comparisons(study):
        found.append(compare(one, rounds=rounds, ceiling=machine.gflops * 1e9))
        print(found[-1], flush=True)
    about = {"profile": chosen.name, "date": date.today().isoformat(), "rounds": rounds}
    write_json(RUNS / "bench.json", {**about, **asdict(machine), "ratios": [asdict(one) for one in found]})
