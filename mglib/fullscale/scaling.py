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

from mglib.fullscale.counts import counted, memory
from mglib.fullscale.plan import A100, PICTURE, fits, hours, tokens_a_second, trainings, utilisation
from mglib.paper_profiles import LLAMA2_7B, VICUNA_7B, VICUNA_13B
from mglib.paths import ROOT, atomic_write, write_text
from mglib.profiles import MINI
from mglib.world.scene import length

DOCUMENT = ROOT / "docs" / "scaling.md"
PLOT = ROOT / "docs" / "scaling.png"
MEASURED = ROOT / "results" / "bench.json"  # of `make bench`, published
PAPERS = {each.name: each for each in (VICUNA_7B, VICUNA_13B, LLAMA2_7B)}


def growth() -> pandas.DataFrame:
    """Return stage 1's work, bytes, hours and dollars, one row per profile and number of pairs."""
    profiles = (MINI, *PAPERS.values())
    rungs = [(each.name, each, each.stage1.steps * each.stage1.batch_size) for each in profiles]
    rungs += [
        ("LAION-400M, vicuna-13b", VICUNA_13B, 400_000_000),
        ("LAION-2B, vicuna-13b", VICUNA_13B, 2_000_000_000),
    ]
    rows = []
    for name, each, pairs in rungs:
        # Each picture is encoded once: mini, which sees pictures again, caches their queries.
        pair, pictures = counted(each).first, min(pairs, length(each.world, "train")) if each.world else pairs
        flops = pair.look * pictures + pair.read * pairs
        rows.append(
            {
                "stage 1 of": name,
                "pairs": pairs,
                "GFLOP a pair": pair.flops / 1e9,
                "FLOP": float(flops),
                "shards read, GB": pairs * PICTURE / 1e9,
                "vision tokens if kept, GB": 2 * pictures * each.vision.tokens * each.vision.width / 1e9,
                "A100 hours": hours(flops),
                "dollars": hours(flops) * A100.dollars,
            }
        )
    return pandas.DataFrame(rows)


def held() -> pandas.DataFrame:
    """Return the memory of a card in stage 1, and in how many parts it has to do a step."""
    tables = []
    for name, each in PAPERS.items():
        found, table = memory(each, 16), trainings(each).query("training == 'stage 1'")
        table.insert(0, "held a pair, GB", f"{found.first / 1e9:.2f}")
        table.insert(0, "weights, GB", f"{found.weights / 1e9:.1f}")
        table.insert(0, "profile", name)
        tables.append(table.drop(columns=["training", "steps"]))
    return pandas.concat(tables)


def bits() -> pandas.DataFrame:
    """Return in how many bits each language model fits, for talking and both stages, one row per machine."""
    columns = {}
    for name, each in PAPERS.items():
        cells = fits(each).set_index("machine")
        columns[name] = cells.apply(lambda row: " / ".join(cell.split(" bits")[0] for cell in row), axis=1)
    return pandas.DataFrame(columns).reset_index()


def measured(record: dict[str, Any]) -> pandas.DataFrame:
    """Return a card's measurements, one per row, compared with what the plan predicts for a card with the
    measured ceilings, in bold if they differ by more than a fifth. Fewer bits and the first token have no
    prediction.
    """
    rows = []
    for name in filter(record.__contains__, PAPERS):
        chosen, entry = PAPERS[name], record[name]
        card = replace(A100, flops=entry["ceiling"], bandwidth=entry["bandwidth"])
        found, holds = counted(chosen), memory(chosen, 16)
        flops = {"pictures": found.first.look, "stage 1": found.first.flops, "stage 2": found.second.flops}
        samples = {"stage 1": holds.first, "stage 2": holds.second}
        for row in entry["measured"]:
            what, at_once = row["what"] if row["model"] == name else "", row["at_once"]
            rate = 1 / (3600 * hours(flops[what], machine=card)) if what in flops else None
            if what.startswith("answers"):
                rate = tokens_a_second(chosen, at_once, card)
            peak = holds.training(samples[what], at_once) / 1e9 if what in samples else None
            line = {"on": entry["processor"], "model": row["model"]}
            line["what"] = f"{row['what']}, {at_once} at once"
            line["a second"] = f"{row['rate']:,.3g} {row['unit']}"
            line["measured / predicted"] = compared(row["rate"], rate)
            line["GB at most"] = f"{row['peak'] / 1e9:,.3g}"
            line["GB, measured / predicted"] = compared(row["peak"] / 1e9, peak)
            rows.append(line)
    return pandas.DataFrame(rows)


def compared(found: float, predicted: float | None) -> str:
    """Return the ratio of a measured to a predicted value."""
    if predicted is None:
        return "-"
    ratio = f"{found / predicted:.2f}"
    return f"**{ratio}**" if abs(found / predicted - 1) > 0.2 else ratio


def table(frame: pandas.DataFrame) -> str:
    """Return a frame as a Markdown table; very large and small numbers have two digits."""

    def cell(value: str | float) -> str:
        if isinstance(value, str):
            return value
        return f"{value:,.0f}" if 10 <= value < 1e12 else f"{value:.2g}"

    lines = [frame.columns, ["---"] * len(frame.columns), *(map(cell, row) for row in frame.to_numpy())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def contents(file: Path = MEASURED) -> dict[str, str]:
    """Return what docs/scaling.md holds between its markers."""
    record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    found = measured(record)
    return {
        "growth": table(growth()),
        "memory": table(held()),
        "fits": table(bits()),
        "basis": (
            f"Share of an A100's peak that the paper's ten hours on four imply: {utilisation():.0%}. "
            f"Assumed: {A100.dollars:g} dollars an A100 hour, {PICTURE / 1e3:.0f} kB a pair."
        ),
        "measured": "Nothing of this size has been measured yet." if found.empty else table(found),
    }


def with_tables(text: str, file: Path = MEASURED) -> str:
    """Return the document with the tables between its markers rebuilt; raises ValueError without them."""
    for name, content in contents(file).items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if start not in text or end not in text:
            raise ValueError(f"The document has no markers {start} and {end}: put them back.")
        text = re.sub(f"{start}.*?{end}", f"{start}\n{content}\n{end}", text, flags=re.DOTALL)
    return text


def plot() -> Figure:
    """Draw work, bytes and money over the number of pairs."""
    grown, figure = growth(), Figure(figsize=(10, 3.4), layout="constrained")
    panels = (["FLOP"], ["shards read, GB", "vision tokens if kept, GB"], ["dollars"])
    for axis, columns in zip(figure.subplots(1, 3), panels, strict=True):
        grown.plot(x="pairs", y=columns, style=["o", "^"][: len(columns)], loglog=True, grid=True, ax=axis)
        axis.set_ylabel(columns[0].split(", ")[-1])
    return figure


if __name__ == "__main__":
    write_text(DOCUMENT, with_tables(DOCUMENT.read_text(encoding="utf-8")))
    with atomic_write(PLOT) as temporary:
        plot().savefig(temporary, dpi=110, metadata={"Software": None})
    print(f"{DOCUMENT} and {PLOT} are written.")
