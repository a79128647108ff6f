"""`pyoci doctor` tells what the degraded kernels of test_degraded.py lack, and says it before a container does."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import RUNTIME, pyoci_only
from tests.security.test_degraded import CALLS, WORKS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pyoci_only("a verb of pyoci")


def doctor(*prefix: str) -> tuple[int, list[dict[str, str]]]:
    done = subprocess.run(
        [*prefix, *RUNTIME, "doctor", "--json"], capture_output=True, text=True, timeout=20, check=False
    )
    found = json.loads(done.stdout)
    assert found["ok"] == (done.returncode == 0)
    return done.returncode, found["checks"]


def test_this_host() -> None:
    """The tests run here, so it is well; the text says the same as JSON."""
    code, checks = doctor()
    assert code == 0
    shown = subprocess.run([*RUNTIME, "doctor"], capture_output=True, text=True, timeout=20, check=True).stdout
    assert len(shown.splitlines()) == len(checks) + 2
    for check in checks:
        assert check["name"] in shown
    assert {check["area"] for check in checks} == {
        "versions", "calls", "cgroup", "namespaces", "security", "helpers",
    }  # fmt: skip
    kernel = next(check for check in checks if check["name"] == "kernel")
    assert os.uname().release in kernel["value"]


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_not_there(attack: Path, call: str, error: str) -> None:
    """Exit status 1 exactly when nothing can be made."""
    code, checks = doctor(str(attack), "deny", str(CALLS[call]), str(getattr(errno, error)))
    bad = [check for check in checks if check["area"] == "calls" and check["status"] != "ok"]
    assert [(check["name"], check["status"]) for check in bad] == [
        (call, "missing" if error == "ENOSYS" else "refused")
    ]
    assert bad[0]["effect"]
    optional = (call, error) in WORKS or call in ("seccomp", "clone3")
    assert code == (0 if optional else 1)
