"""What the pinned language models make of Table 1 on val if they read the truth in words and see nothing."""

from dataclasses import replace

import pandas
from torch import nn

from mglib import metrics
from mglib.errors import needed
from mglib.evals import checklist, generate
from mglib.evals.checklist import CHECKLISTS
from mglib.experiments import abilities
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.profiles import profile
from mglib.study.stage1 import join
from mglib.study.study import Study
from mglib.weights.sources import LANGUAGE
from mglib.world.scene import read_scenes


def compared(study: Study) -> pandas.DataFrame:
    """Return the shares of requests and of items that each pinned language model meets, over all tasks.

    All decode as the profile's MiniGPT-4 does. `millions` counts parameters.
    """
    study.draw()
    rows = []
    for name in LANGUAGE:
        other = replace(study, profile=profile(study.profile.name, language=name))
        model = join(other, nn.Identity(), other.frozen_qformer(), other.language())
        millions = sum(weight.numel() for weight in model.language.parameters()) / 1e6
        rows.append({"language": name, "millions": round(millions), **met(other, model, name)})
    return pandas.DataFrame(rows)


def met(study: Study, model: MiniGPT4, name: str) -> dict[str, float | None]:
    """Return what a model meets that reads the truth in words instead of seeing the picture."""
    evaluation, template = study.profile.evaluation, study.profile.language.template
    way = abilities.asked(evaluation, "minigpt4").decoding
    said, pictures = {}, {}
    for task, sheet in CHECKLISTS.items():
        pictures[task] = read_scenes(needed(study.scenes(f"{sheet.kind}_val"), "scene graphs"))
        said[task] = generate.blind_answers(
            model,
            prompts.template(template, model.language.tokenizer),
            abilities.in_words(pictures[task], sheet.request),
            abilities.decodings(study)[way],
            batch_size=evaluation.batch_size,
            what=f"{name}, {task}",
        )
    judged = checklist.judged({name: said}, pictures)
    requests, items = (checklist.pooled(judged, score)[name].estimate() for score in ("success", "items"))
    return {**metrics.columns("requests", requests), "items": needed(items, "answers").value}
