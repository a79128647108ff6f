"""A pytest plugin for the inside: why a test failed is said at once, so that it is known when the deadline comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

LENGTH = 6000  # characters


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print the end of the story of a failure past pytest's capture."""
    if report.failed and sys.__stderr__:
        print(f"\n{report.nodeid}: {report.when}\n{report.longreprtext[-LENGTH:]}", file=sys.__stderr__, flush=True)
