"""The conformance suite on the runtime this project builds: no row fails."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = harness.PROJECT / "conformance" / "run"


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """In place of the one of conftest: a group takes seconds here, and minutes in an emulated machine."""
    yield


@harness.pyoci_only("docs/CONFORMANCE.md tells what others fail, and why")
@pytest.mark.parametrize("group", [f"G{number}" for number in range(1, 12)])
def test_no_row_fails(group: str) -> None:
    if not shutil.which("cc") and "CONFORMANCE_PROBE" not in os.environ:
        pytest.skip("there is no C compiler, and no CONFORMANCE_PROBE in its place")
    done = subprocess.run(
        [RUN, shlex.join(harness.RUNTIME), "--rows", group, "--json"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["rows"]
    assert found
    assert {ident: row["note"] for ident, row in found.items() if row["verdict"] == "fail"} == {}
