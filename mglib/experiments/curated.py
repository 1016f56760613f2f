"""What curation did with the pool: what was written, what became of it, and how well it fits (notebook 03;
paper, section 3.2).
"""

from collections.abc import Mapping, Sequence

import pandas
from PIL import Image

from mglib import frame, metrics
from mglib.curation.repair import repair
from mglib.curation.select import STEPS, Curated, Curation
from mglib.data.pictures import open_picture
from mglib.evals import chair
from mglib.study import curation as curating
from mglib.study.stage1 import Stage1
from mglib.study.study import Study
from mglib.world.scene import read_scenes

SHOWN = 8  # pictures of each kind
CHAIR = {
    "generated": "as generated",
    "kept": "kept",
    "kept_minus_generated": "kept minus generated",
    "mentions": "objects mentioned in a text",
}
PAPER = {"generated": 5000, f"after {STEPS[-1]}": 3500}  # pictures left; at the end, after its manual check


def temperatures(study: Study, base: Stage1) -> pandas.DataFrame:
    """Describe the first pictures of val at each candidate temperature: the mean fit of a sentence.

    The critic scores the fit; it is not a metric of the evaluation.
    """
    config, critic, rows = study.profile.curation, curating.critic(study), []
    first = range(min(len(base.queries["val"]), config.val_pictures))
    # By index: features are read from disk one at a time.
    queries, tokens = ([some["val"][index] for index in first] for some in (base.queries, base.tokens))
    ids = list(map(str, first))
    for temperature in config.temperatures:
        made = curating.sampled(study, base, queries, ids, "val", temperature)
        scores = critic(tokens, [repair(one.text) for one in made])
        fit = metrics.Counts([sum(each) for each in scores], [len(each) for each in scores]).estimate()
        rows.append({"temperature": temperature, **metrics.columns("fit", fit)})
    return pandas.DataFrame(rows)


def shown(
    files: Mapping[str, bytes], chosen: Sequence[Curated]
) -> tuple[list[Image.Image], dict[str, list[str]]]:
    """Return the first of the chosen pictures (`files` by id), what was generated about each (two answers
    separated by a bar), and what became of it.
    """
    first = chosen[:SHOWN]
    print(f"{len(first)} of {len(chosen)} are shown")
    texts = {
        "generated": [" | ".join(one.description.answers) for one in first],
        "what became of it": [
            one.text if one.step == "kept" else f"[dropped by {one.step}: {one.reason}]" for one in first
        ],
    }
    return [open_picture(files[one.description.image_id]) for one in first], texts


def reasons(curation: Curation) -> pandas.DataFrame:
    """Return how many pictures were dropped at which step, and why."""
    found = [(step, why, n) for step, some in curation.reasons().items() for why, n in some.items()]
    table = pandas.DataFrame(found, columns=["dropped by", "why", "pictures"])
    return table.assign(**{"share of all": table["pictures"] / len(curation.pictures)})


def counts(study: Study, curation: Curation) -> pandas.DataFrame:
    """Return how many pictures were described, continued and kept, and the mean length of their texts."""
    count, longest = len(curation.pictures), study.profile.curation.max_new_tokens
    note = f"the pool of {count} {study.pictures('pool')}, answers of at most {longest} tokens"
    found: dict[str, frame.Measured] = {
        "generated": float(count),
        "continued": float(sum(one.description.continued for one in curation.pictures)),
        "kept": float(len(curation.kept)),
        "kept_share": metrics.each([float(one.step == "kept") for one in curation.pictures]),
    }
    texts = {
        "generated": [one.description.text for one in curation.pictures],
        "kept": [one.text for one in curation.kept],
    }
    lengths = {
        name: {"words": metrics.each([len(text.split()) for text in some])} for name, some in texts.items()
    }
    return frame.concat(
        frame.rows("curate", {"": found}, note=note),
        frame.rows("curate", lengths, note=f"words of a text; {note}"),
    )


def chair_i(study: Study, curation: Curation) -> pandas.DataFrame:
    """Return how much texts about the pool's plain scenes invent, as generated and as kept, and how many
    objects they mention.

    The difference is paired by picture; a dropped picture counts as an empty text. Not applicable if the pool
    has no scene graphs.
    """
    file = study.scenes("pool")
    if file is None:
        return frame.absent("curate", "chair_i", "what is in the pictures of the pool is not annotated")
    words, truths = study.nameable(), {}
    for scene in (one for one in read_scenes(file) if one.kind == "scene"):
        objects = [item.thing.category for item in scene.objects]
        truths[f"{scene.image_id:09d}"] = chair.truth(objects, (), words, scene)
    texts = {
        "generated": {one.description.image_id: one.description.text for one in curation.pictures},
        "kept": {one.description.image_id: one.text for one in curation.kept},
    }

    def invented(said: Mapping[str, str], ids: Sequence[str]) -> metrics.Counts:
        return chair.chair_i([words.mentions(said.get(one, "")) for one in ids], [truths[one] for one in ids])

    found = {name: invented(said, [one for one in said if one in truths]) for name, said in texts.items()}
    every = {name: invented(said, list(truths)) for name, said in texts.items()}
    rows: dict[str, dict[str, frame.Measured]] = {
        name: {"chair_i": counts, "mentions": metrics.each(counts.among)} for name, counts in found.items()
    }
    rows["kept_minus_generated"] = {"chair_i": metrics.paired(every["kept"], every["generated"])}
    note = "plain drawn scenes of the pool, all nameable objects, truth from the scene graphs"
    return frame.rows("curate", rows, note=note)
