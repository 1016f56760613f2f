"""A critic's feedback against hallucination, from the critic's own test to answers about other pictures
(paper, section 4.5.1; `mglib.experiments.dpo` has the method).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import pandas
from torch import Tensor

from mglib import metrics
from mglib.config import TrainConfig
from mglib.curation.critic import Critic, answer_scores
from mglib.data.scenes import read_scenes
from mglib.evals import chair
from mglib.evals.chair import Truth
from mglib.experiments import dpo
from mglib.experiments.ablations import trial
from mglib.experiments.descriptions import truths
from mglib.experiments.dpo import Preference
from mglib.metrics import Counts, Estimate
from mglib.model.decoding import Decoding, greedy
from mglib.study.curation import critic
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.stage2 import Stage2Data, train_stage2
from mglib.study.study import Study
from mglib.study.train import Trained

Rows = dict[str, dict[str, Estimate | None]]  # model -> measure -> estimate
Value = TypeVar("Value")
NAMES = {  # of the models
    "start": "MiniGPT-4",
    "dpo": "DPO, critic",
    "dpo_random": "DPO, coin",
    "chosen": "preferred answers learnt",
}
MEASURES = {
    "critic": "the critic's score of sampled answers about held-out pictures of the pool",
    "drift": "nats an answer: how much likelier than to the start, own sampled answers",
    "pair_loss": "on held-out pairs; ln 2 at the start",
}
READ = {
    "chair_i": "at matched mentions",
    "chair_i_whole": "whole answers",
    "object_recall": "whole answers",
    "mentions": "mean",
    "length": "mean",
    "chair_i_change": "at matched mentions, less the start's, paired by picture",
}


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """The pairs that the critic tells apart best, of answers about the first pictures of the pool."""

    start: PromptedModel
    judge: Critic
    shown: list[Tensor]  # (Q, D_q) a picture
    seen: list[Tensor]  # (N, D_v) a picture
    pairs: list[Preference]
    hold_out: int

    @property
    def learnt(self) -> list[Preference]:
        """The pairs to learn from."""
        return [pair for pair in self.pairs if pair.place % self.hold_out]

    @property
    def held(self) -> list[Preference]:
        """The pairs about pictures that are held out."""
        return [pair for pair in self.pairs if pair.place % self.hold_out == 0]


# --- The critic ---


def critic_right(study: Study, base: Stage1) -> Estimate | None:
    """Return for how many of val's pictures the critic prefers their own first reference to another's."""
    judge, val = critic(study), base.splits["val"]
    texts = [references[0] for references in val.references]
    order = metrics.derangement(len(val), seed=study.seed)
    own = answer_scores(judge(base.tokens["val"], texts))
    other = answer_scores(judge(base.tokens["val"], [texts[place] for place in order]))
    return metrics.mean([mine > theirs for mine, theirs in zip(own, other, strict=True)])


def collect(study: Study, base: Stage1, start: PromptedModel) -> Feedback:
    """Let a model answer about the pool and the critic compare the answers about each picture."""
    config, judge = study.profile.preference, critic(study)
    count = min(len(base.splits["pool"]), config.pictures)
    shown, seen = ([rows["pool"][place] for place in range(count)] for rows in (base.queries, base.tokens))
    size = study.profile.evaluation.batch_size
    said = dpo.draws(start, shown, config, seed=study.seed, batch_size=size)
    scores = [answer_scores(judge(seen, texts)) for texts in said]
    return Feedback(
        start=start,
        judge=judge,
        shown=shown,
        seen=seen,
        pairs=dpo.preferences(said, scores, clearest=config.clearest),
        hold_out=config.hold_out,
    )


def pool_truths(study: Study, base: Stage1) -> list[Truth]:
    """Say what the pool's pictures show: its scene graphs know, which no training reads."""
    words, scenes = study.nameable(), read_scenes(study.scenes("pool"))
    names = tuple(
        frozenset(name for item in scene.objects for name in words.mentions(item.name)) for scene in scenes
    )
    pool = base.splits["pool"]
    return chair.truths(replace(pool, objects=names, references=((),) * len(pool)), words, scenes)


def of_sides(study: Study, base: Stage1, feedback: Feedback) -> dict[str, Estimate | None]:
    """Return CHAIR_i of the *chosen* and of the *rejected* answers, cut to equally many mentions, and the
    paired difference.
    """
    known = pool_truths(study, base)
    there = [known[pair.place] for pair in feedback.pairs]
    texts = {side: [getattr(pair, side) for pair in feedback.pairs] for side in ("chosen", "rejected")}
    read = {side: chair.read(said, there, study.nameable()) for side, said in texts.items()}
    counted = {side: chair.counts(some)["chair_i"] for side, some in chair.matched(read).items()}
    less = metrics.paired(counted["chosen"], counted["rejected"])
    return {**{side: one.estimate() for side, one in counted.items()}, "chosen_less_rejected": less}


# --- The trainings ---


def named(models: Mapping[str, Value]) -> dict[str, Value]:
    """Call the models as readers see them."""
    return {NAMES[name]: one for name, one in models.items()}


def rates(study: Study, feedback: Feedback) -> pandas.DataFrame:
    """Try each rate in a short run: the loss of held-out pairs (ln 2 before training)."""
    config, rows = study.profile.preference, []
    for rate in config.rates:
        brief = trial(config.train, rate, config.rate_steps)
        model, _ = dpo.dpo(study, feedback.start, feedback.shown, feedback.learnt, brief, what="dpo-rate")
        losses = dpo.held_out_losses(study, feedback.start, model, feedback.shown, feedback.held)
        loss = metrics.columns("loss", metrics.mean(losses))
        rows.append({"lr": rate, "steps": config.rate_steps, **loss})
    return pandas.DataFrame(rows)


