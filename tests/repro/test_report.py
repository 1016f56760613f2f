import json
import re

import nbformat
import numpy
import pandas
import pytest
from matplotlib import pyplot
from nbformat import v4
from PIL import Image
from tiny_study import make_study, use_real_report, write_notebook

from mglib import frame
from mglib.metrics import Estimate
from mglib.paper import PAPER
from mglib.repro import figures, publish, reproduce
from mglib.repro.ledger import CannotRun, Ledger, code_cells
from mglib.repro.report import (
    FIELDS,
    Report,
    compare,
    markdown,
    numbers,
    page,
    printable,
    readable,
    rounded,
    spread,
)
from mglib.settings import Settings


@pytest.fixture
def shown(monkeypatch):
    """Collect what a notebook would show."""
    seen = []
    monkeypatch.setattr("mglib.repro.report.display", seen.append)
    return seen


def make_report(runs, notebook="02_stage1"):
    return Report(Settings(), notebook=notebook, runs=runs)


def entry(name="stage1.loss", value=1.0, low=0.8, high=1.2, **others):
    empty = dict.fromkeys(FIELDS) | {"seeds": 1, "unit": "", "note": "", "notebook": "02_stage1"}
    return empty | {"name": name, "value": value, "low": low, "high": high} | others


def test_numbers_come_back_as_they_were_given(tmp_path):
    report = make_report(tmp_path)
    report.number("stage1.chair_i", numpy.float32(0.5), low=0.25, high=0.75, n=numpy.int64(400), paper=7.2)
    report.not_applicable("t4.gqa.no_qformer", reason="mini has no questions")
    make_report(tmp_path, "01_encoder").number("encoder.speed", 27, unit="pictures/s", note="2 cores")
    speed, chair, missing = numbers(tmp_path / "mini")
    assert speed["notebook"] == "01_encoder" and speed["low"] is None and speed["value"] == 27.0
    assert chair == entry("stage1.chair_i", 0.5, 0.25, 0.75, n=400, paper=7.2)
    assert missing["value"] is None and missing["note"] == "not applicable: mini has no questions"
    assert all(tuple(found) == FIELDS for found in (speed, chair, missing))


