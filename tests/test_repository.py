"""The repository: the lock, the notebooks, the README and the Makefile agree with the code."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mglib.data.records import read_json
from mglib.paths import ROOT
from mglib.repro.ledger import code_cells, source_notebooks
from mglib.repro.publish import faults, published_seeds, readme_with, results_page, with_seeds
from mglib.repro.report import FIELDS, NUMBER_NAME, read, records
from mglib.repro.reproduce import check_parameters
from mglib.settings import Settings

NOTEBOOKS = source_notebooks(ROOT)
RESULTS = sorted(ROOT.glob("results/*/numbers.json"))
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = dict(re.findall(r"^([a-z-]+):.*?(?:## (.+))?$", MAKEFILE, re.MULTILINE))
IMPORTED_AS = {"IPython": "ipython", "PIL": "pillow"}  # unlike their packages
PLATFORMS = [
    {
        "platform_system": system,
        "platform_machine": machine,
        "sys_platform": system.lower(),
        "python_version": python,
    }
    for system, machine in (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"))
    for python in ("3.11", "3.12", "3.13")
]


def lock():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["test"]]


@pytest.mark.parametrize(
    "platform", PLATFORMS, ids=lambda p: f"{p['platform_machine']}-{p['python_version']}"
)
def test_the_lock_pins_each_package_once(platform):
    names = [canonicalize_name(r.name) for r in lock() if r.marker is None or r.marker.evaluate(platform)]
    assert sorted(set(names)) == sorted(names)
    assert {canonicalize_name(r.name) for r in declared()} <= set(names)


def test_the_lock_pins_exactly_and_names_no_host():
    assert [str(r) for r in lock() if not re.fullmatch(r"==[\w.!+]+", str(r.specifier)) or r.url] == []
    assert "//" not in (ROOT / "requirements.lock").read_text()


def test_the_lock_satisfies_pyproject():
    for requirement in declared():
        pins = [r for r in lock() if canonicalize_name(r.name) == canonicalize_name(requirement.name)]
        versions = [str(pin.specifier).removeprefix("==") for pin in pins]
        assert versions and all(requirement.specifier.contains(version) for version in versions), requirement


def test_every_import_is_declared():
    names = set()
    for path in [*ROOT.glob("mglib/**/*.py"), *ROOT.glob("tests/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    own = {"mglib", *(path.stem for path in ROOT.glob("tests/*.py"))}
    foreign = {
        canonicalize_name(IMPORTED_AS.get(name, name)) for name in names - own - sys.stdlib_module_names
    }
    assert foreign <= {canonicalize_name(requirement.name) for requirement in declared()}


def test_make_alone_lists_every_target_with_its_help():
    assert {"reproduce", "test", "lab", "chat", "publish", "bench", "clean", "env", "help"} <= set(TARGETS)
    assert [target for target, text in TARGETS.items() if not text] == []
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [
        target
        for target, text in TARGETS.items()
        if not re.search(rf"make {target}\s+{re.escape(text)}", shown)
    ] == []


def made(tmp_path, target, *settings, **environment):
    """Return what `make` starts for a target, and the settings that reach it."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    report = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{report}' \"$@\"\n")
    python.chmod(0o755)
    command = ["make", "--old-file=env", target, f"python={python}", *settings]
    # Under `make test`, the inherited MAKE variables would let this make print its working directory.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MGLIB_"))}
    done = subprocess.run(
        command, cwd=ROOT, env=alone | environment, capture_output=True, text=True, check=True
    )
    words, there = json.loads(done.stdout)
    return words, {
        name.removeprefix("MGLIB_"): value for name, value in there.items() if name.startswith("MGLIB_")
    }


@pytest.mark.parametrize(
    "typed",
    [
        {"IMAGE": 'it\'s "a dog".png', "QUESTION": "What's this?"},
        {"QUESTION": "Is the price $5 or $10?", "IMAGE": "A$AP.jpg"},
        {"QUESTION": "$(shell touch made) `touch made` # ${HOME} \\ \n two lines "},
        {"PROFILE": "vicuna-7b", "BITS": "4", "LANGUAGE": "my models/Qwen"},
    ],
    ids=["quotes", "dollars", "programs", "settings"],
)
def test_make_passes_every_setting_on_as_it_was_typed(tmp_path, typed):
    words, given = made(tmp_path, "chat", *(f"{name}={value}" for name, value in typed.items()))
    assert words == ["-m", "mglib", "chat"] and given == typed
    assert not (ROOT / "made").exists()


def test_make_takes_settings_from_the_environment_but_not_the_readers_language(tmp_path):
    _, given = made(tmp_path, "reproduce", "FORCE=", SEED="3", LANGUAGE="en_GB:en")
    assert given == {"SEED": "3"}


