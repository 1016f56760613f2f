"""The paper's claims tested in this repository: a table of rows, and one judge.

A row is a number and the range, fixed beforehand, in which it lies if the claim holds. A claim is
*reproduced* if the 95 % interval of each of its deciding rows is inside the range, *not reproduced* if one is
outside, else *inconclusive*. A row voided by a failed control is inconclusive, whatever its interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf
from statistics import NormalDist
from typing import Any, NamedTuple

import pandas

from mglib import frame
from mglib.metrics import holm, needed_for
from mglib.paper import PAPER
from mglib.repro.report import interval, rounded
from mglib.repro.seeds import REACH

Number = Mapping[str, Any]  # a row of the frame of numbers
Range = tuple[float, float]
WORDS = {1: "reproduced", 0: "not reproduced", None: "inconclusive"}
ABOVE, BELOW = (0.0, inf), (-inf, -1e-9)
LITTLE, NO_BETTER = (-0.05, inf), (-inf, 0.05)  # of all points
OFTEN, HALF, NEARLY_ALL = (0.2, inf), (0.5, inf), (-inf, 0.9)  # of all answers, requests, mentions
CHANCE = (0.4, 0.6)  # of questions with two answers
UNKNOWN = 0.1  # the effect to detect if the paper has no value


class Control(NamedTuple):
    """A condition of a row: the interval of at least one of these numbers is inside the range.

    If it fails, `says` and `cause` explain why, and with `voids` the row is inconclusive.
    """

    numbers: tuple[str, ...]
    says: str
    cause: str  # pictures, language model, training or data
    range: Range = ABOVE
    voids: bool = True


class Row(NamedTuple):
    """A number, the paper's value for it, and the range in which it lies if the claim holds."""

    what: str
    number: str
    paper: float | None = None
    range: Range = ABOVE
    controls: tuple[Control, ...] = ()
    decides: bool = True  # False: only shown

    @property
    def names(self) -> tuple[str, ...]:
        """All numbers that it reads."""
        return self.number, *(name for control in self.controls for name in control.numbers)


class Claim(NamedTuple):
    """A claim of the paper in our words, where it is made, and the rows that test it here."""

    says: str
    where: str
    rows: tuple[Row, ...]


# --- The rows ---


def _less(one: str, other: str, share: float = 1.0) -> float | None:
    """Return `share` times the paper's first value minus its second; None unless it has both."""
    return share * PAPER[one] - PAPER[other] if {one, other} <= PAPER.keys() else None


def _requests(other: str) -> tuple[Row, Row]:
    """MiniGPT-4 against another model in Table 1: requests decide, items are only shown."""
    sides = "t1.total.minigpt4", f"t1.total.{other}"
    causes = (
        Control(("t1.total.text_oracle",), "below half in words", "language model", HALF, voids=False),
        Control(SEEN.numbers, "no item lost with another picture", "data", voids=False),
        Control(sides, "floor: both meet none", "training"),
    )
    return (
        Row("requests", f"t1.gain.requests.over_{other}", _less(*sides), controls=causes),
        Row("items", f"t1.gain.items.over_{other}", controls=(SEEN,), decides=False),
    )


def _covered(measure: str, what: str) -> Row:
    sides = f"t2.{measure}.minigpt4", f"t2.{measure}.blip2"
    floor = Control(sides, "floor: both cover none", "training")
    return Row(what, f"t2.gain.{measure}.over_blip2", _less(*sides), controls=(floor,))


def _halved(task: str, what: str) -> Row:
    before, after = sides = f"t3.failure.{task}.before", f"t3.failure.{task}.after"
    floor = Control((before,), "floor: none fails before", "data")
    ceiling = Control(sides, "ceiling: all fail, before and after", "language model", (-1, 0.99))
    return Row(what, f"t3.half.{task}", _less(before, after, 0.5), controls=(floor, ceiling))


def _arm(arm: str, what: str, margin: Range) -> list[Row]:
    """An arm of Table 4 against the base, which must beat itself with a blank and with another picture."""
    rows, says = [], "floor: the base does as well with"
    for task, name in VQA.items():
        number = f"t4.{task}.difference."
        blank = Control((f"{number}blank",), f"{says} a blank picture", "training", BELOW)
        shuffled = Control((f"{number}shuffled",), f"{says} another picture", "training", BELOW)
        paper = _less(f"t4.{task}.{arm}", f"t4.{task}.base")
        rows.append(Row(f"{name}{what}", f"{number}{arm}", paper, margin, (blank, shuffled)))
    return rows