def test_a_new_report_starts_afresh(tmp_path, shown):
    report = make_report(tmp_path)
    report.number("stage1.loss", 1.0)
    report.sheet("pictures", Image.new("RGB", (8, 8)))
    make_report(tmp_path)
    assert numbers(tmp_path / "mini") == []
    assert not (tmp_path / "mini" / "figures" / "02_stage1").exists()


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("stage1.loss", {"value": float("nan")}, "its value is nan"),
        ("stage1.loss", {"value": 1.0, "low": float("-inf"), "high": 2.0}, "its low is -inf"),
        ("stage1.loss", {"value": 1.0, "low": 0.5}, "both ends"),
        ("stage1.loss", {"value": 1.0, "low": 2.0, "high": 0.5}, "both ends"),
        ("Stage1 loss", {"value": 1.0}, "lower case"),
        ("loss", {"value": 1.0}, "stage1.loss"),
    ],
)
def test_a_bad_number_is_refused(tmp_path, name, given, sentence):
    report = make_report(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        report.number(name, **given)
    assert numbers(tmp_path / "mini") == []


def test_many_estimates_are_kept_below_a_prefix_with_one_note_or_each_with_its_own(tmp_path):
    report, known = make_report(tmp_path), Estimate(0.5, 0.4, 0.6, 10)
    report.estimates("t5", {"chair_i.long": known, "words": None}, note="greedy")
    own = {"long.seen": "first 10", "long.new": "first 9", "absent": ""}
    paper = {"long.seen": "t5.chair_i.long", "long.new": "t5.nothing"}
    report.estimates("other", {"long.seen": known, "long.new": known}, note=own, paper=paper)
    long, words, seen, new = numbers(tmp_path / "mini")
    assert long["name"] == "t5.chair_i.long" and long["note"] == "greedy" and long["n"] == 10
    assert words["value"] is None and words["note"].startswith("not applicable")
    assert seen["note"] == "first 10" and new["note"] == "first 9"
    assert long["paper"] == seen["paper"] == PAPER["t5.chair_i.long"] and new["paper"] is None
    with pytest.raises(KeyError, match="long"):
        report.estimates("third", {"long": known}, note=own)


def test_a_name_is_given_once(tmp_path, shown):
    report = make_report(tmp_path)
    report.number("stage1.loss", 1.0)
    with pytest.raises(ValueError, match="twice"):
        report.number("stage1.loss", 2.0)
    report.sheet("pictures", Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="twice"):
        report.sheet("pictures", Image.new("RGB", (8, 8)))
    make_report(tmp_path, "03_curate").number("stage1.loss", 3.0)
    with pytest.raises(ValueError, match="02_stage1 and 03_curate"):
        numbers(tmp_path / "mini")


def test_figures_sheets_and_tables_are_saved_and_shown_once(tmp_path, shown):
    report = make_report(tmp_path)
    fig, axes = pyplot.subplots()
    axes.plot([1, 2])
    assert report.figure("loss", fig) is None
    report.sheet("pictures", Image.new("RGBA", (8, 8)))
    report.sheet("none", figures.contact_sheet([], []))
    report.figure("no_loss", figures.curves({"stage 1": []}))
    report.table("words", pandas.DataFrame({"word": ["a|b"], "share": [0.123456]}))
    report.show()
    assert not pyplot.get_fignums()  # closed, or the notebook shows it again
    assert len(shown) == 4 and shown[0].format == "jpeg"
    folder = tmp_path / "mini"
    with Image.open(folder / "figures" / "02_stage1" / "loss.png") as png:
        assert round(png.info["dpi"][0]) == 150
    assert (folder / "figures" / "02_stage1" / "pictures.jpg").exists()
    assert (folder / "tables" / "02_stage1" / "words.csv").read_text() == "word,share\na|b,0.123456\n"
    assert "| a\\|b | 0.1235 |" in (folder / "tables" / "02_stage1" / "words.md").read_text()


def test_at_its_end_a_notebook_shows_where_its_results_stand(tmp_path, shown):
    report = make_report(tmp_path)
    for name in ("stage1.loss", "stage1.steps", "claim.data"):
        report.number(name, 1.0)
    report.table("words", pandas.DataFrame({"word": ["a"]}))
    report.show()
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", shown[-1].data)
    assert cells == [
        *("what", "how many", "where in runs/mini/", "names"),
        *("numbers", "3", "numbers/02_stage1.json", "stage1.* (2), claim.* (1)"),
        *("figures", "0", "figures/02_stage1/", ""),
        *("tables", "1", "tables/02_stage1/", "words"),
    ]


def test_compare_asks_whether_the_published_interval_holds_our_number():
    run = [
        entry("a.inside", 1.1),
        entry("a.outside", 1.3),
        entry("a.new", 1.0),
        entry("a.speed", 20.0),
        entry("a.edge", 1.2),
    ]
    published = [
        entry("a.inside"),
        entry("a.outside"),
        entry("a.speed", 25.0, None, None),
        entry("a.edge"),
        entry("a.gone", paper=3.0),
    ]
    table = compare(run, published).set_index("name")
    assert table["reproduced"].to_dict() == {
        "a.inside": True,
        "a.outside": False,
        "a.new": None,
        "a.speed": None,
        "a.edge": True,
        "a.gone": None,
    }
    assert table.loc["a.inside", "published"] == 1.0 and table.loc["a.gone", "paper"] == 3.0
    assert list(printable(table.reset_index())["reproduced"]) == ["yes", "NO", "-", "-", "yes", "-"]
    assert compare([], []).empty


def test_numbers_for_readers():
    assert [rounded(value) for value in (None, 0.12345, 8300.0, 99.95)] == ["-", "0.123", "8,300", "100"]
    row = readable(entry(unit="nats", n=400, seed_sd=0.05, seeds=3))
    assert row["what"] == "stage1.loss (nats)"
    assert row["ours [95 % interval]"] == "1 [0.8, 1.2] (sd 0.05 over 3 seeds)"
    assert markdown(pandas.DataFrame([row])).splitlines()[0].startswith("| what | ours")


def test_a_table_has_a_dash_where_there_is_no_number():
    table = pandas.DataFrame([{"row": "base", "paper": 0.5}, {"row": "blank"}])
    assert markdown(table).splitlines()[2:] == ["| base | 0.5 |", "| blank | - |"]


def test_the_page_stands_alone(tmp_path, shown):
    make_report(tmp_path).sheet("pictures", Image.new("RGB", (8, 8)))
    text = page(tmp_path / "mini", comparison=compare([entry()], [entry()]), minutes={"02_stage1": 7.0})
    assert "data:image/jpeg;base64," in text and "stage1.loss" in text and "7.0" in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_folder_names_tell_runs_apart():
    names = [
        settings.folder_name
        for settings in (
            Settings(),
            Settings(profile="smoke", seed=2),
            Settings(seed=1, weights="hub"),
            Settings(language="models/Qwen3-0.6B/"),
            Settings(profile="vicuna-7b", bits=4, language="Qwen/Qwen3-8B", seed=1),
        )
    ]
    assert names == [
        "mini",
        "smoke-seed2",
        "mini-seed1-hub",
        "mini-Qwen3-0.6B",
        "vicuna-7b-4bit-Qwen3-8B-seed1",
    ]


def test_what_a_run_leaves_is_scrubbed(tmp_path):
    bar = v4.new_output("stream", name="stderr", text="50%|#####")
    noise = v4.new_output("stream", text=f"1%\r100%\n\x1b[31mread {tmp_path}/data/a.csv\x1b[0m\n")
    widget = v4.new_output("display_data", data={publish.WIDGET: {"model_id": "1"}, "text/plain": "bar"})
    result = v4.new_output("execute_result", data={"text/plain": f"'{tmp_path}/x'"}, execution_count=9)
    cell = v4.new_code_cell("x", execution_count=9, outputs=[noise, bar, noise, widget, result])
    cell.metadata = {"papermill": {"duration": 1}, "execution": {}}
    dirty = v4.new_notebook(
        cells=[v4.new_markdown_cell("text"), cell, v4.new_code_cell("y", execution_count=3)]
    )
    dirty.metadata = {"papermill": {"input_path": "x"}, "widgets": {}, "language_info": {"version": "3.11.7"}}
    clean = publish.clean(nbformat.from_dict(dirty), tmp_path)
    assert [cell.execution_count for cell in code_cells(clean)] == [1, 2]
    outputs = code_cells(clean)[0].outputs
    assert [output.output_type for output in outputs] == ["stream", "execute_result"]
    assert outputs[0].text == "100%\nread data/a.csv\n" * 2
    assert outputs[1].execution_count == 1 and outputs[1].data["text/plain"] == "'x'"
    assert set(clean.metadata) == {"kernelspec", "language_info"} and clean.cells[1].metadata == {}
    assert clean.metadata.language_info == {"name": "python"}
    assert publish.faults(clean) == []
    nbformat.validate(clean)


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (v4.new_output("error", ename="KeyError", evalue="x", traceback=[]), "KeyError"),
        (v4.new_output("stream", text="at /home/somebody/picture.png"), "/home/somebody"),
        (v4.new_output("stream", name="stderr", text="50%"), "progress"),
        (v4.new_output("display_data", data={publish.WIDGET: {}}), "widgets"),
        (v4.new_output("display_data", data={"image/jpeg": "A" * 1_100_000}), "1.1 MB"),
    ],
)
def test_what_cannot_be_published(output, fault):
    notebook = v4.new_notebook(cells=[v4.new_code_cell("x", outputs=[output])])
    assert len(publish.faults(notebook)) == 1 and fault in publish.faults(notebook)[0]
    assert publish.faults(v4.new_notebook(cells=[v4.new_code_cell("x = 'https://a.org/home/page'")])) == []


