"""What the notebooks of a profile cost, and `make pretrain` and `make tune`, known before they run: FLOP part
by part, and minutes on a machine.

A product costs 2 FLOP for each weight and position on the way forward, as many again where a gradient passes
through, and as many once more where the weights learn. Answers are taken to be as long as they may get and
nothing to be kept from an earlier run, so most runs are a little shorter. Attention's own products are left
out but for the encoder: at these lengths they are small.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from mglib.config import Profile, TrainConfig
from mglib.evals.checklist import CHECKLISTS
from mglib.evals.pope import PAIRS, WAYS
from mglib.experiments import abilities
from mglib.experiments import described as spoken
from mglib.study.flops import PROMPT, Sizes
from mglib.study.machine import Machine
from mglib.study.study import Study
from mglib.world.scene import PRETRAIN, SPECIALS, length

# The share of its ceiling (`model.device.gflops`) that a processor reaches at each kind of work. Measured
# on two cores with and without bf16 instructions; batches of text are short and writing reads all weights for
# each token, so the faster the products, the less they decide.
SHARES = {"encode": 0.55, "train": 0.45, "read": 0.45, "write": 0.2}
# Seconds of a notebook that are no products: imports, figures, tables, hashes.
START = 25.0
DRAWN = 20  # pictures of the small world a second and thread
GRAPH = 5  # GQA's questions about a picture, about
OPTIONS = 4  # of A-OKVQA's questions
SENTENCES = 3  # of a description, about


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a notebook's work."""

    notebook: str  # its number
    what: str
    kind: str  # of SHARES
    flops: float


@lru_cache
def parts(profile: Profile) -> list[Part]:
    """List the work of all notebooks of a profile that has a small world; none for any other
    (`mglib.fullscale.plan` says what those cost).
    """
    if profile.world is None:
        return []
    sizes = Sizes.of(profile)
    each = {"01": encoder, "02": stage1, "03": curation, "04": stage2, "05": tables, "06": limitations}
    return [
        Part(notebook=number, what=what, kind=kind, flops=flops)
        for number, list_work in each.items()
        for what, kind, flops in list_work(profile, sizes)
    ]


Work = Iterable[tuple[str, str, float]]  # what it is, its kind, FLOP


def tests(profile: Profile) -> int:
    """Count the pictures of the three test splits."""
    world = profile.world
    return world.test_seen + world.test_new_pairs + world.test_new_objects


def encoder(profile: Profile, sizes: Sizes) -> Work:
    """Notebook 01: the pictures' tokens, captions of val and the tests."""
    few = profile.world.val + tests(profile)
    yield "pictures encoded", "encode", few * sizes.picture
    yield "queries kept", "encode", few * sizes.look
    written = 2 * profile.evaluation.max_new_tokens * (sizes.writer + sizes.writer_head)
    yield "captions of BLIP-2", "write", few * (written + 2 * sizes.queries * sizes.writer)


def pretraining(profile: Profile) -> list[Part]:
    """List the work of `make pretrain`, which comes before all notebooks."""
    return [
        Part(notebook="", what=what, kind=kind, flops=flops)
        for what, kind, flops in blip2(profile, Sizes.of(profile))
    ]


def blip2(profile: Profile, sizes: Sizes) -> Work:
    """BLIP-2 mini: its pictures' tokens and its three trainings."""
    taught = profile.pretrain
    yield "pictures encoded", "encode", length(profile.world, PRETRAIN) * sizes.picture
    run, words = taught.caption_lm.train, taught.caption_lm.train.max_answer
    both = sizes.writer + sizes.writer_head
    yield "caption LM", "train", run.steps * run.batch_size * 6 * (2 * words * sizes.writer + words * both)
    # Queries with text, text alone, and half as many pairs to match: each passes the Q-Former forward and,
    # with its gradients, twice again.
    run, longer = taught.representation, 1 + taught.max_text / sizes.queries
    passes = 1.5 * longer + taught.max_text / sizes.queries
    yield "representation", "train", run.steps * (run.batch_size * 3 * passes * sizes.look + sizes.muon)
    run = taught.generative
    through = 4 * (sizes.writer * (sizes.queries + run.max_answer) + sizes.writer_head * run.max_answer)
    yield "generative", "train", run.steps * (run.batch_size * (3 * sizes.look + through) + sizes.muon)


