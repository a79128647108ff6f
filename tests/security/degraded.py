"""The integration suite on a kernel that lacks a call: a plugin of pytest, loaded by test_degraded.py.

    RUNTIME="attack deny NUMBER ERRNO build/pyoci" PYOCI_LACKS=open_tree python3 -m pytest -p tests.security.degraded

A test may fail there if a command of the runtime failed in it with one error that names the call, nothing hung, and no
process or mount of the runtime is left; every other failure is one.  With PYOCI_LACKS empty all have to pass.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration import harness

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

LACKS = os.environ.get("PYOCI_LACKS", "")
# They count processes or filters, and the wrapper is one more
DESELECTED = ("test_docker_profile_is_on", "test_a_system_call_fails[execve-2]")
# The word in the error, where it is not the call's name with its section
WORDS = {"pidfd_open": "pidfd_open"}
HANGS = ("TimeoutExpired", "the test took more than", "still runs after")
_said: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gone = [item for item in items if item.name in DESELECTED]
    items[:] = [item for item in items if item.name not in DESELECTED]
    config.hook.pytest_deselected(items=gone)


def _noting(function: Callable[..., Any], text: Callable[[Any], str]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        result = function(*args, **named)
        _said.append(text(result))
        return result

    return call


def _error_stream(result: Any) -> str:
    _, err = result
    return err.decode(errors="replace") if isinstance(err, bytes) else err or ""


def _left() -> list[str]:
    return [f"{pid} {name}" for pid, name in harness.children().items() if name == "(nsexec)"]


@pytest.fixture(autouse=True)
def heard(host: harness.Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what the runtime says in this test, however it is called; afterwards nothing of it is there."""
    _said.clear()
    monkeypatch.setattr(subprocess.Popen, "communicate", _noting(subprocess.Popen.communicate, _error_stream))
    monkeypatch.setattr(harness.Box, "create", _keep_error(harness.Box.create))
    for module in (harness, *_users_of("read_until")):
        monkeypatch.setattr(module, "read_until", _noting(harness.read_until, str))
    yield
    if LACKS:
        with contextlib.suppress(AssertionError):  # which would name the wait, and not what is left
            harness.until(lambda: not _left(), "end of nsexec")
        assert not _left()
        assert harness.mounts() == host.mounts


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
    for text in [*_said, report]:
        lines = [line for line in text.splitlines() if "level=error" in line or '"error"' in line or "pyoci: " in line]
        found = {line.split("level=error", 1)[-1] for line in lines}
        if len(found) == 1 and word in (line := found.pop()):
            return line.strip()
    return ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if LACKS and report.when == "call" and report.failed and not any(word in report.longreprtext for word in HANGS):
        line = clear_error(report.longreprtext)
        if line:
            report.outcome = "skipped"
            report.wasxfail = f"{LACKS}: {line}"
    return report