def test_a_run_is_published_whole_or_not_at_all(tmp_path, monkeypatch):
    for name in ("PYTHONPATH", "JUPYTER_PREFER_ENV_PATH", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "")
    make_study(tmp_path)
    use_real_report(tmp_path)
    (tmp_path / "notebooks" / "02_two.ipynb").unlink()
    (tmp_path / "README.md").write_text("# x\n<!-- numbers:start -->\nold\n<!-- numbers:end -->\nend\n")
    source = tmp_path / "notebooks" / "01_one.ipynb"
    write_notebook(
        source,
        "# Claims\n<!-- claims:start -->\n<!-- claims:end -->\n<!-- number one.two -->-<!-- -->",
        "import sys\nfrom PIL import Image\nfrom mglib.paths import ROOT\n"
        "from mglib.repro.report import Report\nfrom mglib.settings import Settings",
        'report = Report(Settings(profile=profile, seed=seed), notebook="01_one")',
        'print(ROOT / "data")\nprint("50%", file=sys.stderr)',
        'report.number("one.two", 0.5, low=0.4, high=0.6, n=7)',
        'report.sheet("sheet", Image.new("RGB", (9, 9)))',
    )
    with pytest.raises(CannotRun, match="no finished run yet"):
        publish.publish(tmp_path, Settings())
    reproduce.run(Settings(), root=tmp_path)
    publish.publish(tmp_path, Settings())

    published = nbformat.read(source, as_version=4)
    assert [cell.execution_count for cell in code_cells(published)] == [1, 2, 3, 4, 5, 6]
    assert code_cells(published)[3].outputs[0].text == "data\n" and "injected" not in source.read_text()
    prose = published.cells[2].source
    assert "| inconclusive | not measured: t1.total.minigpt4" in prose and prose.endswith("-->0.5<!-- -->")
    results = tmp_path / "results" / "mini"
    assert "## The paper's claims" in (results / "README.md").read_text()
    assert json.loads((results / "numbers.json").read_text())[0]["name"] == "one.two"
    assert (results / "figures" / "01_one" / "sheet.jpg").exists()
    readme = (tmp_path / "README.md").read_text()
    assert (
        "| one.two | 0.5 [0.4, 0.6] | 7 | - |" in readme and "old" not in readme and readme.endswith("end\n")
    )
    assert publish.readme_with(readme, json.loads((results / "numbers.json").read_text())) == readme
    folder = tmp_path / "runs" / "mini"
    reproduce.run(Settings(), root=tmp_path)  # publishing makes nothing stale
    assert list(Ledger(folder).entries) == ["01_one"] and not (folder / ".01_one.running.ipynb").exists()

    before = source.read_text()
    (tmp_path / "requirements.lock").write_text("numpy==2.0\n")
    with pytest.raises(CannotRun, match=r"changed: requirements\.lock.*run `make reproduce` first"):
        publish.publish(tmp_path, Settings())
    assert source.read_text() == before