def stage1(profile: Profile, sizes: Sizes) -> Work:
    """Notebook 02: stage 1 with its controls and its faults."""
    run, asked, world = profile.stage1, profile.evaluation, profile.world
    answer = run.max_answer
    yield "pictures encoded", "encode", world.train * (sizes.picture + sizes.look)
    yield "stage 1", "train", sizes.learn(run.steps * run.batch_size, answer, answer)
    both = tests(profile) + 3 * world.test_seen  # the model itself, and its controls on the first split
    looked = (len(run.keep) + 1) * world.val + both
    yield "losses of captions", "read", sizes.read(looked, answer, answer)
    shown = (len(run.keep) + 1) * asked.shown + both
    yield "captions", "write", sizes.write(shown, asked.max_new_tokens, prompt=1)
    faults = 2 * min(world.val, asked.fault_pictures)
    yield "descriptions", "write", sizes.write(faults, asked.fault_tokens)


def curation(profile: Profile, sizes: Sizes) -> Work:
    """Notebook 03: the pool described and read by the critic."""
    chosen, world = profile.curation, profile.world
    yield "pool encoded", "encode", world.pool * (sizes.picture + sizes.look)
    yield "descriptions", "write", sizes.write(world.pool, chosen.max_new_tokens)
    yield "critic", "read", 2 * world.pool * SENTENCES * sizes.look


def stage2(profile: Profile, sizes: Sizes) -> Work:
    """Notebook 04: stage 2 with its variants, and Table 3."""
    run, asked = profile.stage2, profile.evaluation
    if run is None:
        return
    text = PROMPT + described(profile)
    yield "stage 2", "train", sizes.learn(run.steps * run.batch_size, text, text - PROMPT)
    others = 2 if profile.curation.fitting is None else 3
    yield "on other texts", "train", sizes.learn(others * run.steps * run.batch_size, text, text - PROMPT)
    failures = min(profile.world.test_seen, asked.failure_pictures)
    yield "Table 3", "write", sizes.write(12 * failures + 6 * 4, asked.failure_tokens)


def described(profile: Profile) -> int:
    """Return the tokens of a text of stage 2, about: what was written for it, mended."""
    return min(profile.stage2.max_answer, profile.curation.max_new_tokens)


def tables(profile: Profile, sizes: Sizes) -> Work:
    """Notebook 05: Tables 1, 2, 4 to 8, POPE."""
    asked, world = profile.evaluation, profile.world
    special = len(SPECIALS) * world.special_test
    yield "special pictures encoded", "encode", special * (sizes.picture + sizes.look)
    yield "Table 1", "write", sizes.write(6 * len(CHECKLISTS) * world.special_test, asked.task_tokens)
    few = min(world.test_seen, asked.described_pictures)
    yield "Tables 2 and 5, long", "write", sizes.write(8 * few, asked.long_tokens)
    yield "Table 5, short", "write", sizes.write(2 * few, asked.brief_tokens)
    polls = (2 + 3 / 4) * len(WAYS) * 2 * PAIRS * min(world.test_seen, asked.pope_pictures) / 2
    yield "POPE", "write", sizes.write(polls, asked.short_tokens)
    models = 2 + 1
    if profile.ablation:
        yield from arms(profile, sizes)
        models += 4 + 2 + 1  # the arms, blank and shuffled pictures, the ways of asking on a part of val
    if profile.lora:
        run = profile.lora.train
        yield "LoRA", "train", sizes.learn(run.steps * run.batch_size, PROMPT, run.max_answer)
    choice, graph = (min(world.test_seen, count) for count in (asked.choice_pictures, asked.graph_pictures))
    yield "Tables 4 and 7, choices", "read", sizes.choose(models * choice, OPTIONS, 4)
    yield (
        "Tables 4 and 7, answers",
        "write",
        sizes.write(models * (choice + GRAPH * graph), asked.short_tokens),
    )
    along = len(profile.stage1.keep) * min(world.test_seen, asked.along_pictures)
    yield "Table 8", "write", sizes.write(along, asked.max_new_tokens, prompt=1)


