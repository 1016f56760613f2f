"""The paper's claims that this repository tests, each with a verdict computed from published numbers.

A claim rests on paired differences with 95 % intervals. It is *reproduced* where all of them say so, *not
reproduced* where one says the opposite, and else *inconclusive*: an interval allows both, both sides sit at a
floor or a ceiling where nothing can be compared, or a number was not measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas

from mglib import frame
from mglib.repro.report import interval

Number = Mapping[str, Any]  # a row of the frame of numbers
MARGIN = 0.05  # of all points: what "no better", "gains nothing" and "costs little" allow
QUARTER = 0.25  # of what is covered halfway: what "hardly grows" allows
WORDS = {1: "reproduced", 0: "not reproduced", None: "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class Control:
    """A side of a comparison means something only where this paired difference lies clear of zero."""

    difference: str  # the number's name
    says: str  # what it means where the difference does not
    sign: int = 1  # -1 where the control is subtracted the other way round
    side: int | None = None  # counts only where this side, 0 or 1, is the larger; None: always


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One difference that a claim rests on: the first side minus the second, by the names of the numbers.

    *more*: the difference is above zero. *no more*: it is at most the margin, which `of` makes a share of the
    second side's value. *no less*: it is at least minus the margin.
    """

    claim: str
    what: str
    difference: str
    sides: tuple[str, str]
    rule: str = "more"
    margin: float = MARGIN
    relative: bool = False
    floors: tuple[str, ...] = ("zero",)  # of FLOORS
    controls: tuple[Control, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All numbers that it reads."""
        ceiling = (EVERYTHING,) if "everything" in self.floors else ()
        return *self.sides, self.difference, *(one.difference for one in self.controls), *ceiling

    def verdict(self, numbers: Mapping[str, Number]) -> int | None:
        """Return 1, 0 or None from the interval of the difference alone."""
        low, high = numbers[self.difference]["low"], numbers[self.difference]["high"]
        if self.rule == "more":
            return 1 if low > 0 else 0 if high <= 0 else None
        if self.rule == "no less":
            low, high = -high, -low
        most = self.margin * (numbers[self.sides[1]]["value"] if self.relative else 1)
        return 1 if high <= most else 0 if low > most else None

    def void(self, numbers: Mapping[str, Number]) -> list[str]:
        """Return why the two sides cannot be compared: the floors and ceilings that they have reached."""
        one, two = (numbers[name] for name in self.sides)
        first = one["value"] >= two["value"]
        larger, smaller = (one, two) if first else (two, one)
        reached = {
            "zero": larger["low"] <= 0,
            "one": smaller["high"] >= 1,
            "everything": smaller["high"] >= numbers.get(EVERYTHING, {"value": math.inf})["value"],
        }
        found = [FLOORS[floor] for floor in self.floors if reached[floor]]
        for control in self.controls:
            difference = numbers[control.difference]
            clear = difference["low"] > 0 if control.sign > 0 else difference["high"] < 0
            if not clear and control.side in (None, 0 if first else 1):
                found.append(control.says)
        return found


EVERYTHING = "t5.chair_i.everything"
FLOORS = {
    "zero": "floor: both reach zero",
    "one": "ceiling: both reach one",
    "everything": "ceiling: both reach the list of all objects",
}


def _items(claim: str, one: str, other: str, difference: str, **how: Any) -> Comparison:
    """Items of Table 1, which count only where the larger side loses some with another picture."""
    says = "floor: as much with another picture"
    return Comparison(
        claim=claim,
        what="items",
        difference=difference,
        sides=(f"t1.items.total.{one}", f"t1.items.total.{other}"),
        floors=(),
        controls=tuple(
            Control(difference=f"t1.drop.{name}", says=says, side=side)
            for side, name in enumerate((one, other))
        ),
        **how,
    )


def _requests(claim: str, other: str) -> Comparison:
    sides = ("t1.total.minigpt4", f"t1.total.{other}")
    return Comparison(claim=claim, what="requests", difference=f"t1.gain.requests.over_{other}", sides=sides)


def _covered(claim: str, measure: str, one: str, other: str, difference: str, **how: Any) -> Comparison:
    what = {"covered": "one reference", "references_covered": "of five references"}[measure]
    sides = (f"t2.{measure}.{one}", f"t2.{measure}.{other}")
    return Comparison(claim=claim, what=what, difference=difference, sides=sides, **how)


def _arm(claim: str, arm: str, words: str, rule: str) -> list[Comparison]:
    """An arm of Table 4 against the base, which has to score more than with a blank picture."""
    says = "floor: the base scores as much with a blank picture"
    return [
        Comparison(
            claim=claim,
            what=what + words,
            difference=f"t4.{task}.difference.{arm}",
            sides=(f"t4.{task}.{arm}", f"t4.{task}.base"),
            rule=rule,
            floors=(),
            controls=(Control(difference=f"t4.{task}.difference.blank", says=says, sign=-1),),
        )
        for task, what in VQA.items()
    ]


VQA = {"aokvqa": "A-OKVQA", "gqa": "GQA"}
CLAIMS = {  # name -> what the paper says, in our words, and where
    "abilities": (
        "MiniGPT-4 meets requests that BLIP-2 does not, and what it says is about its picture",
        "Table 1",
    ),
    "coverage": ("MiniGPT-4 covers more of the references than BLIP-2", "Table 2"),
    "curation": ("Stage 2 cuts the failures of descriptions and of poems", "Table 3"),
    "weak_lm": (f"BLIP-2 gains nothing from the same curated texts (no more than {MARGIN})", "4.3.2"),
    "narratives": (
        "With Localized Narratives instead of curated texts, requests are met less",
        "4.3.3",
    ),
    "no_qformer": (f"Leaving the Q-Former out costs little (no more than {MARGIN})", "Table 4 (a)"),
    "depth": (
        f"Three layers, or a Q-Former that is trained too, are no better (by no more than {MARGIN})",
        "Table 4 (b), (c)",
    ),
    "hallucination": (
        "Long answers invent more than short ones, and these more than BLIP-2's captions",
        "Table 5",
    ),
    "data": ("LoRA and questions to learn from raise both scores, by what is seen", "ICLR Table 7"),
    "saturation": (
        "Coverage hardly grows in the second half of stage 1 (by no more than a quarter)",
        "ICLR Table 8",
    ),
}
COMPARISONS = (
    _requests("abilities", "blip2"),
    _items("abilities", "minigpt4", "blip2", "t1.gain.items.over_blip2"),
    *(
        _covered("coverage", measure, "minigpt4", "blip2", f"t2.gain.{measure}.over_blip2")
        for measure in ("covered", "references_covered")
    ),
    *(
        Comparison(
            claim="curation",
            what=what,
            difference=f"t3.cut.{task}",
            sides=(f"t3.failure.{task}.before", f"t3.failure.{task}.after"),
            floors=("zero", "one"),
        )
        for task, what in {"describe": "descriptions", "poem": "poems"}.items()
    ),
    _items("weak_lm", "blip2_ft", "blip2", "effect.items.texts_caption_model", rule="no more"),
    _covered("weak_lm", "covered", "blip2_ft", "blip2", "effect.covered.texts_caption_model", rule="no more"),
    _requests("narratives", "locna"),
    _items("narratives", "minigpt4", "locna", "t1.gain.items.over_locna"),
    *_arm("no_qformer", "no_qformer", "", "no less"),
    *_arm("depth", "three_layers", ", three layers", "no more"),
    *_arm("depth", "qformer_tuned", ", Q-Former trained", "no more"),
    *(
        Comparison(
            claim="hallucination",
            what=what,
            difference=f"t5.chair_i.{one}_less_{other}",
            sides=(f"t5.chair_i.{one}", f"t5.chair_i.{other}"),
            floors=("zero", "everything"),
        )
        for one, other, what in (
            ("long", "short", "CHAIR_i, long minus short"),
            ("short", "blip2", "CHAIR_i, short minus BLIP-2"),
        )
    ),
    *(
        Comparison(
            claim="data",
            what=what,
            difference=f"t7.{task}.lora_less_base",
            sides=(f"t7.{task}.lora", f"t7.{task}.base"),
            floors=(),
            controls=(
                Control(
                    difference=f"t7.{task}.lora_less_lora_shuffled",
                    says="floor: as much with other pictures",
                    side=0,
                ),
            ),
        )
        for task, what in VQA.items()
    ),
    Comparison(
        claim="saturation",
        what="of five references",
        difference="t8.references_covered.gained_from_50",
        sides=("t8.references_covered.100", "t8.references_covered.50"),
        rule="no more",
        margin=QUARTER,
        relative=True,
    ),
)


@dataclass(frozen=True)
class Verdict:
    """1: reproduced, 0: not reproduced, None: inconclusive; with the differences that say so."""

    value: int | None
    differences: str


def judge(numbers: pandas.DataFrame) -> dict[str, Verdict]:
    """Return the verdict on each claim, by its name, from the numbers of a run's notebooks.

    A claim of which a number is missing or has no interval is inconclusive.
    """
    known = numbers.dropna(subset=["low"]).set_index("name").to_dict("index")
    found = {}
    for claim in CLAIMS:
        comparisons = [one for one in COMPARISONS if one.claim == claim]
        names = dict.fromkeys(name for one in comparisons for name in one.names)
        if missing := [name for name in names if name not in known]:
            found[claim] = Verdict(None, f"not measured: {', '.join(missing)}")
            continue
        values, briefs = set(), []
        for one in comparisons:
            void = one.void(known)
            values.add(None if void else one.verdict(known))
            why = "".join(f" ({reason})" for reason in void)
            briefs.append(f"{one.what} {interval(known[one.difference])}{why}")
        value = 0 if 0 in values else None if None in values else 1
        found[claim] = Verdict(value, "; ".join(briefs))
    return found


def verdicts(numbers: pandas.DataFrame) -> pandas.DataFrame:
    """Return a row for each claim: 1 reproduced, 0 not reproduced, empty inconclusive; the note says why."""
    found = judge(numbers)
    rows = {"": {name: one.value for name, one in found.items()}}
    notes = {name: f"{WORDS[one.value]}: {one.differences}" for name, one in found.items()}
    return frame.rows("claim", rows, note=notes).assign(note=list(notes.values()))


def over_seeds(runs: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Return the share of the claims on which the runs of all seeds give one verdict, with a note that names
    the others; no row where not two runs have judged the claims.
    """
    judged = [judge(run) for run in runs if run["task"].eq("claim").any()]
    if len(judged) < 2:
        return frame.rows("claims", {})
    found = {claim: [WORDS[run[claim].value] for run in judged] for claim in CLAIMS}
    differ = [f"{claim}: {', '.join(words)}" for claim, words in found.items() if len(set(words)) > 1]
    note = f"share of the {len(found)} claims with one verdict; {'; '.join(differ) or 'no other verdict'}"
    return frame.rows("claims", {"": {"same_over_seeds": 1 - len(differ) / len(found)}}, note=note)


def table(numbers: pandas.DataFrame) -> pandas.DataFrame:
    """Write a line for each claim: what the paper says, where, the verdict, and the differences behind it."""
    verdicts = judge(numbers)
    return pandas.DataFrame(
        {
            "claim": says,
            "paper": where,
            "verdict": WORDS[verdicts[name].value],
            "difference [95 % interval]": verdicts[name].differences,
        }
        for name, (says, where) in CLAIMS.items()
    )
