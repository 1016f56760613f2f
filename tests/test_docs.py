"""The documentation: commands, links, files and words; run as a script it writes the command reference."""

import ast
import importlib
import os
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import typer
from test_layers import LAYERS

from mglib.__main__ import SETTINGS, app
from mglib.paths import ROOT, write_text
from mglib.settings import Settings

COMMANDS_PAGE, GLOSSARY = ROOT / "docs" / "commands.md", ROOT / "docs" / "glossary.md"
REFERENCE = re.compile(r"(<!-- commands:start -->\n).*?(<!-- commands:end -->)", re.DOTALL)
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
MAKE_SETTINGS = set(re.search(r"^SETTINGS := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1].split())
PROGRAM = "python -m mglib"
CLI = typer.main.get_command(app).commands

page = pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))


def options(name):
    """Return a command's own options, and those of its settings that many commands share."""
    shared = [one for one in CLI[name].params if SETTINGS.get(one.name) and one.help == shared_help(one.name)]
    return [one for one in CLI[name].params if one not in shared], shared


@cache
def shared_help(name):
    return next(one.help for one in CLI["reproduce"].params if one.name == name)


def option_row(one, in_make):
    typed = " / ".join(f"`{word}`" for word in (*one.opts, *one.secondary_opts))
    if one.required and not typed.startswith("`--"):
        typed = f"`{one.metavar or one.name.upper()}`"
    make = (one.envvar or "").removeprefix("MGLIB_")
    default = "" if one.default in (None, "") else f"`{one.default}`"
    if one.secondary_opts:
        default = "yes" if one.default else "no"
    shown = f"`{make}`" if in_make and make in MAKE_SETTINGS else ""
    return f"| {typed} | {shown} | {'required' if one.required else default} | {one.help} |"


def option_table(rows, in_make=True):
    return [
        "",
        "| option | in Make | default | |",
        "|---|---|---|---|",
        *(option_row(one, in_make) for one in rows),
    ]


def settings_line(shared):
    default = Settings()
    words = [
        one.envvar.removeprefix("MGLIB_")
        + (f"={one.default}" if one.default != getattr(default, one.name) else "")
        for one in shared
    ]
    return ["", f"Shared settings: {', '.join(f'`{word}`' for word in words)}."] if words else []


def reference(written):
    """Return the generated part of docs/commands.md: every command as `--help` describes it."""
    lines = ["## Shared settings", *option_table(options("reproduce")[1])]
    for panel in dict.fromkeys(command.rich_help_panel for command in CLI.values()):
        lines += ["", f"## {panel}"]
        for name in (name for name, command in CLI.items() if command.rich_help_panel == panel):
            (own, shared), in_make = options(name), name in TARGETS
            lines += [
                "",
                f"### {name}",
                "",
                f"`make {name}`, `{PROGRAM} {name}`" if in_make else f"`{PROGRAM} {name}`",
            ]
            text = re.sub(r"(?<!\n)\n(?!\n)", " ", CLI[name].help)
            lines += [
                "",
                text if "For example" in text else f"{text}\n\nFor example `{example(name, written)}`.",
            ]
            lines += (option_table(own, in_make) if own else []) + settings_line(shared)
    return "\n".join(lines) + "\n"


def example(name, written):
    """Return the longest example of a command on a page."""
    lines = (line for line in shell_lines(written) if re.match(rf"(make|{PROGRAM}) {name}\b", line))
    return max(lines, key=len, default=None)


def with_reference(text):
    written = text.split("<!-- commands:start -->")[0]
    return REFERENCE.sub(lambda block: f"{block[1]}\n{reference(written)}\n{block[2]}", text)


def test_the_command_reference_says_what_help_says():
    text = COMMANDS_PAGE.read_text(encoding="utf-8")
    assert with_reference(text) == text, "run `PYTHONPATH=. python tests/test_docs.py`"


def shell_lines(text):
    """Return a page's command lines: the lines of its shell blocks and its inline code."""
    found = re.findall(r"^```(\w*)\n(.*?)^```|`([^`\n]+)`", text, re.MULTILINE | re.DOTALL)
    parts = [inline or block for language, block, inline in found if inline or language in ("", "bash")]
    return [line.strip() for part in parts for line in part.splitlines()]


@page
def test_the_commands_on_a_page_exist(file):
    for line in shell_lines(file.read_text(encoding="utf-8")):
        words = line.split(" #")[0].split()
        if "<" in line:
            continue  # a pattern, nothing to type
        if words[:1] == ["make"] and len(words) > 1:
            given = [word.split("=")[0] for word in words[1:] if re.match(r"[A-Z_]+=", word)]
            (target,) = [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)][:1] or [""]
            known = (
                {one.envvar.removeprefix("MGLIB_") for one in CLI[target].params if one.envvar}
                if target in CLI
                else set()
            )
            assert target in TARGETS and set(given) <= known & MAKE_SETTINGS, line
        elif words[:3] == PROGRAM.split() and re.match("[a-z]", " ".join(words[3:])):
            known = {option for one in CLI[words[3]].params for option in (*one.opts, *one.secondary_opts)}
            assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line


def test_every_command_has_an_example():
    written = COMMANDS_PAGE.read_text(encoding="utf-8").split("<!-- commands:start -->")[0]
    assert [name for name in CLI if not example(name, written)] == []


def anchors(file):
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@page
def test_a_page_links_to_what_exists(file):
    for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = Path(os.path.normpath(file.parent / path)) if path else file
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@page
def test_the_files_that_a_page_names_exist(file):
    named = re.findall(r"`((?:mglib|tests|docs|notebooks)/[\w./]+)`", file.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@page
def test_what_the_python_on_a_page_imports_exists(file):
    for block in re.findall(
        r"^```python\n(.*?)^```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("mglib"):
                module = importlib.import_module(node.module)
                assert [one.name for one in node.names if not hasattr(module, one.name)] == [], node.module


def test_architecture_lists_the_packages_in_the_order_in_which_they_import():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    order = [package for layer in LAYERS for package in layer]
    listed = [
        name
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert [name for name in order if name not in listed] == []
    floors = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    numbers = [floors[name] for name in listed if name in floors]
    assert numbers == sorted(numbers)


@cache
def replaced_words():
    """Return a pattern for each word that the glossary replaces."""
    table = GLOSSARY.read_text(encoding="utf-8").split("## Words we do not use")[1]
    words = [
        word
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for word in re.findall(r"`(.+?)`", cell)
    ]
    return {word: re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE) for word in words}


def prose(text):
    """Return a page's prose, without code, quotes, generated parts and link targets."""
    text = re.sub(r"<!-- (\w+):start.*?<!-- \1:end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(`{3,}).*?^\1|^>.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", "", text)


def found_words(text):
    return [match.group() for pattern in replaced_words().values() for match in pattern.finditer(prose(text))]


@page
def test_a_page_uses_the_words_of_the_glossary(file):
    assert found_words(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda file: file.stem)
def test_a_notebook_uses_the_words_of_the_glossary(file):
    cells = nbformat.read(file, as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert found_words("\n\n".join(prose)) == []


if __name__ == "__main__":
    write_text(COMMANDS_PAGE, with_reference(COMMANDS_PAGE.read_text(encoding="utf-8")))
    print(f"{COMMANDS_PAGE} is written.")
