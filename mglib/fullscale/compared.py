"""What a card was measured to do (results/gpu.json) beside what the plan says of it."""

from dataclasses import replace
from functools import cache
from typing import Any

import pandas

from mglib.config import Profile
from mglib.fullscale.plan import A100, Machine, counted, hours, writing_hours
from mglib.profiles import profile
from mglib.study.flops import PROMPT, Cost, stage_cost, training_bytes

FAR = 0.2  # a measured value that differs from its prediction by more of it is marked

Row = dict[str, Any]  # of a record: the fields of `mglib.fullscale.record.Measured`


def beside(record: dict[str, Row]) -> pandas.DataFrame:
    """Return a line for each speed and for each stage's memory, in bold where it is far from its
    prediction: the plan's, on a card with the ceilings that were measured.

    What the plan says nothing of stands without a prediction: fewer bits, mini, the peer, the first token.
    """
    lines = []
    for name, entry in record.items():
        chosen, card = profile(name), measured_card(entry)
        for row in entry["measured"]:
            own = row["model"] == name
            rate = predicted_seconds(chosen, row, card) if own else None
            lines.append(line(entry, row, f"{row['unit']} a second", row["rate"], rate and 1 / rate))
            held = predicted_bytes(chosen, row) if own else None
            if row["peak"] and held:
                lines.append(line(entry, row, "GB at most", row["peak"] / 1e9, held / 1e9))
    return pandas.DataFrame(lines)


def line(entry: Row, row: Row, unit: str, found: float, wanted: float | None) -> dict[str, str]:
    """Return one line of the table."""
    return {
        "on": entry["card"],
        "model": row["model"],
        "what": f"{row['what']}, {row['at_once']} at once",
        "in": unit,
        "measured": f"{found:,.3g}",
        "predicted": "-" if wanted is None else f"{wanted:,.3g}",
        "measured / predicted": "-" if wanted is None else marked(found / wanted),
    }


def marked(ratio: float) -> str:
    """Return a ratio, in bold where it is further from 1 than `FAR`."""
    return f"**{ratio:.2f}**" if abs(ratio - 1) > FAR else f"{ratio:.2f}"


def measured_card(entry: Row) -> Machine:
    """Return the card as the plan knows one, with what its products and its memory reached at best."""
    speeds = {"flops": entry["ceiling"], "bandwidth": entry["bandwidth"], "memory": entry["memory"]}
    return replace(A100, name=entry["card"], **speeds)


@cache
def second_stage(chosen: Profile) -> Cost:
    """Return what one pair of stage 2 costs."""
    return stage_cost(counted(chosen)[0], chosen, chosen.stage2, prompt=PROMPT)


def predicted_seconds(chosen: Profile, row: Row, card: Machine) -> float | None:
    """Return what the plan says that one sample, picture or token takes."""
    model, first = counted(chosen)
    if row["what"].startswith("answers"):
        return 3600 * writing_hours(model, answers=1, tokens=1, batch=row["at_once"], machine=card)
    work = {
        "pictures": first.look,
        "stage 1": first.flops,
        "stage 2": second_stage(chosen).flops,
    }
    return 3600 * hours(work[row["what"]], machine=card) if row["what"] in work else None


def predicted_bytes(chosen: Profile, row: Row) -> float | None:
    """Return what the plan says that a step holds."""
    model, first = counted(chosen)
    held = {"stage 1": first, "stage 2": second_stage(chosen)}
    sample = held.get(row["what"])
    return sample and training_bytes(model, sample, row["at_once"])
