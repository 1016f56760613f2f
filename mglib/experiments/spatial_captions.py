"""The paper's conjecture that training on spatial relations helps spatial understanding (section 4.5.2).

Two arms continue from stage 1 alike, on about as many answer tokens about the same pictures: the control on
the web captions, the treatment on spatial phrases of RefCOCO and Visual Genome for part of the pictures.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pandas
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from mglib import frame
from mglib.config import TrainConfig
from mglib.data.quarantine import strict
from mglib.data.regions import read_refcoco, read_regions
from mglib.data.splits import Pairs, batched
from mglib.errors import needed
from mglib.evals import chair, choices, generate, spatial
from mglib.evals.choices import Losses, Scores, batch_losses
from mglib.evals.spatial import WAYS, Probe, read_pictures
from mglib.evals.vqa import picture_places
from mglib.experiments import space
from mglib.experiments.composition import Described
from mglib.experiments.space import Answered
from mglib.metrics import Counts, paired
from mglib.model import prompts
from mglib.model.decoding import greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.paths import hash_json, sha256
from mglib.study.models import PromptedModel, prompted_stage1
from mglib.study.stage1 import Stage1, picture_layout
from mglib.study.stage2 import with_own_projection
from mglib.study.study import Study
from mglib.study.train import Trained, train
from mglib.weights.tensors import hash_tensors

WHERE = re.compile(r"\b(left|right|above|below|beneath|behind|in front)\b")
OPPOSITES = {
    "left": "right", "right": "left", "above": "below", "below": "above", "beneath": "above",
    "behind": "in front of", "in front of": "behind", "in front": "behind",
}  # fmt: skip
TURNED = re.compile(rf"\b({'|'.join(OPPOSITES)})\b")
SHARE = 0.5  # of the treatment's pictures have spatial phrases as their caption
# Tests the same knowledge without a question: which of two orders is likelier. No training text is worded so.
ORDERS = {
    "left_right": ("from left to right: the {a}, the {b}", "to the left of"),
    "above_below": ("from top to bottom: the {a}, the {b}", "above"),
    "in_front": ("from near to far: the {a}, the {b}", "in front of"),
}


@dataclass(frozen=True)
class ArmsData:
    """The same pictures, by their index in the split, with the texts of each arm."""

    rows: tuple[int, ...]
    texts: dict[str, tuple[str, ...]]  # control, treatment
    tokens: dict[str, int]  # total answer tokens of each arm


def spatial_phrases(folder: Path) -> dict[int, list[str]]:
    """Return a split's region descriptions and referring expressions that state a location, by picture.

    Reads Visual Genome's `region_descriptions.json` and RefCOCO's `refs(mglib).p`; phrases that quote written
    text are left out.
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


