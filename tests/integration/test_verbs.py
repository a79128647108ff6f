"""state, start, kill and delete without an interpreter: what the launcher does by itself (libexec/verbs.c).

The launcher is copied to a place where it finds no package: what it can do there it does alone.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration import harness
from tests.integration.harness import Box, flavour, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    Alone = Callable[..., subprocess.CompletedProcess[str]]

NO_PACKAGE = 127  # the launcher alone, asked for something that Python has to do


@pytest.fixture
def alone(workshop: Path) -> Alone:
    """Run a verb with the launcher alone."""
    if flavour() != "pyoci":
        pytest.skip("the launcher is pyoci's")
    copy = workshop / "alone" / "pyoci"
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(harness.RUNTIME[-1], copy)

    def run(box: Box, *args: str) -> subprocess.CompletedProcess[str]:
        command = [*harness.RUNTIME[:-1], str(copy), "--root", str(box.root), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=harness.TIMEOUT, check=False)

    return run


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def by_python(box: Box) -> str:
    """The state as Python prints it: --debug is not for the launcher."""
    return box.rt("--debug", "state", box.id).out


def test_the_whole_life_after_create(box: Box, alone: Alone) -> None:
    box.args("sleep", "100")
    box.create()
    pid = box.pid
    assert ok(alone(box, "state", box.id)) == by_python(box)
    assert ok(alone(box, "start", box.id)) == ""
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00100\x00", "start returns before execve"
    assert '"status": "running"' in ok(alone(box, "state", box.id))
    assert ok(alone(box, "kill", box.id, "KILL")) == ""
    assert wait_for(pid) == -9
    assert ok(alone(box, "state", box.id)) == by_python(box)
    assert ok(alone(box, "delete", box.id)) == ""
    assert box.entries() == set()
    assert not harness.cgroups(box.id)


@pytest.mark.parametrize("args", [["delete", "--force"], ["delete", "-f"], ["delete"]])
def test_delete_of_a_created_container_ends_it(box: Box, alone: Alone, args: list[str]) -> None:
    box.args("sleep", "100")
    box.create()
    pid = box.pid
    assert ok(alone(box, *args, box.id)) == ""
    assert wait_for(pid) == -9


def test_delete_force_of_a_running_container(box: Box, alone: Alone) -> None:
    box.args("sleep", "100")
    box.create()
    pid = box.pid
    box.start()
    assert alone(box, "delete", box.id).returncode == NO_PACKAGE, "Python has the words for it"
    assert box.status == "running"
    assert ok(alone(box, "delete", "--force", box.id)) == ""
    assert wait_for(pid) == -9


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", "sigterm", "15"])
def test_kill_by_every_name_of_a_signal(box: Box, alone: Alone, signal: str) -> None:
    box.script("trap 'exit 3' TERM; echo > /ready; while :; do sleep 0.01; done")
    box.create()
    pid = box.pid
    box.start()
    harness.until((box.rootfs / "ready").exists, "the trap is set")
    assert ok(alone(box, "kill", box.id, signal)) == ""
    assert wait_for(pid) == 3


def test_what_is_not_plain_is_left_to_python(box: Box, alone: Alone) -> None:
    box.args("sleep", "100")
    box.create()
    for args in (
        ["start", "nosuch"],
        ["state", "../" + box.id],
        ["kill", box.id],
        ["kill", "--all", box.id, "TERM"],
        ["kill", box.id, "NOSUCH"],
        ["--debug", "start", box.id],
        ["start", box.id, "extra"],
        ["delete", "--regex", box.id],
    ):
        assert alone(box, *args).returncode == NO_PACKAGE, args
    assert box.status == "created"


def test_hooks_are_left_to_python(box: Box, alone: Alone) -> None:
    hook = {"path": "/bin/true"}
    box.config["hooks"] = {"poststart": [hook], "poststop": [hook]}
    box.args("sleep", "100")
    box.create()
    assert alone(box, "start", box.id).returncode == NO_PACKAGE
    assert alone(box, "delete", box.id).returncode == NO_PACKAGE
    assert '"status": "created"' in ok(alone(box, "state", box.id))


def test_a_failure_after_the_fifo_is_worded_by_python(box: Box) -> None:
    """L18: the launcher drains the fifo, init's startContainer hook fails, and `start` says so all the same."""
    box.config["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no good; exit 3"]}]}
    box.create()
    done = box.start(check=False)
    assert done.code == 1
    assert "no good" in done.err
    assert box.entries() == set()


def test_a_damaged_plan_is_left_to_python(box: Box, alone: Alone) -> None:
    box.args("sleep", "100")
    box.create()
    plan = Path(box.root, box.id, "verbs.plan")
    plan.write_bytes(plan.read_bytes()[:-9])
    assert alone(box, "state", box.id).returncode == NO_PACKAGE
    assert box.status == "created"