def train(study: Study, feedback: Feedback) -> tuple[dict[str, PromptedModel], dict[str, Trained]]:
    """Train by the critic's preferences (*dpo*) and both controls; the models have the *start* with them.

    *dpo_random*: a coin prefers, on the same pairs. *chosen*: the preferred answers are learnt by heart, each
    as often.
    """
    config = study.profile.preference.train
    lessons = {"dpo": feedback.learnt, "dpo_random": dpo.by_coin(feedback.learnt, seed=study.seed)}
    models, runs = {"start": feedback.start}, {}
    for name, pairs in lessons.items():
        models[name], runs[name] = dpo.dpo(
            study, feedback.start, feedback.shown, pairs, config, what=name.replace("_", "-")
        )
    models["chosen"], runs["chosen"] = imitate(study, feedback, config)
    return models, runs


def imitate(study: Study, feedback: Feedback, config: TrainConfig) -> tuple[PromptedModel, Trained]:
    """Learn the preferred answers as further texts of stage 2, at stage 2's own rate."""
    start, stage2 = feedback.start, study.profile.stage2
    return train_stage2(
        study,
        start,
        Stage2Data(
            queries=[feedback.shown[pair.place] for pair in feedback.learnt],
            texts=[pair.chosen for pair in feedback.learnt],
        ),
        questions=(start.question(dpo.QUESTION),),
        config=replace(config, lr=stage2.lr, min_lr=stage2.min_lr),
        what="dpo-chosen",
    )


# --- What came of it ---


def held_out(study: Study, feedback: Feedback, models: Mapping[str, PromptedModel]) -> Rows:
    """Let each model answer anew about held-out pictures, and measure MEASURES."""
    config, start = study.profile.preference, feedback.start
    rest = [place for place in range(len(feedback.shown)) if place % feedback.hold_out == 0]
    shown, seen = ([rows[place] for place in rest] for rows in (feedback.shown, feedback.seen))
    found = {}
    for name, prompted in models.items():
        texts = prompted.answers(
            shown,
            dpo.QUESTION,
            Decoding(max_new_tokens=config.max_new_tokens, seed=study.seed),
            batch_size=study.profile.evaluation.batch_size,
            what=f"pool, {name}",
        )
        values = {
            "critic": answer_scores(feedback.judge(seen, texts)),
            "drift": dpo.drifts(study, start, prompted, shown, texts),
            "pair_loss": dpo.held_out_losses(study, start, prompted, feedback.shown, feedback.held),
        }
        found[name] = {what: metrics.mean(some) for what, some in values.items()}
    return found


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What each model says of the first pictures of a test split, and what is counted of it."""

    about: str  # which pictures, and how they are asked about
    said: dict[str, list[str]]
    counted: dict[str, dict[str, Counts]]  # whole answers
    matched: dict[str, Counts]  # CHAIR_i at equally many mentions

    def mentions(self) -> dict[str, float]:
        """Return how many mentions are compared."""
        return {name: sum(counts.among) for name, counts in self.matched.items()}

    def estimates(self) -> Rows:
        """Return what is reported of each model; of all but the start its change too."""
        found: Rows = {}
        for name, counts in self.counted.items():
            found[name] = {
                "chair_i": self.matched[name].estimate(),
                "chair_i_whole": counts["chair_i"].estimate(),
                **{what: counts[what].estimate() for what in ("object_recall", "mentions", "length")},
            }
            if name != "start":
                found[name]["chair_i_change"] = metrics.paired(self.matched[name], self.matched["start"])
        return found

    def notes(self) -> dict[str, str]:
        """Say of each measure what it is about and how it is counted."""
        return {what: f"{self.about}; not in the paper; {how}" for what, how in READ.items()}

    def groups(self) -> Rows:
        """Return what is drawn, by its measure and the model as readers see it."""
        whole = {"CHAIR_i, whole answers": "chair_i", "object recall": "object_recall"}
        matched, counted = named(self.matched), named(self.counted)
        return {"CHAIR_i, matched mentions": {name: one.estimate() for name, one in matched.items()}} | {
            title: {name: counts[what].estimate() for name, counts in counted.items()}
            for title, what in whole.items()
        }


def answers(study: Study, base: Stage1, models: Mapping[str, PromptedModel], name: str) -> Answers:
    """Ask every model about the first pictures of a split, greedily."""
    config = study.profile.preference
    count = min(len(base.splits[name]), config.tested)
    shown, there = [base.queries[name][place] for place in range(count)], truths(study, base, name)[:count]
    said = {
        model: prompted.answers(
            shown,
            dpo.QUESTION,
            greedy(config.max_new_tokens),
            batch_size=study.profile.evaluation.batch_size,
            what=f"{name}, {model}",
        )
        for model, prompted in models.items()
    }
    read = {model: chair.read(texts, there, study.nameable()) for model, texts in said.items()}
    return Answers(
        about=f"first {count} of {name}, at most {config.max_new_tokens} tokens, greedy",
        said=said,
        counted={model: chair.counts(some) for model, some in read.items()},
        matched={model: chair.counts(some)["chair_i"] for model, some in chair.matched(read).items()},
    )
