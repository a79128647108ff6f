"""host.nsexec and host.words against a peer that says what we want: the protocol, its breaches, the wording.

Where the real nsexec is built, plans that need no rights run in it.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import errors
from pyoci.host import nsexec, words
from pyoci.plan import ops
from pyoci.plan.ops import op
from tests.unit import plan_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PLAN = [
    op("mount", "proc", "proc", "/proc", "", where="/mounts/0", flags=2),
    op("lookup", "prog", "/bin", where="/process/args/0"),
    op("cwd", "/nope", where="/process/cwd"),
    op("rlimit", "RLIMIT_NOFILE", resource=7, soft=1, hard=2, where="/process/rlimits/0"),
    op("hook", "/hook", "", "", "/hook", argc=1, where="/hooks/createContainer/0"),
    op("ready"),
    op("exec", "prog", argc=1),
]
CREATE_PLAN = [
    op("mount", "proc", "proc", "/proc", "", where="/mounts/0", flags=2),
    op("sync", sync=ops.SYNC_MAPS),
    op("fork"),
    op("console"),
    op("ready"),
    op("exec", "prog", argc=1),
]
EXEC_PLAN = [op("lookup", "/bin/sh", ""), op("exec", "sh", "-c", "exit 3", argc=3)]


class Host(nsexec.Host):
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def sync(self, what: int) -> None:
        self.calls.append(("sync", what))

    def forked(self, pid: int) -> None:
        self.calls.append(("forked", pid))

    def outside(self, pid: int) -> None:
        self.calls.append(("outside", pid))

    def console(self, master: int) -> None:
        self.calls.append(("console", os.readlink(f"/proc/self/fd/{master}"), os.get_inheritable(master)))
        os.close(master)

    def ready(self) -> None:
        self.calls.append(("ready",))


class Peer:
    """The other end of the socket, played by a function in a thread."""

    def __init__(self, plan: list[ops.Op]) -> None:
        mine, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.runner = nsexec.Runner(plan)
        self.runner._sock = mine
        self.runner.pid = self.child()
        self.children = [self.runner.pid]

    @staticmethod
    def child() -> int:
        return os.posix_spawn("/bin/sleep", ["sleep", "100"], {})

    def say(
        self, kind: int, index: int = 0, value: int = 0, text: str | bytes = b"", fds: list[int] | None = None
    ) -> None:
        data = struct.pack("<IIq", kind, index, value) + (text.encode() if isinstance(text, str) else text)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], rights)

    def hear(self) -> tuple[int, int, int]:
        kind, index, value = struct.unpack("<IIq", self.sock.recv(4096))
        return kind, index, value

    def play(self, script: Callable[[], None], host: Host) -> None:
        """Run the runner against the script, and close the peer's end after it."""

        def act() -> None:
            try:
                script()
            finally:
                self.sock.close()

        thread = threading.Thread(target=act)
        thread.start()
        try:
            self.runner.run(host)
        finally:
            self.runner.close()
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer(PLAN)
    yield made
    made.runner.abort()
    made.sock.close()


@pytest.fixture
def creating() -> Iterator[Peer]:
    """A peer whose plan has an operation for every message; index 1 to 4 of CREATE_PLAN."""
    made = Peer(CREATE_PLAN)
    yield made
    made.runner.abort()
    made.sock.close()


# -- the protocol -----------------------------------------------------------------------------


