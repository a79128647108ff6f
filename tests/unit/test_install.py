"""`make install` and the wheel give a `pyoci` that works wherever and however it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIP = Path(sys.prefix) / "bin" / "pip"
HOSTILE = "raise SystemExit('imported from the caller')\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, so that a test leaves nothing in the checkout and no old file hides a missing one."""
    copy = tmp_path_factory.mktemp("source") / "pyoci"
    copy.mkdir()
    for tree in ("pyoci", "libexec", "share"):
        shutil.copytree(ROOT / tree, copy / tree, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "Makefile", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """make install into DESTDIR, then moved to where it belongs, as a packager does."""
    stage, final = tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("final") / "usr"
    run("make", "install", f"VENV={sys.prefix}", f"DESTDIR={stage}", f"PREFIX={final}", cwd=source)
    (stage / final.relative_to("/")).rename(final)
    return final / "bin" / "pyoci"


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a fresh virtual environment."""
    directory = tmp_path_factory.mktemp("wheel")
    run(PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", directory, source, cwd=directory)
    (found,) = directory.glob("*.whl")
    assert "linux" in found.name
    assert "-none-any" not in found.name
    run(sys.executable, "-m", "venv", "--without-pip", directory / "venv", cwd=directory)
    python = directory / "venv" / "bin" / "python3"
    run(PIP, "--python", python, "install", "--no-deps", "--no-index", found, cwd=directory)
    return directory / "venv" / "bin" / "pyoci"


@pytest.fixture(params=["made", "wheel"])
def installed(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory whose files would be imported by an interpreter that looks into it."""
    for name in ("json", "os", "sys", "stat", "errno", "site", "sitecustomize", "usercustomize", "encodings"):
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    (tmp_path / "pyoci").mkdir()
    (tmp_path / "pyoci" / "__init__.py").write_text(HOSTILE)
    (tmp_path / "pyoci" / "__main__.py").write_text(HOSTILE)
    (tmp_path / "libz.so.1").write_text("not a library")
    return tmp_path


def version(path: Path | str, cwd: Path | str, env: dict[str, str]) -> list[str]:
    done = subprocess.run([path, "--version"], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bare_environment(installed: Path) -> None:
    """podman's `kill` and `delete` come with no PATH and no HOME."""
    lines = version(installed, "/", {})
    assert lines[0].startswith("pyoci version ")
    assert any(line.startswith("spec: ") for line in lines)


def test_hostile_directory(installed: Path, hostile: Path) -> None:
    """The caller's directory, PYTHON* and an empty library path entry lead nowhere."""
    env = {
        "PYTHONPATH": str(hostile),
        "PYTHONHOME": str(hostile),
        "PYTHONSTARTUP": str(hostile / "os.py"),
        "PYTHONUSERBASE": str(hostile),
        "HOME": str(hostile),
        "LD_LIBRARY_PATH": "/opt/containerd/lib:",
    }
    assert version(installed, hostile, env)[0].startswith("pyoci version ")


def test_on_path(installed: Path, hostile: Path) -> None:
    env = {"PATH": str(installed.parent)}
    command = ["/usr/bin/env", "pyoci", "--version"]
    done = subprocess.run(command, cwd=hostile, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("pyoci version "), done.stderr


def test_by_symlink(installed: Path, hostile: Path) -> None:
    """/usr/local/sbin/runc -> pyoci, as some swap their runtime."""
    (hostile / "runc").symlink_to(installed)
    assert version(hostile / "runc", hostile, {})[0].startswith("pyoci version ")


def test_mydocker(made: Path, hostile: Path) -> None:
    """The front end beside it, with the packages it needs, and as deaf to the caller's directory."""
    env = {"PYTHONPATH": str(hostile), "HOME": str(hostile)}
    command = [made.with_name("mydocker"), "--version"]
    done = subprocess.run(command, cwd=hostile, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("mydocker version "), done.stderr


def test_mydocker_without_its_packages(wheel: Path) -> None:
    """A sentence, and no traceback."""
    done = subprocess.run([wheel.with_name("mydocker")], env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("mydocker: the Python package click is missing; hint: ")


def test_nsexec_is_in_the_package(installed: Path) -> None:
    """The same binary once more, where the runtime takes it from."""
    (nsexec,) = (path for path in installed.parents[1].rglob("nsexec") if path.parent.name == "libexec")
    assert os.access(nsexec, os.X_OK)
    with nsexec.open("rb") as file:
        assert file.read(4) == b"\x7fELF"


def test_destdir_is_left_out(made: Path) -> None:
    """Nothing that is compiled in, bytecode included, names the staging directory."""
    prefix = made.parents[1]
    for path in (made, *(prefix / "lib" / "pyoci" / "pyoci").rglob("*.pyc")):
        assert b"/stage" not in path.read_bytes(), path


def test_dependencies_come_along(made: Path) -> None:
    """make install needs no other step: what `pyoci validate` and others load lies beside the package."""
    library = made.parents[1] / "lib" / "pyoci"
    for name in ("jsonschema", "pyroute2", "prctl.py"):
        assert (library / name).exists()


def test_what_lies_beside_it(made: Path) -> None:
    """The manual, completion, and snippets that name the installed command."""
    share = made.parents[1] / "share"
    assert (share / "man" / "man1" / "pyoci-create.1").read_text().startswith(".TH")
    for name in (
        "bash-completion/completions/pyoci",
        "zsh/site-functions/_pyoci",
        "fish/vendor_completions.d/pyoci.fish",
    ):
        assert "pyoci" in (share / name).read_text()
    snippets = [file for file in (share / "pyoci").rglob("*") if file.is_file()]
    assert len(snippets) == 4
    assert all(f'"{made}"' in file.read_text() for file in snippets)
