"""How the cost of stage 1 grows from mini to the paper and beyond: `python -m mglib.fullscale.scaling` writes
the tables and the plot of docs/scaling.md, from `mglib.fullscale.plan` and from what was measured on a card.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
from matplotlib.figure import Figure

from mglib.config import Profile
from mglib.fullscale.plan import (
    A100,
    APPLE,
    CARDS,
    PICTURE,
    Machine,
    counted,
    fitting,
    hours,
    memory,
    step_fit,
    tokens_a_second,
    utilisation,
)
from mglib.paper_profiles import LLAMA2_7B, VICUNA_7B, VICUNA_13B
from mglib.paths import ROOT, atomic_write, write_text
from mglib.profiles import MINI, profile

DOCUMENT = ROOT / "docs" / "scaling.md"
PLOT = ROOT / "docs" / "scaling.png"
MEASURED = ROOT / "results" / "gpu.json"  # of `make bench` on a card, published
PAPERS = (VICUNA_7B, VICUNA_13B, LLAMA2_7B)


def growth() -> pandas.DataFrame:
    """Return stage 1's work, bytes, hours and dollars, a row each for a profile and a number of pairs."""
    rungs = [(each.name, each, each.stage1.steps * each.stage1.batch_size) for each in (MINI, *PAPERS)]
    rungs += [
        ("LAION-400M, vicuna-13b", VICUNA_13B, 400_000_000),
        ("LAION-2B, vicuna-13b", VICUNA_13B, 2_000_000_000),
    ]
    rows = []
    for name, each, pairs in rungs:
        # Each picture is looked at once: where mini sees one again, its queries are kept.
        pair, pictures = counted(each).first, min(pairs, each.world.train) if each.world else pairs
        flops = pair.look * pictures + pair.read * pairs
        rows.append(
            {
                "stage 1 of": name,
                "pairs": pairs,
                "GFLOP a pair": pair.flops / 1e9,
                "FLOP": flops,
                "shards read, GB": pairs * PICTURE / 1e9,
                "vision tokens if kept, GB": 2 * pictures * each.vision.tokens * each.vision.width / 1e9,
                "A100 hours": hours(flops),
                "dollars": hours(flops) * A100.dollars,
            }
        )
    return pandas.DataFrame(rows)


def held() -> pandas.DataFrame:
    """Return what a card holds, a row a profile, and in how many parts a step has to be done."""
    rows = []
    for each in PAPERS:
        found, row = memory(each, 16), {"profile": each.name}
        row |= {"weights, GB": f"{found.weights / 1e9:.1f}", "held a pair, GB": f"{found.first / 1e9:.2f}"}
        for gpus in (1, 4):
            fit = step_fit(found, found.first, each.stage1, A100.usable, 16, gpus)
            pairs = each.stage1.batch_size // gpus // fit.accumulate
            row[f"{gpus} GPU"] = (
                f"ACCUMULATE={fit.accumulate}: {pairs} pairs at once, {fit.held / 1e9:.0f} GB"
            )
        rows.append(row)
    return pandas.DataFrame(rows)


def fits() -> pandas.DataFrame:
    """Return the bits of a language model that fits, for talking and for both stages, a row a machine."""

    def bits(each: Profile, machine: Machine) -> str:
        return " / ".join(str(fit.bits) if fit else "-" for fit in fitting(each, machine).values())

    return pandas.DataFrame(
        {"machine": machine.name, **{each.name: bits(each, machine) for each in PAPERS}}
        for machine in (*CARDS, *APPLE)
    )