def arms(profile: Profile, sizes: Sizes) -> Work:
    """The ablation: four arms."""
    run = profile.ablation.train
    yield "arms", "train", four_arms(sizes, run, run.steps)


def four_arms(sizes: Sizes, run: TrainConfig, steps: int) -> float:
    """FLOP of as many steps of every arm."""
    samples = steps * run.batch_size
    return 4 * (sizes.learn(samples, run.max_answer, run.max_answer) + samples * sizes.look)


def limitations(profile: Profile, sizes: Sizes) -> Work:
    """Notebook 06: hallucination, space, composition, and the two conjectures."""
    asked, world = profile.evaluation, profile.world
    few = sum(
        min(count, asked.limit_pictures)
        for count in (world.test_seen, world.test_new_pairs, world.test_new_objects)
    )
    yield "long answers", "write", sizes.write(few, asked.limit_tokens)
    yield "short answers", "write", sizes.write(few, asked.limit_short_tokens)
    yield "attention", "read", sizes.read(min(world.test_seen, asked.limit_pictures), PROMPT * 2, 0)
    yield "mirrored pictures", "encode", world.test_seen * (sizes.picture + sizes.look)
    # Some two relations a picture with two answers each, of two models, on both sides of the mirror.
    yield "space", "read", sizes.choose(2 * 2 * 2 * world.test_seen, 2, 2)
    if profile.spatial:
        run = profile.spatial.train
        samples = 2 * run.steps * run.batch_size
        yield "spatial captions", "train", sizes.learn(samples, run.max_answer, run.max_answer)
    if profile.preference:
        yield from preferences(profile, sizes)


def preferences(profile: Profile, sizes: Sizes) -> Work:
    """Learning from a critic: two answers a pair, read once more by the model that it started from."""
    chosen, run = profile.preference, profile.preference.train
    pool = min(profile.world.pool, chosen.pictures)
    yield "preferences", "train", compared_pairs(profile, sizes, 3 * run.steps)
    answers = chosen.samples * pool + 4 * (
        pool / chosen.hold_out + min(profile.world.test_seen, chosen.tested)
    )
    yield "answers to compare", "write", sizes.write(answers, chosen.max_new_tokens)


def compared_pairs(profile: Profile, sizes: Sizes, steps: int) -> float:
    """FLOP of as many steps on pairs of answers, read once more by the model that they started from."""
    chosen = profile.preference
    text = PROMPT + chosen.max_new_tokens
    return 1.5 * sizes.learn(2 * steps * chosen.train.batch_size, text, text - PROMPT)


# --- `make tune` ---


def tuning(profile: Profile, names: Iterable[str]) -> list[Part]:
    """List the work of some grids of `make tune` beside what the notebooks keep."""
    sizes = Sizes.of(profile)
    each = {
        "stage1": tried_stage1,
        "temperatures": tried_temperatures,
        "stage2": tried_stage2,
        "decoding": tried_decoding,
        "descriptions": tried_descriptions,
        "arms": tried_arms,
        "preferences": tried_preferences,
    }
    return [
        Part(notebook="", what=f"{name}: {what}", kind=kind, flops=flops)
        for name in names
        for what, kind, flops in each[name](profile, sizes)
    ]


