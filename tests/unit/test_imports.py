"""The budget of the hot path: the exact set of modules each verb loads (DESIGN.md, "The hot path has a budget").

Time is not asserted, being flaky; the import set is what costs it.  The table is imports.toml
beside this file.  `python3 -m tests.unit.test_imports` (root) writes it anew: the diff is the review.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from tests.unit.test_layers import BUDGET

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("imports.toml")
PYTHON = "/usr/bin/python3"
NSEXEC = ROOT / "build" / "nsexec"

# Runs the command as the launcher does and writes down what it added to what the interpreter had.
# posix._exit is the last thing __main__ calls; a forked child that calls it is not asked.
SPY = """
import posix, sys
own, leave, before = posix.getpid(), posix._exit, set(sys.modules)
def told(code):
    if posix.getpid() == own:
        sys.stdout.flush()
        used = {name for name, module in sys.modules.items() if type(module).__name__ != "Waiting"}
        added = sorted(used - before - {"__mp_main__"})
        with open(report, "w") as file:
            file.write("\\n".join(added))
    leave(code)
report, main = sys.argv[1:3]
del sys.argv[:2]
sys.argv[0] = main
posix._exit = told
with open(main, encoding="utf-8") as file:
    source = file.read()
exec(compile(source, main, "exec"), {"__name__": "__main__", "__file__": main})
"""

# The verbs of the hot path with their plain cases, in the order in which a container meets them.
HOT = ("create", "state", "exec", "kill", "start", "delete", "run")
COLD = ("version", "help", "spec", "list", "plan")


def expected() -> dict[str, set[str]]:
    """verb -> modules; `common` is in every verb's set."""
    table = tomllib.loads(TABLE.read_text())
    common = set(table.pop("common"))
    library = {"import pyoci": set(table.pop("import pyoci"))}
    return library | {verb: common | set(modules) for verb, modules in table.items()}


class Spy:
    """Runs verbs of the command, with a state root of its own."""

    def __init__(self, directory: Path) -> None:
        # a source that is newer than the image would be imported past it, and the command make the image anew
        subprocess.run([PYTHON, "-I", "-S", str(ROOT / "pyoci" / "image_make.py")], check=True)
        self.directory = directory
        self.seen: dict[str, set[str]] = {}

    def run(self, verb: str, *args: str) -> str:
        report = self.directory / "report"
        report.unlink(missing_ok=True)
        root = str(self.directory / "state")
        argv = [PYTHON, "-I", "-S", "-c", SPY, str(report), str(ROOT / "pyoci" / "__main__.py"), "--root", root, *args]
        out = self.directory / "out"
        with out.open("wb") as file:  # not a pipe: the container keeps it open
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=30, check=False)
        assert done.returncode == 0, f"pyoci {' '.join(args)}: {out.read_text()}"
        self.seen[verb] = set(report.read_text().split())
        return out.read_text()


def make_bundle(directory: Path, spy: Spy) -> Path:
    """The bundle of `pyoci spec` with a static shell."""
    bundle = directory / "bundle"
    (bundle / "rootfs" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", bundle / "rootfs" / "bin" / "busybox")
    spy.run("spec", "spec", "--bundle", str(bundle))
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=["/bin/busybox", "true"], rlimits=[])
    path.write_text(json.dumps(config))
    return bundle


def watch_cold(directory: Path) -> Spy:
    """What needs no root."""
    spy = Spy(directory)
    bundle = make_bundle(directory, spy)
    spy.run("version", "--version")
    spy.run("help", "--help")
    spy.run("list", "list")
    spy.run("plan", "plan", str(bundle))
    return spy


