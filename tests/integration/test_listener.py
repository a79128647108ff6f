"""Seccomp listeners (config-linux.md, "The Container Process State"): S06, S07, S08, for create and exec."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import PROJECT, TIMEOUT, Box, children, proc_status, pyoci_only, until
from tests.integration.test_create_steps import KILLED
from tests.integration.test_rootless import User, user
from tests.integration.test_seccomp import profile, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["user"]  # the fixture
pytestmark = pyoci_only("1.1 is built without it on some distributions")

NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
NOTIF = struct.Struct("=QII iII Q 6Q")  # id pid flags, seccomp_data: nr arch (ip) args
ANSWER = struct.Struct("=QqiI")  # id value error flags
CONTINUE = 1
MKDIR = 83


class Agent:
    """Listens on a socket; keeps what it is sent, and answers the calls of whoever sent it.

    mkdir fails with EDOM, everything else goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen()
        self.states: list[dict[str, Any]] = []
        self.counts: list[int] = []  # descriptors of each connection's first message
        self.calls: list[int] = []
        self.listeners: list[int] = []
        self.stop, self.stopped = os.pipe()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            ready, _, _ = select.select([self.stop, self.socket, *self.listeners], [], [])
            if self.stop in ready:
                return
            if self.socket in ready:
                self.accept()
            for fd in ready:
                if fd in self.listeners:
                    self.answer(fd)

    def accept(self) -> None:
        peer, _ = self.socket.accept()
        with peer:
            data, fds, _, _ = socket.recv_fds(peer, 65536, 8)
            self.counts.append(len(fds))
            while part := peer.recv(65536):  # the runtime closes it: one state per connection
                data += part
        self.states.append(json.loads(data))
        self.listeners += fds

    def seen(self, number: int) -> list[dict[str, Any]]:
        """So many states: the runtime has sent them, the thread may still be reading."""
        until(lambda: len(self.states) >= number, f"{number} states", 20)
        assert len(self.states) == number
        return self.states

    def answer(self, fd: int) -> None:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if not dict(poller.poll(0)).get(fd, 0) & select.POLLIN:  # nobody uses the filter any more
            self.listeners.remove(fd)
            os.close(fd)
            return
        room = bytearray(NOTIF.size)
        try:
            fcntl.ioctl(fd, NOTIF_RECV, room)
            ident, _, _, number, *_ = NOTIF.unpack(room)
            self.calls.append(number)
            error, flags = (-errno.EDOM, 0) if number == MKDIR else (0, CONTINUE)
            fcntl.ioctl(fd, NOTIF_SEND, bytearray(ANSWER.pack(ident, 0, error, flags)))
        except OSError as problem:
            if problem.errno != errno.ENOENT:  # it died while we were looking
                raise

    def close(self) -> None:
        os.close(self.stopped)
        self.thread.join()
        self.socket.close()
        for fd in [self.stop, *self.listeners]:
            os.close(fd)


@pytest.fixture
def agent(box: Box) -> Iterator[Agent]:
    made = Agent(box.bundle / "agent.sock")
    yield made
    made.close()


def notify(box: Box, agent: Agent, *names: str, **fields: Any) -> None:
    rules = [rule(name, "NOTIFY") for name in names]
    box.linux["seccomp"] = profile(*rules, listenerPath=str(agent.path), **fields)


def test_create_hands_the_listener_over(box: Box, agent: Agent) -> None:
    """S06 S07: before create returns, one descriptor with the first message, the state as the spec has it."""
    notify(box, agent, "mkdir", listenerMetadata="ME=1;TWO=2")
    box.config["annotations"] = {"a": "b"}
    box.script("mkdir /x 2>&1; test -d /x && echo there; exit 7")
    box.create()
    (state,) = agent.seen(1)
    assert agent.counts == [1]
    assert state["fds"] == ["seccompFd"]
    assert state["ociVersion"].startswith("1.")
    assert state["pid"] == box.pid
    assert state["metadata"] == "ME=1;TWO=2"
    inner = state["state"]
    assert (inner["id"], inner["status"], inner["pid"]) == (box.id, "creating", box.pid)
    assert (inner["bundle"], inner["annotations"]) == (str(box.bundle), {"a": "b"})
    assert box.finish() == 7
    assert box.logs() == "mkdir: can't create directory '/x': Numerical argument out of domain\n"
    assert agent.calls == [MKDIR]


