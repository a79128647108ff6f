"""The programs in docs/examples do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import PROJECT, Box

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.pyoci_only("the library is pyoci's")


@pytest.fixture
def example(box: Box) -> Run:
    """Runs an example on the box's root file system."""

    def run(name: str, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROJECT / "docs" / "examples" / name), str(box.bundle / "rootfs"), *args]
        env = {**os.environ, "PYTHONPATH": str(PROJECT)}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.mark.parametrize(
    ("script", "seconds", "told"),
    [
        ("echo fine", "60", "fine\nexit 0\n"),
        ("echo no; exit 3", "60", "no\nexit 3\n"),
        ("while :; do :; done", "0.5", "too slow\n"),
        ("touch /x 2>/dev/null || echo read-only; id -u", "60", "read-only\n65534\nexit 0\n"),
    ],
)
def test_judge(example: Run, script: str, seconds: str, told: str) -> None:
    done = example("judge.py", script, seconds)
    assert (done.stdout, done.stderr, done.returncode) == (told, "", 0)


def test_judge_of_a_memory_eater(example: Run) -> None:
    script = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
    assert example("judge.py", script, "60").stdout.endswith("too much memory\n")


def test_judge_without_a_root_file_system(example: Run, box: Box) -> None:
    box.bundle.joinpath("rootfs").rename(box.bundle / "elsewhere")
    done = example("judge.py", "true")
    box.bundle.joinpath("elsewhere").rename(box.bundle / "rootfs")
    assert done.returncode == 1
    assert done.stderr.startswith("judge: ")


def test_crowd(example: Run) -> None:
    done = example("crowd.py", "6", "/bin/true")
    assert (done.stdout, done.stderr) == ("6\n", "")
