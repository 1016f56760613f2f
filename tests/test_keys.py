"""Keys of code: they change with what is computed, not with how it is written, named or filed."""

from functools import partial

import pytest

from mglib import keys
from mglib.keys import closure, hash_source, units_named, units_of

FILES = {
    "mglib/__init__.py": "",
    "mglib/steps.py": (
        '"""Steps."""\n'
        "from mglib import scales\n"
        "from mglib.scales import by\n\n"
        "HALF = 0.5\n\n"
        "def step(x: int) -> float:\n"
        '    """Take a step."""\n'
        "    return by(x, HALF) + scales.FACTOR  # and on\n\n"
        "def unused():\n"
        "    return 1\n"
    ),
    "mglib/scales.py": "import math\nFACTOR = 2\n\ndef by(x, y):\n    return math.floor(x * y)\n",
    "mglib/shelf/__init__.py": "",
}


@pytest.fixture
def package(tmp_path):
    def write(changes=None):
        for name, text in {**FILES, **(changes or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        keys._parsed.cache_clear()
        return tmp_path

    write()
    return write


def key(root, unit=("mglib.steps", "step")):
    return list(closure([unit], root).values())


def changed(**replacements):
    """Return the files with some texts replaced in all of them."""
    files = dict(FILES)
    for old, new in replacements.items():
        files = {name: text.replace(old, new) for name, text in files.items()}
    return files


def test_what_is_used_is_found_and_nothing_else(package):
    assert list(closure([("mglib.steps", "step")], package())) == [
        ("mglib.steps", "step"),
        ("mglib.scales", "by"),
        ("mglib.steps", "HALF"),
        ("mglib.scales", "FACTOR"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Take a step.", "Stride."),
        ("  # and on", ""),
        ("x: int) -> float", "x)"),
        ("import math\n", "import json, math\n"),
        ("    return 1\n", "    return 2\n"),
        ("HALF", "A_HALF"),
        ("FACTOR", "SCALE"),
        ("by(", "times("),
    ],
)
def test_how_it_is_written_and_called_changes_nothing(package, old, new):
    before = key(package())
    files = changed(**{old: new})
    if old == "by(":
        files["mglib/steps.py"] = files["mglib/steps.py"].replace("import by", "import times")
    assert key(package(files)) == before


def test_moving_and_splitting_modules_changes_nothing(package):
    before = key(package())
    steps = FILES["mglib/steps.py"].replace("mglib.scales", "mglib.shelf.sizes")
    steps = steps.replace("from mglib import scales", "from mglib.shelf import sizes as scales")
    moved = {"mglib/shelf/sizes.py": FILES["mglib/scales.py"], "mglib/shelf/steps.py": steps}
    assert key(package(moved), ("mglib.shelf.steps", "step")) == before
    apart = {
        "mglib/scales.py": "from mglib.shelf.by import by\nFACTOR = 2\n",
        "mglib/shelf/by.py": "import math\n\ndef by(x, y):\n    return math.floor(x * y)\n",
    }
    assert key(package(apart)) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HALF = 0.5", "HALF = 0.25"),
        ("FACTOR = 2", "FACTOR = 3"),
        ("by(x, HALF)", "by(HALF, x)"),
        ("x * y", "x + y"),
        ("math.floor", "math.ceil"),
        ("by(x, HALF) + scales.FACTOR", "scales.FACTOR + by(x, HALF) "),
        ("import math\n", "import math\nmath.tau = 6\n"),
    ],
)
def test_what_it_computes_changes_the_key(package, old, new):
    before = key(package())
    assert any(old in text for text in FILES.values())
    assert key(package(changed(**{old: new}))) != before


def test_two_functions_that_change_places_are_told_apart(package):
    code = (
        "def add(x):\n    return x + 1\n\ndef double(x):\n    return 2 * x\n\ndef both(x):\n    return {}\n"
    )
    one = key(package({"mglib/both.py": code.format("add(double(x))")}), ("mglib.both", "both"))
    other = key(package({"mglib/both.py": code.format("double(add(x))")}), ("mglib.both", "both"))
    assert one != other


def test_circles_end(package):
    code = "def even(n):\n    return n == 0 or odd(n - 1)\n\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    assert len(key(package({"mglib/circle.py": code}), ("mglib.circle", "even"))) == 2


def test_a_notebooks_names_are_followed_through_packages(package):
    root = package(
        {
            "mglib/shelf/__init__.py": "from mglib.shelf.inner import VALUE\n",
            "mglib/shelf/inner.py": "VALUE = 3\n",
        }
    )
    for code in (
        "import mglib.shelf\nmglib.shelf.VALUE",
        "from mglib import shelf as top\ntop.VALUE",
        "from mglib.shelf import VALUE as V\nprint(V)",
    ):
        assert units_named(code, root) == [("mglib.shelf.inner", "VALUE")], code
    assert units_named("import numpy\nfrom mglib import shelf", root) == []


# --- what is in memory ---


def test_functions_classes_methods_partials_and_closures_are_named_by_their_units():
    from mglib.data.splits import Pairs
    from mglib.model.prompts import pad
    from mglib.study.stage1 import picture_layout
    from mglib.training.checkpoint import trainable

    assert list(units_of(pad)) == [("mglib.model.prompts", "pad")]
    assert list(units_of(Pairs)) == [("mglib.data.splits", "Pairs")]
    assert list(units_of(partial(sorted, key=pad))) == [("mglib.model.prompts", "pad")]
    pairs = Pairs("queries", [], [])
    inner = pairs.collate(picture_layout(None, None, 3, 4))
    assert set(units_of(inner)) == {("mglib.data.splits", "Pairs"), ("mglib.study.stage1", "picture_layout")}
    assert hash_source(pad) == hash_source(pad) != hash_source(trainable)
