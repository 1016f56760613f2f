"""The second stage's data, from the pool's pictures to a folder (paper, section 3.2): notebooks 03 and 04.

The steps are those of `describe`, `repair` or `rewrite`, and `curate`; here stands their order. All that was
made before with the same settings is found again.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from mglib.curate import Curation, curate, write
from mglib.describe import CONTINUE, QUESTION, Description, describe
from mglib.dialogue import turns
from mglib.generate import Decoding
from mglib.model import MiniGPT4
from mglib.paths import CACHE, ROOT, code_key, sha256
from mglib.prompts import template
from mglib.repair import repair
from mglib.review import verdicts
from mglib.rewrite import rewrite
from mglib.study import Study

FOLDER = CACHE / "curated"


def curated(
    study: Study,
    model: MiniGPT4,
    state: Path,
    queries: Sequence[Tensor],
    rewriter: Callable[[str], str] = repair,
    *,
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
    curation = curate(described, texts, form=config.form, verdicts=verdicts(verdict_log(study)))
    about = {
        "profile": study.profile.name,
        "seed": study.seed,
        "language model": study.profile.language.name,
        "stage 1": sha256(state),
        "questions": [QUESTION, CONTINUE],
        "answers": f"at most {config.max_new_tokens} tokens each; continued after {config.short} or fewer",
        "rewriter": getattr(rewriter, "__name__", type(rewriter).__name__),
    }
    return curation, write(curation, pool(study), FOLDER, about)


def pool(study: Study) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the bytes of each picture of the pool."""
    return ((pair.key, pair.picture) for pair in study.pool())


def descriptions(study: Study, model: MiniGPT4, state: Path, queries: Sequence[Tensor]) -> list[Description]:
    """Let the stage-1 model describe the pool, with the official sampling at the study's seed."""
    config, tokenizer = study.profile.curation, model.language.tokenizer
    split = study.split("pool")
    return describe(
        model,
        queries,
        [image_id for image_id, _ in pool(study)],
        turns(template(study.profile.language.template, tokenizer), tokenizer),
        Decoding(max_new_tokens=config.max_new_tokens, seed=study.seed),
        short=config.short,
        folder=FOLDER,
        depends=[sha256(state), split.key(), study.weights, study.dtype, code_key("model", "language")],
        batch_size=config.batch_size,
    )


def verdict_log(study: Study) -> Path:
    """Where a person's verdicts on a profile's texts are kept; the file is there only after a review."""
    return ROOT / "data" / "verdicts" / f"{study.profile.name}.jsonl"
