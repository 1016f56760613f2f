"""What the encoder and BLIP-2 see in the pictures of the study (notebook 01; paper and BLIP-2, section 3)."""

from typing import Any

import pandas
import torch
from torch import Tensor

from mglib import metrics
from mglib.data.narratives import read_narratives
from mglib.data.quarantine import strict
from mglib.data.questions import read_a_okvqa, read_gqa
from mglib.data.records import read_json
from mglib.data.regions import read_refcoco, read_regions
from mglib.data.splits import Split
from mglib.evals import generate
from mglib.evals.retrieval import retrieval_recall
from mglib.mentions import object_scores
from mglib.metrics import Estimate
from mglib.model import prompts
from mglib.model.blip2 import KEYWORDS
from mglib.model.decoding import greedy
from mglib.model.qformer import QFormer
from mglib.study.blip2 import Blip2
from mglib.study.study import Study
from mglib.training.feature_cache import Features

SHARES = {
    "split": "split",
    "captions": "captions",
    "kinds_a_picture": "kinds of object a picture",
    "named": "objects that the caption names, share",
    "relations": "captions that say where, share",
    "words": "words a caption",
    "clipped": "cut short, share",
    "mismatched": "of another picture, share",
    "shouting": "in capitals, share",
    "long": "long-winded, share",
}  # what the world's card says of a split -> what readers see
TASKS = {
    "retrieval_i2t_r1": "picture to text, R@1",
    "retrieval_t2i_r1": "text to picture, R@1",
    "retrieval_i2t_r5": "picture to text, R@5",
    "retrieval_t2i_r5": "text to picture, R@5",
}
TRAININGS = {"batch_size": "captions a step", "last_loss": "loss of the last step, nats"}


def shares(card: dict[str, Any]) -> pandas.DataFrame:
    """Return what the captions of each split are like, those of train by their source too."""
    rows = [{"split": name, **entry, **entry["noise"]} for name, entry in card["splits"].items()]
    sources = card["splits"]["train"]["sources"].items()
    rows += [{"split": f"train, {name}", **entry, **entry["noise"]} for name, entry in sources]
    return pandas.DataFrame(rows)[list(SHARES)].rename(columns=SHARES).round(3)


def texts(study: Study, count: int) -> pandas.DataFrame:
    """Return every text that the first pictures of val have, read by the readers of the real data sets."""
    val, folder = study.split("val"), study.world / "val"
    asked = list(strict(read_a_okvqa(folder / "aokvqa.json")))[:count]
    found = {
        "GQA": {
            int(one.image_id): f"{one.question} {one.answer}"
            for one in strict(read_gqa(folder / "gqa_balanced_questions.json"))
        },
        "RefCOCO": {
            one.image_id: one.sentences[0]
            for one in strict(read_refcoco(folder / "refs(mglib).p", folder / "instances.json"))
        },
        "Visual Genome": {
            one.image_id: one.phrase for one in strict(read_regions(folder / "region_descriptions.json"))
        },
        "Localized Narratives": {
            int(one.image_id): one.caption
            for one in strict(read_narratives(folder / "localized_narratives.jsonl"))
        },
        "long description": {
            int(one["image_id"]): one["caption"]
            for one in read_json(folder / "descriptions.json")["annotations"]
        },
    }
    choices = [
        f"{one.question} {', '.join(one.choices)}: {one.choices[one.correct_choice_idx]}" for one in asked
    ]
    rows = {
        "web caption": val.captions[:count],
        "reference": [references[0] for references in val.references[:count]],
        "A-OKVQA": choices,
        **{kind: [each.get(one.image_id, "-") for one in asked] for kind, each in found.items()},
    }
    rows = {kind: dict(enumerate(each, start=1)) for kind, each in rows.items()}
    return pandas.DataFrame(rows).T.rename(columns="picture {}".format).rename_axis("text")


def trainings(blip2: Blip2) -> pandas.DataFrame:
    """Return how long each of BLIP-2 mini's trainings was and where its loss ended."""
    return blip2.trainings().rename(columns=TRAININGS)


def retrieval(
    study: Study, blip2: Blip2, tokens: dict[str, Features], splits: dict[str, Split]
) -> dict[str, dict[str, Estimate]]:
    """Find texts by picture and pictures by text in each split, by contrastive similarity alone."""
    return {
        name: retrieval_recall(
            blip2.representation,
            tokens[name],
            split.references,
            tokenizer=blip2.language.tokenizer,
            max_text=study.profile.pretrain.max_text,
            batch_size=study.profile.evaluation.batch_size,
        )
        for name, split in splits.items()
    }


def retrieval_table(scores: dict[str, dict[str, Estimate]], chance: dict[str, float]) -> pandas.DataFrame:
    """Return the scores of each split beside what random ranking finds."""
    table = pandas.DataFrame(
        {
            "split": name,
            "task": TASKS[metric],
            **metrics.columns("share found", estimate),
            "share found by chance": chance[metric],
        }
        for name, found in scores.items()
        for metric, estimate in found.items()
    )
    return table.rename(columns=metrics.INTERVAL).round(4)


@torch.inference_mode()
def looks(study: Study, qformer: QFormer, tokens: Features, count: int) -> Tensor:
    """Return where the queries look in the last layer that reads the picture, (count, Q, N)."""
    _, attention = qformer(tokens.batch(range(count)).to(study.device), output_attentions=True)
    return attention[-1].float().mean(1).cpu()


def captions(study: Study, blip2: Blip2, queries: dict[str, Features]) -> dict[str, list[str]]:
    """Let BLIP-2 mini caption every split."""
    settings = study.profile.evaluation
    decoding = greedy(settings.max_new_tokens)
    return {
        name: generate.answers(
            blip2.model,
            shown,
            KEYWORDS,
            prompts.IMAGE,
            decoding,
            what=f"captions of {name}",
            batch_size=settings.batch_size,
        )
        for name, shown in queries.items()
    }


def named(
    study: Study, said: dict[str, list[str]], splits: dict[str, Split]
) -> dict[str, dict[str, Estimate | None]]:
    """Compare the objects that captions name with those that are there, split by split."""
    words = study.vocabulary()
    return {name: object_scores(said[name], split.objects, words) for name, split in splits.items()}


def twice(study: Study, said: list[str]) -> Estimate | None:
    """Return the share of captions that name an object more than once."""
    words = study.vocabulary()
    mentions = [words.mentions(text) for text in said]
    return metrics.mean([float(len(set(names)) < len(names)) for names in mentions])