def test_a_whole_create(creating: Peer) -> None:
    """Each message reaches its handler, and is answered with GO when it asks for an answer."""
    peer = creating
    init = peer.child()
    first = peer.runner.pid

    def script() -> None:
        read, write = os.pipe()
        peer.say(nsexec.SYNC, 1, ops.SYNC_MAPS)
        assert peer.hear()[0] == nsexec.GO
        peer.say(nsexec.FORKED, 2, init, "outside")
        assert peer.hear()[0] == nsexec.GO
        peer.say(nsexec.CONSOLE, 3, fds=[read])
        peer.say(nsexec.WARN, 0, errno.EPERM)
        peer.say(nsexec.READY, 4)
        assert peer.hear()[0] == nsexec.GO
        os.close(read)
        os.close(write)

    host = Host()
    peer.play(script, host)
    console = host.calls.pop(3)
    assert console[0] == "console"
    assert str(console[1]).startswith("pipe:")
    assert console[2] is False  # close-on-exec
    assert host.calls == [("sync", ops.SYNC_MAPS), ("forked", init), ("outside", init), ("ready",)]
    assert (peer.runner.spawned, peer.runner.pid) == (first, init)
    assert peer.runner.warnings == [
        "mount proc on /proc (nosuid): operation not permitted (config.json /mounts/0)" + HINT
    ]


HINT = "; hint: in a user namespace proc, sysfs and mqueue need their own pid, network, ipc namespace"


def test_go_only_after_the_host_has_acted(creating: Peer) -> None:
    peer = creating
    order: list[str] = []

    class Slow(Host):
        def forked(self, pid: int) -> None:
            time.sleep(0.05)
            order.append("acted")

    def script() -> None:
        peer.say(nsexec.FORKED, 2, pid)
        peer.hear()
        order.append("go")
        peer.say(nsexec.READY, 4)

    pid = peer.child()
    peer.play(script, Slow())
    assert order == ["acted", "go"]


def test_end_before_ready_is_a_failure(peer: Peer) -> None:
    os.kill(peer.runner.pid, signal.SIGSEGV)
    with pytest.raises(errors.SetupError, match=r"nsexec ended early: killed by signal (11|9)"):
        peer.play(lambda: None, Host())
    assert peer.runner.pid == 0


def test_end_of_an_exec_plan_is_success() -> None:
    peer = Peer(EXEC_PLAN)
    peer.play(lambda: None, Host())
    peer.runner.abort()


def test_error_of_an_exec_plan() -> None:
    peer = Peer(EXEC_PLAN)
    with pytest.raises(errors.SetupError, match="exec format error"):
        peer.play(lambda: peer.say(nsexec.ERROR, 1, errno.ENOEXEC), Host())
    peer.runner.abort()


@pytest.mark.parametrize("data", [b"x", b"x" * 15, struct.pack("<IIq", 99, 0, 0), struct.pack("<IIq", 2, 0, 0)])
def test_what_is_not_understood(peer: Peer, data: bytes) -> None:
    with pytest.raises(errors.SetupError, match="nsexec is not understood"):
        peer.play(lambda: peer.sock.sendall(data), Host())


@pytest.mark.parametrize("pid", [0, 1, -1])
def test_forked_what_is_no_child(creating: Peer, pid: int) -> None:
    with pytest.raises(errors.SetupError, match="nsexec is not understood"):
        creating.play(lambda: creating.say(nsexec.FORKED, 2, pid), Host())


@pytest.mark.parametrize(
    "kind", [nsexec.SYNC, nsexec.FORKED, nsexec.CONSOLE, nsexec.LISTENER, nsexec.WARN, nsexec.ERROR]
)
@pytest.mark.parametrize("index", [0, 2, 3, 4, 2**32 - 1])
def test_a_stolen_socket(creating: Peer, kind: int, index: int) -> None:
    """SECURITY 10: after the last fork nobody names another process, asks for a step again, or leaves descriptors."""
    bystander, child = creating.child(), creating.child()
    before = len(os.listdir("/proc/self/fd"))
    read, write = os.pipe()

    def script() -> None:
        creating.say(nsexec.FORKED, 2, child)
        creating.hear()
        creating.say(kind, index, bystander, fds=[read])
        for _ in range(30):  # more than there are operations: it does not collect what is said for ever
            try:
                creating.say(nsexec.WARN, 0, errno.EPERM, fds=[read])
            except (BrokenPipeError, ConnectionResetError):
                break

    host = Host()
    with pytest.raises(errors.SetupError):
        creating.play(script, host)
    creating.runner.abort()
    os.close(read)
    os.close(write)
    assert host.calls[0] == ("forked", child)
    assert ("forked", bystander) not in host.calls
    assert ("sync", bystander) not in host.calls
    assert len(os.listdir("/proc/self/fd")) == before - 2  # the two ends of the socket
    assert os.waitpid(bystander, os.WNOHANG) == (0, 0), "a process that is not ours to end was killed"
    os.kill(bystander, signal.SIGKILL)
    os.waitpid(bystander, 0)


