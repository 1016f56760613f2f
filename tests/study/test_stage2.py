"""Stage 2 on a tiny model: what is trained, what is asked, where it is kept, and its limits."""

import pytest
import torch
from tiny_parts import tiny_study

from mglib.model import prompts
from mglib.model.prompts import IGNORE, VICUNA
from mglib.study import train as study_train
from mglib.study.models import INSTRUCTIONS, PromptedModel
from mglib.study.stage2 import Stage2Data, instructed, train_stage2

TEXTS = ["A dog sits in the park. It is brown.", "Two birds fly over the sea!", "A cat.", "A red bus waits."]
ASKED = tuple(map(prompts.with_image, INSTRUCTIONS))


@pytest.fixture
def tiny(tmp_path, monkeypatch, vision_config):
    return tiny_study(tmp_path, monkeypatch, vision_config)


@pytest.fixture
def queries(random) -> list[torch.Tensor]:
    return list(torch.randn(4, 3, 32, generator=random))


def learn(study, start, queries, texts=TEXTS, *, template=VICUNA, what="x", **changes):
    """Run stage 2 from a model."""
    one, data = PromptedModel(model=start, template=template), Stage2Data(list(queries), list(texts))
    after, run = train_stage2(study, one, data, what=what, **changes)
    return after.model, run


def test_only_a_copy_of_the_projection_learns(tiny, model, queries):
    start = model()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    trained, run = learn(tiny, start, queries)
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    changed = {name for name, value in trained.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"projection.weight", "projection.bias"}
    assert len(run.log) == 6 and not any(p.requires_grad for p in trained.parameters())


def test_the_folder_depends_on_all_that_matters(tiny, model, queries, train_config, monkeypatch):
    start = model()

    def folder(*, start=start, queries=queries, **changes):
        return learn(tiny, start, queries, **changes)[1].folder

    other = [
        folder(start=model(seed=1)),
        folder(queries=[2 * each for each in queries]),
        folder(texts=TEXTS[::-1]),
        folder(template=prompts.CAPTION),
        folder(questions=ASKED[:1]),
        folder(config=train_config(max_answer=40, steps=4)),
    ]
    assert len({folder(), *other}) == len(other) + 1
    own = folder()
    assert folder() == folder(what="another name") == own  # the name is only a label
    monkeypatch.setattr(study_train, "hash_source", lambda *roots: "changed")
    assert folder() != own


def test_a_batch_is_asked_one_of_the_official_instructions(model, tokenizer):
    layout = instructed(model(), VICUNA, ASKED, 40, seed=0)
    seen = set()
    for number in range(60):
        batch = layout([f"text {number}", "A dog."])
        asked = [
            tokenizer.decode(ids[mask.bool() & ~slots & (labels == IGNORE)])
            for ids, mask, slots, labels in zip(
                batch["ids"], batch["mask"], batch["slots"], batch["labels"], strict=True
            )
        ]
        found = {one for one in INSTRUCTIONS for text in asked if one in text}
        assert len(found) == 1
        seen |= found
    assert seen == set(INSTRUCTIONS)
    assert layout(["x", "y"])["ids"].equal(layout(["x", "y"])["ids"])


def test_texts_are_taken_as_they_are_and_end_with_the_symbol(model, tokenizer):
    batch = instructed(model(), VICUNA, ASKED, 60, seed=0)(["A Dog, no: 2 Dogs!"])
    labels = batch["labels"][0]
    assert tokenizer.decode(labels[labels != IGNORE]) == "A Dog, no: 2 Dogs!###"


def test_what_the_language_model_cannot_read_is_refused(model):
    layout = instructed(model(), VICUNA, ASKED, 300, seed=0)
    with pytest.raises(ValueError, match="reads 256: lower `max_answer`"):
        layout(["a very long text " * 100])