def test_make_says_which_name_is_no_setting():
    done = subprocess.run(
        ["make", "NOTEBOOK=02", "SEED=1"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "NOTEBOOK: no setting" in done.stderr and "SEED" not in done.stderr


notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@notebook
def test_a_notebook_is_fit_for_readers(path):
    content = nbformat.read(path, as_version=4)
    nbformat.validate(content)
    assert content.metadata.kernelspec.name == "python3"
    assert faults(content) == []
    assert path.stat().st_size <= 1_000_000
    assert [cell.metadata for cell in content.cells if set(cell.metadata) - {"tags"}] == []


@notebook
def test_a_notebook_has_been_run_from_top_to_bottom_or_not_at_all(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    counts = [cell.execution_count for cell in cells]
    if not any(counts) and not any(cell.outputs for cell in cells):
        return  # no run of it has been published yet
    assert counts == list(range(1, len(counts) + 1)), "publish a run: `make reproduce`, then `make publish`"


@notebook
def test_a_notebook_takes_the_settings_and_has_their_defaults(path):
    content = nbformat.read(path, as_version=4)
    check_parameters(path, content)
    given: dict[str, object] = {}
    exec(next(cell.source for cell in content.cells if "parameters" in cell.metadata.get("tags", [])), given)
    assert Settings(**{name: given[name] for name in asdict(Settings())}) == Settings()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_published_numbers_follow_the_schema(path):
    entries = json.loads(path.read_text())
    assert len({entry["name"] for entry in entries}) == len(entries) > 0
    for entry in entries:
        fields = tuple(name for name in FIELDS if name in entry or name != "share")  # newer than some results
        assert tuple(entry) == fields and NUMBER_NAME.fullmatch(entry["name"])
        told = entry["note"].startswith("not applicable: ") or entry["name"].startswith("claim.")
        assert entry["value"] is not None or told
        assert (entry["low"] is None) == (entry["high"] is None)
        assert entry["notebook"] in [notebook.stem for notebook in NOTEBOOKS]


def test_the_readme_shows_the_published_numbers():
    published = read(ROOT / "results" / "mini" / "numbers.json")
    assert readme_with(README, published) == README, "run `make publish`"
    assert len(README.splitlines()) <= 120


@notebook
def test_a_notebooks_prose_shows_the_published_numbers(path):
    published = read(ROOT / "results" / "mini" / "numbers.json")
    prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    assert [readme_with(text, published) for text in prose] == prose, "run `make publish`"


def test_the_claims_are_in_the_readme_and_head_notebook_05():
    assert "results/mini/figures/claims.png" in README
    _, second, *_ = nbformat.read(ROOT / "notebooks" / "05_eval.ipynb", as_version=4).cells
    assert "<!-- claims:start -->" in second.source


def test_the_published_numbers_follow_from_those_of_the_seeds():
    folder = ROOT / "results" / "mini"
    first, *others = published_seeds(folder)
    assert records(with_seeds(first, others)) == read_json(folder / "numbers.json")


def test_the_results_page_holds_all_published_numbers():
    folder = ROOT / "results" / "mini"
    page = results_page(read(folder / "numbers.json"), "mini", published_seeds(folder))
    assert (folder / "README.md").read_text() == page, "run `make publish`"


def test_each_case_that_users_brought_is_held_by_a_test():
    lines = (ROOT / "docs" / "cases.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "::" in line]
    numbers = [int(row[0]) for row in rows if len(row) == 4]
    assert numbers == sorted(set(numbers)) and set(range(1, 47)) <= set(numbers)
    kinds = {"silent wrong number", "lost data", "unclear error", "machine"}
    assert [row for row in rows if row[-1] not in kinds] == []
    for *_, test, _ in rows:
        file, name = test.strip("`").split("::")
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), test


def test_the_tree_in_the_readme_exists():
    (tree,) = re.findall(r"^```\n(notebooks/.*?)^```", README, re.MULTILINE | re.DOTALL)
    inner, outer = set(), set()
    for line in tree.splitlines():
        indent, names = re.match(r"( *)((?:\S+/ )+)", line).groups()
        (inner if indent else outer).update(names.split())
    assert {name for name in outer if not (ROOT / name).is_dir()} == set()
    assert inner == {f"{path.parent.name}/" for path in (ROOT / "mglib").glob("*/__init__.py")}


@notebook
def test_a_notebook_tells_and_the_package_computes(path):
    code = [cell.source for cell in code_cells(nbformat.read(path, as_version=4))]
    assert [source for source in code if re.search(r"^\s*[!%]", source, re.MULTILINE)] == []
    nodes = [node for source in code for node in ast.walk(ast.parse(source))]
    assert [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)] == []
    names = [
        alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    ]
    assert sum(len(source.splitlines()) for source in code) <= 220
    assert len(names) <= 15, names
