"""What every suite shares: the pyoci_only mark, and fixtures learning whether their test failed."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness

if TYPE_CHECKING:
    from collections.abc import Generator

FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # by nohup(1), or a shell that has put us in the background: no program of a test could trap them, and the runtime
    # would not pass them on; execve(2) makes the default of what has a handler
    handlers = {
        signal.SIGHUP: lambda *_: None,
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: lambda *_: None,
    }
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    config.addinivalue_line("markers", "pyoci_only(reason): skipped when $RUNTIME is another runtime")
    config.addinivalue_line("markers", "long: only with PYOCI_LONG=1 (make test-security-long)")
    with contextlib.suppress(ImportError):  # the virtual machine has no hypothesis
        from hypothesis import HealthCheck, settings

        # by default an example that takes 200 ms fails its test: on a machine with other work that is chance
        settings.register_profile("pyoci", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("pyoci")


def pytest_report_header() -> str:
    return f"runtime under test: {' '.join(harness.RUNTIME)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if {"integration", "engines"} & set(item.path.parts):
            item.add_marker(pytest.mark.skip(reason="containers need root"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    mark = item.get_closest_marker("pyoci_only")
    if mark and harness.flavour() != "pyoci":
        pytest.skip(f"{harness.flavour()}: {mark.args[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report
