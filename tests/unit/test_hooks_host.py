"""Hooks in the runtime's namespaces, and the helper processes they and newuidmap are run by."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import errors, kernel
from pyoci.host import child, hooks, maps, process
from tests.integration import harness

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
STATE = {"ociVersion": "1.3.0", "id": "ä", "status": "creating", "pid": 1, "bundle": "/b", "annotations": {"x": "\n"}}


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **fields}


def when(condition: Callable[[], bool], action: Callable[[], None]) -> threading.Thread:
    """Do something in another thread as soon as a condition holds."""

    def wait() -> None:
        harness.until(condition, "the condition")
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def run(*listed: dict[str, Any], state: dict[str, Any] = STATE) -> None:
    hooks.run({"createRuntime": list(listed)}, "createRuntime", state)


# -- hooks ------------------------------------------------------------------------------------


def test_state_on_stdin(tmp_path: Path) -> None:
    """H02"""
    run(shell(f"cat > {tmp_path}/seen"))
    assert json.loads((tmp_path / "seen").read_bytes()) == STATE


def test_large_state(tmp_path: Path) -> None:
    """Larger than a pipe, read slowly."""
    state = {**STATE, "annotations": {"x": "y" * 1_000_000}}
    run(shell(f"sleep 0.05; cat > {tmp_path}/seen"), state=state)
    assert json.loads((tmp_path / "seen").read_bytes()) == state


def test_state_that_nobody_reads() -> None:
    run({"path": "/bin/true"}, state={**STATE, "annotations": {"x": "y" * 1_000_000}})


def test_order(tmp_path: Path) -> None:
    """H01: as listed; nothing after the first that fails."""
    with pytest.raises(errors.HookError) as caught:
        run(*(shell(f"echo {n} >> {tmp_path}/seen; exit {n // 2}") for n in range(4)))
    assert (tmp_path / "seen").read_text().split() == ["0", "1", "2"]
    assert caught.value.where == "/hooks/createRuntime/2"


def test_no_hooks() -> None:
    hooks.run({}, "prestart", STATE)
    assert hooks.run_all({"poststop": []}, "poststop", STATE) == []


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (shell("echo one; echo two >&2; exit 3"), r"/bin/sh: exit status 3: one\\ntwo"),
        (shell("kill -9 $$"), "/bin/sh: killed by signal 9"),
        ({"path": "/nonexistent"}, "run /nonexistent: no such file or directory"),
        ({"path": "/etc/passwd"}, "run /etc/passwd: permission denied"),
        (shell("sleep 100", timeout=1), "timed out after 1 s"),
    ],
)
def test_failure_in_words(hook: dict[str, Any], message: str) -> None:
    """H04, H06: what it printed is in the message."""
    with pytest.raises(errors.HookError, match=r"^createRuntime hook 0: ") as caught:
        run(hook)
    assert message.replace("\\\\n", "\\n") in str(caught.value)


def test_timeout_of_months() -> None:
    """H04: more milliseconds than poll(2) takes at once."""
    run(shell("true", timeout=0x7FFFFFFF))


def test_output_is_bounded() -> None:
    """H06: the end of it is kept."""
    with pytest.raises(errors.HookError, match="the last word") as caught:
        run(shell("yes | head -c 1000000; echo the last word; exit 1"))
    assert len(caught.value.message) < 1200


def test_arguments_are_exact(tmp_path: Path) -> None:
    """H05: args[0] is what config.json says, not the path; docker's hook depends on it.  No shell."""
    hook = {"path": "/bin/sh", "args": ["other-name", "-c", f'echo "$0" > {tmp_path}/seen', "$(a) b;c"]}
    run(hook)
    assert (tmp_path / "seen").read_text() == "$(a) b;c\n"
    run({"path": "/bin/sh", "args": ["other-name", "-c", f"cat /proc/$$/cmdline > {tmp_path}/seen"]})
    assert (tmp_path / "seen").read_bytes().startswith(b"other-name\0")


def test_environment_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H05, SECURITY 16: of the config, whole; [] is empty; absent is the runtime's, as with runc."""
    monkeypatch.setenv("OURS", "1")
    program = f"cat /proc/self/environ > {tmp_path}/seen"
    run({"path": "/bin/sh", "args": ["sh", "-c", program], "env": ["A=1", "B=x=y", "PATH=/bin"]})
    seen = (tmp_path / "seen").read_bytes().split(b"\0")
    assert {b"A=1", b"B=x=y", b"PATH=/bin"} <= set(seen)
    assert b"OURS=1" not in seen
    run(shell(program, env=[]))
    assert b"OURS=1" not in (tmp_path / "seen").read_bytes()
    run(shell(program))
    assert b"OURS=1" in (tmp_path / "seen").read_bytes().split(b"\0")


def test_locale_of_the_interpreter_is_not_passed_on(tmp_path: Path) -> None:
    """PEP 538: CPython sets LC_CTYPE for itself in the C locale."""
    code = (
        f"import sys; sys.path.append({str(ROOT)!r}); from pyoci.host import hooks\n"
        f"hooks.run({{'prestart': [{{'path': '/usr/bin/env', 'args': ['env']}}, "
        f"{shell('cat /proc/self/environ > ' + str(tmp_path) + '/seen')!r}]}}, 'prestart', {{}})"
    )
    for given, expected in (({"A": "1"}, False), ({"A": "1", "LC_CTYPE": "C.UTF-8"}, True)):
        subprocess.run([sys.executable, "-I", "-S", "-c", code], env=given, check=True)
        seen = (tmp_path / "seen").read_bytes().split(b"\0")
        assert b"A=1" in seen
        assert any(entry.startswith(b"LC_CTYPE=") for entry in seen) == expected


