"""The launcher alone (libexec/launch.c), with a shell script in the interpreter's place.

The script prints what it was given, so that these tests see exactly what an interpreter would.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pyoci import image_make

LIBEXEC = Path(__file__).resolve().parents[2] / "libexec"
STUB = """
int nsexec_main(int argc, char **argv);
int verbs_try(int argc, char **argv);
int nsexec_main(int argc, char **argv) { (void)argv; return 40 + argc; }
int verbs_try(int argc, char **argv) { (void)argc; (void)argv; return -1; } /* every verb is Python's */
"""
FAKE_PYTHON = """#!/bin/sh
printf 'self=%s\\n' "$0"
printf 'arg=%s\\n' "$@"
printf 'env=%s\\n' "$LD_LIBRARY_PATH"
printf 'locale=%s %s\\n' "$LC_ALL" "$PYOCI_LC_ALL"
/usr/bin/env | grep -a ^PYTHON
for fd in 0 1 2; do printf 'fd=%s\\n' "$(/usr/bin/readlink /proc/$$/fd/$fd)"; done
exit 7
"""
NOT_STARTED = 127
ISOLATED = ["-I", "-S", "-X", "utf8"]


def build(target: Path, *defines: str) -> Path:
    """The binary of this project with stand-ins for nsexec and for the verbs that need no interpreter."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stub = target.with_name("stub.c")
    stub.write_text(STUB)
    sources = [str(LIBEXEC / "main.c"), str(LIBEXEC / "launch.c"), str(stub)]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-static", *defines]
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(target), *sources], check=True)
    stub.unlink()
    return target


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def package(home: Path) -> Path:
    home.mkdir(parents=True)
    (home / "__main__.py").write_text("")
    return home


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A launcher with nothing compiled in, to be copied where a test wants it."""
    return build(tmp_path_factory.mktemp("launcher") / "pyoci")


def fields(done: subprocess.CompletedProcess[str], name: str) -> list[str]:
    return [line.removeprefix(f"{name}=") for line in done.stdout.splitlines() if line.startswith(f"{name}=")]


def launch(path: Path, *args: str, cwd: str = "/", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([path, *args], capture_output=True, text=True, env=env, cwd=cwd, check=False)


def test_compiled_in(tmp_path: Path) -> None:
    python = script(tmp_path / "fake python", FAKE_PYTHON)
    home = package(tmp_path / "lib" / "pyoci")
    binary = build(tmp_path / "bin" / "pyoci", f'-DPYOCI_PYTHON="{python}"', f'-DPYOCI_HOME="{home}"')
    done = launch(binary, "run", "", "a b")
    assert done.returncode == 7
    assert fields(done, "arg") == [*ISOLATED, f"{home}/__main__.py", "run", "", "a b"]


@pytest.mark.parametrize(
    "library", ["lib/python3.11/site-packages", "lib/python3.12/dist-packages", "lib64/python3.13/site-packages"]
)
def test_prefix(plain: Path, tmp_path: Path, library: str) -> None:
    """As pip lays it out: bin/pyoci, bin/python3.11 beside it, the package below lib."""
    home = package(tmp_path / library / "pyoci")
    (tmp_path / "lib" / "python2.7" / "site-packages").mkdir(parents=True)
    script(tmp_path / "bin" / "python3", FAKE_PYTHON)
    version = script(tmp_path / "bin" / library.split("/")[1], FAKE_PYTHON)
    binary = Path(shutil.copy(plain, tmp_path / "bin" / "pyoci"))
    done = launch(binary)
    assert fields(done, "self") == [str(version)], "the interpreter of the version the package lies under"
    assert fields(done, "arg") == [*ISOLATED, f"{home}/__main__.py"]


def test_symlink_to_the_launcher(plain: Path, tmp_path: Path) -> None:
    """pipx and engines reach us by symlinks: what counts is where the file lies."""
    package(tmp_path / "venv/lib/python3.11/site-packages/pyoci")
    python = script(tmp_path / "venv/bin/python3", FAKE_PYTHON)
    shutil.copy(plain, tmp_path / "venv/bin/pyoci")
    (tmp_path / "docker-runtime").symlink_to("venv/bin/pyoci")
    assert fields(launch(tmp_path / "docker-runtime"), "self") == [str(python)]


def test_checkout(plain: Path, tmp_path: Path) -> None:
    """build/pyoci runs the package beside build/, and only a directory of that name does."""
    home = package(tmp_path / "pyoci")
    for directory in ("build", "bin"):
        script(tmp_path / directory / "python3", FAKE_PYTHON)
        shutil.copy(plain, tmp_path / directory / "pyoci")
    assert fields(launch(tmp_path / "build" / "pyoci"), "arg")[-1] == f"{home}/__main__.py"
    done = launch(tmp_path / "bin" / "pyoci")
    assert done.returncode == NOT_STARTED
    assert done.stderr.startswith("pyoci: cannot find the pyoci package in ")


@pytest.fixture
def installed(plain: Path, tmp_path: Path) -> Path:
    package(tmp_path / "lib/python3.11/site-packages/pyoci")
    script(tmp_path / "bin" / "python3", FAKE_PYTHON)
    return Path(shutil.copy(plain, tmp_path / "bin" / "pyoci"))


def test_environment(installed: Path) -> None:
    """No PATH, no HOME, and nothing for the interpreter in what is passed on."""
    done = launch(installed, PYTHONPATH="/tmp", PYTHONHOME="/x", PYTHON="1", KEEP="1")
    assert fields(done, "arg")[:4] == ISOLATED
    assert "PYTHON" not in done.stdout.replace("__main__", "")


@pytest.mark.parametrize(
    ("given", "passed"),
    [("/opt/lib:", "/opt/lib"), (":", ""), ("", ""), (".", ""), ("a:/b:c;/d", "/b:/d"), ("/a:/b", "/a:/b")],
)
def test_library_path(installed: Path, given: str, passed: str) -> None:
    """containerd passes "/opt/containerd/lib:", whose last entry is the working directory: the bundle."""
    assert fields(launch(installed, LD_LIBRARY_PATH=given), "env") == [passed]


@pytest.mark.parametrize(("given", "kept"), [({}, ""), ({"LC_ALL": "de_DE"}, "de_DE"), ({"PYOCI_LC_ALL": "x"}, "")])
def test_locale(installed: Path, given: dict[str, str], kept: str) -> None:
    """The interpreter starts in the C locale; the caller's is kept for hooks."""
    assert fields(launch(installed, LANG="de_DE", **given), "locale") == [f"C {kept}"]