def finish(root, settings, value=1.0):
    """Leave what a finished run leaves: each notebook, one number of it, and its entry in the ledger."""
    run = root / "runs" / settings.folder_name
    for name, parts in publish.dependencies(root, settings).items():
        source = root / "notebooks" / f"{name}.ipynb"
        (run / "numbers").mkdir(parents=True, exist_ok=True)
        (run / source.name).write_text(source.read_text())
        found = [entry(f"x.{name}", value, None, None, notebook=name)]
        (run / "numbers" / f"{name}.json").write_text(json.dumps(found))
        Ledger(run).add(name, parts, 1.0, machine={"gflops": 2.0})


def test_other_profiles_publish_results_alone(tmp_path):
    make_study(tmp_path)
    settings = Settings(profile="smoke")
    finish(tmp_path, settings)
    assert publish.publish(tmp_path, settings) == [tmp_path / "results" / "smoke"]
    (tmp_path / "runs" / "bench.json").write_text("{}")
    measured = tmp_path / "results" / "bench.json"
    assert publish.publish(tmp_path, settings)[1:] == [measured] and measured.exists()
    assert len(json.loads((tmp_path / "results" / "smoke" / "numbers.json").read_text())) == 2
    minutes = json.loads((tmp_path / "results" / "smoke" / "minutes.json").read_text())
    assert minutes["01_one"] == {"seconds": 1.0, "machine": {"gflops": 2.0}} and len(minutes) == 2
    with pytest.raises(CannotRun, match="no finished run yet"):
        publish.publish(tmp_path, Settings())


