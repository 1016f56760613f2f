"""What stage 1 changes: what the model says along the training and against controls, and the faults it leaves
(notebook 02; paper, sections 3.1 and 3.2).
"""

from dataclasses import dataclass, replace

import pandas
from torch import Tensor

from mglib import metrics
from mglib.config import Stage1Trial
from mglib.data.splits import Split
from mglib.evals import evaluate
from mglib.evals.failures import DESCRIBE, Detector, cut, truths
from mglib.experiments.ablations import trial
from mglib.metrics import Counts, Estimate
from mglib.model import prompts
from mglib.model.decoding import Decoding, greedy
from mglib.model.minigpt4 import MiniGPT4
from mglib.study.models import prompted_stage1
from mglib.study.stage1 import Stage1, init_model, random_model, train_stage1
from mglib.study.study import Study
from mglib.training.checkpoint import restore
from mglib.training.loop import kept

FAULTS = {"repetition": "repetition", "fragment": "fragment", "drift": "off-topic"}  # ours, the detector's


def layout(study: Study, base: Stage1) -> pandas.DataFrame:
    """Return what the language model reads of the first picture of val, a row a position."""
    batch = prompts.training_batch(
        base.language.tokenizer,
        prompts.CAPTION,
        [prompts.IMAGE],
        base.splits["val"].captions[:1],
        queries=study.profile.qformer.queries,
        max_answer=study.profile.stage1.max_answer,
    )
    row = {name: values[0].tolist() for name, values in batch.items()}
    decode = base.language.tokenizer.decode
    tokens = [
        "(visual)" if slot else repr(decode([token]))
        for token, slot in zip(row["ids"], row["slots"], strict=True)
    ]
    labels = ["-" if label == prompts.IGNORE else repr(decode([label])) for label in row["labels"]]
    table = {"position": range(len(tokens)), "token read": tokens, "label (counts in the loss)": labels}
    return pandas.DataFrame(table)


def caption_loss(
    study: Study, model: MiniGPT4, shown: list[Tensor], captions: list[str] | tuple[str, ...]
) -> Counts:
    """Return the loss per caption token of pictures, (Q, D_q) each, laid out as in stage 1."""
    return Counts(
        *evaluate.losses(
            model,
            shown,
            captions,
            prompts.CAPTION,
            max_answer=study.profile.stage1.max_answer,
            batch_size=study.profile.evaluation.batch_size,
        )
    )


def captions(study: Study, model: MiniGPT4, shown: list[Tensor], *, what: str) -> list[str]:
    """Let a model caption pictures greedily."""
    settings = study.profile.evaluation
    decoding = greedy(settings.max_new_tokens)
    return evaluate.answers(
        model, shown, prompts.CAPTION, prompts.IMAGE, decoding, what=what, batch_size=settings.batch_size
    )


# --- The choice of start, rate and steps ---


def trials(study: Study, base: Stage1) -> pandas.DataFrame:
    """Train stage 1 whole from each start, at each rate and length that the profile compares, and look at
    val.
    """
    parts = base.model.qformer, base.blip2.state, base.language, base.splits["train"], base.queries["train"]
    rows = []
    for one in study.profile.stage1_trials:
        model, _ = train_stage1(of_trial(study, one), *parts)
        tried = {"start": start_name(one.warm_start), "lr": one.lr, "steps": one.steps}
        rows.append({**tried, **seen_on_val(study, base, model)})
    return pandas.DataFrame(rows)


def of_trial(study: Study, one: Stage1Trial) -> Study:
    """Return the study with a trial in the place of its stage 1: itself where they are the same."""
    profile, config = study.profile, study.profile.stage1
    if (one.warm_start, one.lr, one.steps) == (profile.warm_start, config.lr, config.steps):
        return study
    run = replace(trial(config, one.lr, one.steps), keep=(1.0,))
    return replace(study, profile=replace(profile, warm_start=one.warm_start, stage1=run))


def start_name(warm_start: float | None) -> str:
    """Name a start: its regression's penalty, or *random*."""
    return "random" if warm_start is None else f"{warm_start:g}"


def seen_on_val(study: Study, base: Stage1, model: MiniGPT4) -> dict[str, float | None]:
    """Return what a model's captions of val are worth, the loss of others', and CHAIR_i of its descriptions.

    All greedily; descriptions are asked for in the language model's conversation, as after stage 1.
    """
    settings, val, shown = study.profile.evaluation, base.splits["val"], list(base.queries["val"])
    scores = metrics.object_scores(
        captions(study, model, shown, what="captions of val"), val.objects, study.vocabulary()
    )
    few = shown[: settings.fault_pictures]
    told = replace(prompted_stage1(study, base), model=model).answers(
        few, DESCRIBE, greedy(settings.fault_tokens), batch_size=settings.batch_size, what="descriptions"
    )
    at_length = metrics.object_scores(told, val.objects[: len(few)], study.vocabulary())
    found = {name: scores[name] for name in ("mention_precision", "mention_recall")}
    found["description_chair_i"] = at_length["chair_i"]
    return {
        **metrics.columns("chair_i", scores["chair_i"]),
        "loss": caption_loss(study, model, shown, val.captions).estimate().value,
        **{name: one and one.value for name, one in found.items()},
    }


# --- What the training does ---


