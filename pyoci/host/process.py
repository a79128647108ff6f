"""A process, named by pid and start time and reached through a pidfd, so that a reused pid is never touched.

Start time is field 22 of /proc/PID/stat, in clock ticks since boot.  See proc(5), pidfd_open(2), waitid(2).
"""

from __future__ import annotations

import _thread
import fcntl
import select
import struct
import time

from pyoci import errors, json, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Self
else:
    import _signal

# PIDFD_GET_INFO (Linux 6.13; exit codes since 6.15): struct pidfd_info, 64 bytes in its first version
PIDFD_GET_INFO = 0xC000FF0B | 64 << 16
PIDFD_INFO_EXIT = 8
_INFO = struct.Struct("<Q52xi")  # mask, ids, exit_code
_REAPING = 200  # ms a parent is given to reap its child
# ESRCH; and where the number is that of a thread, or of a session that has outlived its leader: ENOENT, or EINVAL
# before Linux 6.16
_NO_PROCESS = (3, 2, 22)
_GONE = -1  # the status of a process that nobody can tell any more


def start_time(pid: int) -> int:
    """Start time of a live process; 0 when there is none, or only its zombie."""
    try:
        fd = kernel.open(f"/proc/{pid}/stat", kernel.O_RDONLY | kernel.O_CLOEXEC)
    except OSError:
        return 0
    try:
        data = kernel.read(fd, 4096)
    except OSError:  # ESRCH: it went between open and read
        return 0
    finally:
        kernel.close(fd)
    # the name in parentheses may hold anything, ") R 1" too: the last parenthesis ends it
    fields = data[data.rfind(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else json.integer(fields[19])


def alive(pid: int, start: int) -> bool:
    """Whether this very process still runs."""
    return pid > 0 and start_time(pid) == start


def _pidfd_open(pid: int) -> int:
    """pidfd_open(2).  Raises ProcessLookupError, and errors.SetupError for every other reason."""
    try:
        return kernel.pidfd_open(pid)
    except OSError as error:
        number = error.errno or 0
        if number in _NO_PROCESS:
            raise ProcessLookupError(number, "no such process") from None
        hint = "pyoci needs pidfd_open(2), and nothing around it that refuses it" if number in (1, 38) else ""
        raise errors.failed(f"pidfd_open {pid}", error, hint=hint) from None


def open_pidfd(pid: int, start: int) -> int:
    """A pidfd of this very process, or -1 when it has ended.

    Raises errors.SetupError when the kernel has no pidfd_open (before Linux 5.3) or refuses it.
    """
    try:
        pidfd = _pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if start_time(pid) != start:  # asked after the pidfd holds the pid: from here on it cannot be reused
        kernel.close(pidfd)
        return -1
    return pidfd


class Process:
    """A process of a container: its init, or one that exec started.

    pid: int, as the caller sees it.
    """

    __slots__ = ("_child", "_lock", "_pidfd", "_status", "pid", "start")

    def __init__(self, pid: int, start: int, *, child: bool = False) -> None:
        """child: it is a child of the calling process, which alone can reap it and learn its exit status."""
        self.pid = pid
        self.start = start
        self._child = child
        self._status: int | None = None
        self._lock = _thread.allocate_lock()
        self._pidfd = -1
        if child:  # not reaped, hence not reused; and it may be a zombie by now
            self._pidfd = _pidfd_open(pid)
        elif pid:
            self._pidfd = open_pidfd(pid, start)
        if self._pidfd < 0:
            self._status = _GONE

    def same(self, pid: int, start: int) -> bool:
        """Whether it is the process of that pid and start time."""
        return (self.pid, self.start) == (pid, start)

    def fileno(self) -> int:
        """The pidfd, readable once the process has ended; for select, poll and asyncio.  -1 when it ended long ago."""
        return self._pidfd

    @property
    def pidfd(self) -> int:
        """The same as fileno()."""
        return self._pidfd

    def running(self) -> bool:
        """Whether it has not ended (a zombie has)."""
        return self._status is None and not self._ended(0)

    def signal(self, number: int) -> bool:
        """Send a signal; False when the process has ended.  Raises errors.SetupError (EPERM, EINVAL)."""
        if self._pidfd < 0 or self._status is not None:
            return False
        try:
            _signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise errors.failed(f"send signal {number}", error) from None
        return True

    def kill(self, signal: int | str = "TERM") -> None:
        """Send a signal by number or name.  Raises errors.WrongState when the process has ended."""
        if not self.running() or not self.signal(signal_number(signal)):
            raise errors.WrongState("process not running")

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status: 0..255, or 128 + the signal that ended it.

        timeout: seconds; TimeoutError is raised when they pass.  Only the parent can learn the status of a process
        on every kernel; for others Linux 6.15 tells it once the parent has reaped it, and -1 is returned when it
        does not.  Any number of threads may wait.
        """
        if self._status is None:
            if not self._ended(timeout):
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            with self._lock:  # the first of several waiters reaps
                if self._status is None:
                    self._status = self._reap() if self._child else self._ask()
        return self._status

    async def wait_async(self) -> int:
        """wait() for asyncio: lets the loop run meanwhile."""
        if self._status is not None:
            return self._status
        import asyncio

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        pidfd = kernel.dup(self._pidfd)  # a loop keeps one reader for each descriptor: several may wait
        try:
            loop.add_reader(pidfd, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            kernel.close(pidfd)
        return self.wait()

    def close(self) -> None:
        """Let go of the pidfd.  The process is not touched."""
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            kernel.close(pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _ended(self, timeout: float | None) -> bool:
        if self._pidfd < 0:
            return True
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            rest = None if deadline is None else max(0, deadline - time.monotonic())
            if poller.poll(kernel.poll_time(rest)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def _reap(self) -> int:
        try:
            result = kernel.waitid(kernel.P_PIDFD, self._pidfd, kernel.WEXITED)
        except ChildProcessError:  # somebody else of this process reaped it, or SIGCHLD is ignored
            return self._ask()
        if result is None:
            return _GONE
        return result.si_status if result.si_code == kernel.CLD_EXITED else 128 + result.si_status

    def _ask(self) -> int:
        """The exit status as the kernel keeps it with the pidfd, once the parent has reaped the process."""
        info = bytearray(_INFO.pack(PIDFD_INFO_EXIT, 0))
        try:
            poller = select.poll()
            poller.register(self._pidfd, 0)
            poller.poll(_REAPING)  # POLLHUP: reaped
            fcntl.ioctl(self._pidfd, PIDFD_GET_INFO, info)
        except OSError:
            return _GONE
        mask: int
        code: int
        mask, code = _INFO.unpack(info)
        if not mask & PIDFD_INFO_EXIT:
            return _GONE
        return 128 + (code & 0x7F) if code & 0x7F else code >> 8 & 0xFF


def signal_number(signal: int | str) -> int:
    """A signal by number, numeral or name: 9, "9", "KILL", "SIGKILL", "sigkill", "RTMIN+3", "RTMAX-1".

    Raises errors.UsageError for what is no signal.  See signal(7); 0 sends nothing: it tells whether one could be sent.
    """
    from pyoci import linux

    text = str(signal).upper().removeprefix("SIG")
    number = json.decimal(text)
    if number is None:
        sign = 1 if "+" in text else -1
        name, found, offset = text.replace("-", "+").partition("+")
        number = linux.SIGNALS.get(name, -1)
        if found:
            steps = json.decimal(offset)
            number = number + sign * steps if name in ("RTMIN", "RTMAX") and steps is not None else -1
    if not 0 <= number <= 64:
        raise errors.UsageError(f"unknown signal {signal!r}", hint="use a name like TERM or a number from 0 to 64")
    return number