def test_other_seeds_give_the_spread(tmp_path, capsys):
    make_study(tmp_path)
    for seed, value in enumerate((1.0, 2.0, 6.0)):
        finish(tmp_path, Settings(profile="smoke", seed=seed), value)
    finish(tmp_path, Settings(profile="smoke", seed=1, weights="hub"), 100.0)
    finish(tmp_path, Settings(seed=1), 100.0)
    run = tmp_path / "runs" / "smoke-seed2"
    (run / "02_two.ipynb").unlink()
    publish.publish(tmp_path, Settings(profile="smoke"))
    found = json.loads((tmp_path / "results" / "smoke" / "numbers.json").read_text())
    one, two = ((number["value"], number["seeds"], number["seed_sd"]) for number in found)
    assert one == (1.0, 3, pytest.approx(7**0.5)) and two == (1.0, 2, pytest.approx(0.5**0.5))
    assert "02_two of smoke-seed2 does not count" in capsys.readouterr().out


def test_the_spread_is_over_what_was_measured():
    mine = [entry("a.b", 1.0), entry("a.c", 2.0), entry("a.d", None, None, None)]
    found = spread(mine, [[entry("a.b", 3.0), entry("a.d", 1.0)], [entry("a.b", None, None, None)]])
    assert (found[0]["seeds"], found[0]["seed_sd"]) == (2, pytest.approx(2**0.5))
    assert found[1:] == mine[1:]


def test_the_readme_may_choose_its_numbers():
    text = "<!-- numbers:start stage1.* x.y -->\n<!-- numbers:end -->"
    made = publish.readme_with(text, [entry("stage1.loss"), entry("x.y"), entry("x.z")])
    assert "stage1.loss" in made and "x.y" in made and "x.z" not in made
    assert publish.readme_with(made, [entry("stage1.loss"), entry("x.y"), entry("x.z")]) == made


def test_what_the_paper_has_and_a_run_has_not_is_listed(tmp_path):
    report = make_report(tmp_path)
    report.number("t7.gqa.base", 0.3)
    report.absent("t7", reason="nobody asked")
    found = {number["name"]: number for number in numbers(tmp_path / "mini")}
    assert set(found) == {name for name in PAPER if name.startswith("t7.")}
    assert found["t7.gqa.base"]["value"] == 0.3
    assert found["t7.gqa.lora"]["value"] is None and found["t7.gqa.lora"]["paper"] == PAPER["t7.gqa.lora"]
    assert "nobody asked" in found["t7.gqa.lora"]["note"]


def test_many_estimates_are_kept_by_measure_and_row(tmp_path):
    half, report = Estimate(0.5, 0.25, 0.75, 8), make_report(tmp_path)
    rows = {"base": {"gqa": half, "words": None}}
    report.rows(rows, prefix="t4", note={"gqa": "exact", "words": "counted"}, remarks={"base": "greedy"})
    gqa, words = numbers(tmp_path / "mini")
    assert gqa["name"] == "t4.gqa.base" and gqa["note"] == "exact; greedy"
    assert gqa["paper"] == PAPER["t4.gqa.base"] and gqa["value"] == 0.5
    assert words["name"] == "t4.words.base" and words["value"] is None


