"""What curation did with the pool: what was written, what became of it, and how well it fits (notebook 03;
paper, section 3.2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas
from PIL import Image

from mglib import frame, metrics
from mglib.curation.critic import limit_of
from mglib.curation.repair import repair
from mglib.curation.select import STEPS, Curated, Curation
from mglib.data.own import read_cc_sbu_align
from mglib.data.pictures import open_picture
from mglib.data.quarantine import strict
from mglib.study import curation as curating
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

SHOWN = 8  # pictures of each kind
PAPER = {"generated": 5000, f"after {STEPS[-1]}": 3500}  # pictures left; what its people left, at the end


def temperatures(study: Study, base: Stage1) -> pandas.DataFrame:
    """Describe the first pictures of val at each candidate temperature: the mean fit of a sentence.

    The critic says how well a sentence fits; it is no metric of the evaluation.
    """
    config, critic, rows = study.profile.curation, curating.critic(study), []
    count = min(len(base.queries["val"]), config.val_pictures)
    # By index: features are read from disk one at a time.
    queries, tokens = (
        [features["val"][index] for index in range(count)] for features in (base.queries, base.tokens)
    )
    ids = [str(index) for index in range(count)]
    for temperature in config.temperatures:
        made = curating.sampled(study, base, queries, ids, "val", temperature)
        scores = critic(tokens, [repair(one.text) for one in made])
        fit = metrics.ratio([sum(each) for each in scores], [len(each) for each in scores])
        rows.append({"temperature": temperature, **metrics.columns("fit", fit)})
    return pandas.DataFrame(rows)


def shown(
    files: Mapping[str, bytes], chosen: Sequence[Curated], text: Callable[[Curated], str]
) -> tuple[list[Image.Image], list[str]]:
    """Return the first of the chosen pictures, whose `files` go by id, each with a text."""
    print(f"{min(SHOWN, len(chosen))} of {len(chosen)} are shown")
    first = chosen[:SHOWN]
    return [open_picture(files[one.description.image_id]) for one in first], [*map(text, first)]


def why_dropped(one: Curated) -> str:
    """Return what was written about a dropped picture, behind the step and the reason."""
    return f"[{one.step}: {one.reason}] {one.description.text}"


def before_after(curation: Curation) -> pandas.DataFrame:
    """Return a few texts as they were written and as they were kept."""
    rows = [(one.description.image_id, one.description.text, one.text) for one in curation.changed[:5]]
    return pandas.DataFrame(rows, columns=["picture", "generated", "kept"])


def funnel(curation: Curation) -> pandas.DataFrame:
    """Return what is left after each step, with the paper's numbers where it gives them."""
    return pandas.DataFrame(
        {
            "step": step,
            "pictures left": count,
            "share of all": count / len(curation.pictures),
            "pictures left, paper": PAPER.get(step, "-"),
        }
        for step, count in curation.funnel().items()
    )


def reasons(curation: Curation) -> pandas.DataFrame:
    """Return how many pictures were dropped at which step, and why."""
    rows = [
        (step, reason, count, count / len(curation.pictures))
        for step, found in curation.reasons().items()
        for reason, count in found.items()
    ]
    return pandas.DataFrame(rows, columns=["dropped by", "why", "pictures", "share of all"])


def words(curation: Curation) -> dict[str, list[int]]:
    """Return how many words each text has, as it was generated and as it was kept."""
    texts = {
        "generated": [one.description.text for one in curation.pictures],
        "kept": [one.text for one in curation.kept],
    }
    return {name: [len(text.split()) for text in some] for name, some in texts.items()}


def counts(study: Study, curation: Curation) -> pandas.DataFrame:
    """Return how many pictures were described, continued and kept, and the mean length of their texts."""
    count, longest = len(curation.pictures), study.profile.curation.max_new_tokens
    note = f"the pool of {count} {study.pictures('pool')}, answers of at most {longest} tokens"
    found: dict[str, frame.Measured] = {
        "generated": float(count),
        "continued": float(len(curation.continued)),
        "kept": float(len(curation.kept)),
        "kept_share": metrics.each([float(one.step == "kept") for one in curation.pictures]),
    }
    lengths = {name: {"words": metrics.each(some)} for name, some in words(curation).items()}
    return frame.concat(
        frame.rows("curate", {"": found}, note=note),
        frame.rows("curate", lengths, note=f"words of a text; {note}"),
    )


@dataclass(frozen=True)
class Fits:
    """How well sentences fit their own pictures, by the critic, and the limit below which one is dropped."""

    scores: dict[str, list[float]]
    limit: float


def fits(study: Study, base: Stage1, curation: Curation) -> Fits | None:
    """Compare generated sentences with training captions; None where no critic looks."""
    share = study.profile.curation.fitting
    if share is None:
        return None
    critic, pool = curating.critic(study), base.tokens["pool"]
    known = [base.tokens["train"][index] for index in range(len(pool))]
    scores = {
        "training captions": critic(known, base.splits["train"].captions[: len(pool)]),
        "generated sentences": critic(pool, [repair(one.description.text) for one in curation.pictures]),
    }
    limit = limit_of(scores["generated sentences"], share)
    return Fits({name: [fit for one in each for fit in one] for name, each in scores.items()}, limit)


def read_back(folder: Path, count: int) -> tuple[list[Image.Image], list[str]]:
    """Return the first pairs of a curated folder as its reader gives them."""
    pairs = list(strict(read_cc_sbu_align(folder)))[:count]
    return [open_picture(pair.file) for pair in pairs], [pair.answer for pair in pairs]
