"""NOTIFY_SOCKET: what the program says to the service manager (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Box, pyoci_only, wait_for

pytestmark = pyoci_only("1.1 passes on READY alone")


class Manager:
    """A service manager."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self.socket.settimeout(10)

    def receive(self) -> tuple[list[str], list[int]]:
        """The lines of one message, and its descriptors."""
        data, fds, _, _ = socket.recv_fds(self.socket, 65536, 10)
        return data.decode().split("\n"), fds

    def barrier(self) -> None:
        """Answer BARRIER=1."""
        lines, fds = self.receive()
        assert lines == ["BARRIER=1"]
        for fd in fds:
            os.close(fd)
        assert len(fds) == 1


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, workshop: Path) -> Iterator[Manager]:
    path = str(workshop / "manager") if request.param == "path" else f"@pyoci-test-{os.getpid()}"
    made = Manager(path)
    yield made
    made.socket.close()
    Path(path).unlink(missing_ok=True)


def environment(manager: Manager) -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": manager.path}


def python_box(box: Box, script: str) -> None:
    """A container whose program is the host's interpreter: busybox has no datagram sockets of that family."""
    for directory in ("/usr", "/lib", "/lib64"):
        if Path(directory).exists():
            (box.rootfs / directory[1:]).mkdir(exist_ok=True)
            box.bind(directory, os.path.realpath(directory), "ro")
    box.args("/usr/bin/python3", "-I", "-S", "-c", PRELUDE + script)


PRELUDE = """
import os, socket, sys, time
def say(text, fds=()):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ["NOTIFY_SOCKET"])
    socket.send_fds(s, [text.encode()], list(fds))
"""


def test_start_returns_when_the_program_is_ready(box: Box, manager: Manager) -> None:
    python_box(
        box, 'say("STATUS=warming up"); sys.stdin.read(1); say("READY=1\\nMAINPID=1\\nSTATUS=x"); time.sleep(100)'
    )
    reader, writer = os.pipe()
    box.create(env=environment(manager), stdin=reader)
    os.close(reader)
    pid = box.pid
    starting = box.popen("start", box.id, env=environment(manager))
    assert manager.receive() == (["STATUS=warming up"], [])
    assert starting.poll() is None
    os.write(writer, b"x")
    os.close(writer)
    assert manager.receive() == (["READY=1", "STATUS=x", f"MAINPID={pid}"], [])
    assert starting.poll() is None, "it has to stay until the manager has read it"
    manager.barrier()
    assert starting.wait(20) == 0
    box.delete("--force")
    assert box.entries() == set()


def test_start_returns_when_the_program_ends(box: Box, manager: Manager) -> None:
    python_box(box, "sys.exit(3)")
    box.create(env=environment(manager))
    pid = box.pid
    box.rt("start", box.id, env=environment(manager))
    assert wait_for(pid) == 3
    box.delete()


def test_run_passes_on_to_the_end(box: Box, manager: Manager) -> None:
    python_box(box, 'say("READY=1"); say("WATCHDOG=1"); say("STOPPING=1"); sys.exit(5)')
    box.write()
    running = box.popen("run", "--bundle", str(box.bundle), box.id, env=environment(manager), stdin=subprocess.DEVNULL)
    lines, _ = manager.receive()
    assert lines[0] == "READY=1"
    assert lines[1].startswith("MAINPID=")
    assert manager.receive()[0] == ["WATCHDOG=1"]
    assert manager.receive()[0] == ["STOPPING=1"]
    assert running.wait(20) == 5
    assert box.entries() == set()


def test_descriptors_go_along(box: Box, manager: Manager) -> None:
    """A barrier of the program itself: the manager closes what the program made."""
    python_box(
        box,
        'r, w = os.pipe(); say("BARRIER=1", [w]); os.close(w); sys.exit(len(os.read(r, 1)) + 6)',
    )
    box.write()
    running = box.popen("run", "--bundle", str(box.bundle), box.id, env=environment(manager), stdin=subprocess.DEVNULL)
    manager.barrier()
    assert running.wait(20) == 6


def test_nobody_listens(box: Box, workshop: Path) -> None:
    """A manager that has gone is not the container's fault."""
    python_box(box, 'say("READY=1"); time.sleep(0.1)')
    env = {**os.environ, "NOTIFY_SOCKET": str(workshop / "gone")}
    box.create(env=env)
    pid = box.pid
    box.rt("start", box.id, env=env)
    assert wait_for(pid) == 0


def test_as_another_user_in_a_user_namespace(box: Box, manager: Manager) -> None:
    python_box(box, 'say("READY=1"); time.sleep(100)')
    (box.rootfs / "run" / "notify").mkdir(parents=True)  # the files are not the container's root's
    box.userns()
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.create(env=environment(manager))
    starting = box.popen("start", box.id, env=environment(manager))
    assert manager.receive()[0] == ["READY=1", f"MAINPID={box.pid}"]
    manager.barrier()
    assert starting.wait(20) == 0


def test_without_a_manager_nothing_is_there(box: Box) -> None:
    assert box.sh("echo ${NOTIFY_SOCKET:-none}; ls -d /run/notify 2>/dev/null || echo none").split() == ["none", "none"]