@dataclass(frozen=True)
class Along:
    """What the model says about the first pictures of val, by the step, and its loss on all of val."""

    captions: dict[str, list[str]]
    losses: dict[str, Estimate | None]

    def said(self) -> pandas.DataFrame:
        """Return the captions, a row a picture and a column a step."""
        pictures = [f"picture {number + 1}" for number in range(len(next(iter(self.captions.values()))))]
        return pandas.DataFrame(self.captions, index=pictures).rename_axis("val")

    def loss_table(self) -> pandas.DataFrame:
        """Return the loss on val with its interval, a row a step."""
        return along_steps(self.losses, "loss of a caption token, nats")


def along_steps(losses: dict[str, Estimate | None], name: str) -> pandas.DataFrame:
    """Return losses with their intervals, a row for each time at which they were measured."""
    rows = [{"weights": when, **metrics.columns(name, loss)} for when, loss in losses.items()]
    return pandas.DataFrame(rows).rename(columns=metrics.INTERVAL)


def after(step: int) -> str:
    """Say when weights were kept."""
    return f"after {step:,} steps" if step else "at the start"


def along(study: Study, base: Stage1) -> Along:
    """Follow the projection from its start through the weights that the training kept."""
    val, queries = base.splits["val"], list(base.queries["val"])
    model, said, losses = init_model(study, base), {}, {}
    for state in [None, *kept(base.trained.folder)]:
        when = after(0 if state is None else restore(model, state)["step"])
        few = queries[: study.profile.evaluation.shown]
        said[when] = captions(study, model, few, what=f"captions {when}")
        losses[when] = caption_loss(study, model, queries, val.captions).estimate()
    return Along(said, losses)


@dataclass(frozen=True)
class Controlled:
    """Scores by split and control ("" is the trained model itself), and the captions behind them."""

    scores: dict[str, dict[str, dict[str, Estimate | None]]]
    captions: dict[str, dict[str, list[str]]]


METRICS = {
    "loss": "loss of a caption token, nats",
    "chair_i": "CHAIR_i",
    "mention_precision": "precision of what is named",
    "mention_recall": "recall of what is there",
}
CONTROLS = {
    "": "trained",
    ".start": "start by regression, no gradient step",
    ".untrained": "random projection",
    ".shuffled": "another picture of the split",
}


def controlled(study: Study, base: Stage1) -> Controlled:
    """Compare the model on the test splits with its controls, as far as the profile has them."""
    untrained = random_model(study, base)
    words = study.vocabulary()
    models = {"": base.model, ".untrained": untrained, ".shuffled": base.model}
    if study.profile.warm_start is not None:
        models[".start"] = init_model(study, base)
    found = Controlled({}, {})
    for name in study.tests:
        found.scores[name], found.captions[name] = {}, {}
        # Controls are compared on the first split alone.
        for control in (one for one in CONTROLS if one in models and (not one or name == study.tests[0])):
            split, model = base.splits[name], models[control]
            shuffled = control == ".shuffled"
            order = metrics.derangement(len(split)) if shuffled else range(len(split))
            shown = [base.queries[name][place] for place in order]
            said = captions(study, model, shown, what=name + control)
            found.captions[name][control] = said
            found.scores[name][control] = {
                "loss": caption_loss(study, model, shown, split.captions).estimate(),
                **metrics.object_scores(said, split.objects, words),
            }
    return found


def named_by_captions(study: Study, split: Split) -> Estimate | None:
    """Return the share of objects that the web captions themselves name: where recall saturates."""
    return metrics.object_scores(split.captions, split.objects, study.vocabulary())["mention_recall"]


@dataclass(frozen=True)
class Faults:
    """Detailed descriptions of val by the way of decoding, and the share of them with each fault."""

    texts: dict[str, list[str]]
    shares: dict[str, dict[str, Estimate | None]]


def faults(study: Study, base: Stage1) -> Faults:
    """Ask for more than a caption after stage 1 alone; drift is left out where nobody knows what is there."""
    settings, val = study.profile.evaluation, base.splits["val"]
    asked = list(base.queries["val"])[: settings.fault_pictures]
    longest, prompted = settings.fault_tokens, prompted_stage1(study, base)
    ways = {"sampled": Decoding(max_new_tokens=longest), "greedy": greedy(longest)}
    texts = {
        way: prompted.answers(asked, DESCRIBE, decoding, batch_size=settings.batch_size, what=way)
        for way, decoding in ways.items()
    }
    scenes = study.scenes("val")
    detector, truth = Detector(study.vocabulary()), truths(val, scenes)
    shares: dict[str, dict[str, Estimate | None]] = {}
    for way, said in texts.items():
        found = [
            detector.failures(text, one, poem=False, cut=cut(text, base.language.tokenizer, longest))
            for text, one in zip(said, truth, strict=False)
        ]
        judged = {name: kind for name, kind in FAULTS.items() if scenes or kind != "off-topic"}
        shares[way] = {
            name: metrics.mean([float(kind in each) for each in found]) for name, kind in judged.items()
        }
    return Faults(texts, shares)


def shared_by_pictures(queries: Tensor) -> float:
    """Return the share of the mean square of queries, (P, Q, D_q), that is the same in all pictures."""
    return 1 - ((queries - queries.mean(0)).square().mean() / queries.square().mean()).item()