def test_unasked_descriptors_are_closed(peer: Peer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    read, write = os.pipe()
    with pytest.raises(errors.SetupError):
        peer.play(lambda: peer.say(nsexec.ERROR, 0, errno.EPERM, fds=[read]), Host())
    os.close(read)
    os.close(write)
    assert len(os.listdir("/proc/self/fd")) == before - 2  # the two ends of the socket


def test_an_exception_of_the_host_ends_the_run(creating: Peer) -> None:
    peer = creating

    class Broken(Host):
        def sync(self, what: int) -> None:
            raise errors.HookError("on purpose")

    def script() -> None:
        peer.say(nsexec.SYNC, 1, ops.SYNC_HOOKS)
        assert peer.sock.recv(4096) == b""  # no GO: the socket is closed, which is what makes nsexec give up

    with pytest.raises(errors.HookError, match="on purpose"):
        peer.play(script, Broken())


def test_abort_kills_and_reaps_both(peer: Peer) -> None:
    both = [peer.runner.pid, peer.child()]
    peer.runner.spawned, peer.runner.pid = both
    peer.runner.abort()
    for pid in both:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, 0)
    peer.runner.abort()  # twice is no error


def test_plan_message(peer: Peer) -> None:
    """One message: the plan in a sealed memfd, then the descriptors in their order."""
    with open("/dev/null") as null, open("/dev/zero") as zero:
        peer.runner.send_plan([null.fileno(), zero.fileno()])
    data, fds, _, _ = socket.recv_fds(peer.sock, 4096, 10)
    assert struct.unpack("<IIq", data) == (nsexec.PLAN, 0, 2)
    plan, *others = fds
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in others] == ["/dev/null", "/dev/zero"]
    assert plan_reader.decode(os.pread(plan, 1 << 20, 0))[0].describe() == PLAN[0].describe()
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    assert fcntl.fcntl(plan, fcntl.F_GET_SEALS) == seals
    for fd in fds:
        os.close(fd)


def test_sending_to_an_nsexec_that_has_ended_says_why(peer: Peer) -> None:
    """The message it left behind counts, not the broken pipe."""
    peer.say(nsexec.ERROR, 0, errno.ENODEV)
    peer.sock.close()
    peer.runner.send_plan([])
    with pytest.raises(errors.SetupError, match="no such device"):
        peer.runner.run(Host())


def test_an_nsexec_that_has_ended_without_reading_says_why(peer: Peer) -> None:
    """The kernel's word of it comes before the message, which counts."""
    peer.say(nsexec.ERROR, 0, errno.ENODEV)
    peer.runner.send_plan([])
    peer.sock.close()
    with pytest.raises(errors.SetupError, match="no such device"):
        peer.runner.run(Host())


def test_plan_that_is_too_large() -> None:
    with pytest.raises(errors.InvalidConfig, match="more than the .* bytes"):
        nsexec.sealed_plan([op("seccomp", b"x" * ops.MAX_PLAN)])


# -- words ------------------------------------------------------------------------------------

START = "unable to start container process: "