def test_no_metadata_no_key(box: Box, agent: Agent) -> None:
    """S07"""
    notify(box, agent, "mkdir")
    box.run()
    assert "metadata" not in agent.seen(1)[0]


def test_exec_hands_over_its_own(box: Box, agent: Agent) -> None:
    """S06 S10: a listener for every process, with the state of the running container."""
    notify(box, agent, "mkdir")
    box.up()
    result = box.exec("mkdir", "/x", check=False)
    assert "Numerical argument" in result.err
    first, second = agent.seen(2)
    assert second["pid"] not in (0, first["pid"])
    assert (second["state"]["status"], second["state"]["pid"]) == ("running", box.pid)
    assert agent.counts == [1, 1]


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("nnp", [False, True])
def test_whatever_the_rights(box: Box, agent: Agent, nnp: bool, user: bool) -> None:
    """S06 P11: with and without no_new_privs, as an ordinary user, in a user namespace."""
    notify(box, agent, "mkdir")
    box.process["noNewPrivileges"] = nnp
    box.process["user"] = {"uid": 1000, "gid": 1000}
    if user:
        box.userns()
    box.args("sleep", "100")
    box.up()
    assert "Numerical argument" in box.exec("mkdir", "/tmp/x", check=False).err
    assert agent.seen(2)


def test_calls_of_the_runtime_itself(box: Box, agent: Agent) -> None:
    """S08: all that nsexec still does goes through the agent, which has the listener by then: no deadlock."""
    names = ("sendmsg", "recvfrom", "read", "close", "fcntl", "prctl", "close_range", "execve", "openat", "futex")
    notify(box, agent, *names)
    box.script("echo through")
    box.create()
    assert box.finish() == 0
    assert box.logs() == "through\n"
    assert agent.calls
    box.delete()
    box.args("sleep", "100")
    box.up()
    assert box.exec("echo", "again").out == "again\n"


def test_start_container_hook_is_subject_to_the_profile(box: Box, agent: Agent) -> None:
    """S06: the profile is loaded in create, the hooks run in start."""
    notify(box, agent, "mkdir")
    box.hook("startContainer", "/bin/sh", "sh", "-c", "mkdir /hooked 2>/dev/null; true")
    box.create()
    assert agent.calls == []
    assert box.finish() == 0
    assert agent.calls == [MKDIR]
    assert not (box.rootfs / "hooked").exists()


def test_no_rule_no_listener(box: Box, agent: Agent) -> None:
    """S06: without SCMP_ACT_NOTIFY nobody connects."""
    box.linux["seccomp"] = profile(listenerPath=str(agent.path))
    box.run()
    assert agent.states == []


def test_nobody_listens(box: Box) -> None:
    """S06 L21: an error, and nothing is left."""
    path = box.bundle / "nosuch.sock"
    box.linux["seccomp"] = profile(rule("mkdir", "NOTIFY"), listenerPath=str(path))
    result = box.create(check=False)
    assert result.code == 1
    assert "nosuch.sock" in result.error
    assert "no such file or directory" in result.error
    assert "/linux/seccomp/listenerPath" in result.error
    assert box.entries() == set()


def test_the_agent_goes_before_exec(box: Box, agent: Agent) -> None:
    """S06: exec fails, the container goes on."""
    notify(box, agent, "mkdir")
    box.up()
    agent.path.unlink()
    result = box.exec("true", check=False)
    assert result.code != 0
    assert "agent.sock" in result.error
    assert box.status == "running"


def test_write_is_refused(box: Box, agent: Agent) -> None:
    """S08: the call by which the listener is announced."""
    notify(box, agent, "write")
    assert box.create(check=False).code == 1
    assert box.entries() == set()


