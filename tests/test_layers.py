"""The package's layers: what may import what, and how large the model may be."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from mglib.paths import ROOT

# Each package imports itself and packages on the lines above its own (docs/architecture.md draws it).
LAYERS = (
    ("config", "paper_profiles", "profiles", "settings", "paths", "errors"),
    ("keys", "locks", "mentions", "metrics", "frame", "paper"),
    ("model", "data"),
    ("world",),
    ("weights",),
    ("training", "curation"),
    ("evals",),
    ("study",),
    ("experiments",),
    ("chat",),
    ("repro", "fullscale"),
    ("__main__",),
)
LAYER = {package: number for number, layer in enumerate(LAYERS) for package in layer}
BASE = {*LAYERS[0], *LAYERS[1]}


def package(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def modules() -> dict[str, Path]:
    """Return every module by its dotted name."""
    files = {file.relative_to(ROOT): file for file in sorted((ROOT / "mglib").rglob("*.py"))}
    return {
        ".".join(name.with_suffix("").parts).removesuffix(".__init__"): file for name, file in files.items()
    }


def arrows(name: str, file: Path, known: set[str]) -> Iterator[str]:
    """Yield the modules of mglib that a module imports, anywhere in its code."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mglib":
            assert not node.level, f"{name} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


@cache
def graph() -> dict[str, set[str]]:
    """Return what each module imports."""
    known = modules()
    return {name: set(arrows(name, file, set(known))) - {name} for name, file in known.items()}


def test_every_room_has_its_floor():
    assert {package(name) for name in modules()} - {""} == set(LAYER)


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_what_stands_below_it(name):
    own = package(name)
    for other in graph()[name]:
        theirs = package(other)
        below = own == theirs or LAYER[theirs] < LAYER[own] or (own in BASE and theirs in BASE)
        assert below, f"{name} imports {other}, which stands beside or above it"


def test_there_is_no_circle():
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from error


def test_the_model_can_be_read_in_an_hour():
    files = [file for name, file in modules().items() if package(name) == "model"]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 1_300