def _invented(one: str, other: str, what: str) -> Row:
    sides = f"t5.chair_i.{one}", f"t5.chair_i.{other}"
    floor = Control(sides, "floor: neither invents", "pictures")
    ceiling = Control(sides, "ceiling: both invent nearly all", "training", NEARLY_ALL)
    return Row(what, f"t5.chair_i.{one}_less_{other}", _less(*sides), controls=(floor, ceiling))


def _seen_more(task: str, what: str) -> Row:
    own = f"t7.{task}.lora_less_lora_shuffled", f"t7.{task}.base_less_base_shuffled"
    floor = Control(own, "floor: as much with other pictures, before and after", "training")
    return Row(what, f"t7.{task}.seen_more", _less(f"t7.{task}.lora", f"t7.{task}.base"), controls=(floor,))


def _saturated(measure: str, what: str) -> Row:
    floor = Control((f"{measure}.100",), "floor: none is covered", "training")
    paper = _less(f"{measure}.50", f"{measure}.100", 1.25)
    return Row(what, f"{measure}.quarter_minus_gain", paper, controls=(floor,))


def _space() -> Row:
    number = "spatial.accuracy.left_right"
    blank = Control((f"{number}.blank",), "a blank picture is not at chance", "data", CHANCE)
    return Row("accuracy", f"{number}.minigpt4", range=CHANCE, controls=(blank,))


VQA = {"aokvqa": "A-OKVQA", "gqa": "GQA"}
SEEN = Control(("t1.drop.minigpt4",), "as much with another picture", "data")
FAILED = "t3.failure.describe.before"
TWICE = "effect.{}.texts_chat_minus_caption"
CLAIMS = {
    "alignment": Claim(
        "One trained layer lets captions name what is there; with another picture they do not",
        "3.1",
        (
            Row("precision, own minus another picture", "stage1.mention_precision.drop"),
            Row("recall", "stage1.mention_recall.drop"),
        ),
    ),
    "faults": Claim(
        "After stage 1 alone descriptions fail often",
        "3.1",
        (Row("descriptions", FAILED, PAPER[FAILED], OFTEN),),
    ),
    "advanced_lm": Claim(
        "Behind the same encoder a stronger language model meets more requests than a weaker one",
        "section 1",
        _requests("weak_lm"),
    ),
    "abilities": Claim("MiniGPT-4 meets requests that BLIP-2 does not", "Table 1", _requests("blip2")),
    "coverage": Claim(
        "MiniGPT-4 covers more of the references than BLIP-2",
        "Table 2",
        (_covered("covered", "one reference"), _covered("references_covered", "of five references")),
    ),
    "curation": Claim(
        "Stage 2 cuts failures by at least half (half of those before, minus those after)",
        "Table 3",
        (_halved("describe", "descriptions"), _halved("poem", "poems")),
    ),
    "weak_lm": Claim(
        "From the same curated texts BLIP-2 gains less than MiniGPT-4",
        "4.3.2",
        (
            Row("items", TWICE.format("items"), controls=(SEEN,)),
            Row("one reference", TWICE.format("covered")),
        ),
    ),
    "narratives": Claim(
        "With Localized Narratives instead of curated texts, requests are met less",
        "4.3.3",
        _requests("locna"),
    ),
    "no_qformer": Claim(
        "Leaving the Q-Former out costs little", "Table 4 (a)", (*_arm("no_qformer", "", LITTLE),)
    ),
    "depth": Claim(
        "Three layers, or a Q-Former that is trained too, are no better",
        "Table 4 (b), (c)",
        (
            *_arm("three_layers", ", three layers", NO_BETTER),
            *_arm("qformer_tuned", ", Q-Former trained", NO_BETTER),
        ),
    ),
    "hallucination": Claim(
        "Long answers invent more than short ones, and these more than BLIP-2's captions",
        "Table 5",
        (_invented("long", "short", "long minus short"), _invented("short", "blip2", "short minus BLIP-2")),
    ),
    "data": Claim(
        "Questions to learn from raise what is seen, the score minus that with another picture",
        "ICLR Table 7",
        tuple(_seen_more(*task) for task in VQA.items()),
    ),
    "saturation": Claim(
        "The second half of stage 1 adds at most a quarter to what is covered (a quarter, minus that)",
        "ICLR Table 8",
        (_saturated("t8.references_covered", "of five references"),),
    ),
    "space": Claim(
        "Left and right are not distinguished: questions with two answers are answered at chance",
        "4.5.2",
        (_space(),),
    ),
}

