"""Display names of keys: every row and column of a table or figure, in one reading order."""

from collections.abc import Mapping
from typing import TypeVar

import pandas

from mglib.metrics import INTERVAL

Value = TypeVar("Value")

NAMES = {
    # The systems, from captions to what needs no model.
    "blip2": "BLIP-2",
    "blip2_ft": "BLIP-2 FT",
    "stage1": "stage 1",
    "locna": "MiniGPT-4 (LocNa)",
    "weak_lm": "MiniGPT-4 (weaker language model)",
    "minigpt4": "MiniGPT-4",
    "oracle": "MiniGPT-4 (oracle)",
    "official": "MiniGPT-4 (official texts)",
    "text_oracle_weak": "text oracle (weaker language model)",
    "text_oracle": "text oracle",
    "facts": "list of facts",
    # Table 5: a system and the request.
    "short.stage1": "stage 1, short",
    "long.stage1": "stage 1, long",
    "long.locna": "MiniGPT-4 (LocNa), long",
    "short": "MiniGPT-4, short",
    "long": "MiniGPT-4, long",
    "long.oracle": "MiniGPT-4 (oracle), long",
    "long.official": "MiniGPT-4 (official texts), long",
    "everything": "list of everything",
    "mplug_owl": "mPLUG-Owl, quoted",
    "llava": "LLaVA, quoted",
    # POPE: a system and how absent objects are drawn.
    "random.stage1": "stage 1, random objects",
    "popular.stage1": "stage 1, popular objects",
    "adversarial.stage1": "stage 1, adversarial objects",
    "random": "MiniGPT-4, random objects",
    "popular": "MiniGPT-4, popular objects",
    "adversarial": "MiniGPT-4, adversarial objects",
    "yes": "constant yes",
    "random.over_yes": "MiniGPT-4 minus constant yes, random objects",
    "popular.over_yes": "MiniGPT-4 minus constant yes, popular objects",
    "adversarial.over_yes": "MiniGPT-4 minus constant yes, adversarial objects",
    # Tables 4 and 7: arms, and what they have to beat.
    "no_qformer": "no Q-Former",
    "three_layers": "three layers",
    "qformer_tuned": "Q-Former tuned",
    "in_boxes": "attention in boxes of objects",
    "blank": "base, blank picture",
    "shuffled": "base, another picture",
    "majority": "majority answer",
    "lora": "LoRA",
    "lora_shuffled": "LoRA, another picture",
    "lora_less_base": "LoRA minus base",
    "base_shuffled": "base of Table 7, another picture",
    "lora_less_lora_shuffled": "LoRA minus itself, another picture",
    "base_less_base_shuffled": "base minus itself, another picture",
    "seen_more": "LoRA's minus base's, of these two",
    # Section 4.3.2: paired differences.
    "chat_model_before": "chat minus caption model, before",
    "chat_model_after": "chat minus caption model, after",
    "texts_caption_model": "after minus before, caption model",
    "texts_chat_model": "after minus before, chat model",
    "texts_chat_minus_caption": "the same, chat minus caption model",
    "quarter_minus_gain": "a quarter of half, minus what the rest adds",
    # Measures.
    "aokvqa": "A-OKVQA, by loss",
    "aokvqa_per_token": "A-OKVQA, by loss per token",
    "aokvqa_direct": "A-OKVQA, exact match",
    "gqa": "GQA, exact match",
    "gqa_format": "GQA, right format",
    "gain.accuracy": "accuracy gained",
    "gain.covered": "covered",
    "gain.references_covered": "references covered",
    "items.total": "items, own picture",
    "swapped.total": "items, another picture",
    "drop": "items lost with another picture",
    "gain.requests": "requests gained",
    "gain.items": "items gained",
    "without_bias": "without bias",
    "fault.repetition": "repetition",
    "fault.fragment": "fragment",
    "fault.drift": "drift",
    "chair_i": "CHAIR_i",
    "chair_s": "CHAIR_s",
    "object_recall": "object recall",
    "unlisted": "objects that no list names",
    "references_covered": "references covered",
    "yes_ratio": "share of yes",
    "unparsed": "neither yes nor no",
}

COLUMNS = {  # of columns whose measure or setting has no name above, or a different one
    **INTERVAL,
    "n": "n",  # pairs of answers in one table
    "wording": "asked",
    "fit": "fit by the critic",
    "start": "start (the regression's penalty)",
    "lr": "learning rate",
    "millions": "parameters (millions)",
    "loss": "loss (nats)",
    "mention_precision": "mention precision",
    "mention_recall": "mention recall",
    "description_chair_i": "CHAIR_i of descriptions",
    "f1": "F1",
    "critic": "critic's score",
    "drift": "drift (nats an answer)",
    "pair_loss": "loss of held-out pairs (nats)",
    "pair_order": "held-out pairs in order",
    "mass": "share of the attention",
    "area": "share of the picture",
    "mass_minus_area": "attention minus area",
    "queries": "queries above the area",
    "learnt": "own texts likelier than their opposites",
    "chair_i_whole": "CHAIR_i, whole answers",
    "chair_i_change": "CHAIR_i minus MiniGPT-4's",
    "detector.wrong": "judged otherwise than the label",
    "detector.kappa": "kappa of rules and labels",
    "labels.kappa": "kappa of the two passes",
}


def of(key: str, own: Mapping[str, str] | None = None) -> str:
    """Return the display name of a key, by a table's `own` names first; an unknown key is its own name."""
    return (own or {}).get(key) or NAMES.get(key, key)


def column(key: str, own: Mapping[str, str] | None = None) -> str:
    """Return the column heading of a measure or a setting."""
    return (own or {}).get(key) or COLUMNS.get(key) or of(key)


def ordered(rows: Mapping[str, Value]) -> dict[str, Value]:
    """Return the rows in reading order; those without a name come last, in the given order."""
    places = {key: place for place, key in enumerate(NAMES)}
    return dict(sorted(rows.items(), key=lambda row: places.get(row[0], len(places))))


def table(keyed: pandas.DataFrame) -> pandas.DataFrame:
    """Replace keys by names in the header of a table and in its columns that hold keys or wordings."""
    cells = {
        each: [of(cell).replace("{}", "QUESTION") for cell in keyed[each]]
        for each in ("model", "arm", "wording")
        if each in keyed
    }
    return keyed.assign(**cells).rename(columns=column)
