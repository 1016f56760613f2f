"""How the cost of stage 1 grows from mini to the paper and beyond: `python -m mglib.fullscale.scaling` writes
the tables and the plot of docs/scaling.md, all from `mglib.fullscale.plan`, and what a card was measured to
do beside what the plan says of it.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas
from matplotlib.figure import Figure

from mglib.config import Profile
from mglib.fullscale.compared import beside
from mglib.fullscale.fits import ROOMS, fitting
from mglib.fullscale.plan import (
    A100,
    PICTURE,
    counted,
    hours,
    kept_bytes,
    parts_needed,
    utilisation,
)
from mglib.paper_profiles import LLAMA2_7B, VICUNA_7B, VICUNA_13B
from mglib.paths import ROOT, atomic_write, write_text
from mglib.profiles import MINI
from mglib.study.flops import training_bytes, weight_bytes

DOCUMENT = ROOT / "docs" / "scaling.md"
PLOT = ROOT / "docs" / "scaling.png"
MEASURED = ROOT / "results" / "gpu.json"  # of `make bench` on a card, published


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A model and how many pairs it is trained on."""

    name: str
    profile: Profile
    pairs: int
    pictures: int  # different ones; mini sees its own again


def paper_pairs(profile: Profile) -> int:
    """Return how many pairs a profile's stage 1 takes."""
    return profile.stage1.steps * profile.stage1.batch_size


RUNGS = (
    Rung(name="mini", profile=MINI, pairs=paper_pairs(MINI), pictures=MINI.world.train),
    *(
        Rung(name=each.name, profile=each, pairs=paper_pairs(each), pictures=paper_pairs(each))
        for each in (VICUNA_7B, VICUNA_13B, LLAMA2_7B)
    ),
    Rung(name="LAION-400M, vicuna-13b", profile=VICUNA_13B, pairs=400_000_000, pictures=400_000_000),
    Rung(name="LAION-2B, vicuna-13b", profile=VICUNA_13B, pairs=2_000_000_000, pictures=2_000_000_000),
)


def flops(rung: Rung) -> float:
    """Return stage 1's FLOPs; each picture is looked at once, and where it comes again its result is kept."""
    _, pair = counted(rung.profile)
    return pair.look * min(rung.pictures, rung.pairs) + pair.read * rung.pairs


def growth() -> pandas.DataFrame:
    """Return one line a rung: work, bytes, time and money."""
    rows = []
    for rung in RUNGS:
        _, pair = counted(rung.profile)
        time = hours(flops(rung))
        rows.append(
            {
                "stage 1 of": rung.name,
                "pairs": f"{rung.pairs:,}",
                "GFLOP a pair": f"{pair.flops / 1e9:,.0f}",
                "FLOP": f"{flops(rung):.1e}",
                "shards read, GB": f"{rung.pairs * PICTURE / 1e9:,.1f}",
                "vision tokens if kept, GB": f"{kept_bytes(rung.profile, rung.pictures) / 1e9:,.1f}",
                "A100 hours": f"{time:,.2g}" if time < 10 else f"{time:,.0f}",
                "dollars": f"{time * A100.dollars:,.2g}" if time < 5 else f"{time * A100.dollars:,.0f}",
            }
        )
    return pandas.DataFrame(rows)


def memory() -> pandas.DataFrame:
    """Return one line a profile: what a card holds, and in how many parts a step has to be done."""
    rows = []
    for profile in (VICUNA_7B, VICUNA_13B, LLAMA2_7B):
        model, pair = counted(profile)
        row = {
            "profile": profile.name,
            "weights, GB": f"{weight_bytes(model) / 1e9:.1f}",
            "held a pair, GB": f"{pair.activations / 1e9:.2f}",
        }
        for gpus in (1, 4):
            parts = parts_needed(model, pair, profile.stage1, gpus)
            at_once = profile.stage1.batch_size // gpus // parts
            held = training_bytes(model, pair, at_once) / 1e9
            row[f"{gpus} GPU"] = f"ACCUMULATE={parts}: {at_once} pairs at once, {held:.0f} GB"
        rows.append(row)
    return pandas.DataFrame(rows)


def fits() -> pandas.DataFrame:
    """Return one line a machine: the bits of a language model that fits, for talking and for both stages."""
    rows = []
    for room in ROOMS:
        row = {"machine": room.name}
        for profile in (VICUNA_7B, VICUNA_13B, LLAMA2_7B):
            found = fitting(profile, room).values()
            row[profile.name] = " / ".join(str(fit.bits) if fit else "-" for fit in found)
        rows.append(row)
    return pandas.DataFrame(rows)


def plot() -> Figure:
    """Draw work, bytes and money over the number of pairs."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    pairs = [rung.pairs for rung in RUNGS]
    panels = {
        "FLOP": {"stage 1": [flops(rung) for rung in RUNGS]},
        "bytes": {
            "shards, read once": [rung.pairs * PICTURE for rung in RUNGS],
            "vision tokens, if kept": [kept_bytes(rung.profile, rung.pictures) for rung in RUNGS],
        },
        "dollars": {f"{A100.name}, estimated": [hours(flops(rung)) * A100.dollars for rung in RUNGS]},
    }
    for axis, (label, series) in zip(axes, panels.items(), strict=True):
        for (name, values), mark in zip(series.items(), "o^", strict=False):
            axis.plot(pairs, values, mark, label=name)
        axis.set(xscale="log", yscale="log", xlabel="pairs", ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return figure


def table(frame: pandas.DataFrame) -> str:
    """Return a frame as a Markdown table."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def measured(file: Path) -> str:
    """Return what was measured beside what was predicted, or say that nothing was."""
    if not file.exists():
        return "Nothing of this size has been measured yet: there is no `results/gpu.json`."
    return table(beside(json.loads(file.read_text(encoding="utf-8"))))


def with_tables(text: str, file: Path = MEASURED) -> str:
    """Return the document with what stands between its markers made anew; ValueError without them."""
    basis = (
        f"Share of an A100's peak that the paper's ten hours on four imply: {utilisation():.0%}. "
        f"Assumed: {A100.dollars:g} dollars an A100 hour, {PICTURE / 1e3:.0f} kB a pair."
    )
    contents = {"growth": table(growth()), "memory": table(memory()), "fits": table(fits()), "basis": basis}
    for name, content in {**contents, "measured": measured(file)}.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if start not in text or end not in text:
            raise ValueError(f"The document has no markers {start} and {end}: put them back.")
        text = re.sub(f"{start}.*?{end}", f"{start}\n{content}\n{end}", text, flags=re.DOTALL)
    return text


def main(document: Path = DOCUMENT, picture: Path = PLOT) -> None:
    """Write the document's tables and its plot."""
    write_text(document, with_tables(document.read_text(encoding="utf-8")))
    with atomic_write(picture) as temporary:
        plot().savefig(temporary, dpi=110, metadata={"Software": None})
    print(f"{measured(MEASURED)}\n\n{document} and {picture} are written.")


if __name__ == "__main__":
    main()
