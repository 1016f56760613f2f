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
from mglib.paths import RUNS, write_json
from mglib.study import stages
from mglib.study.flops import Sizes
from mglib.study.machine import here
from mglib.study.study import Study
from mglib.training.muon import Muon
from mglib.weights import sources


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
    theirs = beside_ours(profile, usual, study.dtype)
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
            other=lambda: usual_step(theirs, batch, pixels),
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


def run(chosen: Profile, *, rounds: int = 5) -> None:
    """Measure what the package claims to save, with the parts of one profile."""
    study, machine = Study.of(chosen, seed=0, weights="wheel"), here()
    print(f"{chosen.name}, batch {chosen.stage1.batch_size}, on {machine}")
    print("other way / our way, the median with its range, then our seconds")
    found = []
    for one in comparisons(study):
        found.append(compare(one, rounds=rounds, ceiling=machine.ceiling * 1e9))
        print(found[-1], flush=True)
    about = {"profile": chosen.name, "date": date.today().isoformat(), "rounds": rounds}
    write_json(RUNS / "bench.json", {**about, **asdict(machine), "ratios": [asdict(one) for one in found]})