_TEXTS = Control(("conjecture.spatial.learnt.difference",), "no better on what it was trained on", "training")
_PAIRS = Control(
    ("conjecture.pair_order.dpo",), "held-out pairs are in order no oftener than by chance", "training", HALF
)
CONJECTURES = {  # left open by the paper; each counts as tested only if its training had an effect
    "spatial_captions": Claim(
        "Captions that say where objects are teach left and right",
        "4.5.2",
        tuple(
            Row(what, f"conjecture.spatial.{test}.left_right.difference", controls=(_TEXTS,))
            for test, what in (("question", "questions"), ("order", "orders"))
        ),
    ),
    "feedback": Claim(
        "A critic's preferences make it invent less",
        "4.5.1",
        (Row("CHAIR_i, change", "conjecture.chair_i_change.dpo", range=BELOW, controls=(_PAIRS,)),),
    ),
}


# --- The judge ---


@dataclass(frozen=True)
class Verdict:
    """1: reproduced, 0: not reproduced, None: inconclusive; with our numbers, the limit, and a p-value."""

    value: int | None
    ours: str
    limit: str = "-"
    p: float = 1.0
    void: bool = False  # a control failed, or a number is missing


def inside(number: Number, wanted: Range) -> int | None:
    """Return whether the interval lies inside the range (1), outside (0), or allows both (None)."""
    (least, most), low, high = wanted, number["low"], number["high"]
    return 1 if low > least and high <= most else 0 if high <= least or low > most else None


def judge(numbers: pandas.DataFrame, claims: Mapping[str, Claim] = CLAIMS) -> dict[str, Verdict]:
    """Return the verdict on each claim by name; a claim with a missing number is inconclusive."""
    known = numbers.dropna(subset=["low"]).set_index("name").to_dict("index")
    return {name: _judged(claim.rows, known) for name, claim in claims.items()}


def conjectures(numbers: pandas.DataFrame) -> pandas.DataFrame:
    """Return a row for each of CONJECTURES; *not tested* if a control failed or a number is missing."""
    words = {1: "borne out", 0: "not borne out", None: "inconclusive"}
    return pandas.DataFrame(
        {
            "conjecture": f"{CONJECTURES[name].says} ({CONJECTURES[name].where})",
            "outcome": "not tested" if one.void else words[one.value],
            "ours [95 % interval]": one.ours,
        }
        for name, one in judge(numbers, CONJECTURES).items()
    )


def _judged(rows: Sequence[Row], known: Mapping[str, Number]) -> Verdict:
    names = dict.fromkeys(name for row in rows for name in row.names)
    if missing := [name for name in names if name not in known]:
        return Verdict(None, f"not measured: {', '.join(missing)}", "not measured", void=True)
    limits: dict[str, None] = {}
    values, briefs, ps, void = [], [], [], False
    for row in rows:
        number = known[row.number]
        failed = [
            one for one in row.controls if all(inside(known[name], one.range) != 1 for name in one.numbers)
        ]
        voided = any(one.voids for one in failed)
        void, value = void or voided, None if voided else inside(number, row.range)
        why = f" ({'; '.join(one.says for one in failed)})" if failed and value != 1 else ""
        briefs.append(f"{row.what} {interval(number)}{why}")
        if row.decides:
            values.append(value)
            ps.append(_p(number, row))
            if value != 1:
                limits[failed[0].cause if failed else _widest(number) if value is None else "-"] = None
    verdict = 0 if 0 in values else None if None in values else 1
    refuted = [p for p, value in zip(ps, values, strict=True) if value == 0]
    p = {1: max(ps), 0: min(1.0, len(ps) * min(refuted, default=1)), None: 1.0}[verdict]
    return Verdict(verdict, "; ".join(briefs), ", ".join(limits) or "-", p, void)


def _widest(number: Number) -> str:
    """Return the larger source of an interval's width: seeds or pictures."""
    half = (number["high"] - number["low"]) / 2
    return "seeds" if 2 * (REACH * (number.get("seed_sd") or 0)) ** 2 > half**2 else "pictures"


def _p(number: Number, row: Row) -> float:
    """Return a two-sided p-value of the distance to the range's nearest end, scaled by the interval."""
    (least, most), value = row.range, number["value"]
    below, above = max(value - number["low"], 1e-9), max(number["high"] - value, 1e-9)
    into = min((value - least) / below, (most - value) / above)
    out = max((least - value) / above, (value - most) / below)
    return 2 * NormalDist().cdf(-1.96 * max(into, out))


def _words(wanted: Range) -> str:
    low, high = map(rounded, wanted)
    if isinf(wanted[1]):
        return f"above {low}"
    return f"at most {high}" if isinf(wanted[0]) else f"{low} to {high}"


