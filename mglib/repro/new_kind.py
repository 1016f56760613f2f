"""A demonstration of fine-tuning: a kind of object that the profile has never seen is learnt from a few
pictures and then named in others. `python -m mglib new-kind`; it publishes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mglib.chat.answer import answer
from mglib.chat.chat_model import ChatModel, load
from mglib.chat.finetune import finetune
from mglib.config import WorldConfig
from mglib.evals.generate import losses
from mglib.metrics import Counts, Estimate, each, paired
from mglib.model.decoding import greedy
from mglib.model.prompts import CAPTION, template, with_image
from mglib.paths import CACHE, RUNS, write_text
from mglib.settings import Settings
from mglib.study.models import INSTRUCTIONS
from mglib.study.study import Study
from mglib.weights import sources
from mglib.world import catalog
from mglib.world.build import Sample, make
from mglib.world.scene import sample
from mglib.world.text import mentions

SPLIT = "test_new_objects"  # its scenes hold objects that no training text names
# Its own seed: none of these pictures is one of a test split.
WORLD = WorldConfig(seed=20, train=0, pool=0, val=0, test_seen=0, test_new_pairs=0, test_new_objects=10_000)
LEARNT, TESTED = 40, 40  # pictures
TOKENS = 40  # of an answer


def drawn(kind: str) -> Iterator[Sample]:
    """Yield scenes that contain a kind of object, with their texts."""
    font, index = sources.font(), 0
    while True:
        if kind in sample(WORLD, SPLIT, index).names:
            yield make(WORLD, font, SPLIT, index)
        index += 1


def write(folder: Path, samples: Sequence[Sample], kind: str) -> list[Path]:
    """Write pictures, each with a text file: the first reference, by preference one that names the kind."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:02d}.jpg" for number in range(len(samples))]
    for file, one in zip(files, samples, strict=True):
        file.write_bytes(one.jpeg)
        named = [each for each in one.references if kind in each.named] or one.references
        write_text(file.with_suffix(".txt"), named[0].text)
    return files


def named(chat_model: ChatModel, files: Sequence[Path], kind: str) -> list[float]:
    """Return for each picture whether its description names the kind."""
    said = answer(chat_model, files, [INSTRUCTIONS[0]] * len(files), greedy(TOKENS))
    return [float(kind in mentions(text)) for text in said]


def val_losses(study: Study, chat_model: ChatModel) -> dict[str, Counts]:
    """Return the losses on val: of a reference as an answer in the chat template, and of the web caption in
    the form of stage 1, which stage 2 has already moved away from.
    """
    split, model = study.split("val"), chat_model.model
    seen = study.queries(split, study.tokens(split, model.vision), model.qformer)
    form = template(study.profile.language.template, model.language.tokenizer)
    said = [several[0] for several in split.references]
    asked = with_image(INSTRUCTIONS[0])
    longest = study.profile.stage1.max_answer
    found = losses(model, seen, said, form, max_answer=TOKENS, batch_size=16, question=asked)
    first = losses(model, seen, split.captions, CAPTION, max_answer=longest, batch_size=16)
    return {"as asked": Counts(*found), "in stage 1's form": Counts(*first)}


def shown(settings: Settings, kind: str, *, lora: bool, replay: bool) -> dict[str, Estimate | None]:
    """Fine-tune on pictures of a kind and measure, on others, how often it is named before and after, and
    how the losses on val change. Raises ValueError for a kind that is none of the new ones.
    """
    if kind not in catalog.names("new"):  # no scene would ever hold it
        raise ValueError(f"There is no new object {kind!r}: take {', '.join(catalog.names('new'))}.")
    folder = CACHE / "own" / f"new-{kind.replace(' ', '-')}"
    stream = drawn(kind)
    learnt, tested = ([next(stream) for _ in range(count)] for count in (LEARNT, TESTED))
    write(folder / "learnt", learnt, kind)
    files = write(folder / "tested", tested, kind)
    name = f"{settings.name}-new-{kind.replace(' ', '-')}"
    out = RUNS / f"{name}{'-lora' if lora else ''}{'' if replay else '-alone'}"
    first = load(settings)
    study = Study.open(replace(settings, seed=first.origin["seed"], weights=first.origin["weights"]))
    study.draw()
    before, loss = named(first, files, kind), val_losses(study, first)
    finetune(settings, folder / "learnt", out, lora=lora, replay=replay)
    last = load(settings, out)
    after, other = named(last, files, kind), val_losses(study, last)
    found = {"named before": each(before).estimate(), "named after": each(after).estimate()}
    for form, counts in loss.items():
        found |= {
            f"loss on val {form}, before": counts.estimate(),
            f"loss on val {form}, difference": paired(other[form], counts),
        }
    return found
