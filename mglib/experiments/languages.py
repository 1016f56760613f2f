"""The pinned language models on Table 1's tasks on val, given the truth in words instead of the picture."""

from dataclasses import replace

import pandas
from torch import nn

from mglib import metrics
from mglib.errors import needed
from mglib.evals import checklist
from mglib.evals.checklist import CHECKLISTS
from mglib.experiments import abilities
from mglib.model import prompts
from mglib.profiles import profile
from mglib.study.models import PromptedModel, language_size
from mglib.study.stage1 import join
from mglib.study.study import Study
from mglib.weights.sources import LANGUAGE
from mglib.world.scene import read_scenes


def compared(study: Study) -> pandas.DataFrame:
    """Return the shares of requests and of items that each pinned language model meets, over all tasks.

    All decode as the profile's MiniGPT-4 does. `millions` counts parameters.
    """
    study.draw()
    pictures = {
        task: read_scenes(needed(study.scenes(f"{sheet.kind}_val"), "scene graphs"))
        for task, sheet in CHECKLISTS.items()
    }
    rows = []
    for name in LANGUAGE:
        reader = text_reader(replace(study, profile=profile(study.profile.name, language=name)))
        asked = abilities.participants(study, {"minigpt4": reader})["minigpt4"]
        said = {name: abilities.read_in_words(study, asked, pictures, what=name)}
        judged = checklist.judged(said, pictures)
        requests, items = (checklist.pooled(judged, score)[name].estimate() for score in ("success", "items"))
        row = {"language": name, "millions": round(language_size(reader) / 1e6)}
        row |= metrics.columns("requests", requests)
        rows.append({**row, "items": needed(items, "answers").value})
    return pandas.DataFrame(rows)


def text_reader(study: Study) -> PromptedModel:
    """Return a study's language model in its chat template, with a placeholder for the image encoder."""
    model = join(study, nn.Identity(), study.frozen_qformer(), study.language())
    template = prompts.template(study.profile.language.template, model.language.tokenizer)
    return PromptedModel(model=model, template=template)