def plot() -> Figure:
    """Draw work, bytes and money over the number of pairs."""
    table, figure = growth(), Figure(figsize=(10, 3.4), layout="constrained")
    panels = {
        "FLOP": {"stage 1": table["FLOP"]},
        "bytes": {
            "shards, read once": 1e9 * table["shards read, GB"],
            "vision tokens, if kept": 1e9 * table["vision tokens if kept, GB"],
        },
        "dollars": {f"{A100.name}, estimated": table["dollars"]},
    }
    for axis, (label, series) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for (name, values), mark in zip(series.items(), "o^", strict=False):
            axis.plot(table["pairs"], values, mark, label=name)
        axis.set(xscale="log", yscale="log", xlabel="pairs", ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return figure


def measured(record: dict[str, Any]) -> pandas.DataFrame:
    """Return what a card reached, a row a measurement, compared with what the plan says of a card with the
    measured ceilings, in bold where they differ by more than a fifth. Fewer bits and the first token have no
    prediction.
    """
    rows = []
    for name, entry in record.items():
        chosen, card = profile(name), replace(A100, flops=entry["ceiling"], bandwidth=entry["bandwidth"])
        found, held = counted(chosen), memory(chosen, 16)
        flops = {"pictures": found.first.look, "stage 1": found.first.flops, "stage 2": found.second.flops}
        samples = {"stage 1": held.first, "stage 2": held.second}
        for row in entry["measured"]:
            what, at_once = row["what"] if row["model"] == name else "", row["at_once"]
            rate = 1 / (3600 * hours(flops[what], machine=card)) if what in flops else None
            if what.startswith("answers"):
                rate = tokens_a_second(chosen, at_once, card)
            peak = held.training(samples[what], at_once) / 1e9 if what in samples else None
            rows.append(
                {
                    "on": entry["processor"],
                    "model": row["model"],
                    "what": f"{row['what']}, {at_once} at once",
                    "a second": f"{row['rate']:,.3g} {row['unit']}",
                    "measured / predicted": compared(row["rate"], rate),
                    "GB at most": f"{row['peak'] / 1e9:,.3g}",
                    "GB, measured / predicted": compared(row["peak"] / 1e9, peak),
                }
            )
    return pandas.DataFrame(rows)


def compared(found: float, predicted: float | None) -> str:
    """Return the ratio of a measured and a predicted value."""
    if predicted is None:
        return "-"
    ratio = f"{found / predicted:.2f}"
    return f"**{ratio}**" if abs(found / predicted - 1) > 0.2 else ratio


def table(frame: pandas.DataFrame) -> str:
    """Return a frame as a Markdown table."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def contents(file: Path = MEASURED) -> dict[str, str]:
    """Return what docs/scaling.md holds between its markers."""
    grown = growth()
    formats = {"pairs": "{:,}", "GFLOP a pair": "{:,.0f}", "FLOP": "{:.1e}"}
    formats |= dict.fromkeys(("shards read, GB", "vision tokens if kept, GB"), "{:,.1f}")
    for column in grown.columns[1:]:
        form = formats.get(column)
        grown[column] = [
            form.format(value) if form else f"{value:,.2g}" if value < 10 else f"{value:,.0f}"
            for value in grown[column]
        ]
    found = "Nothing of this size has been measured yet: there is no `results/gpu.json`."
    if file.exists():
        found = table(measured(json.loads(file.read_text(encoding="utf-8"))))
    basis = (
        f"Share of an A100's peak that the paper's ten hours on four imply: {utilisation():.0%}. "
        f"Assumed: {A100.dollars:g} dollars an A100 hour, {PICTURE / 1e3:.0f} kB a pair."
    )
    made = {"growth": table(grown), "memory": table(held()), "fits": table(fits())}
    return {**made, "basis": basis, "measured": found}


def with_tables(text: str, file: Path = MEASURED) -> str:
    """Return the document with the tables between its markers rebuilt; ValueError without the markers."""
    for name, content in contents(file).items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if start not in text or end not in text:
            raise ValueError(f"The document has no markers {start} and {end}: put them back.")
        text = re.sub(f"{start}.*?{end}", f"{start}\n{content}\n{end}", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    write_text(DOCUMENT, with_tables(DOCUMENT.read_text(encoding="utf-8")))
    with atomic_write(PLOT) as temporary:
        plot().savefig(temporary, dpi=110, metadata={"Software": None})
    print(f"{DOCUMENT} and {PLOT} are written.")
