"""The command line: useful help, readable error messages, and a quiet end if the reader leaves early."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import typer
from data_files import write_coco

from mglib import errors
from mglib.__main__ import app, main, path
from mglib.locks import locked
from mglib.paths import ROOT

PYTHON = [sys.executable, "-m", "mglib"]


def test_help_lists_every_command_with_one_sentence_and_comes_at_once():
    done = subprocess.run(
        [*PYTHON, "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
    )
    for name in typer.main.get_command(app).commands:
        assert re.search(rf"│ {name} +[A-Z]", done.stdout), name
    code = "import sys; from mglib.__main__ import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_a_tilde_is_home_in_every_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~/models") == tmp_path / "models" and str(path("~draft.jsonl")) == "~draft.jsonl"
    (tmp_path / "own").mkdir()
    assert main(["check", "own", "~/own"]) == 1
    assert f"own in {tmp_path / 'own'}" in capsys.readouterr().out


def test_a_setting_that_a_command_does_not_take_is_named(monkeypatch, capsys):
    for name in ("QUESTION", "PROFILE", "PRECISION"):  # as make passes them
        monkeypatch.setenv(f"MGLIB_{name}", "mini")
    assert main(["export", "--to", "nothing"]) == 1
    assert capsys.readouterr().err.startswith("QUESTION is no setting of export: it is ignored.\n")


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    for number in range(3_000):
        (tmp_path / f"{number}.txt").write_text("a text without its picture")
    shutil.copy(tmp_path / "0.txt", tmp_path / "0.jpg")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PYTHON, "check", "own", str(tmp_path)], cwd=ROOT, stdout=write, stderr=-1, text=True
    )
    os.close(write)
    assert done.stderr == ""


def fail(monkeypatch, error):
    """Let `reproduce` end with an error."""

    def failed(*_, **__):
        raise error

    monkeypatch.setattr("mglib.repro.reproduce.run", failed)


def test_an_error_that_nobody_expected_is_a_sentence_and_a_file(tmp_path, monkeypatch, capsys):
    fail(monkeypatch, KeyError("nothing"))
    monkeypatch.setattr(errors.sentence, "__kwdefaults__", {"folder": tmp_path})
    assert main(["reproduce"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("reproduce failed, KeyError: 'nothing'") and "Traceback" not in said
    assert "Traceback" in (tmp_path / "reproduce.txt").read_text()


def test_where_the_whole_error_cannot_be_kept_it_is_said(tmp_path):
    (tmp_path / "errors").write_text("a file in the folder's place")
    said = errors.sentence(KeyError("nothing"), "chat", folder=tmp_path / "errors")
    assert said.startswith("chat failed, KeyError: 'nothing'") and str(tmp_path / "errors") in said


@pytest.mark.parametrize("error", [OSError("The disk is full."), ValueError("Take another one.")])
def test_an_error_with_advice_is_said_as_it_is(monkeypatch, capsys, error):
    fail(monkeypatch, error)
    monkeypatch.setattr(errors, "PACKAGE", str(ROOT))
    assert main(["reproduce"]) == 1
    assert capsys.readouterr().err == f"{error}\n"


def test_a_stopped_command_says_how_to_continue(monkeypatch, capsys):
    fail(monkeypatch, KeyboardInterrupt)
    assert main(["reproduce"]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_only_one_run_at_a_time_is_published(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mglib.__main__.ROOT", tmp_path)
    with locked(tmp_path / "runs" / "publish"):  # by the publishing of another seed
        assert main(["publish", "--seed", "1"]) == 1
    assert "publish is in the hands of another process" in capsys.readouterr().err


def test_what_is_installed_runs_outside_a_clone(tmp_path):
    """What `pip install .` installs by pyproject.toml: the package and the lists that it reads."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in wheel["packages"]:
        shutil.copytree(ROOT / name, installed / name, ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in wheel["force-include"].items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, installed / target)

    def started(*words):
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        given = {"cwd": elsewhere, "env": environment, "capture_output": True, "text": True}
        return subprocess.run([*PYTHON, *words], **given, check=False)

    assert started("--help").returncode == 0
    write_coco(elsewhere / "coco")
    (elsewhere / "a.jsonl").write_text('{"image": "7.jpg", "answer": "A dog."}\n')
    assert "chair_i" in started("score", "chair", "a.jsonl", "--data", "coco").stdout
    assert "run this in a clone of the repository" in started("reproduce").stderr
    code = (
        "from mglib.world import catalog; catalog.THINGS.values(); from mglib import paths; print(paths.RUNS)"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    said = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == f"{elsewhere / 'runs'}\n"


SETTING = r"""([A-Z_]+)=(?:'[^']*'|"[^"]*"|[^\s`"',]+)"""


def test_each_command_that_an_error_names_takes_the_settings_that_it_gives():
    commands = typer.main.get_command(app).commands
    taken = {name: {each.envvar for each in one.params} for name, one in commands.items()}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = 0
    for file in sorted((ROOT / "mglib").rglob("*.py")):
        code = re.sub(r"\"\s*\n\s*f?\"", "", file.read_text(encoding="utf-8"))  # a string over several lines
        named = re.findall(rf"\bmake ([a-z]+)((?: {SETTING})+)", code)
        named += re.findall(r"command\(\s*['\"](\w+)['\"]((?:, [A-Z_]+=[^,)]+)+)", code)
        for target, settings, *_ in named:
            names = re.findall(r"\b([A-Z_]+)=", settings)
            assert target in targets, (file, target)
            assert {f"MGLIB_{name}" for name in names} <= taken[target], (file, target, settings)
            found += 1
    assert found >= 15