def test_intervals_leave_out_what_was_not_measured(tmp_path, shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "mglib.repro.figures.intervals", lambda groups, **how: drawn.append(groups) or pyplot.figure()
    )
    report, known = make_report(tmp_path), Estimate(0.5, 0.4, 0.6, 10)
    report.intervals("none", {"a": {"x": None}, "b": {}}, xlabel="share")
    assert drawn == [] and not (tmp_path / "mini" / "figures").exists()
    report.intervals("some", {"a": {"x": None, "y": known}, "b": {"x": None}}, xlabel="share")
    assert drawn == [{"a": {"y": known}}]
    assert (tmp_path / "mini" / "figures" / "02_stage1" / "some.png").exists()


def test_a_frame_is_kept_as_numbers_and_shown_as_a_table(tmp_path, shown):
    report, half = make_report(tmp_path), Estimate(0.5, 0.25, 0.75, 8)
    found = frame.concat(
        frame.rows("t5", {"long": {"chair_i": half, "length": 30.0}}, note="drawn"),
        frame.rows("t5", {"llava": {"chair_i": None}}),
    )
    report.results("chair", found)
    long, words, llava = numbers(tmp_path / "mini")
    assert (long["name"], long["value"], long["low"], long["high"], long["n"]) == (
        "t5.chair_i.long",
        0.5,
        0.25,
        0.75,
        8,
    )
    assert long["paper"] == PAPER["t5.chair_i.long"] and long["note"] == "drawn" and long["seeds"] == 1
    assert words["low"] is None and llava["value"] is None and llava["paper"] == PAPER["t5.chair_i.llava"]
    table = pandas.read_csv(tmp_path / "mini" / "tables" / "02_stage1" / "chair.csv")
    assert list(table.columns[1:]) == ["CHAIR_i", "length", "n"]
    assert list(table.iloc[:, 0]) == ["MiniGPT-4, long", "LLaVA, quoted"]
    assert list(table["CHAIR_i"]) == ["0.5 [0.25, 0.75] (paper 0.096)", "- (paper 0.188)"]
    assert list(table["n"]) == ["8", "-"]


def test_a_table_has_names_in_the_place_of_keys(tmp_path, shown, capsys):
    keyed = {"model": ["minigpt4"], "wording": ["{} Yes or no?"], "way": ["minigpt4"], "lr": [0.1]}
    make_report(tmp_path).table("tuning", pandas.DataFrame(keyed))
    table = pandas.read_csv(tmp_path / "mini" / "tables" / "02_stage1" / "tuning.csv")
    assert list(table) == ["model", "asked", "way", "learning rate"]
    assert list(table.loc[0])[:3] == ["MiniGPT-4", "QUESTION Yes or no?", "minigpt4"]
    make_report(tmp_path, "03_curate").table("tuning", None)
    assert "tuning: no table" in capsys.readouterr().out and len(shown) == 1


def test_a_forest_draws_what_has_an_interval(tmp_path, shown, capsys):
    report, half = make_report(tmp_path), Estimate(0.5, 0.25, 0.75, 8)
    found = frame.rows(
        "t4", {name: {"gqa": half, "aokvqa": half, "words": 3.0} for name in ("base", "blank")}
    )
    report.forest("arms", found, xlabel="share", panel="measure", hue="system", chance=0.25)
    assert (tmp_path / "mini" / "figures" / "02_stage1" / "arms.png").exists()
    report.forest("nothing", frame.rows("t4", {"base": {"gqa": None}}), xlabel="share")
    assert len(shown) == 1 and "nothing: nothing to draw" in capsys.readouterr().out
    assert figures.forest(frame.rows("t4", {}), xlabel="share") is None
