"""A critic's feedback against hallucination, from the critic's own test to answers about other pictures
(paper, section 4.5.1; `mglib.experiments.dpo` has the method).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas
from torch import Tensor

from mglib import frame, metrics
from mglib.config import TrainConfig
from mglib.curation.critic import Critic, answer_scores
from mglib.errors import needed
from mglib.evals import chair
from mglib.evals.chair import Truth
from mglib.experiments import dpo
from mglib.experiments.descriptions import truths
from mglib.experiments.dpo import Preference
from mglib.experiments.stage1 import at_rate
from mglib.model.decoding import Decoding, greedy
from mglib.study.curation import critic
from mglib.study.models import PromptedModel
from mglib.study.stage1 import Stage1
from mglib.study.stage2 import Stage2Data, train_stage2
from mglib.study.study import Study
from mglib.study.train import Trained
from mglib.world.scene import read_scenes

HELD_OUT = 5  # every fifth picture is held out, for choosing the rate and for the critic's final scores
CLEAREST = 0.75  # share of pictures kept: those whose two answers the critic tells apart best
NAMES = {  # display names of the models
    "start": "MiniGPT-4",
    "dpo": "DPO, critic",
    "dpo_random": "DPO, coin",
    "chosen": "preferred answers learnt",
}
SIDES = {  # and of the two answers about a picture
    "chosen": "preferred answers",
    "rejected": "other answers",
    "chosen_less_rejected": "preferred minus other",
}


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """The pairs that the critic tells apart best, of answers about the first pictures of the pool."""

    start: PromptedModel
    judge: Critic
    shown: list[Tensor]  # (Q, D_q) per picture
    seen: list[Tensor]  # (N, D_v) per picture
    pairs: list[Preference]
    hold_out: int

    @property
    def learnt(self) -> list[Preference]:
        """The pairs to learn from."""
        return [pair for pair in self.pairs if pair.place % self.hold_out]

    @property
    def held(self) -> list[Preference]:
        """The pairs about held-out pictures."""
        return [pair for pair in self.pairs if pair.place % self.hold_out == 0]


# --- The critic ---


def critic_right(study: Study, base: Stage1) -> pandas.DataFrame:
    """Return the share of val pictures whose own first reference the critic prefers to another picture's."""
    judge, val = critic(study), base.splits["val"]
    texts = [references[0] for references in val.references]
    order = metrics.derangement(len(val), seed=study.seed)
    own = answer_scores(judge(base.tokens["val"], texts))
    other = answer_scores(judge(base.tokens["val"], [texts[index] for index in order]))
    right = metrics.each([mine > theirs for mine, theirs in zip(own, other, strict=True)])
    note = (
        "share of val's pictures whose own first reference scores higher than another picture's; chance 0.5"
    )
    return frame.rows("conjecture", {"critic": {"right": right}}, note=note)


def collect(study: Study, base: Stage1, start: PromptedModel) -> Feedback:
    """Let a model answer about the pool and the critic compare the answers about each picture."""
    config, judge = dpo.settings(study), critic(study)
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
        pairs=dpo.preferences(said, scores, clearest=CLEAREST),
        hold_out=HELD_OUT,
    )


def pool_truths(study: Study, base: Stage1) -> list[Truth]:
    """Return what the pool's pictures show, by its scene graphs, which no training reads."""
    words, scenes = study.nameable(), read_scenes(needed(study.scenes("pool"), "scene graphs of the pool"))
    names = tuple(
        frozenset(name for item in scene.objects for name in words.mentions(item.name)) for scene in scenes
    )
    pool = base.splits["pool"]
    return chair.truths(replace(pool, objects=names, references=((),) * len(pool)), words, scenes)


def of_sides(study: Study, base: Stage1, feedback: Feedback) -> pandas.DataFrame:
    """Return CHAIR_i of the *chosen* and of the *rejected* answers, cut to equally many mentions, and the
    paired difference.
    """
    known = pool_truths(study, base)
    there = [known[pair.place] for pair in feedback.pairs]
    texts = {side: [getattr(pair, side) for pair in feedback.pairs] for side in ("chosen", "rejected")}
    read = {side: chair.read(said, there, study.nameable()) for side, said in texts.items()}
    found = {side: chair.counts(some)["chair_i"] for side, some in chair.matched(read).items()}
    less = metrics.paired(found["chosen"], found["rejected"])
    note = "answers about the pool, at equally many mentions; the critic does not know this measure"
    rows = {side: {"chair_i": one} for side, one in {**found, "chosen_less_rejected": less}.items()}
    return frame.rows("conjecture", rows, note=note, split="critic")


# --- The trainings ---


def rates(study: Study, feedback: Feedback) -> pandas.DataFrame:
    """Train at each learning rate and return the loss on held-out pairs (ln 2 before training)."""
    config, rows = dpo.settings(study), []
    for rate in config.rates:
        plan = at_rate(config.train, rate)
        model, _ = dpo.dpo(study, feedback.start, feedback.shown, feedback.learnt, plan)
        losses = dpo.held_out_losses(study, feedback.start, model, feedback.shown, feedback.held)
        loss = metrics.columns("loss", metrics.each(losses).estimate())
        rows.append({"lr": rate, "steps": config.train.steps, **loss})
    return pandas.DataFrame(rows)


