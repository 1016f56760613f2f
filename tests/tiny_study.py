"""A study of two throwaway notebooks in a temporary folder, for the tests of running and publishing."""

import shutil
from pathlib import Path

import nbformat
from nbformat import v4

from mglib.paths import ROOT

PARAMETERS = """profile = "mini"  # which
seed = 0  # of all
weights = "wheel"  # from
language = ""
bits = 0"""


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook: a title, the parameters, then one cell for each text (prose if it starts with #)."""
    parameters = v4.new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]})
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# A title", id="title"), parameters])
    for place, text in enumerate(cells):
        make = v4.new_markdown_cell if text.startswith("#") else v4.new_code_cell
        notebook.cells.append(make(text, id=f"cell-{place}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.from_dict(notebook), path)


def make_study(root: Path) -> None:
    """Lay out a repository with a package of its own, a lock, data and the notebooks 01 and 02."""
    files = {
        "requirements.lock": "numpy==1.0\n",
        "data/world/objects.csv": "cat\n",
        "data/cache/tokens.bin": "not an input",
        "mglib/__init__.py": "",
        "mglib/base.py": "STEP = 1\n",
        "mglib/first.py": "from mglib.base import STEP\n",
        "mglib/second.py": "from mglib import base\n\n\ndef twice(x):\n    return base.STEP * x\n",
        "mglib/deep/__init__.py": "from mglib.deep.inner import VALUE\n",
        "mglib/deep/inner.py": "VALUE = 3\n",
        "mglib/unused.py": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    write_notebook(root / "notebooks" / "01_one.ipynb", "from mglib.first import STEP", "print(seed + STEP)")
    second = "from mglib import second\ntwice = second.twice"
    write_notebook(root / "notebooks" / "02_two.ipynb", second, "import sys; sys.prefix")


def use_real_report(root: Path) -> None:
    """Give the study's package the real Report."""
    base = ("config", "paper_profiles", "profiles", "settings", "paths", "metrics", "frame", "paper")
    own = (*base, "study/__init__", "study/display_names")
    for name in (*own, "repro/__init__", "repro/figures", "repro/report"):
        (root / "mglib" / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "mglib" / f"{name}.py", root / "mglib" / f"{name}.py")