@pytest.mark.parametrize(
    ("index", "number", "text", "message", "where"),
    [
        (0, errno.ENODEV, "", "mount proc on /proc (nosuid): no such device", "/mounts/0"),
        (0, errno.ENOENT, "part x", "mount proc on /proc (nosuid): part x: no such file or directory", "/mounts/0"),
        (0, 0, "said it all", "mount proc on /proc (nosuid): said it all", "/mounts/0"),
        (1, errno.ENOENT, "$PATH", START + 'exec: "prog": executable file not found in $PATH', "/process/args/0"),
        (1, errno.EACCES, "", START + 'exec: "prog": permission denied', "/process/args/0"),
        (2, errno.ENOENT, "",
         START + 'chdir to cwd ("/nope") set in config.json failed: no such file or directory', "/process/cwd"),
        (2, errno.EPERM, "the directory lies outside the container",
         START + 'chdir to cwd ("/nope") set in config.json failed: the directory lies outside the container: '
         "operation not permitted", "/process/cwd"),
        (3, errno.EPERM, "", START + "error setting rlimit type 7: operation not permitted", "/process/rlimits/0"),
        (6, errno.ENOEXEC, "", START + "exec prog: exec format error", ""),
        (99, errno.ENOMEM, "", "start nsexec: cannot allocate memory", ""),
    ],
)  # fmt: skip
def test_failure(index: int, number: int, text: str, message: str, where: str) -> None:
    """ENGINE-CONTRACT 2.3: the texts that engines look for, and for the rest the sentence of the plan."""
    error = words.failure(PLAN, index, number, text)
    assert (error.message, error.where, error.errno) == (message, where, number)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOENT, 'exec: "/bin/x": stat /bin/x: no such file or directory'),
        (errno.ENOTDIR, 'exec: "/bin/x": stat /bin/x: not a directory'),
        (errno.EACCES, 'exec: "/bin/x": permission denied'),
        (errno.EISDIR, 'exec: "/bin/x": permission denied'),
    ],
)
def test_lookup_of_a_path(number: int, message: str) -> None:
    """ENGINE-CONTRACT 2.3"""
    assert words.failure([op("lookup", "/bin/x", "")], 0, number, "").message == START + message


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (3 << 8, "it said", "run hook /hook: exit status 3: it said"),
        (9, "", "run hook /hook: killed by signal 9"),
        (-errno.ETIMEDOUT, "so far", "run hook /hook: timed out: so far"),
        (-errno.ENOENT, "", "run hook /hook: no such file or directory"),
    ],
)
def test_hook_failure(status: int, text: str, message: str) -> None:
    """H04, H06"""
    error = words.hook_failure(PLAN, 4, status, text)
    assert (error.message, error.where) == (message, "/hooks/createContainer/0")


def test_warnings() -> None:
    """P10: what the bits of a capability warning mean."""
    plan = [op("caps", effective=1, where="/process/capabilities"), op("keyring", "x")]
    text = "pyoci has not got, and cannot give, CAP_CHOWN, CAP_SYS_RESOURCE (config.json /process/capabilities)"
    assert words.warning(plan, 0, 1 | 1 << 24, "capabilities") == text
    assert (
        words.warning(plan, 1, errno.ENOSYS, "no keys") == "join session keyring x: no keys: function not implemented"
    )


def test_text_of_nsexec_cannot_break_the_line() -> None:
    error = words.failure(PLAN, 0, errno.EPERM, "a\nb\x1b[2J")
    assert str(error).isprintable()


# -- the real one -----------------------------------------------------------------------------

built = pytest.mark.skipif(not os.path.exists(nsexec.nsexec_path()), reason="nsexec is not built")


@built
def test_the_copy_is_sealed_and_made_once() -> None:
    """SECURITY 10: what runs is neither the installed file nor writable."""
    fd = nsexec.binary()
    assert nsexec.binary() == fd
    assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(fd, b"x", 0)
    with open(nsexec.nsexec_path(), "rb") as file:
        assert os.pread(fd, 1 << 24, 0) == file.read()


@built
def test_binary_from_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsexec, "_copy", -1)
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(nsexec.binary())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    os.close(seen[0])