def test_profile_that_refuses_write(box: Box, agent: Agent) -> None:
    """S06 L21: the listener cannot be announced then; an error that says so, nothing left."""
    notify(box, agent, "mkdir")
    box.linux["seccomp"]["syscalls"].append(rule("write", "ERRNO"))
    result = box.create(check=False)
    assert result.code == 1
    assert "seccomp" in result.error
    assert box.entries() == set()
    assert agent.states == []


def test_descriptors_of_the_program(box: Box, agent: Agent) -> None:
    """L25: neither the listener nor the socket to the runtime is left open."""
    notify(box, agent, "mkdir")
    assert [line.split()[0] for line in box.output("probe", "fds").splitlines()] == ["0", "1", "2"]
    box.delete("--force")
    box.args("sleep", "100")
    box.up()
    assert [line.split()[0] for line in box.exec("probe", "fds").out.splitlines()] == ["0", "1", "2"]


def test_as_an_ordinary_user(user: User, agent: Agent) -> None:
    """S06 N08: fetching the listener takes no right of root's."""
    agent.path.chmod(0o777)
    notify(user.box, agent, "mkdir")
    assert "Numerical argument" in user.run("sh", "-c", "mkdir /tmp/x 2>&1; true")
    assert agent.seen(1)


def test_filter_by_annotation(box: Box) -> None:
    """A01: crun's run.oci.seccomp_bpf_data, a filter that allows everything."""
    box.config["annotations"] = {"run.oci.seccomp_bpf_data": "BgAAAAAA/38="}
    shown = box.output("cat", "/proc/self/status")
    assert "Seccomp:\t2" in shown


def joined(box: Box) -> int:
    """The process of an exec that has loaded its profile, as the host sees it, or 0."""
    namespace = os.readlink(f"/proc/{box.pid}/ns/pid")
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            same = pid != box.pid and os.readlink(f"/proc/{pid}/ns/pid") == namespace
            if same and proc_status(pid, "Seccomp") == "2":
                return pid
    return 0


def test_exec_is_killed_while_the_agent_is_slow(box: Box) -> None:
    """S06 SECURITY 22: a process of the container kills it before it has said that it waits: nobody waits for it."""
    box.up()
    path = box.bundle / "slow.sock"
    config = json.loads((box.root / box.id / "config.json").read_text())
    config["linux"]["seccomp"] = profile(rule("mkdir", "NOTIFY"), listenerPath=str(path))
    (box.root / box.id / "config.json").write_text(json.dumps(config))  # only what is added later has a listener
    with socket.socket(socket.AF_UNIX) as slow, socket.socket(socket.AF_UNIX) as before:
        slow.bind(str(path))
        slow.listen(0)
        before.connect(str(path))  # who connects now waits
        process = box.popen("exec", box.id, "sleep", "100", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until(lambda: joined(box), "the process waits for its agent")
        until(lambda: "unix_wait" in Path(f"/proc/{process.pid}/wchan").read_text(), "so does the runtime")
        os.kill(joined(box), signal.SIGKILL)
        slow.listen(1)
        for _ in range(2):
            slow.accept()[0].close()
        assert process.wait(timeout=TIMEOUT) != 0


@pytest.mark.parametrize("step", ["listener", "ready", "publish", "verbs"])
def test_the_runtime_is_killed(box: Box, agent: Agent, step: str) -> None:
    """S06 SECURITY 19: the runtime that init waits for is no more, and init may only write: it ends all the same."""
    notify(box, agent, "mkdir", "exit_group", "rt_sigprocmask", "close")
    box.write()
    argv = [sys.executable, "-I", "-S", "-c", KILLED, str(PROJECT), str(box.root), str(box.bundle), box.id, step]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    init = json.loads((box.root / box.id / "state.json").read_text())["pid"]
    until(lambda: init not in children(), "init ends")
    assert box.status == "stopped"
    box.delete()
    assert box.entries() == set()