def verdicts(numbers: pandas.DataFrame) -> pandas.DataFrame:
    """Return a row for each claim: 1 reproduced, 0 not reproduced, empty inconclusive; the note says why."""
    found = judge(numbers)
    rows = {"": {name: one.value for name, one in found.items()}}
    notes = [f"{WORDS[one.value]}: {one.ours}; limit: {one.limit}" for one in found.values()]
    return frame.rows("claim", rows).assign(note=notes)


def power(numbers: pandas.DataFrame) -> pandas.DataFrame:
    """Return, for each comparison that decides a claim, how many pictures and how many trainings would show
    the effect with a power of 0.8, each as if the other had no spread, from the spread of these numbers.

    The effect is half the distance between the paper's value and the range's nearest end, else UNKNOWN.
    """
    found = numbers.dropna(subset=["low", "n"]).set_index("name")
    known, lines = found.assign(seed_sd=found["seed_sd"].astype(float).fillna(0)).to_dict("index"), []
    for claim in CLAIMS.values():
        for row in claim.rows:
            if row.decides and row.number in known:
                number = known[row.number]
                ends = [abs(row.paper - end) / 2 for end in row.range if row.paper and not isinf(end)]
                effect, n, spread = min(ends, default=UNKNOWN), number["n"], number["seed_sd"]
                half = (number["high"] - number["low"]) / 2
                alone = half**2 - (REACH * spread) ** 2  # of pictures; negative: seeds are not included
                deviation = ((alone if alone > 0 else half**2) * n) ** 0.5 / 1.96
                lines.append(
                    {
                        "claim": claim.where,
                        "comparison": row.what,
                        "effect to see": rounded(effect),
                        "pictures": f"{n:.0f}",
                        "pictures needed": str(needed_for(effect, deviation)),
                        "trainings needed": str(needed_for(effect, spread)),
                    }
                )
    return pandas.DataFrame(lines)


def over_seeds(runs: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Return the share of claims with the same verdict under all seeds, among those that several measure,
    with a note that names the others; no row if fewer than two runs have judged the claims.
    """
    judged = [judge(run) for run in runs if run["task"].eq("claim").any()]
    if len(judged) < 2:
        return frame.rows("claims", {})
    measured = {
        claim: [WORDS[run[claim].value] for run in judged if run[claim].limit != "not measured"]
        for claim in CLAIMS
    }
    found = {claim: words for claim, words in measured.items() if len(words) > 1}
    differ = [f"{claim}: {', '.join(words)}" for claim, words in found.items() if len(set(words)) > 1]
    note = f"share of the {len(found)} claims that several seeds measure which have one verdict; "
    note += "; ".join(differ) or "no other verdict"
    return frame.rows("claims", {"": {"same_over_seeds": 1 - len(differ) / len(found)}}, note=note)


def drawn(numbers: pandas.DataFrame, runs: Sequence[pandas.DataFrame] = ()) -> list[dict[str, Any]]:
    """Return what the figure of the claims shows for each deciding number: the value with its interval, the
    range, the paper's value, the claim's verdict, and the value in each of the trainings `runs`.
    """
    known, lines = numbers.dropna(subset=["low"]).set_index("name").to_dict("index"), []
    others = [run.dropna(subset=["value"]).set_index("name")["value"] for run in runs]
    for name, verdict in judge(numbers).items():
        claim = CLAIMS[name]
        for row in claim.rows:
            if row.decides and row.number in known:
                number = known[row.number]
                lines.append(
                    {
                        "claim": f"{claim.says} ({claim.where})",
                        "what": row.what,
                        **{end: float(number[end]) for end in ("value", "low", "high")},
                        "range": row.range,
                        "paper": row.paper,
                        "verdict": WORDS[verdict.value],
                        "seeds": [float(run[row.number]) for run in others if row.number in run],
                    }
                )
    return lines


def table(numbers: pandas.DataFrame) -> pandas.DataFrame:
    """Return a row for each claim: the paper's value and ours, the range fixed beforehand, the verdict, the
    same after Holm's correction over all claims, and what limits it.
    """
    found = judge(numbers)
    corrected = dict(zip(found, holm([one.p for one in found.values()]), strict=True))
    lines = []
    for name, claim in CLAIMS.items():
        one, deciding = found[name], [row for row in claim.rows if row.decides]
        holds = WORDS[one.value if corrected[name] <= 0.05 else None]
        lines.append(
            {
                "claim": f"{claim.says} ({claim.where})",
                "paper": "; ".join(dict.fromkeys(rounded(row.paper) for row in deciding)),
                "ours [95 % interval]": one.ours,
                "holds if": "; ".join(dict.fromkeys(_words(row.range) for row in deciding)),
                "verdict": WORDS[one.value],
                "by Holm": holds,
                "limit": one.limit,
            }
        )
    return pandas.DataFrame(lines)
