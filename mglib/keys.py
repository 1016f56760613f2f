"""The code a result depends on, hashed by what it computes, not by its place or name.

A unit is a top-level definition in a module of this package: a function, a class, a constant. Starting from
the units given as roots, all units that their source names are followed. Code is parsed, not run.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mglib.paths import ROOT, hash_json

PACKAGE = "mglib"
REST = ""  # the unit of a module's other top-level statements, such as `warnings.filterwarnings(...)`
IGNORED_FIELDS = {"annotation", "returns", "type_comment", "ctx", "kind"}  # of a syntax tree
Unit = tuple[str, str]  # the dotted module, and a top-level name in it


def hash_source(*roots: Callable[..., Any]) -> str:
    """Return a hash of the code of functions, methods, classes and partials, and of all they use of this
    package.

    Imports, comments, layout, docstrings, annotations, file paths, and the names of top-level definitions do
    not change it. Methods are covered by their classes, and classes only if they are named: the class of an
    object that is passed in has to be among the roots.
    """
    return hash_json(list(closure(unit for root in roots for unit in units_of(root)).values()))


def units_of(root: object) -> Iterator[Unit]:
    """Yield the units of a callable: a function with its closure, a class, a partial."""
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

    Where the source names a unit, the code holds its index in that order. Raises SyntaxError for a module
    that cannot be parsed.
    """
    found: dict[Unit, str] = {}
    indices: dict[Unit, int] = {}
    waiting = list(roots)[::-1]
    while waiting:
        unit = waiting.pop()
        module = read(unit[0], root)
        if unit in found or module is None or unit[1] not in module.units:
            continue
        canonical = Canonicalizer(module, indices, root)
        found[unit] = canonical.text(module.units[unit[1]])
        waiting += [(unit[0], REST), *canonical.used[::-1]]
    return found


def units_named(code: str, root: Path = ROOT) -> list[Unit]:
    """Return the units named by a piece of code from outside this package."""
    tree = ast.parse(code)
    canonical = Canonicalizer(Module("", tree), {}, root)
    canonical.text(tree)
    return canonical.used


class Module:
    """A parsed module: its units, and the full name of what each import binds."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name = name
        self.units: dict[str, ast.AST] = {}
        rest = [node for node in tree.body if not is_ignored(node) and not defined(node)]
        if rest:
            self.units[REST] = ast.Module(rest, [])
        for node in tree.body:
            self.units |= dict.fromkeys(defined(node), node)
        self.imports: dict[str, str] = {}
        for part in ast.walk(tree):
            for each in part.names if isinstance(part, ast.Import | ast.ImportFrom) else ():
                first = each.name.split(".")[0]
                if isinstance(part, ast.ImportFrom):
                    self.imports[each.asname or each.name] = f"{part.module}.{each.name}"
                else:
                    self.imports[each.asname or first] = each.name if each.asname else first


def defined(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def is_ignored(node: object) -> bool:
    """Return whether a node is ignored: an import, a docstring, or code that runs only in a script."""
    return (
        isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))
    )


def read(name: str, root: Path) -> Module | None:
    """Return a module of this package; None for any other."""
    path = root.joinpath(*name.split("."))
    if name.split(".")[0] == PACKAGE:
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return _parsed(name, file, file.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=1_000)
def _parsed(name: str, file: Path, changed: int) -> Module:
    return Module(name, ast.parse(file.read_text(encoding="utf-8"), str(file)))


class Canonicalizer:
    """Writes out a module's syntax trees without what is ignored, and records which units they use."""

    def __init__(self, module: Module, indices: dict[Unit, int], root: Path) -> None:
        self.module, self.indices, self.root = module, indices, root
        self.used: list[Unit] = []

    def text(self, node: object) -> str:
        """Return the text of a node, a list of nodes or a value."""
        if isinstance(node, list):
            return f"[{','.join(self.text(each) for each in node if not is_ignored(each))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if unit := self.unit(self.full_name(node)):
            self.used.append(unit)
            return f"@{self.indices.setdefault(unit, len(self.indices))}"
        own = node is self.module.units.get(getattr(node, "name", ""))  # the name of a unit is ignored
        ignored = IGNORED_FIELDS | {"name"} if own else IGNORED_FIELDS
        fields = [self.text(value) for name, value in ast.iter_fields(node) if name not in ignored]
        return f"{type(node).__name__}({','.join(fields)})"

    def full_name(self, node: ast.AST) -> str:
        """Return `package.module.name` for a name, or for an attribute of a module; else ""."""
        if isinstance(node, ast.Name):
            own = f"{self.module.name}.{node.id}" if node.id in self.module.units else ""
            return own or self.module.imports.get(node.id, "")
        if isinstance(node, ast.Attribute) and (above := self.full_name(node.value)):
            return f"{above}.{node.attr}"
        return ""

    def unit(self, full_name: str) -> Unit | None:
        """Return the unit that defines a name in this package, following imports; else None."""
        above, _, name = full_name.rpartition(".")
        module = read(above, self.root)
        if module is None:
            return None
        return (above, name) if name in module.units else self.unit(module.imports.get(name, ""))
