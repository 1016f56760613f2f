"""The published files that a profile needs: which are missing, and which are something else."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from webdataset.shardlists import expand_urls

from mglib.config import LlamaShape, Profile, ReleaseConfig
from mglib.data import released
from mglib.data.shards import present
from mglib.errors import needed
from mglib.fullscale.plan import plan
from mglib.paths import DOWNLOADS, shown
from mglib.profiles import PROFILES
from mglib.settings import Settings
from mglib.weights.chosen import answer_end, tokenizer_of
from mglib.weights.files import not_weights
from mglib.weights.vicuna import require

STAGE2 = "stage 2 needs the official cc_sbu_align.zip"
COCO = "the notebooks evaluate on COCO's val2017 and its annotations (cocodataset.org)"
# The files of stage 2 and of the evaluation, and what each is for.
DATA = {
    f"{released.CC_SBU_ALIGN}/filter_cap.json": STAGE2,
    f"{released.CC_SBU_ALIGN}/image": STAGE2,
    **dict.fromkeys((released.COCO_IMAGES, released.COCO_CAPTIONS, released.COCO_INSTANCES), COCO),
    released.AOKVQA: "notebook 05 asks the questions of A-OKVQA (github.com/allenai/aokvqa)",
    **dict.fromkeys(
        (released.GQA_IMAGES, *released.GQA.values()),
        "notebook 05 asks the questions of GQA (cs.stanford.edu/people/dorarad/gqa)",
    ),
}


def require_full_size(settings: Settings) -> None:
    """Raise ValueError for a profile without published files."""
    known = [name for name, each in PROFILES.items() if each.release is not None]
    if settings.profile not in known:
        raise ValueError(
            f"The profile {settings.profile} is made from no published files: take one of {', '.join(known)}."
        )


def check(settings: Settings) -> bool:
    """Print a profile's plan and what is missing on disk; returns True if nothing is."""
    require_full_size(settings)
    chosen = settings.found()
    print(plan(chosen))
    faults = missing(chosen) + gaps(chosen)
    for sentence in (*faults, *remarks(chosen)):
        print(sentence, file=sys.stderr)
    if not faults:
        print(f"Everything is there: {settings.command('train', GPUS=4)}")
    return not faults


def missing(chosen: Profile, folder: Path = DOWNLOADS) -> list[str]:
    """Return an error message for each published file that is not where it should be, or is another file."""
    release, faults = needed(chosen.release, "a profile of published files"), []
    for path in (folder / name for name in (release.vision, release.qformer) if name):
        absent = "is not there: mglib/weights/official.py says where it is published."
        if problem := not_weights(path) if path.is_file() else absent:
            faults.append(f"{shown(path)} {problem}")
    if (place := chosen.language.place) is None:
        faults += missing_language(folder / release.language, release.llama)
    else:
        faults += raised(lambda: answer_end(tokenizer_of(place)))
    if release.quantised:
        faults += raised(lambda: require("bitsandbytes", f"loading in {release.quantised}"))
    named: set[str] = set()  # the pool's shards are among those of stage 1
    for source, pattern in (*((one.name, one.shards) for one in release.web), ("the pool", release.pool)):
        shards = expand_urls(str(folder / pattern))
        if source != "the pool" and any(Path(shard).is_file() for shard in present(str(folder / pattern))[0]):
            continue  # any shards will do; `gaps` names those missing between them
        lacking = [shard for shard in shards if not Path(shard).is_file() and shard not in named]
        named.update(lacking)
        if lacking:
            faults.append(
                f"{len(lacking):,} of the {len(shards):,} shards of {source} are not there, the first is "
                f"{shown(Path(lacking[0]))}: download the pairs with img2dataset (docs/scaling.md)."
            )
    return faults + [
        f"{shown(folder / name)} is not there: {why}."
        for name, why in DATA.items()
        if not (folder / name).exists()
    ]


def raised(check: Callable[[], object]) -> list[str]:
    """Return the message of the error that a check raises, if any."""
    try:
        check()
    except (RuntimeError, ValueError) as error:
        return [str(error)]
    return []


def gaps(chosen: Profile, folder: Path = DOWNLOADS) -> list[str]:
    """Return a message for each source with gaps in its numbered shards: most likely a failed download."""
    return [
        f"{len(absent):,} shards between others of {web.name} are not there, the first is "
        f"{shown(Path(absent[0]))}: download them, or go on without them with ALLOW_MISSING=1."
        for web in needed(chosen.release, "a profile of published files").web
        if (absent := present(str(folder / web.shards))[1])
    ]


def remarks(chosen: Profile, folder: Path = DOWNLOADS) -> list[str]:
    """Return a message for everything optional that is missing, and for unexpected numbers of shards."""
    release = needed(chosen.release, "a profile of published files")
    found = other_numbers(release, folder)
    if release.projection and not (path := folder / release.projection).is_file():
        found.insert(0, f"{shown(path)} is not there: the shortcut past stage 1 needs it, training does not.")
    return found


def other_numbers(release: ReleaseConfig, folder: Path = DOWNLOADS) -> list[str]:
    """Return a message for each source with more or fewer shards on disk than the profile names."""
    found = []
    for source in release.web:
        there, named = present(str(folder / source.shards))[0], list(expand_urls(source.shards))
        if len(there) != len(named):
            found.append(
                f"{len(there):,} shards of {source.name} are there, and stage 1 trains on them; the profile "
                f"names {len(named):,}."
            )
    return found


def missing_language(folder: Path, wanted: LlamaShape) -> list[str]:
    """Return what is wrong with a language model's folder, judging by its configuration and the beginnings of
    its weights.
    """
    path = folder / "config.json"
    if not path.is_file():
        return [
            f"{shown(path)} is not there: put a transformers folder there (Vicuna v0: "
            "`mglib.weights.vicuna.merge_delta`)."
        ]
    config, shape = json.loads(path.read_text(encoding="utf-8")), asdict(wanted).items()
    wrong = [f"{key} {config.get(key)} for {value}" for key, value in shape if config.get(key) != value]
    if wrong:
        return [f"{shown(path)} describes another model ({', '.join(wrong)}): take the profile's own."]
    files = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if not files:
        return [f"{shown(folder)} holds no weights, neither model*.safetensors nor pytorch_model*.bin."]
    return [f"{shown(file)} {problem}" for file in sorted(files) if (problem := not_weights(file))]
