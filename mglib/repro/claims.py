"""The paper's claims that this repository tests, each with a verdict computed from published numbers.

A claim stands on paired differences with 95 % intervals. It *holds in small* where all of them say so, it
*does not* where one says the opposite, and else it *cannot be told*: an interval allows both, both sides sit
at a floor where nothing can be compared, or a number was not measured.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas

from mglib.repro.report import Number, rounded

MARGIN = 0.05  # of all points: what "no better", "gains nothing" and "costs little" allow
QUARTER = 0.25  # of what is covered halfway: what "hardly grows" allows
WORDS = {1: "holds in small", 0: "does not", None: "cannot be told"}

Numbers = Mapping[str, Number]
Rule = Callable[[Number, Number], int | None]  # of the difference and of the other side


@dataclass(frozen=True)
class Verdict:
    """1: holds in small, 0: does not, None: cannot be told; with all numbers that say so, and in brief."""

    value: int | None
    sentence: str
    brief: str


@dataclass(frozen=True)
class Floor:
    """A level at which two sides cannot be compared: whether the numbers of these names have reached it."""

    says: str
    names: tuple[str, ...]
    reached: Callable[..., bool]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison of a claim, by the names of its numbers: `difference` is `one` less `other`, paired."""

    what: str
    one: str
    other: str
    difference: str
    rule: Rule
    floors: tuple[Floor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All numbers that it reads."""
        return self.one, self.other, self.difference, *(name for floor in self.floors for name in floor.names)

    def verdict(self, numbers: Numbers) -> Verdict:
        """Apply the floors, then the rule."""
        one, other, difference = (numbers[name] for name in (self.one, self.other, self.difference))
        reached = [one for one in self.floors if one.reached(*(numbers[name] for name in one.names))]
        value = None if reached else self.rule(difference, other)
        why = "".join(f" ({floor.says})" for floor in reached)
        sides = f"{written(one)} against {written(other)}, difference {written(difference)}"
        brief = f"{self.what} {written(difference)}{why}"
        return Verdict(value, f"{self.what} {sides}: {WORDS[value]}{why}", brief)


@dataclass(frozen=True)
class Claim:
    """What the paper says, in our words, where it says so, and the comparisons that all have to hold."""

    name: str
    says: str
    where: str
    parts: tuple[Part, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All numbers that it reads, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.names))

    def verdict(self, numbers: Numbers) -> Verdict:
        """Judge all parts; a claim of which a number is missing or has no interval is not judged."""
        missing = [name for name in self.names if not measured(numbers.get(name))]
        if missing:
            why = f"not measured: {', '.join(missing)}"
            return Verdict(None, why, why)
        found = [part.verdict(numbers) for part in self.parts]
        values = {one.value for one in found}
        value = 0 if 0 in values else None if None in values else 1
        sentence = "; ".join(one.sentence for one in found)
        return Verdict(value, sentence, "; ".join(one.brief for one in found))


def measured(number: Number | None) -> bool:
    """Tell whether there is a value with an interval."""
    return number is not None and number["value"] is not None and number["low"] is not None


def written(number: Number) -> str:
    """Write a number with its interval."""
    return f"{rounded(number['value'])} [{rounded(number['low'])}, {rounded(number['high'])}]"


# --- Rules: what an interval says ---


def more(difference: Number, _: Number) -> int | None:
    """Holds where the interval lies above zero, does not where nothing of it does."""
    if difference["low"] > 0:
        return 1
    return 0 if difference["high"] <= 0 else None


def at_most(difference: Number, most: float) -> int | None:
    """Holds where the interval ends at `most` or below, does not where it begins above."""
    if difference["high"] <= most:
        return 1
    return 0 if difference["low"] > most else None


def no_better(difference: Number, _: Number) -> int | None:
    """Holds where a gain of more than the margin is excluded, does not where it is certain."""
    return at_most(difference, MARGIN)


def costs_little(difference: Number, _: Number) -> int | None:
    """Holds where a loss of more than the margin is excluded, does not where it is certain."""
    return at_most({"low": -difference["high"], "high": -difference["low"]}, MARGIN)


def hardly_grows(difference: Number, halfway: Number) -> int | None:
    """Holds where a gain of more than a quarter of what there is halfway is excluded."""
    return at_most(difference, QUARTER * halfway["value"])


# --- Floors ---


def at_zero(one: str, other: str) -> Floor:
    """Floor: even the larger side's interval reaches zero."""
    return Floor("floor: both reach zero", (one, other), lambda *sides: larger(*sides)["low"] <= 0)


def at_one(one: str, other: str) -> Floor:
    """Ceiling: even the smaller side's interval reaches one."""
    return Floor("ceiling: both reach one", (one, other), lambda *sides: smaller(*sides)["high"] >= 1)


def like_everything(one: str, other: str) -> Floor:
    """Ceiling: even the smaller side invents as large a share as the list of all objects does."""
    return Floor(
        "ceiling: both reach the list of all objects",
        (one, other, "t5.chair_i.everything"),
        lambda one, other, all_objects: smaller(one, other)["high"] >= all_objects["value"],
    )


def like_another_picture(one: str, other: str, drop_one: str, drop_other: str) -> Floor:
    """Floor: even the larger side loses nothing when its answers are held against another picture."""
    return Floor(
        "floor: as much beside another picture",
        (one, other, drop_one, drop_other),
        lambda one, other, drop, other_drop: (drop if larger(one, other) is one else other_drop)["low"] <= 0,
    )


def like_blank(task: str) -> Floor:
    """Floor: the base scores no more than before a picture of one colour."""
    return Floor(
        "floor: the base scores as much before a blank picture",
        (f"t4.{task}.difference.blank",),
        lambda blank: blank["high"] >= 0,
    )


def like_shuffled(task: str) -> Floor:
    """Floor: what learnt from questions is the larger side, and scores as much when shown other pictures."""
    return Floor(
        "floor: as much before other pictures",
        (f"t7.{task}.lora", f"t7.{task}.base", f"t7.{task}.lora_less_lora_shuffled"),
        lambda lora, base, less: larger(lora, base) is lora and less["low"] <= 0,
    )


def larger(one: Number, other: Number) -> Number:
    """Return the side with the larger value, of equals the first."""
    return one if one["value"] >= other["value"] else other


def smaller(one: Number, other: Number) -> Number:
    """Return the other side."""
    return other if larger(one, other) is one else one


# --- The comparisons ---


def requests(other: str) -> Part:
    """MiniGPT-4 meets more requests of Table 1 than another model."""
    one, two = "t1.total.minigpt4", f"t1.total.{other}"
    gain = f"t1.gain.requests.over_{other}"
    return Part(what="requests", one=one, other=two, difference=gain, rule=more, floors=(at_zero(one, two),))


def items(one: str, other: str, difference: str, rule: Rule) -> Part:
    """One model fulfils more items of Table 1 than another, or no more, and not beside any picture."""
    scores = f"t1.items.total.{one}", f"t1.items.total.{other}"
    floor = like_another_picture(*scores, f"t1.drop.{one}", f"t1.drop.{other}")
    return Part(
        what="items", one=scores[0], other=scores[1], difference=difference, rule=rule, floors=(floor,)
    )


def coverage(one: str, other: str, measure: str, difference: str, rule: Rule) -> Part:
    """One model's descriptions cover more than another's, or no more."""
    what = {"covered": "one reference", "references_covered": "of five references"}[measure]
    sides = f"t2.{measure}.{one}", f"t2.{measure}.{other}"
    floors = (at_zero(*sides),)
    return Part(what=what, one=sides[0], other=sides[1], difference=difference, rule=rule, floors=floors)


def failures(task: str, what: str) -> Part:
    """Fewer answers to a task of Table 3 fail after stage 2, sampled as officially."""
    sides = f"t3.failure.{task}.before", f"t3.failure.{task}.after"
    floors = at_zero(*sides), at_one(*sides)
    cut = f"t3.cut.{task}"
    return Part(what=what, one=sides[0], other=sides[1], difference=cut, rule=more, floors=floors)


def arm(task: str, what: str, name: str, rule: Rule) -> Part:
    """An arm of Table 4 beside the base."""
    return Part(
        what=what,
        one=f"t4.{task}.{name}",
        other=f"t4.{task}.base",
        difference=f"t4.{task}.difference.{name}",
        rule=rule,
        floors=(like_blank(task),),
    )


def invented(one: str, other: str) -> Part:
    """One row of Table 5 invents a larger share of its objects than another."""
    sides = f"t5.chair_i.{one}", f"t5.chair_i.{other}"
    return Part(
        what=f"CHAIR_i, {ROWS[one]} less {ROWS[other]}",
        one=sides[0],
        other=sides[1],
        difference=f"t5.chair_i.{one}_less_{other}",
        rule=more,
        floors=(at_zero(*sides), like_everything(*sides)),
    )


def learnt(task: str, what: str) -> Part:
    """Learning from questions raises a score of ICLR Table 7."""
    return Part(
        what=what,
        one=f"t7.{task}.lora",
        other=f"t7.{task}.base",
        difference=f"t7.{task}.lora_less_base",
        rule=more,
        floors=(like_shuffled(task),),
    )


def second_half() -> Part:
    """The second half of stage 1 adds little to the references covered."""
    whole, half = "t8.references_covered.100", "t8.references_covered.50"
    gain, floors = "t8.references_covered.gained_from_50", (at_zero(whole, half),)
    return Part(
        what="of five references", one=whole, other=half, difference=gain, rule=hardly_grows, floors=floors
    )


ROWS = {"long": "long", "short": "short", "blip2": "BLIP-2"}  # of Table 5
VQA = {"aokvqa": "A-OKVQA", "gqa": "GQA"}
TEXTS = "texts_caption_model"  # what the curated texts change in BLIP-2
CLAIMS = (
    Claim(
        "abilities",
        "MiniGPT-4 meets requests that BLIP-2 does not, and what it says is about its picture",
        "Table 1",
        (requests("blip2"), items("minigpt4", "blip2", "t1.gain.items.over_blip2", more)),
    ),
    Claim(
        "coverage",
        "MiniGPT-4 covers more of the references than BLIP-2",
        "Table 2",
        tuple(
            coverage("minigpt4", "blip2", measure, f"t2.gain.{measure}.over_blip2", more)
            for measure in ("covered", "references_covered")
        ),
    ),
    Claim(
        "curation",
        "Stage 2 cuts the failures of descriptions and of poems",
        "Table 3",
        (failures("describe", "descriptions"), failures("poem", "poems")),
    ),
    Claim(
        "weak_lm",
        f"BLIP-2 gains nothing from the same curated texts (no more than {MARGIN})",
        "4.3.2",
        (
            items("blip2_ft", "blip2", f"effect.items.{TEXTS}", no_better),
            coverage("blip2_ft", "blip2", "covered", f"effect.covered.{TEXTS}", no_better),
        ),
    ),
    Claim(
        "narratives",
        "With Localized Narratives instead of curated texts, requests are met less",
        "4.3.3",
        (requests("locna"), items("minigpt4", "locna", "t1.gain.items.over_locna", more)),
    ),
    Claim(
        "no_qformer",
        f"Leaving the Q-Former out costs little (no more than {MARGIN})",
        "Table 4 (a)",
        tuple(arm(task, what, "no_qformer", costs_little) for task, what in VQA.items()),
    ),
    Claim(
        "depth",
        f"Three layers, or a Q-Former that is trained too, are no better (by no more than {MARGIN})",
        "Table 4 (b), (c)",
        tuple(
            arm(task, f"{what}, {words}", name, no_better)
            for name, words in {"three_layers": "three layers", "qformer_tuned": "Q-Former trained"}.items()
            for task, what in VQA.items()
        ),
    ),
    Claim(
        "hallucination",
        "Long answers invent more than short ones, and these more than BLIP-2's captions",
        "Table 5",
        (invented("long", "short"), invented("short", "blip2")),
    ),
    Claim(
        "data",
        "LoRA and questions to learn from raise both scores, by what is seen",
        "ICLR Table 7",
        tuple(learnt(task, what) for task, what in VQA.items()),
    ),
    Claim(
        "saturation",
        "Coverage hardly grows in the second half of stage 1 (by no more than a quarter)",
        "ICLR Table 8",
        (second_half(),),
    ),
)


def judge(entries: Iterable[Number]) -> dict[str, Verdict]:
    """Return the verdict on each claim, by its name, from the numbers of a run's notebooks."""
    numbers = {entry["name"]: entry for entry in entries}
    return {claim.name: claim.verdict(numbers) for claim in CLAIMS}


def table(entries: Iterable[Number]) -> pandas.DataFrame:
    """Write a line for each claim: what the paper says, where, the verdict, and the differences behind it."""
    verdicts = judge(entries)
    return pandas.DataFrame(
        {
            "claim": claim.says,
            "paper": claim.where,
            "verdict": WORDS[verdicts[claim.name].value],
            "difference [95 % interval]": verdicts[claim.name].brief,
        }
        for claim in CLAIMS
    )
