"""Copy a finished, clean run into notebooks/, results/ and the README: the only way in which they change."""

import base64
import io
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pandas
from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from PIL import Image

from mglib import frame
from mglib.chat.chat_model import MODEL
from mglib.data.records import read_json
from mglib.paths import hash_json, new_folder, write_json, write_text
from mglib.repro import claims, figures, seeds
from mglib.repro.ledger import (
    MINUTES,
    CannotRun,
    Ledger,
    code_cells,
    dependencies,
    source_notebooks,
    with_outputs,
)
from mglib.repro.report import FIELDS, interval, markdown, numbers, records, rounded, style
from mglib.settings import Settings
from mglib.weights.saved import read_config

LARGEST = 1_000_000  # bytes of a published notebook
SEEDS = "seeds"  # the folder of a published run that holds the numbers of each seed
QUALITY, WIDEST = 45, 800  # of a notebook's JPEGs: legible, and ten chats fit
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/home/|/root/|/Users/|/tmp/|/var/folders/|/opt/|\b[A-Z]:\\)[\w.~-]+")
TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WIDGET = "application/vnd.jupyter.widget-view+json"
README_NUMBER = re.compile(r"(<!-- number (\S+) -->).*?(<!-- -->)")
CLAIMS_BLOCK = re.compile(r"(<!-- claims:start -->\n).*?(<!-- claims:end -->)", re.DOTALL)
README_BLOCK = re.compile(r"(<!-- numbers:start\s?(.*?)\s?-->\n).*?(<!-- numbers:end -->)", re.DOTALL)


def clean(notebook: NotebookNode, root: Path) -> NotebookNode:
    """Return a notebook without traces of its run and machine: counts 1..n, only tags, a plain kernel."""
    for cell in code_cells(notebook):
        cell.outputs = [
            shortened(one, f"{root}/")
            for one in cell.outputs
            if one.get("name") != "stderr" and WIDGET not in one.get("data", {})
        ]
    notebook, _ = ClearMetadataPreprocessor(preserve_cell_metadata_mask={"tags"}).preprocess(notebook, {})
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.from_dict(notebook)


def shortened(output: NotebookNode, root: str) -> NotebookNode:
    """Return an output without terminal colours and this machine's paths, its JPEG reduced to the size and
    quality of published notebooks; results/ has the originals.
    """
    if output.output_type == "stream":
        return nbformat.from_dict({**output, "text": TERMINAL_CODE.sub("", output.text).replace(root, "")})
    data = {
        kind: value.replace(root, "") if kind.startswith("text/") else value
        for kind, value in output.get("data", {}).items()
    }
    if "image/jpeg" in data:
        small = io.BytesIO()
        with Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))) as image:
            image.thumbnail((WIDEST, image.height))
            image.save(small, format="jpeg", quality=QUALITY, optimize=True)
        data["image/jpeg"] = base64.b64encode(small.getvalue()).decode()
    return nbformat.from_dict({**output, "data": data}) if data else output


def faults(notebook: NotebookNode) -> list[str]:
    """Return what makes a notebook unfit for publishing; empty if nothing does."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    found = [
        f"an error in its output ({output.ename})" for output in outputs if output.output_type == "error"
    ]
    if any(output.get("name") == "stderr" for output in outputs):
        found.append("progress bars or warnings")
    if "widgets" in notebook.metadata or any(WIDGET in output.get("data", {}) for output in outputs):
        found.append("the state of widgets, which GitHub cannot show")
    texts = [cell.source for cell in notebook.cells] + [output.get("text", "") for output in outputs]
    for output in outputs:
        texts += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    paths = dict.fromkeys(MACHINE_PATH.findall("\n".join(texts)))
    found += [f"a path of this machine ({path})" for path in paths]
    size = len(nbformat.writes(notebook).encode())
    if size > LARGEST:
        found.append(
            f"{size / 1e6:.1f} MB, of which GitHub shows {LARGEST / 1e6:.0f}: make its pictures smaller"
        )
    return found


def publishable(root: Path, settings: Settings) -> dict[str, NotebookNode]:
    """Return a run's notebooks, cleaned; raises CannotRun unless all are finished, current and fit."""
    ledger = Ledger(root / "runs" / settings.folder_name)
    ready, again = {}, f"`{settings.command('reproduce')}`"
    for name, parts in dependencies(root, settings).items():
        if why := ledger.stale(name, parts):
            raise CannotRun(f"{name} is not up to date in {ledger.folder.name} ({why}): run {again} first.")
        source = nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)
        executed = nbformat.read(ledger.folder / f"{name}.ipynb", as_version=4)
        ready[name] = clean(with_outputs(source, executed), root)
        if found := faults(ready[name]):
            raise CannotRun(f"{name} cannot be published, for it holds {found[0]}: fix it and run {again}.")
    if not ready:
        raise CannotRun("There is no notebook to publish in notebooks/.")
    return ready


