"""The walls of the house: which room may import which, and what the hot path may load.

Read from the source with ast, so that an import inside a function counts as well.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pyoci"

# Modules that cost (nearly) nothing: builtin, frozen, or loaded by the interpreter before us.
BUDGET = frozenset(
    "__future__ _json _signal _socket _thread errno fcntl gc marshal posix select stat struct sys time".split()
)

# room -> rooms it may import; a room is a directory or module of pyoci, "" the package itself.
ARROWS = {
    "kernel": set[str](),
    "errors": {"kernel"},
    "linux": set[str](),
    "json": {"errors"},
    "spec": {"errors", "linux", "json"},
    "cold": {"errors"},  # the one door to packages from outside
    "schema": {"errors", "linux", "json", "spec", "cold"},
    "bundle": {"kernel", "errors", "linux", "json", "spec"},
    "plan": {"errors", "linux", "json"},  # json is as pure as plan
    "host": {"kernel", "errors", "linux", "json", "plan", "cold"},
    "container": {"kernel", "errors", "linux", "json", "plan", "host", "spec", "bundle", "schema", "cold"},
    "cli": {
        "",
        "kernel",
        "errors",
        "linux",
        "json",
        "plan",
        "host",
        "spec",
        "bundle",
        "schema",
        "cold",
        "container",
        "_commit",
    },
    "__main__": {"cli", "image"},
    "image": set[str](),
    "": {"errors", "container", "bundle", "spec"},
    "mydocker": {""},
}

# What a pure room may not touch, beside importing only pure rooms.
IMPURE = frozenset(
    {"os", "posix", "kernel", "_socket", "select", "fcntl", "subprocess", "socket", "ctypes", "io", "pathlib", "shutil"}
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """pyoci/plan/ops.py -> plan.ops; a package's __init__ is the package; pyoci/__init__.py is ""."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room a module belongs to; spec_tables is spec, grown into several files."""
    first = module.partition(".")[0]
    family = first.partition("_")[0]
    return family if family in ARROWS and family else first


def is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


class Imports(ast.NodeVisitor):
    """Every import that can happen when the program runs: at module level, and inside functions."""

    def __init__(self) -> None:
        self.top: list[tuple[str, int]] = []
        self.late: list[tuple[str, int]] = []
        self.depth = 0

    def add(self, name: str, line: int) -> None:
        (self.late if self.depth else self.top).append((name, line))

    def visit_If(self, node: ast.If) -> None:
        if is_type_checking(node.test):
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """`except ImportError: from pyoci import json_slow` is for interpreters that are not CPython."""
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"relative import in line {node.lineno}"
        module = node.module or ""
        if module.split(".")[0] != "pyoci":
            self.add(module, node.lineno)
            return
        for alias in node.names:  # `from pyoci import errors` names a module, `from pyoci.plan import make` may not
            inner = f"{module}.{alias.name}"
            self.add(inner if is_module(inner) else module, node.lineno)


def is_module(dotted: str) -> bool:
    path = ROOT.joinpath(*dotted.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists() or path.is_dir()


def imports_of(path: Path) -> Imports:
    found = Imports()
    found.visit(ast.parse(path.read_text(), str(path)))
    return found


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_arrows(path: Path) -> None:
    """cli -> container -> host -> plan -> linux, errors; and no arrow back."""
    found = imports_of(path)
    room = room_of(name_of(path))
    assert room in ARROWS, f"{path} stands in no room of DESIGN.md: give it one in this test's table"
    for name, line in found.top + found.late:
        if name.split(".")[0] != "pyoci":
            continue
        target = room_of(name.removeprefix("pyoci").removeprefix("."))
        assert target == room or target in ARROWS[room], f"{path}:{line}: {room or 'pyoci'} may not import {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room_of(name_of(p)) == "plan"], ids=name_of)
def test_plan_is_pure(path: Path) -> None:
    """plan/ decides from what it is given: it reads no file and asks the system nothing."""
    for name, line in imports_of(path).top + imports_of(path).late:
        assert name.split(".")[0] not in IMPURE, f"{path}:{line}: plan/ is pure, and {name} is not"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input"}, f"{path}:{node.lineno}: plan/ is pure"


def hot_modules() -> set[str]:
    """What the package and the command load from the start, by following module-level imports."""
    seen = {"image_make"}  # once, when sources have changed
    todo = ["", "__main__", "cli", "container"]
    while todo:
        name = todo.pop()
        path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not source.exists():
            continue
        seen.add(name)
        for target, _ in imports_of(source).top:
            if target.split(".")[0] == "pyoci":
                todo.append(target.removeprefix("pyoci").removeprefix("."))
    return seen - {"image_make"}


@pytest.mark.parametrize("name", sorted(hot_modules()))
def test_hot_path_budget(name: str) -> None:
    """At module level, what every verb loads imports the budget and pyoci, nothing else."""
    path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for target, line in imports_of(source).top:
        top = target.split(".")[0]
        assert top == "pyoci" or top in BUDGET, f"{source}:{line}: {target} is beyond the hot path's budget"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_type_imports_cost_nothing(path: Path) -> None:
    """typing and collections.abc are for the type checker: 3 ms at run time."""
    for name, line in imports_of(path).top:
        assert name.split(".")[0] not in {"typing", "collections"}, f"{path}:{line}: import {name} under TYPE_CHECKING"


def functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(f"{path.name}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1) for node in found]


def test_sizes() -> None:
    """Functions: median under 10 lines, none over 60."""
    sizes = sorted((size, where) for path in modules() for where, size in functions(path))
    assert sizes[-1][0] <= 60, f"too long: {sizes[-1]}"
    assert sizes[len(sizes) // 2][0] < 10
