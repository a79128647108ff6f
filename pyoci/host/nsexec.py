"""Run a plan: start libexec/nsexec from a sealed copy, hand it the plan, answer what it asks, word what it reports.

The messages are in docs/ARCHITECTURE.md.  One SEQPACKET pair joins the two; closing it makes nsexec give up.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import fcntl
import struct

from pyoci import errors, kernel
from pyoci.host import words
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Sequence
else:
    import _signal

# kinds of messages
PLAN, GO = 1, 2
ERROR, SYNC, FORKED, CONSOLE, READY, WARN, HOOK_FAILED, LISTENER = 16, 17, 18, 19, 20, 21, 22, 23
# kind of message -> the operation that sends it, once
_SENDERS = {SYNC: "sync", FORKED: "fork", CONSOLE: "console", READY: "ready", LISTENER: "seccomp"}

HEADER = struct.Struct("<IIq")  # kind, op, value
_LONGEST = 4096
_RIGHTS = _socket.CMSG_SPACE(4)

MFD_EXEC = 0x10  # memfd_create(2), since Linux 6.3; asked for where vm.memfd_noexec is set
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

_lock = _thread.allocate_lock()
_copy = -1  # the sealed copy of nsexec: one for the life of this process


def nsexec_path() -> str:
    """The binary: beside the package where it is installed, in build/ where it is being worked on."""
    package = kernel.dirname(kernel.dirname(kernel.abspath(__file__)))
    installed = package + "/libexec/nsexec"
    if kernel.exists(installed):
        return installed
    return kernel.dirname(package) + "/build/nsexec"


def binary() -> int:
    """A descriptor of the sealed copy of nsexec that processes are started from.

    A container process can reach its file through /proc/PID/exe of whoever joins it (CVE-2019-5736): the copy
    cannot be written, and is not the installed file.  Raises errors.SetupError.
    """
    global _copy
    with _lock:
        if _copy < 0:
            path = nsexec_path()
            try:
                _copy = _sealed_copy(path)
            except OSError as error:
                hint = "run `make build`" if error.errno == errno.ENOENT else ""
                raise errors.failed(f"copy {path}", error, hint=hint) from None
        return _copy


def _sealed_copy(path: str) -> int:
    source = kernel.open(path, kernel.O_RDONLY | kernel.O_CLOEXEC)

    def fill(copy: int) -> None:
        offset = 0
        while sent := kernel.sendfile(copy, source, offset, 1 << 30):
            offset += sent

    try:
        try:
            return _sealed("nsexec", fill, MFD_EXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return _sealed("nsexec", fill)
    finally:
        kernel.close(source)


def sealed_plan(plan: Sequence[ops.Op]) -> int:
    """The encoded plan in a sealed memfd.  Raises errors.SetupError."""
    try:
        data = ops.encode(plan)
    except ValueError as error:
        raise errors.InvalidConfig(str(error)) from None

    def fill(fd: int) -> None:
        rest = data
        while rest:
            rest = rest[kernel.write(fd, rest) :]

    try:
        return _sealed("plan", fill)
    except OSError as error:
        raise errors.failed("write the plan", error) from None


def _sealed(name: str, fill: Callable[[int], None], flags: int = 0) -> int:
    """A memfd that `fill` has written and nobody can change any more.

    The kernel cannot tell a writer from whatever else holds one of its pages for a moment (compaction, for one): it
    waits for up to 0.2 s, then says EBUSY (fcntl(2), F_SEAL_WRITE).  Another memfd has other pages.
    """
    for _ in range(4):
        try:
            return _sealed_once(name, fill, flags)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
    return _sealed_once(name, fill, flags)


def _sealed_once(name: str, fill: Callable[[int], None], flags: int) -> int:
    fd = kernel.memfd_create(name, kernel.MFD_CLOEXEC | kernel.MFD_ALLOW_SEALING | flags)
    try:
        fill(fd)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        kernel.close(fd)
        raise
    return fd


class Message:
    """One message of nsexec.  fd: a descriptor that came along, or -1."""

    __slots__ = ("fd", "kind", "op", "text", "value")

    def __init__(self, data: bytes, fd: int = -1) -> None:
        """Raises ValueError when data is too short."""
        if len(data) < HEADER.size:
            raise ValueError(f"a message of {len(data)} bytes")
        self.kind, self.op, self.value = HEADER.unpack_from(data)
        self.text = data[HEADER.size :].decode("utf-8", "backslashreplace")
        self.fd = fd


class Host:
    """What the caller of Runner.run does when nsexec asks: nothing, but for what a subclass knows to be in its plan.

    An exception ends the run.
    """

    __slots__ = ()

    def sync(self, what: int) -> None:
        """nsexec waits at a sync op: one of ops.SYNC_*."""

    def forked(self, pid: int) -> None:
        """The process that becomes init (or the exec'ed program) is this one; it waits until this returns."""

    def outside(self, pid: int) -> None:
        """It cannot enter its v2 cgroup by itself."""

    def console(self, master: int) -> None:
        """A terminal was made; the descriptor is the callee's from now on."""

    def listener(self, number: int) -> None:
        """A seccomp profile with a listener is loaded; the process has it open as number, and waits."""

    def ready(self) -> None:
        """Everything is applied; it goes on to wait for start when this returns."""


class Runner:
    """One run of nsexec.

    pid:      the process that will be the program; the spawned one until FORKED names another.  0: none yet
    spawned:  the process that posix_spawn made, 0 when it was reaped or is pid itself
    warnings: what nsexec warned of, in words
    """

    __slots__ = ("_at", "_plan", "_sock", "pid", "spawned", "warnings")

    def __init__(self, plan: Sequence[ops.Op]) -> None:
        self._plan = plan
        self._at = -1  # the operation that asked us for something last
        self._sock: _socket.socket | None = None
        self.pid = 0
        self.spawned = 0
        self.warnings: list[str] = []

    def spawn(self, stdio: Sequence[int] = (0, 1, 2)) -> None:
        """Start nsexec, which then waits for its plan.  stdio: its stdin, stdout, stderr.  Raises errors.SetupError."""
        executable = f"/proc/self/fd/{binary()}"
        high: list[int] = []
        mine, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self._sock = mine
        try:
            number = other.fileno()
            actions = _stdio_actions(stdio, high)
            actions.append((kernel.POSIX_SPAWN_DUP2, number, number))  # onto itself: clears close-on-exec
            self.pid = kernel.posix_spawn(executable, ["nsexec", "plan", str(number)], {}, file_actions=actions)
        except OSError as error:
            from pyoci.host import child

            hint = "is /proc mounted?" if error.errno == errno.ENOENT else child.refused(error)
            raise errors.failed("start nsexec", error, hint=hint) from None
        finally:
            other.close()
            for fd in high:
                kernel.close(fd)

    def send_plan(self, fds: Sequence[int]) -> None:
        """Hand over the plan and its descriptors, which stay the caller's.  Raises errors.SetupError."""
        plan = sealed_plan(self._plan)
        try:
            self._send(PLAN, len(fds), [plan, *fds])
        finally:
            kernel.close(plan)

    def run(self, host: Host) -> None:
        """Answer nsexec until it is ready, or, where the plan has no ready op, until the program runs.

        Raises errors.SetupError or errors.HookError with what failed, and whatever host raises.
        """
        while message := self._receive():
            self._check(message)
            if message.kind == SYNC:
                host.sync(message.value)
                self._send(GO)
            elif message.kind == FORKED:
                self._forked(message.value)
                host.forked(self.pid)
                if message.text == "outside":
                    host.outside(self.pid)
                self._send(GO)
            elif message.kind == CONSOLE:
                host.console(message.fd)
            elif message.kind == READY and self.notifies():  # it still has to load its profile: LISTENER
                self._send(GO)
            elif message.kind == READY:
                host.ready()
                self._send(GO)
                return
            elif message.kind == LISTENER:
                host.listener(message.value)
                if self.has("ready"):
                    host.ready()
                    return
            elif message.kind == WARN:
                self.warnings.append(words.warning(self._plan, message.op, message.value, message.text))
            else:
                raise self._word(message)
        if self.has("ready") or any(op.name == "fork" for op in self._plan[self._at + 1 :]):
            hint = "its seccomp profile has to let write(2) through" if self.notifies() else ""
            raise errors.SetupError(f"nsexec ended early: {self._fate()}", hint=hint)

    def notifies(self) -> bool:
        """Whether the plan loads a seccomp profile with a listener."""
        return any(op.name == "seccomp" and op.num("flags") & ops.SECCOMP_LISTENER for op in self._plan)

    def has(self, name: str) -> bool:
        """Whether the plan has such an operation."""
        return any(op.name == name for op in self._plan)

    def close(self) -> None:
        """Close the socket.  Before READY was answered that makes nsexec give up."""
        sock, self._sock = self._sock, None
        if sock:
            sock.close()

    def abort(self) -> None:
        """Kill and reap what is left of the run."""
        self.close()
        left = [pid for pid in (self.spawned, self.pid) if pid]
        self.spawned = self.pid = 0
        for pid in left:
            _kill(pid)
        for pid in left:
            reap(pid)

    def reap_spawned(self) -> None:
        """Reap the first process, whose only work left is to exit, once it has forked the other."""
        if self.spawned:
            reap(self.spawned)
            self.spawned = 0

    # -- messages -----------------------------------------------------------------------------

    def _send(self, kind: int, value: int = 0, fds: Sequence[int] = ()) -> None:
        assert self._sock
        ancillary = []
        if fds:
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]
        try:
            self._sock.sendmsg([HEADER.pack(kind, 0, value)], ancillary, _socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended: why is in a message still to be read, or in its exit status
        except OSError as error:
            raise errors.failed("talk to nsexec", error) from None

    def _receive(self) -> Message | None:
        """The next message; None when the other side is closed."""
        assert self._sock
        arguments = (_LONGEST, _RIGHTS, _socket.MSG_CMSG_CLOEXEC)
        try:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(*arguments)
            except ConnectionResetError:  # it ended with something unread: said once, before what it had sent
                data, ancillary, _, _ = self._sock.recvmsg(*arguments)
        except OSError as error:
            raise errors.failed("listen to nsexec", error) from None
        fds = [fd for _, _, part in ancillary for (fd,) in struct.iter_unpack("i", part[: len(part) & ~3])]
        try:
            return Message(data, fds.pop() if fds else -1) if data else None
        except ValueError as error:
            raise errors.SetupError(f"nsexec is not understood: {error}") from None
        finally:
            for fd in fds:
                kernel.close(fd)

    def _forked(self, pid: int) -> None:
        if pid <= 1:
            raise errors.SetupError(f"nsexec is not understood: it forked process {pid}")
        self.reap_spawned()  # an exec forks twice: into the cgroups, and into the pid namespace
        self.spawned, self.pid = self.pid, pid

    def _check(self, message: Message) -> None:
        """Refuse what the plan has no operation for, or not any more.

        Who may trace a joining process (CAP_SYS_PTRACE, no user namespace) can take its socket, and by then every
        fork is done: it cannot give us a process of the host for the one that we made, which `abort` would kill.
        """
        wanted = message.fd >= 0 if message.kind == CONSOLE else len(self.warnings) <= len(self._plan)
        name = _SENDERS.get(message.kind)
        if name:
            wanted &= self._at < message.op < len(self._plan) and self._plan[message.op].name == name
            self._at = message.op
        if message.fd >= 0 and not (wanted and message.kind == CONSOLE):
            kernel.close(message.fd)
        if not wanted:
            raise errors.SetupError(f"nsexec is not understood: message of kind {message.kind} at {message.op}")

    def _word(self, message: Message) -> errors.Error:
        if message.kind == ERROR:
            return words.failure(self._plan, message.op, message.value, message.text)
        if message.kind == HOOK_FAILED:
            return words.hook_failure(self._plan, message.op, message.value, message.text)
        return errors.SetupError(f"nsexec is not understood: message of kind {message.kind}")

    def _fate(self) -> str:
        """How it ended, when it did not say so itself."""
        fates = []
        for pid in (self.spawned, self.pid):
            if pid:
                _kill(pid)  # one half may have outlived the other
                fates.append(reap(pid))
        self.spawned = self.pid = 0
        return " and ".join([fate for fate in fates if fate != _WELL]) or _WELL


def reap(pid: int) -> str:
    """Wait for a child and say how it ended."""
    try:
        code = kernel.waitstatus_to_exitcode(kernel.waitpid(pid, 0)[1])
    except ChildProcessError:  # SIGCHLD is ignored in this process
        return "it is gone"
    return f"exit status {code}" if code >= 0 else f"killed by signal {-code}"


_WELL = "exit status 0"


def _kill(pid: int) -> None:
    # by number: it is our child and not reaped, so nobody else can have it
    try:
        kernel.kill(pid, _signal.SIGKILL)
    except OSError:
        pass


def _stdio_actions(stdio: Sequence[int], high: list[int]) -> list[tuple[int, int, int]]:
    """dup2 actions that give the child its 0, 1, 2.  high: collects descriptors to close after the spawn."""
    actions = []
    for target, source in enumerate(stdio):
        if source == target:
            continue
        safe = source
        if source <= 2:  # would be overwritten by an earlier action: go by a copy
            safe = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)
            high.append(safe)
        actions.append((kernel.POSIX_SPAWN_DUP2, safe, target))
    return actions