def seed_numbers(root: Path, settings: Settings) -> dict[str, Any]:
    """Return the numbers of a run's up-to-date notebooks, and for each notebook the key that the runs of all
    seeds share; prints which others do not count. Raises CannotRun if there are none.
    """
    ledger, first = Ledger(root / "runs" / settings.folder_name), replace(settings, seed=Settings.seed)
    parts = dependencies(root, settings)
    shared = parts if settings == first else dependencies(root, first)
    stale = {name: ledger.stale(name, parts[name]) for name in parts}
    for name, why in stale.items():
        if why and name in ledger.entries:
            print(f"{name} of {settings.folder_name} does not count for the spread over seeds ({why}).")
    current = [name for name, why in stale.items() if not why]
    if not current:
        again = settings.command("reproduce")
        raise CannotRun(f"No notebook of {settings.folder_name} is up to date: run `{again}` first.")
    found = numbers(ledger.folder)
    return {
        "notebooks": {name: hash_json(shared[name]) for name in current},
        "numbers": records(found[found["notebook"].isin(current)]),
    }


def published_seeds(folder: Path) -> list[pandas.DataFrame]:
    """Return the numbers of each seed in a folder of results/, first seed first; notebooks run with code
    other than the first seed's do not count and are printed. Empty if the first seed is not published.
    """
    files = sorted((folder / SEEDS).glob("*.json"), key=lambda file: int(file.stem))
    if not files or int(files[0].stem) != Settings.seed:
        return []
    keys, found = read_json(files[0])["notebooks"], []
    for file in files:
        run = read_json(file)
        same = [name for name, key in run["notebooks"].items() if keys.get(name) == key]
        for name in sorted(run["notebooks"].keys() - {*same}):
            print(f"{name} of seed {file.stem} was run with other code: it does not count for the spread.")
        numbers = pandas.DataFrame(run["numbers"], columns=FIELDS)
        found.append(numbers[numbers["notebook"].isin(same)])
    return [one for one in found if len(one)]


def readme_table(entries: pandas.DataFrame, names: Mapping[str, str] | None = None) -> str:
    """Return the numbers as a Markdown table: all of them, or those in `names`, under the labels there."""
    known = {one["name"]: one for one in entries.to_dict("records")}
    called = names or {name: name for name in known}
    lines = [{"what": what, **readable(known[name])} for name, what in called.items() if name in known]
    return markdown(pandas.DataFrame(lines))