def arm_texts(
    captions: Sequence[str],
    phrases: Mapping[int, Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    train: TrainConfig,
    *,
    seed: int,
) -> ArmsData:
    """Draw pictures for one pass and write both arms' texts.

    In the treatment, a SHARE of the pictures has spatial phrases instead of the caption: as many as best
    balance the two arms' answer tokens so far.
    """
    rng = Random(f"{seed}/spatial")
    rows = rng.sample(range(len(captions)), min(len(captions), train.steps * train.batch_size))
    told = set([row for row in rows if row in phrases][: round(SHARE * len(rows))])
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
    return ArmsData(tuple(rows), {arm: tuple(said) for arm, said in texts.items()}, tokens)


def arm(
    study: Study, name: str, start: MiniGPT4, state: Path, queries: Sequence[Tensor], texts: Sequence[str]
) -> tuple[MiniGPT4, Trained]:
    """Train one arm from the stage-1 projection (kept in `state`), as stage 1 is trained.

    `queries` holds the Q-Former's output, (Q, D_q), of each text's picture.
    """
    config = needed(study.profile.spatial, "a profile with `spatial`, as `mini`")
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
    """Offer two orders of a pair of objects, one of them true, for each relation in each picture.

    Both orders have the same words and come in random order: always preferring the first scores 1/2, the
    chance level. The language model's prior about the two objects remains; both arms share it.
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
    """Return the losses of both options as captions, prompted as in stage 1: by the picture alone.

    `queries` holds the Q-Former's output for each picture of the split, (Q, D_q).
    """
    found: list[Losses] = []
    for part in tqdm(list(batched(asked, batch_size)), desc="statements", mininterval=10):
        pictures = torch.stack([queries[probe.picture] for probe in part])  # (B, Q, D_q)
        options = [probe.options for probe in part]
        found += batch_losses(model, pictures, prompts.CAPTION, [prompts.IMAGE] * len(part), options)
    return found


# --- The study's arms ---

RELATIONS = ("left_right", "above_below", "in_front")  # the keys of ORDERS: what captions can teach


def arms_data(study: Study, base: Stage1) -> ArmsData:
    """Draw the arms' pictures from those of stage 1, and write both arms' texts."""
    return arm_texts(
        base.splits["train"].captions,
        spatial_phrases(study.world / "train"),
        base.language.tokenizer,
        needed(study.profile.spatial, "a profile with `spatial`, as `mini`"),
        seed=study.seed,
    )


def changed(data: ArmsData) -> pandas.DataFrame:
    """Return one row for each picture whose texts differ between the arms, with both texts."""
    texts = zip(data.rows, *data.texts.values(), strict=True)
    lines = [
        {"picture": row, **dict(zip(data.texts, both, strict=True))}
        for row, *both in texts
        if len({*both}) > 1
    ]
    return pandas.DataFrame(lines)


def train_arms(
    study: Study, base: Stage1, data: ArmsData
) -> tuple[dict[str, PromptedModel], dict[str, Trained]]:
    """Train both arms from stage 1; the returned models are prompted in the chat template."""
    inputs, asked = [base.queries["train"][row] for row in data.rows], prompted_stage1(study, base)
    models, runs = {}, {}
    for name, texts in data.texts.items():
        model, runs[name] = arm(study, name, base.model, base.trained.state, inputs, texts)
        models[name] = replace(asked, model=model)
    return models, runs


def tested(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], known: Answered
) -> pandas.DataFrame:
    """Test stage 1 and the arms on questions and orders: accuracies and, paired, treatment minus control.

    `known` holds the questions and stage 1's answers to them; chance level is 1/2.
    """
    queries = list(base.queries[known.split])
    scores: dict[str, dict[str, dict[str, Scores]]] = {"question": {}, "order": {}}
    orders = statements(study.world / known.split)
    size = study.profile.evaluation.batch_size // 4
    for name, one in models.items():
        asked = known.losses.get(name) or space.losses(study, one, queries, known.probes, what=name)
        ordered = caption_losses(one.model, queries, orders, batch_size=size)
        scores["question"][name] = spatial.accuracy(asked, known.probes)
        scores["order"][name] = spatial.accuracy(ordered, orders)
    found = []
    for test, each in scores.items():
        for relation in [one for one in RELATIONS if one in each["control"]]:
            rows: dict[str, dict[str, frame.Measured]] = {
                name: {test: some[relation].counts()} for name, some in each.items()
            }
            count = len(each["control"][relation].values)
            note = f"{count} on {known.split}, phrasings absent from training, chance 0.5"
            found.append(frame.rows("conjecture.spatial", rows, note=note, split=relation))
            less = each["treatment"][relation].minus(each["control"][relation])
            note = "treatment minus control, paired"
            rows = {"difference": {test: less}}
            found.append(frame.rows("conjecture.spatial", rows, note=note, split=relation))
    return frame.concat(*found)


def learnt(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], data: ArmsData
) -> pandas.DataFrame:
    """Return how often each model finds the treatment's spatial training texts likelier than the same texts
    with every relation reversed: a check that the treatment's objective moved.

    On the first of the training pictures; chance level is 1/2. Includes treatment minus control, paired.
    """
    texts = zip(data.rows, data.texts["control"], data.texts["treatment"], strict=True)
    asked = [
        Probe(picture=row, text="", options=(said, turned_round(said)), right=0, relation="learnt")
        for row, control, said in texts
        if said != control
    ][: study.profile.evaluation.along_pictures]
    size, queries = study.profile.evaluation.batch_size // 4, base.queries["train"]
    scores = {
        name: choices.right(caption_losses(one.model, queries, asked, batch_size=size), asked)
        for name, one in models.items()
    }
    rows: dict[str, dict[str, frame.Measured]] = {
        name: {"learnt": one.counts()} for name, one in scores.items()
    }
    rows["difference"] = {"learnt": scores["treatment"].minus(scores["control"])}
    note = f"{len(asked)} spatial texts of the treatment on its training pictures; chance 0.5"
    remarks = {"difference": "treatment minus control, paired"}
    return frame.rows("conjecture.spatial", rows, note=note, remarks=remarks)


def turned_round(text: str) -> str:
    """Replace every spatial relation in a text by its opposite."""
    return TURNED.sub(lambda found: OPPOSITES[found[0]], text)


def cost(
    study: Study, base: Stage1, arms: Mapping[str, PromptedModel], described: Described
) -> pandas.DataFrame:
    """Return what the arms' captions of the described pictures invent and name, their loss on val's web
    captions, and, paired, treatment minus control.
    """
    sizes, val, counted = study.profile.evaluation, base.splits["val"].captions, {}
    truths = [reading.truth for reading in described.readings]
    for name, one in arms.items():
        texts = generate.answers(
            one.model,
            described.queries,
            prompts.CAPTION,
            prompts.IMAGE,
            greedy(sizes.max_new_tokens),
            batch_size=sizes.batch_size,
            what=name,
        )
        whole = chair.counts(chair.read(texts, truths, described.words))
        loss = generate.losses(
            one.model,
            base.queries["val"],
            val,
            prompts.CAPTION,
            max_answer=needed(study.profile.spatial, "a profile with `spatial`, as `mini`").max_answer,
            batch_size=sizes.batch_size,
        )
        counted[name] = {what: whole[what] for what in ("chair_i", "object_recall")} | {"loss": Counts(*loss)}
    less = {what: paired(counted["treatment"][what], counted["control"][what]) for what in counted["control"]}
    captions = f"captions of {described.split.name}, greedy"
    notes = {"chair_i": captions, "object_recall": captions, "loss": "web captions of val, per token"}
    apart = {what: f"treatment minus control, {note}" for what, note in notes.items()}
    return frame.concat(
        frame.rows("conjecture.spatial", counted, note=notes),
        frame.rows("conjecture.spatial", {"difference": less}, note=apart),
    )