def watch_hot(directory: Path) -> Spy:
    """A container's life."""
    spy = Spy(directory)
    bundle = make_bundle(directory, spy)
    name = f"imports-{os.getpid()}"
    pid_file = directory / "pid"
    spy.run("create", "create", "--bundle", str(bundle), "--pid-file", str(pid_file), name)
    try:
        spy.run("state", "state", name)
        spy.run("exec", "exec", name, "/bin/busybox", "true")
        spy.run("kill", "kill", name, "USR1")
        spy.run("start", "start", name)
        wait_gone(int(pid_file.read_text()))
        spy.run("delete", "delete", name)
    finally:
        spy.run("delete --force", "delete", "--force", name)
    spy.run("run", "run", "--bundle", str(bundle), f"{name}-run")
    return spy


def wait_gone(pid: int) -> None:
    """Until the container's init has ended; a reaped one is gone already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([fd], [], [], 10)
    os.close(fd)


def private(directory: Path) -> None:
    """A mount namespace of its own for what is measured; Debian's unshare does it."""
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        "-m",
        "tests.unit.test_imports",
        "--watch",
        str(directory),
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)


def load(directory: Path) -> dict[str, set[str]]:
    table: dict[str, list[str]] = json.loads((directory / "seen.json").read_text())
    return {verb: set(modules) for verb, modules in table.items()}


@pytest.fixture(scope="module")
def cold() -> dict[str, set[str]]:
    with tempfile.TemporaryDirectory() as name:
        return watch_cold(Path(name)).seen


@pytest.fixture(scope="module")
def hot() -> dict[str, set[str]]:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    if not NSEXEC.exists():
        pytest.skip("nsexec is not built")
    with tempfile.TemporaryDirectory() as name:
        private(Path(name))
        return load(Path(name))


@pytest.mark.parametrize("verb", COLD)
def test_cold_verbs(verb: str, cold: dict[str, set[str]]) -> None:
    assert cold[verb] == expected()[verb]


@pytest.mark.parametrize("verb", HOT)
def test_hot_verbs(verb: str, hot: dict[str, set[str]]) -> None:
    """Exactly these: a module more is a cost to be argued for in review, a module less a table to be corrected."""
    assert hot[verb] == expected()[verb]


@pytest.mark.parametrize("verb", HOT)
def test_hot_verbs_stay_in_the_budget(verb: str) -> None:
    """The table itself may not grow beyond what DESIGN.md allows."""
    beyond = {name for name in expected()[verb] if name.split(".")[0] not in BUDGET | {"pyoci", "_struct", "_stat"}}
    assert not beyond


def test_library_import() -> None:
    """`import pyoci` alone loads nothing heavy."""
    assert watch_library() == expected()["import pyoci"]


def watch_library() -> set[str]:
    code = f"import sys; sys.path.append({str(ROOT)!r}); old = set(sys.modules); import pyoci"
    code += "; print(*set(sys.modules) - old)"
    done = subprocess.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def write_table(seen: dict[str, set[str]]) -> None:
    lines = [
        "# The modules each verb loads beyond the interpreter's own; test_imports.py asserts them exactly.",
        "# Rewritten by `python3 -m tests.unit.test_imports` as root: argue for what the diff adds.",
    ]
    common = set.intersection(*seen.values())
    table = {"common": common, "import pyoci": watch_library(), **{verb: seen[verb] - common for verb in seen}}
    for name, modules in table.items():
        lines += ["", f'"{name}" = [', *(f'    "{module}",' for module in sorted(modules)), "]"]
    TABLE.write_text("\n".join(lines) + "\n")


def main() -> None:
    if sys.argv[1:2] == ["--watch"]:
        directory = Path(sys.argv[2])
        seen = watch_hot(directory).seen
        (directory / "seen.json").write_text(json.dumps({verb: sorted(modules) for verb, modules in seen.items()}))
        return
    with tempfile.TemporaryDirectory() as name:
        private(Path(name))
        hot_sets = load(Path(name))
    with tempfile.TemporaryDirectory() as name:
        cold_sets = watch_cold(Path(name)).seen
    write_table({verb: (hot_sets | cold_sets)[verb] for verb in (*HOT, *COLD)})


if __name__ == "__main__":
    main()
