"""The integration suite on a kernel that lacks a call: a plugin of pytest, loaded by test_degraded.py.

    RUNTIME="attack deny NUMBER ERRNO build/pyoci" PYOCI_LACKS=open_tree python3 -m pytest -p tests.security.degraded

A test that fails there is expected to, if a command of the runtime failed in it with one error that names the call,
and nothing was left behind; every other failure is one.  What passes, passes: with PYOCI_LACKS empty all have to.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

LACKS = os.environ.get("PYOCI_LACKS", "")
# A wrapper around the runtime is a process, a filter and an execve more than these count
DESELECTED = ("test_docker_profile_is_on", "test_a_system_call_fails[execve-2]")
# glibc's posix_spawn(3) makes the call; and the word in the error, where it is not the call's name with its section
WORDS = {"pidfd_open": "pidfd_open"}
_said: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gone = [item for item in items if item.name in DESELECTED]
    items[:] = [item for item in items if item.name not in DESELECTED]
    config.hook.pytest_deselected(items=gone)


def _errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if "level=error" in line or '"level":"error"' in line]


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the runtime says in this test, however it is called."""
    _said.clear()
    whole = subprocess.Popen.communicate

    def communicate(self: subprocess.Popen[Any], *args: Any, **named: Any) -> Any:
        out, err = whole(self, *args, **named)
        if self.returncode:
            _said.append(err.decode(errors="replace") if isinstance(err, bytes) else err or "")
        return out, err

    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    yield


def clear_error(report: str) -> str:
    """The one error that names the call, of a command or in what pytest shows of the test; or ""."""
    word = WORDS.get(LACKS, f"{LACKS}(2)")
    for text in [*_said, report]:
        found = {line.split("level=error", 1)[-1] for line in _errors(text)}
        if len(found) == 1 and word in (line := found.pop()):
            return line.strip()
    return ""


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    hangs = ("TimeoutError", "TimeoutExpired")
    if LACKS and report.failed and not any(word in report.longreprtext.splitlines()[-1] for word in hangs):
        line = clear_error(report.longreprtext)
        if line:
            report.outcome = "skipped"
            report.wasxfail = f"{LACKS}: {line}"
    return report