class Pins:
    """fcntl, where something holds a page of the memfd the first `times` times, as the kernel itself may."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def fcntl(self, fd: int, command: int, seals: int) -> int:
        if not self.left:
            return fcntl.fcntl(fd, command, seals)
        self.left -= 1
        reader, writer = os.pipe()
        try:
            os.splice(fd, writer, 1, 0)  # the page itself is in the pipe now
            return fcntl.fcntl(fd, command, seals)
        except OSError as error:
            assert error.errno == errno.EBUSY
            self.refused += 1
            raise
        finally:
            os.close(reader)
            os.close(writer)


@built
@pytest.mark.parametrize("make", [lambda: nsexec._sealed_copy(nsexec.nsexec_path()), lambda: nsexec.sealed_plan(PLAN)])
def test_a_page_that_is_held_for_a_moment(monkeypatch: pytest.MonkeyPatch, make: Callable[[], int]) -> None:
    pins = Pins(2)
    monkeypatch.setattr(nsexec, "fcntl", pins)
    before = set(os.listdir("/proc/self/fd"))
    fd = make()
    assert pins.refused == 2
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == nsexec._SEALS
    assert os.fstat(fd).st_size
    os.close(fd)
    assert set(os.listdir("/proc/self/fd")) == before


def test_pages_that_are_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsexec, "fcntl", Pins(1000))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(errors.SetupError, match="write the plan: device or resource busy"):
        nsexec.sealed_plan(PLAN)
    assert set(os.listdir("/proc/self/fd")) == before


def test_no_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nsexec, "_copy", -1)
    monkeypatch.setattr(nsexec, "nsexec_path", lambda: str(tmp_path / "nsexec"))
    with pytest.raises(errors.SetupError, match="nsexec: no such file or directory") as caught:
        nsexec.binary()
    assert caught.value.hint == "run `make build`"


@built
def test_run_a_program() -> None:
    runner = nsexec.Runner(EXEC_PLAN)
    runner.spawn()
    runner.send_plan([])
    runner.run(Host())
    assert os.waitstatus_to_exitcode(os.waitpid(runner.pid, 0)[1]) == 3
    runner.close()


@built
def test_what_cannot_be_found() -> None:
    runner = nsexec.Runner([op("lookup", "no-such-program", "/bin:/usr/bin"), op("exec", "x", argc=1)])
    runner.spawn()
    runner.send_plan([])
    with pytest.raises(errors.SetupError, match=r'exec: "no-such-program": executable file not found in \$PATH'):
        runner.run(Host())
    runner.abort()


@built
def test_nothing_but_stdio_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SECURITY 9: an inheritable descriptor of the caller does not get through, nor does its environment."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    monkeypatch.setenv("LEAK", "1")
    read, write = os.pipe()
    script = "ls /proc/self/fd | wc -l; echo ${LEAK-none}; grep -c . /proc/self/environ"
    runner = nsexec.Runner([op("lookup", "/bin/sh", ""), op("exec", "sh", "-c", script, argc=3)])
    runner.spawn((0, write, write))
    os.close(write)
    runner.send_plan([])
    runner.run(Host())
    os.waitpid(runner.pid, 0)
    runner.close()
    with open(read) as output:
        lines = output.read().split()
    os.close(leak)
    assert lines[:2] == ["4", "none"]  # 0, 1, 2 and the directory that ls reads


@built
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 1, 1)])
def test_stdio_in_any_order(order: tuple[int, int, int], tmp_path: Path) -> None:
    """Descriptors 0 to 2 of the caller may be given crosswise."""
    expected = [os.readlink(f"/proc/self/fd/{fd}") for fd in order]
    script = f'seen=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo "$seen" > {tmp_path}/seen'
    runner = nsexec.Runner([op("lookup", "/bin/sh", ""), op("exec", "sh", "-c", script, argc=3)])
    runner.spawn(order)
    runner.send_plan([])
    runner.run(Host())
    os.waitpid(runner.pid, 0)
    runner.close()
    assert (tmp_path / "seen").read_text().splitlines() == expected


@built
def test_many_runs_leave_no_descriptor() -> None:
    """SECURITY 11"""
    nsexec.binary()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        runner = nsexec.Runner(EXEC_PLAN)
        runner.spawn()
        runner.send_plan([])
        runner.abort()
    assert len(os.listdir("/proc/self/fd")) == before
