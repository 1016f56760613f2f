"""The code that a result hangs on, named by what it computes: not by where it stands or what it is called.

A unit is what stands at the top of a module of this package: a function, a class, a constant. From the units
that are named as roots, all those are followed that their source names. Code is read and not run.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mglib.paths import ROOT, hash_json

PACKAGE = "mglib"
REST = ""  # names what a module does besides defining, such as `warnings.filterwarnings(...)`
IGNORED_FIELDS = {"annotation", "returns", "type_comment", "ctx", "kind"}  # of a syntax tree
Unit = tuple[str, str]  # the module, with dots, and a name at its top


def hash_source(*roots: Callable[..., Any]) -> str:
    """Name the code of functions, methods, classes and partials, with all that they use of this package.

    Imports, comments, layout, docstrings, annotations, a file's place, and the names of what stands at the
    top of a module change nothing. Methods are found by their classes, and classes where they are named: an
    object that is handed in has to be named by its class among the roots.
    """
    return hash_json(list(closure([unit for root in roots for unit in units_of(root)]).values()))


def units_of(root: Any) -> Iterator[Unit]:
    """Yield the units of what can be called: a function with what it closes over, a class, a partial."""
    waiting, seen = [root], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, partial):
            waiting += [each.func, *each.args, *each.keywords.values()]
            continue
        each = getattr(each, "__func__", each)  # a method is its class's
        waiting += [cell.cell_contents for cell in getattr(each, "__closure__", None) or ()]
        name = getattr(each, "__qualname__", type(each).__qualname__)
        if callable(each) and str(getattr(each, "__module__", None)).split(".")[0] == PACKAGE:
            yield each.__module__, name.split(".")[0]


def closure(roots: Iterable[Unit], root: Path = ROOT) -> dict[Unit, str]:
    """Return the roots and all that they use, each with its code, in the order of their first use.

    Where the source names a unit, the code holds its place in that order. Raises SyntaxError for a module
    that cannot be parsed.
    """
    found: dict[Unit, str] = {}
    places: dict[Unit, int] = {}
    waiting = list(roots)[::-1]
    while waiting:
        unit = waiting.pop()
        module = source(unit[0], root)
        if unit in found or module is None or unit[1] not in module.units:
            continue
        canonical = Canonicalizer(module, places, root)
        found[unit] = canonical.of(module.units[unit[1]])
        waiting += [(unit[0], REST), *canonical.used[::-1]]
    return found


def units_named(code: str, root: Path = ROOT) -> list[Unit]:
    """Return the units that a piece of code names, which is not of this package itself."""
    tree = ast.parse(code)
    canonical = Canonicalizer(Source("", tree, package=""), {}, root)
    canonical.of(tree)
    return canonical.used


class Source:
    """One module as read: its units, and what its imports bind."""

    def __init__(self, name: str, tree: ast.Module, *, package: str) -> None:
        self.name = name
        self.units: dict[str, ast.AST] = {}
        rest = []
        for node in tree.body:
            names = list(defined(node))
            self.units |= dict.fromkeys(names, node)
            if not names and not is_aside(node):
                rest.append(node)
        if rest:
            self.units[REST] = ast.Module(rest, [])
        self.bound = dict(bound(tree, package))


def defined(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        yield from (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))


def is_aside(node: ast.stmt) -> bool:
    """Tell whether a statement does nothing when its module is imported."""
    main = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
    return main or is_ignored(node)


def is_ignored(node: ast.AST) -> bool:
    """Tell whether a statement is an import or a text that stands for itself."""
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def bound(tree: ast.Module, package: str) -> Iterator[tuple[str, Unit]]:
    """Yield what each import binds: a name, and where it comes from; relative ones start from `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = above[: len(above) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((alias.asname or alias.name, (module, alias.name)) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                yield (alias.asname, ("", alias.name)) if alias.asname else (first, ("", first))


def source(name: str, root: Path) -> Source | None:
    """Return a module of this package; None for any other."""
    if name.split(".")[0] != PACKAGE:
        return None
    path = root.joinpath(*name.split("."))
    for file, package in (
        (path / "__init__.py", name),
        (path.with_suffix(".py"), name.rpartition(".")[0]),
    ):
        if file.is_file():
            return _read(name, file, package, file.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=1_000)
def _read(name: str, file: Path, package: str, changed: int) -> Source:
    return Source(name, ast.parse(file.read_text(encoding="utf-8"), str(file)), package=package)


class Canonicalizer:
    """Writes syntax trees of one module down without what does nothing, and notes which units they use."""

    def __init__(self, module: Source, places: dict[Unit, int], root: Path) -> None:
        self.module, self.places, self.root = module, places, root
        self.used: list[Unit] = []

    def of(self, node: Any) -> str:
        """Write a node, a list of nodes or a value."""
        if isinstance(node, list):
            return f"[{','.join(self.of(each) for each in node if not is_ignored(each))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if unit := self.resolve(node):
            self.used.append(unit)
            return f"@{self.places.setdefault(unit, len(self.places))}"
        fields = ((name, value) for name, value in ast.iter_fields(node) if name not in IGNORED_FIELDS)
        own = node is self.module.units.get(getattr(node, "name", None))  # its name is a unit's, not its own
        said = ",".join(self.of(value) for name, value in fields if not (own and name == "name"))
        return f"{type(node).__name__}({said})"

    def resolve(self, node: ast.AST) -> Unit | None:
        """Return the unit that a name, or a name of a module with an attribute, stands for."""
        if isinstance(node, ast.Name):
            return follow((self.module.name, node.id), self.module, self.root)
        if isinstance(node, ast.Attribute):
            first, *rest = dotted(node.value) or [""]
            target = self.module.bound.get(first, ("", ""))
            module = source(".".join([*filter(None, target), *rest]), self.root)
            return module and follow((module.name, node.attr), module, self.root)
        return None


def dotted(node: ast.AST) -> list[str] | None:
    """Return the names of `a.b.c`; None for any other expression."""
    if isinstance(node, ast.Name):
        return [node.id]
    above = dotted(node.value) if isinstance(node, ast.Attribute) else None
    return above and [*above, node.attr]


def follow(unit: Unit, module: Source, root: Path) -> Unit | None:
    """Return where a name of a module is defined in this package, through as many imports as it takes."""
    if unit[1] in module.units:
        return unit
    target = module.bound.get(unit[1])
    above = target and source(target[0], root)
    return above and follow(target, above, root)
