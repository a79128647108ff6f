"""SECURITY 19: a pid that was init's and is another process's now: no verb signals it, enters it or believes it.

The state is what a container leaves whose init has ended; the number in it is then made that of a stranger, as the
kernel makes it after it has gone round.  The launcher and Python each have their own check.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import Container, container_shared, errors
from pyoci.host import nsexec, rootfile
from tests.integration.harness import TIMEOUT, Box, pyoci_only, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pyoci_only("the state of others is not as they left it")

SYS_CLONE3 = 435  # on every architecture
WALKERS = {"launcher": [], "python": ["--debug"]}  # which the launcher leaves to Python


@pytest.fixture(scope="module", autouse=True)
def copy_of_nsexec() -> None:
    """A process makes it once and keeps it: no leak."""
    nsexec.binary()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host; one that was signalled fails the test."""
    with subprocess.Popen(["sleep", "100"]) as it:
        yield it
        it.terminate()
        assert it.wait(TIMEOUT) == -signal.SIGTERM, "it was signalled"


def reuse(box: Box, pid: int) -> None:
    """End init, and write another pid wherever its own is written down."""
    file = box.root / box.id / "state.json"
    state = json.loads(file.read_text())
    box.kill("KILL")
    wait_for(state["pid"])
    plan = file.with_name("verbs.plan")
    old, new = (struct.pack("<qq", number, state["start"]) for number in (state["pid"], pid))
    assert old in plan.read_bytes()
    plan.write_bytes(plan.read_bytes().replace(old, new))
    file.write_text(json.dumps(state | {"pid": pid}))


@pytest.mark.parametrize("walker", WALKERS)
def test_it_is_not_signalled(box: Box, stranger: subprocess.Popen[bytes], walker: str) -> None:
    """It has init's number and another start time, in state.json and in verbs.plan."""
    box.up()
    reuse(box, stranger.pid)
    options = WALKERS[walker]
    assert json.loads(box.rt(*options, "state", box.id).out)["status"] == "stopped"
    assert "not running" in box.rt(*options, "kill", box.id, "KILL", check=False).error
    box.rt(*options, "delete", "--force", box.id)
    assert box.entries() == set()


def born_as(pid: int) -> None:
    """A process of the host with a number that was another's: a child that only sleeps."""
    number = ctypes.c_int(pid)
    arguments = struct.pack("<11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(number), 1, 0)
    # with the GIL held, as by fork(2): the child has nobody who would give it back
    made = ctypes.PyDLL(None, use_errno=True).syscall(SYS_CLONE3, arguments, len(arguments))
    if made == 0:
        os.execlp("sleep", "sleep", "100")
    if made < 0:
        pytest.skip(f"a process with a chosen number: {os.strerror(ctypes.get_errno())}")
    assert made == pid


MOUNT = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}
VERBS: dict[str, tuple[Callable[[Container], object], Any, str]] = {
    # what is done, and what first opens something below /proc/PID
    "exec": (lambda container: container.exec(["true"]), container_shared, "open_descriptor"),
    "user": (lambda container: container.user("walnut"), rootfile, "read"),
    "mounts": (lambda container: container.mount([MOUNT]), container_shared, "open_descriptor"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_it_is_not_entered(box: Box, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Init ends when the verb has found it running, and a process of the host has its number before it is opened."""
    action, module, name = VERBS[verb]
    opens = getattr(module, name)
    box.up()
    strangers = []

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        pid = box.pid
        box.kill("KILL")
        wait_for(pid)
        born_as(pid)
        strangers.append(pid)
        return opens(*arguments)

    monkeypatch.setattr(module, name, late)
    try:
        with pytest.raises(errors.WrongState, match=r"has stopped|not running"):
            action(Container.open(box.id, str(box.root)))
        assert strangers
    finally:
        for pid in strangers:
            os.kill(pid, signal.SIGKILL)
            wait_for(pid)
