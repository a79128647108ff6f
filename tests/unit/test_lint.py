"""The linters, as tests: ruff, mypy --strict, shellcheck, and a C compiler that takes no warnings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_TREES = ("pyoci", "tests", "bench", "bundles", "conformance", "hatch_build.py")
SHELL_TREES = (".ci", "bundles", "bench", "tests", "conformance")


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def tool(name: str) -> str:
    """A program of the virtual environment the tests run in, or of the system."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def python_trees() -> list[str]:
    return [tree for tree in PYTHON_TREES if (ROOT / tree).is_file() or any((ROOT / tree).rglob("*.py"))]


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(re.match(rb"#! ?(/usr)?/bin/(env )?(ba|da)?sh\b", file.read(32)))


def shell_scripts() -> list[str]:
    """Every shell script of the project, whatever its name; a rootfs is not ours."""
    found = []
    for tree in SHELL_TREES:
        for path in sorted((ROOT / tree).rglob("*")):
            ours = "rootfs" not in path.relative_to(ROOT).parts and "__pycache__" not in path.parts
            if ours and path.is_file() and not path.is_symlink() and is_shell(path):
                found.append(str(path.relative_to(ROOT)))
    return found


def test_ruff() -> None:
    run(tool("ruff"), "check", "--no-cache", *python_trees())


def test_ruff_format() -> None:
    run(tool("ruff"), "format", "--no-cache", "--check", *python_trees())


def test_mypy() -> None:
    run(tool("mypy"), "--strict")


def test_shellcheck() -> None:
    scripts = shell_scripts()
    assert ".ci/run" in scripts
    run(tool("shellcheck"), "--norc", *scripts)


@pytest.mark.parametrize("source", sorted((ROOT / "libexec").glob("*.c")), ids=lambda path: path.name)
def test_c_warnings(source: Path, tmp_path: Path) -> None:
    """Stricter than the build: shadowing and undeclared functions are errors too."""
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"]
    run(tool("cc"), "-std=gnu11", "-O2", *warnings, "-c", "-o", str(tmp_path / "out.o"), str(source))


@pytest.mark.parametrize("source", sorted((ROOT / "bench").glob("*.c")), ids=lambda path: path.name)
def test_c_warnings_of_helpers(source: Path, tmp_path: Path) -> None:
    run(tool("cc"), "-Wall", "-Wextra", "-Werror", "-O2", "-c", "-o", str(tmp_path / "out.o"), str(source))
