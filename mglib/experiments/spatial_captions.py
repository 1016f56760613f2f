"""The paper's conjecture that training on spatial relations mends spatial understanding (section 4.5.2).

Two arms go on from stage 1 alike, with as many answer tokens about the same pictures: the control with the
web captions, the treatment with what RefCOCO and Visual Genome say in part of them.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from mglib.config import SpatialConfig
from mglib.data.quarantine import strict
from mglib.data.regions import read_refcoco, read_regions
from mglib.data.splits import Pairs, batched
from mglib.evals.choices import Losses, batch_losses
from mglib.evals.spatial import WAYS, Probe, read_pictures
from mglib.evals.vqa import picture_places
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.paths import hash_json, sha256
from mglib.study.stage1 import picture_layout
from mglib.study.stage2 import with_own_projection
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.weights.tensors import hash_tensors

WHERE = re.compile(r"\b(left|right|above|below|beneath|behind|in front)\b")
# The same knowledge without a question: which of two orders is likelier. No training text has these words.
ORDERS = {
    "left_right": ("from left to right: the {a}, the {b}", "to the left of"),
    "above_below": ("from top to bottom: the {a}, the {b}", "above"),
    "in_front": ("from near to far: the {a}, the {b}", "in front of"),
}


@dataclass(frozen=True)
class Lesson:
    """The same pictures, by their places in the split, with the texts of each arm."""

    rows: tuple[int, ...]
    texts: dict[str, tuple[str, ...]]  # control, treatment
    tokens: dict[str, int]  # of all answers of an arm


def spatial_phrases(folder: Path) -> dict[int, list[str]]:
    """Return what a split's regions and referring expressions say of where things are, by picture's place.

    Visual Genome's `region_descriptions.json` and RefCOCO's `refs(mglib).p` are read; phrases that quote
    writing are left out.
    """
    places, found = picture_places(folder), defaultdict(list)
    for region in strict(read_regions(folder / "region_descriptions.json")):
        found[places[region.image_id]].append(region.phrase)
    for ref in strict(read_refcoco(folder / "refs(mglib).p", folder / "instances.json")):
        found[places[ref.image_id]] += ref.sentences
    kept = {
        place: list(dict.fromkeys(text for text in said if WHERE.search(text) and '"' not in text))
        for place, said in found.items()
    }
    return {place: said for place, said in kept.items() if said}


def lesson(
    captions: Sequence[str],
    phrases: Mapping[int, Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    config: SpatialConfig,
    *,
    seed: int,
) -> Lesson:
    """Draw pictures for one pass and write both arms' texts.

    In the treatment a share of the pictures has, instead of its caption, as many of its spatial phrases as
    bring the two arms' answer tokens nearest to each other so far.
    """
    rng, train = Random(f"{seed}/spatial"), config.train
    rows = rng.sample(range(len(captions)), min(len(captions), train.steps * train.batch_size))
    told = set([row for row in rows if row in phrases][: round(config.share * len(rows))])
    texts: dict[str, list[str]] = {"control": [], "treatment": []}
    tokens = dict.fromkeys(texts, 0)

    def length(text: str) -> int:
        end = len(prompts.tokenize(tokenizer, prompts.CAPTION.end))
        return min(len(prompts.tokenize(tokenizer, text)) + end, train.max_answer)

    for row in rows:
        text = captions[row]
        ahead = tokens["treatment"] - tokens["control"] - length(text)
        if row in told:
            said = rng.sample(phrases[row], len(phrases[row]))
            ways = [", ".join(said[: most + 1]) for most in range(len(said))]
            text = min(ways, key=lambda way: abs(ahead + length(way)))
        for arm, chosen in (("control", captions[row]), ("treatment", text)):
            texts[arm].append(chosen)
            tokens[arm] += length(chosen)
    return Lesson(tuple(rows), {arm: tuple(said) for arm, said in texts.items()}, tokens)


def arm(
    study: Study, name: str, start: MiniGPT4, state: Path, queries: Sequence[Tensor], texts: Sequence[str]
) -> tuple[MiniGPT4, Trained]:
    """Train one arm from the stage-1 projection (kept in `state`), as stage 1 is trained.

    `queries` holds the Q-Former's output, (Q, D_q), of each text's picture.
    """
    config = study.profile.spatial.train
    model = with_own_projection(start)
    pairs = Pairs("queries", queries, texts)
    layout = picture_layout(model.language, prompts.CAPTION, model.qformer.config.queries, config.max_answer)
    trained = train(
        study,
        model,
        pairs,
        pairs.collate(layout),
        config,
        f"spatial-{name}",
        stage1=sha256(state),
        queries=hash_tensors(dict(enumerate(queries))),
        texts=hash_json(list(texts)),
    )
    return model, trained


def statements(folder: Path, *, seed: int = 0) -> list[Probe]:
    """Offer, for a pair of objects of each relation of each picture, two orders of which one is true.

    Both orders have the same words, and which stands first is drawn: chance is 1/2, and so is preferring the
    first. What the language model expects of the two objects without looking remains; both arms have it.
    """
    places, found = picture_places(folder), []
    for picture in read_pictures(folder):
        for relation, (form, predicate) in ORDERS.items():
            links = [link for link in picture.certain() if link.predicate == predicate]
            if links:
                rng = Random(f"{seed}/{picture.id}/{relation}/order")
                link = rng.choice(links)
                a, b = link.subject.name, link.object.name
                options = (form.format(a=a, b=b), form.format(a=b, b=a))
                right = rng.randrange(2)
                found.append(
                    Probe(
                        picture=places[picture.id],
                        text=WAYS[relation].question.format(a=a, b=b),
                        options=options[::-1] if right else options,
                        right=right,
                        relation=relation,
                    )
                )
    return found


@torch.inference_mode()
def caption_losses(
    model: MiniGPT4, queries: Sequence[Tensor], asked: Sequence[Probe], *, batch_size: int
) -> list[Losses]:
    """Return the losses of both options as captions of the picture, asked for as in stage 1: by it alone.

    `queries` holds the Q-Former's output for each picture of the split, (Q, D_q).
    """
    found: list[Losses] = []
    for part in tqdm(list(batched(asked, batch_size)), desc="statements", mininterval=10):
        pictures = torch.stack([queries[probe.picture] for probe in part])  # (B, Q, D_q)
        options = [probe.options for probe in part]
        found += batch_losses(model, pictures, prompts.CAPTION, [prompts.IMAGE] * len(part), options)
    return found