def tried_stage1(profile: Profile, sizes: Sizes) -> Work:
    """Whole runs of stage 1, each with its captions and descriptions of val."""
    run, asked, val = profile.stage1, profile.evaluation, profile.world.val
    count, answer = len(profile.stage1_trials), run.max_answer
    samples = sum(one.steps for one in profile.stage1_trials) * run.batch_size
    yield "runs", "train", sizes.learn(samples, answer, answer)
    yield "losses", "read", sizes.read(count * val, answer, answer)
    yield "captions", "write", sizes.write(count * val, asked.max_new_tokens, prompt=1)
    long = count * min(val, asked.fault_pictures)
    yield "descriptions", "write", sizes.write(long, asked.fault_tokens)


def tried_temperatures(profile: Profile, sizes: Sizes) -> Work:
    """Descriptions of val at each temperature, read by the critic."""
    chosen = profile.curation
    count = min(profile.world.val, chosen.val_pictures) * len(chosen.temperatures)
    yield "descriptions", "write", sizes.write(count, chosen.max_new_tokens)
    yield "critic", "read", count * SENTENCES * sizes.look


def tried_stage2(profile: Profile, sizes: Sizes) -> Work:
    """Short runs of stage 2."""
    text, count = described(profile), len(profile.stage2_rates)
    samples = count * profile.stage2_rate_steps * profile.stage2.batch_size
    yield "runs", "train", sizes.learn(samples, PROMPT + text, text)
    held = count * profile.world.pool // profile.stage2_hold_out
    yield "losses", "read", sizes.read(held, PROMPT + text, text)


def tried_decoding(profile: Profile, sizes: Sizes) -> Work:
    """Answers about val's special pictures; those of the caption models cost little."""
    val, study = profile.world.special_val, Study.of(profile, seed=0, weights="")
    yield "pictures encoded", "encode", len(SPECIALS) * val * (sizes.picture + sizes.look)
    count = len(abilities.decodings(study)) * len(CHECKLISTS) * val
    yield "answers", "write", sizes.write(count, profile.evaluation.task_tokens)


def tried_descriptions(profile: Profile, sizes: Sizes) -> Work:
    """Descriptions of val; those of the caption model cost little."""
    asked, study = profile.evaluation, Study.of(profile, seed=0, weights="")
    few = min(profile.world.val, asked.described_pictures // 2)
    yield "descriptions", "write", sizes.write(len(spoken.decodings(study)) * few, asked.long_tokens)


def tried_arms(profile: Profile, sizes: Sizes) -> Work:
    """Short runs of every arm."""
    chosen, run = profile.ablation, profile.ablation.train
    yield "runs", "train", four_arms(sizes, run, len(chosen.rates) * chosen.rate_steps)
    looked = 4 * len(chosen.rates) * profile.world.val
    yield "losses", "read", sizes.read(looked, run.max_answer, run.max_answer)


def tried_preferences(profile: Profile, sizes: Sizes) -> Work:
    """Short runs on the pairs of the answers about the pool, which are written for that."""
    chosen, pool = profile.preference, min(profile.world.pool, profile.preference.pictures)
    yield "runs", "train", compared_pairs(profile, sizes, len(chosen.rates) * chosen.rate_steps)
    yield "answers to compare", "write", sizes.write(chosen.samples * pool, chosen.max_new_tokens)


def seconds(work: Iterable[Part], machine: Machine) -> float:
    """Return how long some parts take on a machine, without what is no product."""
    return sum(part.flops / (SHARES[part.kind] * machine.ceiling * 1e9) for part in work)


def expected(profile: Profile, machine: Machine) -> dict[str, float]:
    """Return the seconds of each notebook, by its number; of none where nothing is known beforehand."""
    work = parts(profile)
    found = {
        number: START + seconds((part for part in work if part.notebook == number), machine)
        for number in dict.fromkeys(part.notebook for part in work)
    }
    if found:
        found["01"] += pictures(profile) / DRAWN / machine.threads
    return found


def pictures(profile: Profile) -> int:
    """Count the pictures of the small world."""
    world = profile.world
    special = len(SPECIALS) * (world.special_val + world.special_test)
    return world.train + world.pool + world.val + tests(profile) + special
