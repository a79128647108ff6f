"""The image of the package (pyoci/image.py): as good as the sources, and never older than they."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyoci import image_make

PACKAGE = Path(__file__).parents[2] / "pyoci"
PYTHON = "/usr/bin/python3"
TAG = sys.implementation.cache_tag


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the package without any caches."""
    copy = tmp_path / "pyoci"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def call(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-I", "-S", str(home / "__main__.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def image(home: Path) -> Path:
    found = list((home / "__pycache__").glob("image.cpython-*[0-9]"))
    assert len(found) == 1
    return found[0]


def test_the_first_call_makes_the_image_and_the_next_uses_it(home: Path) -> None:
    assert call(home, "--version").returncode == 0
    made = image(home).stat()
    shutil.rmtree(home / "cli" / "__pycache__", ignore_errors=True)
    assert call(home, "--version").returncode == 0
    assert image(home).stat().st_ino == made.st_ino, "made anew without need"
    assert not (home / "cli" / "__pycache__").exists(), "imported as if there were no image"


def test_a_changed_source_is_what_runs(home: Path) -> None:
    call(home, "--version")
    before = image(home).stat().st_ino
    source = home / "__init__.py"
    source.write_text(source.read_text().replace('__version__ = "', '__version__ = "changed'))
    assert "changed" in call(home, "--version").stdout
    assert image(home).stat().st_ino != before, "the image is not made anew"
    assert "changed" in call(home, "--version").stdout


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"nonsense", None])
def test_a_damaged_image_is_made_anew(home: Path, damage: bytes | None) -> None:
    call(home, "--version")
    target = image(home)
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert call(home, "--version").returncode == 0
    assert call(home, "--version").stdout.startswith("pyoci version")


def test_no_right_to_write_is_no_error(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becomes another user, which takes root")
    home.parent.chmod(0o755)
    for parent in home.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    command = [PYTHON, "-I", "-S", str(home / "__main__.py"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, user=65534, group=65534, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(home.glob("__pycache__/image.*"))


def test_the_command_is_compiled_too(home: Path) -> None:
    """main.pyc is the same command, and makes the image anew like it."""
    call(home, "--version")
    main = home / "__pycache__" / "main.pyc"
    image(home).unlink()
    command = [PYTHON, "-I", "-S", str(main), "--version"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.startswith(b"pyoci version")
    assert image(home).exists()


def test_the_callers_locale_is_put_back(home: Path) -> None:
    (home / "cli" / "version.py").write_text(
        "import os, subprocess\nARGS = ()\nOPTIONS = ()\nHELP = ''\ndef run(given, opts):\n"
        "    assert 'PYOCI_LC_ALL' not in os.environ\n    print(os.environ.get('LC_ALL'), flush=True)\n"
        "    return subprocess.call(['/bin/sh', '-c', 'echo $LC_ALL$PYOCI_LC_ALL'])\n"
    )
    for kept, seen in (("", "None\n\n"), ("xy", "xy\nxy\n")):
        command = ["/usr/bin/env", f"PYOCI_LC_ALL={kept}", "LC_ALL=C", PYTHON, "-I", "-S", str(home / "__main__.py")]
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == seen


def test_debug_runs_from_the_sources(home: Path) -> None:
    """Their tracebacks have line numbers."""
    call(home, "--version")
    (home / "cli" / "version.py").write_text("ARGS = ()\nOPTIONS = ()\nHELP = ''\ndef run(given, opts):\n    1 / 0\n")
    done = call(home, "--debug", "--version")
    assert done.returncode == 1
    assert "line 5" in done.stderr


def test_it_holds_every_module_but_the_cold_ones() -> None:
    files = image_make.sources(str(PACKAGE))
    assert "container.py" in files
    assert "host/state.py" in files
    assert not [file for file in files if file.startswith(("__main__", "schema", "cold", "mydocker"))]


def test_what_is_left_out() -> None:
    source = (
        b'from __future__ import annotations\n"doc"\nx: int = 1\ny: str\n'
        b'def f(a: int) -> "B":\n    "doc"\n    assert a\n    return a\n'
    )
    names: dict[str, object] = {}
    code = image_make.compiled(source, "x.py")
    exec(code, names)
    assert names["x"] == 1
    assert "annotations" not in names
    assert "__annotations__" not in names
    function = names["f"]
    assert callable(function)
    assert function(0) == 0
    assert (function.__doc__, function.__annotations__) == (None, {})
