"""The second stage's data, from the pool's pictures to a folder (paper, section 3.2): notebooks 03 and 04.

The steps in order: `describe`, `repair`, `select`. Results of earlier runs with the same settings are reused.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from torch import Tensor

from mglib.curation.critic import Critic, sentence_scores
from mglib.curation.describe import CONTINUE, QUESTION, Description, describe
from mglib.curation.repair import repair
from mglib.curation.select import Curation, curate, write
from mglib.model.decoding import Decoding
from mglib.model.dialogue import turns
from mglib.model.prompts import template
from mglib.paths import CACHE, sha256
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

FOLDER = CACHE / "curated"


def curation_of(study: Study, base: Stage1, rewriter: Callable[[str], str] = repair) -> tuple[Curation, Path]:
    """Curate the pool with the stage-1 model and return what became of each picture, and the folder.

    `rewriter` returns an empty text for one that it cannot repair. The folder has the layout of
    `cc_sbu_align`; its name depends on its content. Raises ValueError when nothing is kept.
    """
    config = study.profile.curation
    ids = [image_id for image_id, _ in pool(study)]
    described = sampled(study, base, base.queries["pool"], ids, "pool", config.temperature)
    curation = curate(described, [rewriter(one.text) for one in described], config.well_formed)
    about = {
        "profile": study.profile.name,
        "seed": study.seed,
        "language model": study.profile.language.name,
        "stage 1": sha256(base.trained.state),
        "questions": [QUESTION, CONTINUE],
        "answers": f"at most {config.max_new_tokens} tokens each; continued after {config.short} or fewer",
        "temperature": config.temperature,
        "rewriter": getattr(rewriter, "__name__", type(rewriter).__name__),
        "well formed": asdict(config.well_formed),
    }
    return curation, write(curation, pool(study), FOLDER, about)


def pool(study: Study) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the bytes of each picture of the pool; a key with folders becomes a file's name."""
    return ((pair.key.removeprefix("./").replace("/", "_"), pair.picture) for pair in study.pool())


def sampled(
    study: Study,
    base: Stage1,
    queries: Sequence[Tensor],
    ids: Sequence[str],
    split: str,
    temperature: float,
) -> list[Description]:
    """Let the stage-1 model describe pictures of a split, (Q, D_q) each, with the official sampling at a
    temperature and the study's seed.
    """
    config, tokenizer = study.profile.curation, base.model.language.tokenizer
    return describe(
        base.model,
        queries,
        ids,
        turns(template(study.profile.language.template, tokenizer), tokenizer),
        Decoding(max_new_tokens=config.max_new_tokens, temperature=temperature, seed=study.seed),
        short=config.short,
        folder=FOLDER,
        depends=[sha256(base.trained.state), study.split(split).key(), study.weights, study.dtype],
        batch_size=config.batch_size,
    )


def critic(study: Study) -> Critic:
    """Return BLIP-2's contrastive similarity as a critic of sentences about pictures, given as vision tokens.

    Raises ValueError if the Q-Former comes without its text branch.
    """
    blip2 = study.blip2
    return partial(
        sentence_scores,
        blip2.representation,
        tokenizer=blip2.language.tokenizer,
        max_text=study.pretraining.max_text,
    )