def readable(number: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that readers see for one number."""
    ours = interval(number)
    if number["seed_sd"] and not pandas.isna(number["seed_sd"]):
        ours += f" (sd {rounded(number['seed_sd'])} over {number['seeds']:.0f} seeds)"
    return {
        "ours [95 % interval]": ours,
        "n": rounded(number["n"]),
        "paper": rounded(number["paper"]),
        "note": number["note"],
    }


def readme_with(text: str, entries: pandas.DataFrame) -> str:
    """Return the README, or a notebook's prose, with the text between its markers rebuilt from the numbers.

    The paper's claims go between `<!-- claims:start -->` and `<!-- claims:end -->`; a table of numbers
    between `<!-- numbers:start`, a line `name: label` for each, `-->` and `<!-- numbers:end -->`; one number
    in a sentence between `<!-- number NAME -->` and `<!-- -->`.
    """

    def block(found: re.Match[str]) -> str:
        names = dict(line.split(": ", 1) for line in found[2].splitlines() if line)
        return found[1] + readme_table(entries, names) + found[3]

    text = README_BLOCK.sub(block, text)
    text = CLAIMS_BLOCK.sub(lambda block: block[1] + markdown(claims.table(entries)) + block[2], text)
    values = dict(zip(entries["name"], map(rounded, entries["value"]), strict=True))
    return README_NUMBER.sub(lambda found: found[1] + values.get(found[2], "-") + found[3], text)


def results_page(entries: pandas.DataFrame, profile: str, runs: Sequence[pandas.DataFrame]) -> str:
    """Return all numbers of a published run as a page, by notebook; `runs` has those of each seed."""
    lines = [
        f"# All numbers of the profile `{profile}`",
        "",
        "Made by `make publish` from `numbers.json`, with which `make reproduce` compares its own.",
        "Each value is that of the first seed. Intervals are 95 %, over pictures (bootstrap; where all",
        "pictures agree, with an allowance for an unseen one; at 0 and 1, Clopper-Pearson) and, where an",
        "sd is given, over trainings too. Notes name the deviations from the paper.",
        "",
        "## The paper's claims",
        "",
        markdown(claims.table(entries)).rstrip(),
        "",
        "## The claims by the mean over trainings",
        "",
        "The verdicts above are about a single training: the interval has to allow for another. Those below",
        "are about the mean over the published trainings, by Student's interval over trainings, joined with",
        "that over pictures. This table was added when the numbers were known, so it is exploratory.",
        "",
        markdown(claims.table(seeds.mean(runs[0], runs[1:]))).rstrip(),
        "",
        "## How many pictures it takes",
        "",
        "The number of pictures (if trainings did not differ) and of trainings (if pictures did not) needed",
        "to detect an effect with a power of 0.8, by the spread of the numbers below. The effect is half",
        "the distance from the paper's value to the end of the range;",
        f"{claims.UNKNOWN} where the paper has none.",
        "",
        markdown(claims.power(entries)).rstrip(),
    ]
    for name, own in entries.groupby("notebook", sort=False):
        lines += ["", f"## [{name}](../../notebooks/{name}.ipynb)", "", readme_table(own).rstrip()]
    return "\n".join(lines) + "\n"


def with_seeds(own: pandas.DataFrame, others: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Return a run's numbers with intervals over pictures and seeds, the claims judged by them, and how well
    all trainings agree.
    """
    entries = seeds.spread(own, others)
    judged, verdicts = entries["task"] == "claim", claims.verdicts(entries)
    verdicts = verdicts.astype(object).set_index(pandas.Index(frame.names(verdicts)))
    for column in ("value", "note"):
        entries.loc[judged, column] = entries["name"].map(verdicts[column])
    runs = [own, *others]
    for found in (claims.over_seeds(runs), seeds.inside(runs)):
        known = {"name": frame.names(found), "seeds": len(runs), "notebook": "05_eval"}
        entries = frame.concat(entries, found.assign(**known))
    return entries[list(FIELDS)]


def draw_claims(entries: pandas.DataFrame, runs: Sequence[pandas.DataFrame], path: Path) -> None:
    """Save the figure of all claims, if any has been measured."""
    if lines := claims.drawn(entries, runs):
        path.parent.mkdir(exist_ok=True)
        style()
        figures.claims(lines).savefig(path, dpi=150, metadata={"Software": None})


def publish(root: Path, settings: Settings) -> list[Path]:
    """Publish a run and return what was written: all of the first seed, only the numbers of a further one.

    Intervals and verdicts are over all published seeds. Raises CannotRun before anything is touched.
    """
    first = replace(settings, seed=Settings.seed)
    run, results = root / "runs" / settings.folder_name, root / "results" / first.folder_name
    ready = publishable(root, settings) if settings == first else {}
    kept = seed_numbers(root, settings)
    with new_folder(results, replace=True) as made:
        if ready:
            copy_run(run, made, list(ready), model_of(root, settings))
        stays, place = (results / SEEDS, made / SEEDS) if ready else (results, made)
        if stays.is_dir():
            shutil.copytree(stays, place, dirs_exist_ok=True)
        write_json(made / SEEDS / f"{settings.seed}.json", kept)
        if runs := published_seeds(made):
            entries = with_seeds(runs[0], runs[1:])
            write_json(made / "numbers.json", records(entries))
            write_text(made / "README.md", results_page(entries, settings.name, runs))
            draw_claims(entries, runs if len(runs) > 1 else [], made / "figures" / "claims.png")
    written = [results]
    if (measured := root / "runs" / "bench.json").exists():
        published = results.parent / "bench.json"  # which may hold other machines' profiles
        known = read_json(published) if published.exists() else {}
        write_json(published, {**known, **read_json(measured)})
        written.append(published)
    if runs and first == Settings():  # the notebooks' own parameters: their outputs are this run's
        written += write_prose(root, ready, entries)
    return written


def copy_run(run: Path, made: Path, notebooks: Sequence[str], model: Path) -> None:
    """Copy a run's figures, tables and model to a folder of results/, and how long each notebook took."""
    took = Ledger(run).entries
    minutes = {name: {what: took[name][what] for what in ("seconds", "machine")} for name in notebooks}
    write_json(made / MINUTES, minutes)
    for kind in ("figures", "tables"):
        for name in notebooks:
            if (run / kind / name).is_dir():
                shutil.copytree(run / kind / name, made / kind / name)
    if model.is_dir():
        shutil.copytree(model, made / MODEL)


def write_prose(root: Path, ready: Mapping[str, NotebookNode], entries: pandas.DataFrame) -> list[Path]:
    """Write the numbers into the prose of the README and of the notebooks, taken from `ready` if they are
    there; returns the files.
    """
    written = []
    for path in source_notebooks(root):
        notebook = ready.get(path.stem) or nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = readme_with(cell.source, entries)
        write_text(path, nbformat.writes(notebook) + "\n")
        written.append(path)
    readme = root / "README.md"
    write_text(readme, readme_with(readme.read_text(encoding="utf-8"), entries))
    return [*written, readme]


def model_of(root: Path, settings: Settings) -> Path:
    """Return the folder of the model that a run publishes for the chat: the one that notebook 04 kept, else
    the one published before; prints a note if the one kept is of another seed.
    """
    kept = root / "data" / "cache" / "chat" / settings.name
    if kept.exists():
        if read_config(kept)["run"].items() >= {"seed": settings.seed, "weights": settings.weights}.items():
            return kept
        print(f"The chat's model of seed {settings.seed} is not kept here: what was published before stays.")
    return root / "results" / settings.folder_name / MODEL
