"""The second stage's data, from the pool's pictures to a folder (paper, section 3.2): notebooks 03 and 04.

The steps are those of `describe`, `repair` or `rewrite`, `critic`, and `curate`; here stands their order. All
that was made before with the same settings is found again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
from torch import Tensor

from mglib.curation.critic import sentence_scores
from mglib.curation.describe import CONTINUE, QUESTION, Description, describe
from mglib.curation.repair import repair, sentences
from mglib.curation.rewrite import rewrite
from mglib.curation.select import Curation, curate, write
from mglib.curation.verdicts import verdicts
from mglib.metrics import Estimate, ratio
from mglib.model.decoding import Decoding
from mglib.model.dialogue import turns
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import template
from mglib.paths import CACHE, ROOT, sha256
from mglib.study.stage1 import Stage1
from mglib.study.study import Study

FOLDER = CACHE / "curated"
NOT_LOOKED = "nobody compared texts with pictures"

# How well each sentence of each text fits the text's picture, among the texts' pictures.
Critic = Callable[[Sequence[Tensor], Sequence[str]], list[list[float]]]


@dataclass(frozen=True)
class Verifier:
    """Keeps the `share` of all sentences that fit their pictures best.

    `tokens` are the vision tokens of the pool's pictures, (N, D_v) each; the critic has seen captions alone.
    """

    critic: Critic
    tokens: Sequence[Tensor]
    share: float

    def limit(self, scores: Sequence[Sequence[float]]) -> float:
        """Return the score that a sentence needs, of the scores of all sentences of all texts."""
        return float(numpy.quantile([score for each in scores for score in each] or [0.0], 1 - self.share))

    def fitting(self, texts: Sequence[str | None]) -> tuple[list[str], float]:
        """Return what is left of each text of the pool, in order, and the score that was needed."""
        written = [text or "" for text in texts]
        scores = self.critic(self.tokens, written)
        limit = self.limit(scores)
        left = [
            " ".join(one for one, score in zip(sentences(text), each, strict=True) if score >= limit)
            for text, each in zip(written, scores, strict=True)
        ]
        return left, limit


def curated(
    study: Study,
    model: MiniGPT4,
    state: Path,
    queries: Sequence[Tensor],
    rewriter: Callable[[str], str] = repair,
    *,
    verifier: Verifier | None = None,
    workers: int = 1,
) -> tuple[Curation, Path]:
    """Curate the pool with the stage-1 model and return what became of each picture, and the folder.

    `state` is the file of the stage-1 weights, `queries` the Q-Former's output for each picture of the pool,
    (Q, D_q). The folder is one of `cc_sbu_align`; its name changes with its content. A person's verdicts
    count where there are some. Raises ValueError when nothing is kept.
    """
    config = study.profile.curation
    described = descriptions(study, model, state, queries)
    texts = rewrite(rewriter, [one.text for one in described], workers=workers)
    fitting, limit = verifier.fitting(texts) if verifier else (texts, None)
    curation = curate(
        described,
        texts,
        fitting=fitting,
        well_formed=config.well_formed,
        verdicts=verdicts(verdict_log(study)),
    )
    about = {
        "profile": study.profile.name,
        "seed": study.seed,
        "language model": study.profile.language.name,
        "stage 1": sha256(state),
        "questions": [QUESTION, CONTINUE],
        "answers": f"at most {config.max_new_tokens} tokens each; continued after {config.short} or fewer",
        "temperature": config.temperature,
        "rewriter": getattr(rewriter, "__name__", type(rewriter).__name__),
        "critic": NOT_LOOKED if limit is None else looked(limit, texts, fitting),
    }
    return curation, write(curation, pool(study), FOLDER, about)


def looked(limit: float, texts: Sequence[str | None], fitting: Sequence[str | None]) -> dict[str, float]:
    """Count the sentences that the critic saw and those that fit."""
    before, after = (sum(len(sentences(text or "")) for text in group) for group in (texts, fitting))
    return {"limit": limit, "sentences": before, "fitting": after}


def pool(study: Study) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the bytes of each picture of the pool; a key with folders becomes a file's name."""
    return ((pair.key.removeprefix("./").replace("/", "_"), pair.picture) for pair in study.pool())


