"""Stage 2 (paper, section 3.3): the projection learns on, from detailed descriptions in a conversation.

One function trains MiniGPT-4 and its variants: other texts make the one on Localized Narratives and the
oracle, another model and template make BLIP-2 FT.
"""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict

from torch import Tensor

from mglib.config import TrainConfig
from mglib.data.splits import Pairs
from mglib.model import prompts
from mglib.model.minigpt4 import MiniGPT4
from mglib.model.prompts import Template
from mglib.paths import hash_json
from mglib.study.stages import Trained, train
from mglib.study.study import Study, freeze
from mglib.weights.tensors import hash_tensors

# The official four (`prompts/alignment.txt`).
INSTRUCTIONS = (
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
)
ASKED = tuple(map(prompts.with_image, INSTRUCTIONS))


def stage2(
    study: Study,
    start: MiniGPT4,
    queries: Sequence[Tensor],
    texts: Sequence[str],
    *,
    template: Template,
    questions: Sequence[str] = ASKED,
    config: TrainConfig | None = None,
    what: str = "stage2",
) -> tuple[MiniGPT4, Trained]:
    """Train the projection of `start` on pictures (`queries`, (Q, D_q) each) and their texts, as they are.

    `start` itself stays as it was: the model that is returned has a projection of its own. A batch is asked
    one of `questions`; each holds the picture's place. The texts are not cleaned (official: stage 1's are).
    Raises ValueError where picture, question and answer are more than the language model reads.
    """
    config = config or study.profile.stage2
    model = with_own_projection(start)
    collate = instructed(model, template, questions, config.max_answer, seed=study.seed)
    pairs = Pairs("queries", queries, texts)
    trained = train(
        study,
        model,
        pairs,
        pairs.collate(collate),
        config,
        what,
        hash_tensors(start.projection.state_dict()),
        hash_tensors(dict(enumerate(queries))),
        hash_json(list(texts)),
        hash_json([asdict(template), list(questions)]),
        start.language.settings(),
    )
    freeze(model, trained.state)
    return model, trained


def with_own_projection(start: MiniGPT4) -> MiniGPT4:
    """Share all frozen parts of a model and copy its projection, which alone is to be trained."""
    start.vision.requires_grad_(False)
    start.qformer.requires_grad_(False)
    return start.sharing(projection=deepcopy(start.projection).requires_grad_(True))


def instructed(
    model: MiniGPT4, template: Template, questions: Sequence[str], max_answer: int, *, seed: int
) -> Callable[[list[str]], dict[str, Tensor]]:
    """Return what lays out texts behind a picture and one of the questions, drawn once a batch (official).

    The draw depends on the seed and on the batch itself, so a training that goes on draws the same.
    """
    longest = model.language.model.config.max_position_embeddings
    tokenizer, Q = model.language.tokenizer, model.qformer.config.queries

    def layout(texts: list[str]) -> dict[str, Tensor]:
        question = random.Random(f"{seed}/{hash_json(texts)}").choice(questions)
        asked = [question] * len(texts)
        batch = prompts.training_batch(tokenizer, template, asked, texts, queries=Q, max_answer=max_answer)
        if batch["ids"].shape[1] > longest:
            raise ValueError(
                f"Picture, question and answer take {batch['ids'].shape[1]} tokens and this language model "
                f"reads {longest}: lower `max_answer` of stage 2 (now {max_answer})."
            )
        return batch

    return layout


def hold_out(items: Sequence, every: int) -> tuple[list, list]:
    """Split into those to train on and, from the first on, each `every`-th, which only choices look at."""
    kept = [item for place, item in enumerate(items) if place % every]
    return kept, list(items[::every])