def train(study: Study, feedback: Feedback) -> tuple[dict[str, PromptedModel], dict[str, Trained]]:
    """Train on the critic's preferences (*dpo*) and both controls; the returned models include the *start*.

    *dpo_random*: a coin flip orders the same pairs. *chosen*: the preferred answers are imitated, each seen
    as often.
    """
    config = dpo.settings(study).train
    lessons = {"dpo": feedback.learnt, "dpo_random": dpo.by_coin(feedback.learnt, seed=study.seed)}
    models, runs = {"start": feedback.start}, {}
    for name, pairs in lessons.items():
        models[name], runs[name] = dpo.dpo(
            study, feedback.start, feedback.shown, pairs, config, what=name.replace("_", "-")
        )
    models["chosen"], runs["chosen"] = imitate(study, feedback, config)
    return models, runs


def imitate(study: Study, feedback: Feedback, config: TrainConfig) -> tuple[PromptedModel, Trained]:
    """Train on the preferred answers as further stage-2 texts, with stage 2's optimiser and learning rate."""
    start, stage2 = feedback.start, study.profile.stage2
    return train_stage2(
        study,
        start,
        Stage2Data(
            queries=[feedback.shown[pair.place] for pair in feedback.learnt],
            texts=[pair.chosen for pair in feedback.learnt],
        ),
        questions=(start.question(dpo.QUESTION),),
        config=replace(config, lr=stage2.lr, min_lr=stage2.min_lr, muon=stage2.muon),
        what="dpo-chosen",
    )


# --- Results ---


def held_out(study: Study, feedback: Feedback, models: Mapping[str, PromptedModel]) -> pandas.DataFrame:
    """Let each model answer again about held-out pictures: the critic's score of the answers, their drift
    from the start, and the held-out pairs' loss and share in the critic's order, which shows whether the
    objective moved at all.
    """
    config, start = dpo.settings(study), feedback.start
    rest = [index for index in range(len(feedback.shown)) if index % feedback.hold_out == 0]
    shown, seen = ([rows[index] for index in rest] for rows in (feedback.shown, feedback.seen))
    found = {}
    for name, prompted in models.items():
        texts = prompted.answers(
            shown,
            dpo.QUESTION,
            Decoding(max_new_tokens=config.max_new_tokens, seed=study.seed),
            batch_size=study.profile.evaluation.batch_size,
            what=f"pool, {name}",
        )
        losses = dpo.held_out_losses(study, start, prompted, feedback.shown, feedback.held)
        values = {"critic": answer_scores(feedback.judge(seen, texts)), "pair_loss": losses}
        if name != "start":  # which has no drift and no preference
            values["drift"] = dpo.drifts(study, start, prompted, shown, texts)
            values["pair_order"] = [float(loss < math.log(2)) for loss in losses]
        found[name] = {what: metrics.each(some) for what, some in values.items()}
    notes = {
        "critic": "the critic's score of sampled answers about held-out pictures of the pool",
        "drift": "nats an answer: how much likelier than to the start, own sampled answers",
        "pair_loss": "on held-out pairs; ln 2 at the start",
        "pair_order": "share of held-out pairs whose preferred answer has gained on the other; chance 0.5",
    }
    return frame.rows("conjecture", found, note=notes)


def hallucination(
    study: Study, base: Stage1, models: Mapping[str, PromptedModel], name: str
) -> tuple[pandas.DataFrame, dict[str, list[str]]]:
    """Return what every model's greedy answers about the first pictures of a split invent, and the answers.

    `chair_i` is at matched mentions: per picture, all answers are cut to the fewest that any model makes.
    """
    config = dpo.settings(study)
    count = min(len(base.splits[name]), config.tested)
    queries = [base.queries[name][index] for index in range(count)]
    there, size = truths(study, base, name)[:count], study.profile.evaluation.batch_size
    said = {
        model: prompted.answers(
            queries, dpo.QUESTION, greedy(config.max_new_tokens), batch_size=size, what=f"{name}, {model}"
        )
        for model, prompted in models.items()
    }
    read = {model: chair.read(texts, there, study.nameable()) for model, texts in said.items()}
    matched = {model: chair.counts(some)["chair_i"] for model, some in chair.matched(read).items()}
    rows: dict[str, dict[str, frame.Measured]] = {}
    for model, some in read.items():
        whole = chair.counts(some)
        rows[model] = {
            "chair_i": matched[model],
            "chair_i_whole": whole["chair_i"],
            **{what: whole[what] for what in ("object_recall", "length")},
        }
        if model != "start":
            rows[model]["chair_i_change"] = metrics.paired(matched[model], matched["start"])
    mentions = sum(next(iter(matched.values())).among)
    about = f"first {count} of {name}, at most {config.max_new_tokens} tokens, greedy"
    notes = {
        "chair_i": f"{about}; at matched mentions, {mentions:.0f}",
        "chair_i_whole": f"{about}; whole answers",
        "object_recall": f"{about}; whole answers",
        "length": f"{about}; mean",
        "chair_i_change": f"{about}; at matched mentions, minus the start's, paired by picture",
    }
    return frame.rows("conjecture", rows, note=notes), said
