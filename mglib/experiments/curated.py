"""What curation did with the pool: what was written, what became of it, and how well it fits (notebook 03;
paper, section 3.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas
from PIL import Image

from mglib import metrics
from mglib.curation.critic import limit_of
from mglib.curation.repair import repair
from mglib.curation.select import STEPS, Curated, Curation
from mglib.data.own import read_cc_sbu_align
from mglib.data.pictures import open_picture
from mglib.data.quarantine import strict
from mglib.metrics import Estimate
from mglib.study import curation as curating
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

SHOWN = 8  # pictures of each kind
GENERATED, LAST = "generated", f"after {STEPS[-1]}"  # where the paper gives its numbers


def temperatures(study: Study, base: Stage1) -> pandas.DataFrame:
    """Return how well, by the critic, descriptions of val fit their pictures at each temperature."""
    model, state, critic = base.model, base.trained.state, curating.critic(study)
    tried = curating.temperatures(study, model, state, base.queries["val"], base.tokens["val"], critic)
    return pandas.DataFrame(
        {"temperature": value, **metrics.columns("fit", fit)} for value, fit in tried.items()
    )


@dataclass(frozen=True)
class Found:
    """A curation with its pictures' files, by id."""

    curation: Curation
    files: dict[str, bytes]

    @classmethod
    def of(cls, study: Study, curation: Curation) -> "Found":
        return cls(curation, dict(curating.pool(study)))

    @property
    def continued(self) -> list[Curated]:
        """Those that were asked to go on."""
        return [one for one in self.curation.pictures if one.description.continued]

    @property
    def repaired(self) -> list[Curated]:
        """Those that were kept with a change."""
        return [one for one in self.curation.kept if one.text != one.description.text]

    @property
    def dropped(self) -> list[Curated]:
        return [one for one in self.curation.pictures if one.step != "kept"]

    def shown(
        self, chosen: Sequence[Curated], text: Callable[[Curated], str]
    ) -> tuple[list[Image.Image], list[str]]:
        """Return the first of the chosen pictures, each with a text."""
        print(f"{min(SHOWN, len(chosen))} of {len(chosen)} are shown")
        first = chosen[:SHOWN]
        return [open_picture(self.files[one.description.image_id]) for one in first], [*map(text, first)]

    def before_after(self) -> pandas.DataFrame:
        """Return a few texts as they were written and as they were kept."""
        rows = [(one.description.image_id, one.description.text, one.text) for one in self.repaired[:5]]
        return pandas.DataFrame(rows, columns=["picture", "generated", "kept"])

    def funnel_table(self, paper: dict[str, int]) -> pandas.DataFrame:
        """Return what is left after each step, with the paper's numbers where it gives them."""
        every = len(self.curation.pictures)
        return pandas.DataFrame(
            {
                "step": step,
                "pictures left": count,
                "share of all": count / every,
                "pictures left, paper": paper.get(step, "-"),
            }
            for step, count in self.curation.funnel().items()
        )

    def reasons(self) -> pandas.DataFrame:
        """Return how many were dropped for which reason."""
        rows = [
            (step, reason, count, count / len(self.curation.pictures))
            for step, found in self.curation.reasons().items()
            for reason, count in found.items()
        ]
        return pandas.DataFrame(rows, columns=["dropped by", "why", "pictures", "share of all"])

    def why_dropped(self, one: Curated) -> str:
        """Return what was written about a dropped picture, behind the step and the reason."""
        return f"[{one.step}: {one.reason}] {one.description.text}"

    def texts(self) -> dict[str, list[str]]:
        """Return what was written and what was kept."""
        return {
            "generated": [one.description.text for one in self.curation.pictures],
            "kept": [one.text for one in self.curation.kept],
        }

    def words(self) -> dict[str, list[int]]:
        """Return how many words each text has."""
        return {name: [len(text.split()) for text in texts] for name, texts in self.texts().items()}

    def mean_words(self) -> dict[str, Estimate | None]:
        return {name: metrics.mean(counts) for name, counts in self.words().items()}

    def share(self, chosen: Sequence[Curated]) -> Estimate | None:
        """Return the share of all pictures that these are."""
        ids = {one.description.image_id for one in chosen}
        return metrics.mean([float(one.description.image_id in ids) for one in self.curation.pictures])


@dataclass(frozen=True)
class Fits:
    """How well sentences fit their own pictures, by the critic, and the limit below which one is dropped."""

    scores: dict[str, list[float]]
    limit: float

    def share_kept(self) -> Estimate | None:
        """Return the share of generated sentences that pass."""
        return metrics.mean([float(fit >= self.limit) for fit in self.scores["generated sentences"]])


def fits(study: Study, base: Stage1, found: Found) -> Fits | None:
    """Compare generated sentences with training captions; None where no critic looks."""
    share = study.profile.curation.fitting
    if share is None:
        return None
    critic, pool = curating.critic(study), base.tokens["pool"]
    known = [base.tokens["train"][index] for index in range(len(pool))]
    scores = {
        "training captions": critic(known, base.splits["train"].captions[: len(pool)]),
        "generated sentences": critic(pool, [repair(text) for text in found.texts()["generated"]]),
    }
    limit = limit_of(scores["generated sentences"], share)
    return Fits({name: [fit for one in each for fit in one] for name, each in scores.items()}, limit)


def read_back(folder: Path, count: int) -> tuple[list[Image.Image], list[str]]:
    """Return the first pairs of a curated folder as its reader gives them."""
    pairs = list(strict(read_cc_sbu_align(folder)))[:count]
    return [open_picture(pair.file) for pair in pairs], [pair.caption for pair in pairs]