def test_timeout_kills_the_group(tmp_path: Path) -> None:
    """H04, SECURITY 16: also what the hook started."""
    script = f"sleep 100 & echo $! > {tmp_path}/pid; wait"
    start = time.monotonic()
    with pytest.raises(errors.HookError, match="timed out"):
        run(shell(script, timeout=1))
    assert 0.9 < time.monotonic() - start < 5
    pid = int((tmp_path / "pid").read_text())
    harness.until(lambda: process.start_time(pid) == 0, "the end of what the hook started")


def test_background_process_does_not_hold_us(tmp_path: Path) -> None:
    """A hook that leaves a daemon behind has ended when it itself has."""
    start = time.monotonic()
    run(shell(f"sleep 30 & echo $! > {tmp_path}/pid"))
    assert time.monotonic() - start < 5
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_descriptors_and_signals(tmp_path: Path) -> None:
    """The hook gets 0, 1, 2 and nothing that leaked to us; signals as usual, though CPython ignores two."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    before = sorted(os.listdir("/proc/self/fd"))
    run(shell(f"ls /proc/self/fd > {tmp_path}/fds; grep Sig[IB] /proc/self/status > {tmp_path}/signals"))
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.close(leak)
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"]  # 3: the directory that ls reads
    for line in (tmp_path / "signals").read_text().splitlines():
        assert int(line.split()[1], 16) & ~(3 << 31) == 0, line  # 32 and 33 are the C library's own


def test_hook_ends_with_its_container(tmp_path: Path) -> None:
    """watch: what the hook was run for has gone."""
    read, write = os.pipe()
    there = tmp_path / "there"
    other = when(there.exists, lambda: os.close(write))
    start = time.monotonic()
    with pytest.raises(errors.HookError, match="/bin/sh: ended with its container: so far"):
        hooks.run({"prestart": [shell(f"echo so far; touch {there}; sleep 100")]}, "prestart", STATE, read)
    assert time.monotonic() - start < 50
    other.join()
    os.close(read)


def test_interrupted_wait_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a hook."""
    other = when((tmp_path / "there").exists, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(shell(f"echo $$ > {tmp_path}/pid; touch {tmp_path}/there; exec sleep 100"))
    other.join()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_run_all_goes_on(tmp_path: Path) -> None:
    """L20"""
    warnings = hooks.run_all({"poststop": [shell("exit 1"), shell(f"touch {tmp_path}/ran")]}, "poststop", STATE)
    assert (tmp_path / "ran").exists()
    assert warnings == ["poststop hook 0: /bin/sh: exit status 1 (config.json /hooks/poststop/0)"]


# -- helpers ----------------------------------------------------------------------------------


def test_child_result() -> None:
    result = child.run("/bin/sh", ["sh", "-c", "cat; exit 7"], {}, stdin=b"in")
    assert (result.status, result.output, result.killed) == (7, "in", "")
    assert result.why() == "exit status 7: in"


def test_children_from_many_threads() -> None:
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(child.run("/bin/echo", ["echo", str(n)], {}).output))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [str(n) for n in range(8)]


# -- id maps ----------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What maps.write would do."""
    seen: list[tuple[str, ...]] = []

    def helper(path: str, args: list[str], env: dict[str, str]) -> child.Result:
        seen.append(tuple(args))
        return child.Result(0, "")

    monkeypatch.setattr(maps, "_write", lambda pid, name, text: seen.append((name, text)))
    monkeypatch.setattr(child, "run", helper)
    return seen


def test_maps_of_root(written: list[tuple[str, ...]]) -> None:
    maps.write(7, "0 100000 65536\n", "0 100000 65536\n", euid=0)
    assert written == [("uid_map", "0 100000 65536\n"), ("gid_map", "0 100000 65536\n")]


def test_maps_of_oneself(written: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "getegid", lambda: 1001)
    maps.write(7, "0 1000 1\n", "0 1001 1\n", euid=1000)
    assert written == [("uid_map", "0 1000 1\n"), ("setgroups", "deny"), ("gid_map", "0 1001 1\n")]


def test_maps_by_helpers(written: list[tuple[str, ...]]) -> None:
    maps.write(7, "0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n", euid=1000)
    assert written == [
        ("newuidmap", "7", "0", "1000", "1", "1", "100000", "65536"),
        ("newgidmap", "7", "0", "1000", "1", "1", "100000", "65536"),
    ]


def test_map_that_is_refused() -> None:
    with pytest.raises(errors.SetupError, match=r"write uid_map \(0 0 1\): ") as caught:
        maps.write(2**22 + 1, "0 0 1\n", "", euid=0)
    assert caught.value.where == "/linux/uidMappings"


def test_helper_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "run", lambda *args: child.Result(1, "newuidmap: uid range not allowed"))
    with pytest.raises(errors.SetupError, match=r"newuidmap \(0 1 9\): exit status 1: newuidmap: uid range") as caught:
        maps.write(7, "0 1 9\n", "0 1 9\n", euid=1000)
    assert caught.value.where == "/linux/uidMappings"


def test_no_helper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(maps, "_DIRECTORIES", (str(tmp_path),))
    with pytest.raises(errors.SetupError, match="newuidmap not found"):
        maps.write(7, "0 1 9\n", "", euid=1000)
