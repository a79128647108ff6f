"""A pytest plugin for the host: what the virtual machine brought back, as ordinary results.

    pytest -p tests.vm.report build/vm/results/root.xml

Each test case of a junit file is one item, and ends as it ended in the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> pytest.File | None:
    if file_path.suffix == ".xml" and file_path.parent.name == "results":
        return Results.from_parent(parent, path=file_path)  # type: ignore[no-any-return]
    return None


class Results(pytest.File):
    """A junit file: one item for each test case."""

    def collect(self) -> Iterator[pytest.Item]:
        for case in ElementTree.parse(self.path).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            yield Result.from_parent(self, name=name, case=case)


class Result(pytest.Item):
    """One test that ran in the machine."""

    def __init__(self, case: ElementTree.Element, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.case = case

    def runtest(self) -> None:
        for kind in ("failure", "error"):
            found = self.case.find(kind)
            if found is not None:
                raise FailedInside(found.text or found.get("message") or kind)
        found = self.case.find("skipped")
        if found is not None:
            pytest.skip(found.get("message") or "no reason given")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        return str(excinfo.value) if isinstance(excinfo.value, FailedInside) else str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"in the virtual machine: {self.name}"


class FailedInside(Exception):
    """A test failed in the machine; the text is what pytest said there."""
