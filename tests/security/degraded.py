"""The integration suite on a kernel that lacks a call: a plugin of pytest, loaded by test_degraded.py.

    RUNTIME="attack deny NUMBER ERRNO build/pyoci" PYOCI_LACKS=open_tree python3 -m pytest -p tests.security.degraded

A test may fail there if a command of the runtime failed in it with one error that names the call, nothing hung, and no
process or mount of the runtime is left; every other failure is one.  With PYOCI_LACKS empty all have to pass.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration import harness

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

LACKS = os.environ.get("PYOCI_LACKS", "")
# They count processes or filters, and the wrapper is one more
DESELECTED = (
    *("test_docker_profile_is_on", "test_a_system_call_fails[execve-2]"),
    "test_user_with_subordinate_ids",  # an ordinary user's filter takes newuidmap(1) its rights
)
# Nobody keeps what the runtime says there, or it is made by the library, which lacks nothing, and ended by the runtime
UNHEARD = (
    "test_sigkill_at_each_step",
    "test_the_runtime_is_killed",
    "test_debug_is_no_obstacle",
    "test_detached_program_outlives_the_runtime_and_its_pipes",
    "test_runtime_of_a_detached_container_keeps_nothing_open",
    "test_delete_does_not_wait_for_a_hook_that_hangs",
)
# The word in the error, where it is not the call's name with its section
WORDS = {"pidfd_open": "pidfd_open"}
HANGS = ("TimeoutExpired", "the test took more than", "still runs after")
_said: list[str] = []
_started: list[subprocess.Popen[Any]] = []
_files: set[str] = set()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    names = (*DESELECTED, *UNHEARD) if LACKS else DESELECTED
    left_out = [item for item in items if {item.name, getattr(item, "originalname", "")} & set(names)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _noting(function: Callable[..., Any], text: Callable[[Any], str]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        result = function(*args, **named)
        _said.append(text(result))
        return result

    return call


def _text(*streams: Any) -> str:
    return "".join(part.decode(errors="replace") if isinstance(part, bytes) else part or "" for part in streams)


class _Popen(subprocess.Popen[Any]):
    """Remembers where its errors go."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        _started.append(self)
        for stream in (named.get("stderr"), named.get("stdout")):
            name = getattr(stream, "name", None)
            if isinstance(name, str) and os.path.isfile(name):
                _files.add(name)


def _unread() -> list[str]:
    """What went into files, and into pipes that the test has not read."""
    found = [Path(name).read_text(errors="replace") for name in _files if os.path.isfile(name)]
    for process in _started:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may have closed its output, and not have ended yet
            process.wait(5)
        for stream in (process.stderr, process.stdout):
            if stream and not stream.closed and process.returncode is not None:
                os.set_blocking(stream.fileno(), False)
                with contextlib.suppress(OSError, TypeError):
                    found.append(_text(stream.read()))
    return found


def _left() -> list[str]:
    found = []
    for pid in harness.children():
        with contextlib.suppress(OSError):  # it ends just now
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"nsexec\0"):
                found.append(f"nsexec {pid}")
    return found


@pytest.fixture(autouse=True)
def heard(host: harness.Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what the runtime says in this test, however it is called; afterwards nothing of it is there."""
    for kept in (_said, _started, _files):
        kept.clear()
    monkeypatch.setattr(subprocess, "Popen", _Popen)
    monkeypatch.setattr(_Popen, "communicate", _noting(subprocess.Popen.communicate, lambda streams: _text(*streams)))
    monkeypatch.setattr(harness.Box, "create", _keep_error(harness.Box.create))
    for module in (harness, *_users_of("read_until")):
        monkeypatch.setattr(module, "read_until", _noting(harness.read_until, str))
    yield
    if LACKS:
        with contextlib.suppress(AssertionError):  # which would name the wait, and not what is left
            harness.until(lambda: not _left(), "end of nsexec")
        assert not _left()
        assert not [mount for mount in harness.mounts() if mount not in host.mounts]


def _users_of(name: str) -> list[Any]:
    import sys

    return [module for module in [*sys.modules.values()] if hasattr(module, name) and "integration" in module.__name__]


def _keep_error(create: Callable[..., harness.Result]) -> Callable[..., harness.Result]:
    """Box.create with check: its assertion shows too little of a long error."""

    def call(box: harness.Box, *options: str, check: bool = True, **popen: Any) -> harness.Result:
        result = create(box, *options, check=False, **popen)
        _said.append(result.err)
        if check:
            assert result.code == 0, f"create exited {result.code}: {result.err}"
        return result

    return call


def clear_error(report: str) -> str:
    """The one error that names the call, of a command or in what pytest shows of the test; or ""."""
    word = WORDS.get(LACKS, f"{LACKS}(2)")
    for text in [*_said, *_unread(), report]:
        marks = (
            "level=error",
            '"error"',
            "pyoci: ",
            word,
        )  # with --log the message alone is on stderr, with --debug twice
        lines = [line for line in text.splitlines() if any(mark in line for mark in marks)]
        found = {re.split(r"level=error|errors\.\w+: ", line)[-1].strip() for line in lines}
        if len(found) == 1 and word in (line := found.pop()):
            return line.strip()
    return ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if LACKS and report.when != "teardown" and report.failed and not any(word in report.longreprtext for word in HANGS):
        line = clear_error(report.longreprtext + report.capstderr)
        if line:
            report.outcome = "skipped"
            report.wasxfail = f"{LACKS}: {line}"
    return report