def descriptions(study: Study, model: MiniGPT4, state: Path, queries: Sequence[Tensor]) -> list[Description]:
    """Let the stage-1 model describe the pool, with the official sampling at the study's seed."""
    ids = [image_id for image_id, _ in pool(study)]
    return sampled(study, model, state, queries, ids, "pool", study.profile.curation.temperature)


def sampled(
    study: Study,
    model: MiniGPT4,
    state: Path,
    queries: Sequence[Tensor],
    ids: Sequence[str],
    split: str,
    temperature: float,
) -> list[Description]:
    """Let the stage-1 model describe pictures of a split at a temperature."""
    config, tokenizer = study.profile.curation, model.language.tokenizer
    return describe(
        model,
        queries,
        ids,
        turns(template(study.profile.language.template, tokenizer), tokenizer),
        Decoding(max_new_tokens=config.max_new_tokens, temperature=temperature, seed=study.seed),
        short=config.short,
        folder=FOLDER,
        depends=[
            sha256(state),
            study.split(split).key(),
            study.weights,
            study.dtype,
        ],
        batch_size=config.batch_size,
    )


def temperatures(
    study: Study,
    model: MiniGPT4,
    state: Path,
    queries: Sequence[Tensor],
    tokens: Sequence[Tensor],
    critic: Critic,
) -> dict[float, Estimate]:
    """Describe the same pictures of val at each candidate temperature: how well the sentences fit, by the
    critic.

    `queries` (Q, D_q) and `tokens` (N, D_v) of each picture. The critic is no metric of the evaluation.
    """
    count = min(len(queries), study.profile.curation.val_pictures)
    shown = [queries[place] for place in range(count)]
    seen = [tokens[place] for place in range(count)]
    found = {}
    for temperature in study.profile.curation.temperatures:
        made = sampled(study, model, state, shown, [str(place) for place in range(count)], "val", temperature)
        scores = critic(seen, [repair(one.text) for one in made])
        found[temperature] = ratio([sum(each) for each in scores], [len(each) for each in scores])
    return found


def verdict_log(study: Study) -> Path:
    """Where a person's verdicts on a profile's texts are kept; the file is there only after a review."""
    return ROOT / "data" / "verdicts" / f"{study.profile.name}.jsonl"


def curation_of(
    study: Study,
    base: Stage1,
    rewriter: Callable[[str], str] = repair,
    *,
    critical: bool = True,
    workers: int = 1,
) -> tuple[Curation, Path]:
    """Curate the pool with the stage-1 model, or find the curated folder again; with the profile's critic or
    without one.
    """
    return curated(
        study,
        base.model,
        base.trained.state,
        base.queries["pool"],
        rewriter,
        verifier=verifier(study, base) if critical else None,
        workers=workers,
    )


def critic(study: Study, base: Stage1) -> Critic:
    """Return BLIP-2's contrast as a critic of sentences about pictures, given by their vision tokens.

    Raises ValueError where the Q-Former comes without its text branch.
    """
    if base.blip2 is None:
        raise ValueError(
            "The released Q-Former is read without its text branch, so it cannot judge texts: set "
            "`fitting` to None and `temperatures` to () in the profile's curation."
        )
    return partial(
        sentence_scores,
        base.blip2.representation,
        tokenizer=base.blip2.language.tokenizer,
        max_text=study.profile.pretrain.max_text,
    )


def verifier(study: Study, base: Stage1) -> Verifier | None:
    """Return what keeps a sentence that fits its picture, where the profile asks for it."""
    share = study.profile.curation.fitting
    return None if share is None else Verifier(critic(study, base), base.tokens["pool"], share)
