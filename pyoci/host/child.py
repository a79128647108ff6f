"""Run a helper program of the host: exact arguments and environment, no shell, output kept, a time limit that holds.

posix_spawn(3), never fork(2): the library may be called from a process with threads.
"""

from __future__ import annotations

import errno
import select
import time

from pyoci import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping, Sequence
else:
    import _signal

_KEPT = 1024  # bytes of output kept, the last ones: they go into a message of one line
# CPython ignores these two; a helper gets the usual dispositions
_IGNORED = (_signal.SIGPIPE, _signal.SIGXFSZ)


TIMED_OUT = "timed out"
OUTLIVED = "ended with its container"
_INTERRUPTED = "interrupted"


class Result:
    """How it ended.

    status: int, exit status, or 128 + signal.  output: str, the end of stdout and stderr.
    killed: str, why it was killed: TIMED_OUT, OUTLIVED (what it was run for had gone), or "".
    """

    __slots__ = ("killed", "output", "status")

    def __init__(self, status: int, output: str, killed: str = "") -> None:
        self.status = status
        self.output = output
        self.killed = killed

    def why(self) -> str:
        """The reason of a failure, in words."""
        text = f"killed by signal {self.status - 128}" if self.status > 128 else f"exit status {self.status}"
        if self.killed:
            text = self.killed
        return f"{text}: {self.output}" if self.output else text


def run(
    path: str,
    args: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: bytes = b"",
    timeout: float | None = None,
    watch: int = -1,
    files: Sequence[int] = (-1, -1),
) -> Result:
    """Run path with exactly args (args[0] included) and env, feed it stdin, and wait for its end.

    It is the leader of its own process group; when timeout (seconds) passes, the whole group is killed.
    So it is when the descriptor watch becomes readable: the pidfd of a process without which there is no use in it.
    files: descriptors that its stdout and stderr go to; -1: it is kept, for the result.
    What it leaves running in the background is let be, but loses its stdout and stderr.
    Raises OSError when it cannot be started.
    """
    fds: list[int] = []
    try:
        fds += kernel.pipe()  # 0 reads, 1 writes
        fds += kernel.pipe()
        outputs = [fds[3] if fd < 0 else fd for fd in files]
        pid = _spawn(path, args, env, fds[0], outputs)
        kernel.close(fds.pop(3))
        kernel.close(fds.pop(0))
        return _Watch(pid, fds, stdin, timeout, watch).watch()
    finally:
        for fd in fds:
            kernel.close(fd)


def refused(error: OSError) -> str:
    """A hint, where something around us may be why no program can be started; or ""."""
    if error.errno == errno.EPERM:
        return "a seccomp filter around pyoci may refuse clone3(2) with EPERM, where ENOSYS would let it fall back"
    return "pyoci needs pidfd_open(2): Linux 5.3 or later" if error.errno == errno.ENOSYS else ""


def _spawn(path: str, args: Sequence[str], env: Mapping[str, str], stdin: int, outputs: Sequence[int]) -> int:
    actions: list[tuple[int, ...]] = [
        (kernel.POSIX_SPAWN_DUP2, stdin, 0),
        (kernel.POSIX_SPAWN_DUP2, outputs[0], 1),
        (kernel.POSIX_SPAWN_DUP2, outputs[1], 2),
    ]
    # what our caller leaked to us (containerd its socket, podman its ports) is none of a helper's business
    actions += [(kernel.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()]
    return kernel.posix_spawn(path, [*args], env, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=_IGNORED)


def _inheritable() -> list[int]:
    found = []
    for name in kernel.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and kernel.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:  # the listing's own descriptor, or another thread's, closed by now
            continue
    return found


class _Watch:
    """One run: feeds, reads, and waits on descriptors until the program ends or its time is up."""

    def __init__(self, pid: int, fds: list[int], stdin: bytes, timeout: float | None, other: int) -> None:
        self.pid = pid
        self.other = other
        self.fds = fds  # [write end of stdin, read end of output], owned by the caller of run
        self.stdin = stdin
        self.output = b""
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.poller = select.poll()

    def watch(self) -> Result:
        killed = _INTERRUPTED
        try:
            pidfd = kernel.pidfd_open(self.pid)
            try:
                killed = self._until_ended(pidfd)
            finally:
                kernel.close(pidfd)
        finally:
            if killed:  # the leader is not reaped yet, so its number is still that of the group
                kernel.killpg(self.pid, _signal.SIGKILL)
            status = kernel.waitstatus_to_exitcode(kernel.waitpid(self.pid, 0)[1])
        self._read()
        text = self.output.decode("utf-8", "replace").strip()
        return Result(status if status >= 0 else 128 - status, text, killed)

    def _until_ended(self, pidfd: int) -> str:
        """Why it has to be killed; "" when it has ended by itself."""
        to_stdin, from_output = self.fds
        for fd in self.fds:
            kernel.set_blocking(fd, False)
        self.poller.register(pidfd, select.POLLIN)
        self.poller.register(from_output, select.POLLIN)
        self.poller.register(to_stdin, select.POLLOUT)
        if self.other >= 0:
            self.poller.register(self.other, select.POLLIN)
        while True:
            rest = None if self.deadline is None else self.deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return TIMED_OUT
            ready = [fd for fd, _ in self.poller.poll(kernel.poll_time(rest))]
            if to_stdin in ready:
                self._write(to_stdin)
            if from_output in ready and not self._read():
                self.poller.unregister(from_output)
            if pidfd in ready:
                return ""
            if self.other in ready:
                return OUTLIVED

    def _write(self, fd: int) -> None:
        try:
            self.stdin = self.stdin[kernel.write(fd, self.stdin) :]
        except BrokenPipeError:  # it does not read its stdin: its choice
            self.stdin = b""
        if not self.stdin:
            self.poller.unregister(fd)
            self.fds.remove(fd)
            kernel.close(fd)

    def _read(self) -> bool:
        try:
            while data := kernel.read(self.fds[-1], 65536):
                self.output = (self.output + data)[-_KEPT:]
        except BlockingIOError:
            return True
        return False