def test_compiled_script(installed: Path) -> None:
    """It is taken as long as it, the script and the interpreter are those that it was made with."""
    home = installed.parents[1] / "lib/python3.11/site-packages/pyoci"
    compiled = home / "__pycache__" / "main.pyc"
    compiled.parent.mkdir()
    python = installed.parent / "python3"
    source = home / "__main__.py"

    def script_run() -> str:
        return fields(launch(installed), "arg")[4]

    def make(size: int = 20) -> None:
        keys = [image_make.key(path.stat()) for path in (source, python)]
        compiled.write_bytes(struct.pack("<5I", 0, size, *keys, 0))

    make()
    assert script_run() == str(compiled)
    make(size=21)
    assert script_run() == str(source), "cut short"
    make()
    source.write_text("# changed\n")
    assert script_run() == str(source), "an old one"
    make()
    assert script_run() == str(compiled)
    os.utime(python, ns=(0, 1))
    assert script_run() == str(source), "that of another interpreter"


def test_closed_stdio(installed: Path) -> None:
    """A closed 2 would be the next file opened, and errors would be written into it."""
    out = installed.parent / "out"
    command = f"exec {installed} 0<&- 2>&- >{out}"
    subprocess.run(["/bin/sh", "-c", command], cwd="/", env={}, check=False)
    assert [line for line in out.read_text().splitlines() if line.startswith("fd=")] == [
        "fd=/dev/null",
        f"fd={out}",
        "fd=/dev/null",
    ]


def test_no_interpreter(plain: Path, tmp_path: Path) -> None:
    package(tmp_path / "lib/python3.99/site-packages/pyoci")
    (tmp_path / "bin").mkdir()
    binary = Path(shutil.copy(plain, tmp_path / "bin/pyoci"))
    done = launch(binary)
    assert done.returncode == NOT_STARTED
    where = f"neither {binary.parent}/python3.99 nor /usr/bin/python3.99"
    assert done.stderr == f"pyoci: cannot find the interpreter: {where} can be executed\n"


def test_missing_package(tmp_path: Path) -> None:
    binary = build(tmp_path / "pyoci", '-DPYOCI_HOME="/nowhere/pyoci"')
    done = launch(binary)
    assert done.returncode == NOT_STARTED
    assert done.stderr == "pyoci: cannot read /nowhere/pyoci/__main__.py: No such file or directory\n"


@pytest.mark.parametrize(("name", "code"), [("nsexec", 42), ("/any/where/nsexec", 42), ("nsexec2", 7), ("", 7)])
def test_two_trades(installed: Path, name: str, code: int) -> None:
    """argv[0] decides, and not what the file is called."""
    done = subprocess.run([name, "plan"], executable=installed, env={}, capture_output=True, check=False)
    assert done.returncode == code


def test_mydocker(installed: Path) -> None:
    """Called `mydocker`, by whatever path, the launcher runs the front end's script of the same package."""
    home = installed.parents[1] / "lib/python3.11/site-packages/pyoci"
    (home / "mydocker").mkdir()
    (home / "mydocker" / "__main__.py").write_text("")
    (installed.parent / "mydocker").symlink_to("pyoci")
    done = launch(installed.parent / "mydocker", "state", "box")
    assert fields(done, "arg") == [*ISOLATED, f"{home}/mydocker/__main__.py", "state", "box"]
    assert fields(launch(installed, "state"), "arg")[4] == f"{home}/__main__.py"


def test_missing_mydocker(installed: Path) -> None:
    (installed.parent / "mydocker").symlink_to("pyoci")
    done = launch(installed.parent / "mydocker")
    assert done.returncode == NOT_STARTED
    assert done.stderr.startswith("pyoci: cannot find the pyoci package in ")
