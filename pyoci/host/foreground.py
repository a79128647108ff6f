"""A container process in the foreground: signals go to it, the user's terminal is its own, its end is ours.

Everything is waited for at once by poll(2): the end of the process (pidfd), signals (a pipe
that the interpreter's handler writes to), and the descriptors of the relay.
"""

from __future__ import annotations

import select

from pyoci import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any, Self

    from pyoci.host.notify import Notify
    from pyoci.host.relay import Relay
else:
    import _signal

CHUNK = 4096  # signals read at once

# KILL and STOP cannot be caught.  A fault of our own (SEGV ...) would repeat for ever under a handler.
NOT_FORWARDED: set[int] = {
    _signal.SIGKILL,
    _signal.SIGSTOP,
    _signal.SIGCHLD,
    _signal.SIGILL,
    _signal.SIGTRAP,
    _signal.SIGBUS,
    _signal.SIGFPE,
    _signal.SIGSEGV,
    _signal.SIGSYS,
}
# With the user's terminal in our hands its job control means us.
JOB_CONTROL: set[int] = {_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU}


class Signals:
    """The signals that arrive, readable from a pipe, until close().

    What the caller of pyoci made us ignore (nohup) stays ignored.
    """

    __slots__ = ("_old", "_old_fd", "_write_fd", "fd")

    def __init__(self, caught: set[int]) -> None:
        self._old: dict[int, Any] = {}
        self.fd, self._write_fd = kernel.pipe2(kernel.O_CLOEXEC | kernel.O_NONBLOCK)
        self._old_fd = _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in caught:
            handler = _signal.getsignal(number)
            if handler != _signal.SIG_IGN:
                self._old[number] = handler
                _signal.signal(number, _taken)

    def close(self) -> None:
        """Handle them as before."""
        for number, handler in self._old.items():
            try:
                _signal.signal(number, _signal.SIG_DFL if handler is None else handler)
            except OSError:
                pass  # the container is still to be deleted, which counts more
        _signal.set_wakeup_fd(self._old_fd)
        kernel.close(self.fd)
        kernel.close(self._write_fd)

    def read(self) -> bytes:
        """The numbers of the signals that came since, one byte each."""
        try:
            return kernel.read(self.fd, CHUNK)
        except BlockingIOError:
            return b""


def _taken(number: int, frame: object) -> None:
    """Handler of the caught signals: the number has gone into the pipe already."""


class Foreground:
    """Waits for one process, and is its terminal and its signals meanwhile.  Use as a context.

    attach() takes the master of its pty (as the `console` argument of Container.create and exec),
    listen() has to come before the process can do anything, wait() does the rest.  Leaving the
    context hangs up the container's terminal, gives the user's back, and stops to listen.
    """

    __slots__ = ("_relay", "_signals", "notify")

    def __init__(self) -> None:
        self._relay: Relay | None = None
        self._signals: Signals | None = None
        self.notify: Notify | None = None  # passes on what the program says to the service manager

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        relay, self._relay = self._relay, None
        if relay:
            relay.close()
        if self.notify:
            self.notify.close()
        signals, self._signals = self._signals, None
        if signals:
            signals.close()

    @property
    def attached(self) -> bool:
        """Whether there is a terminal."""
        return self._relay is not None

    def attach(self, master: int) -> None:
        """Take over the master of the process's pty, which gets the size of the user's terminal now."""
        from pyoci.host import relay

        self._relay = relay.Relay(master)

    def listen(self, terminal: bool, reap: bool = False) -> None:
        """Keep signals that arrive from now on for the process: wait() sends them on.

        terminal: the process has, or will have, the user's terminal.  reap: this process is a
        subreaper, and is to take care of children that are not its own.
        """
        caught: set[int] = set()
        caught.update(_signal.valid_signals())
        caught -= NOT_FORWARDED
        if terminal:
            caught -= JOB_CONTROL
        if reap:
            caught.add(_signal.SIGCHLD)
        self._signals = Signals(caught)

    def wait(self, pidfd: int) -> None:
        """Return when the process of pidfd has ended; its exit status is left for the caller to get."""
        assert self._signals, "listen() comes first"
        if self._relay:
            self._relay.start()
        _wait(pidfd, self._signals, self._relay, self.notify)
        if self._relay:
            self._relay.drain()


def _wait(pidfd: int, signals: Signals, relay: Relay | None, notify: Notify | None) -> None:
    while True:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(signals.fd, select.POLLIN)
        if notify:
            poller.register(notify.fd, select.POLLIN)
        if relay:
            relay.register(poller)
        ready = dict(poller.poll())
        if signals.fd in ready:
            for number in signals.read():
                _handle(number, pidfd, relay)
        if notify:
            notify.pass_on()
        if relay:
            relay.work(ready)
        if pidfd in ready:
            return


def _handle(number: int, pidfd: int, relay: Relay | None) -> None:
    if number == _signal.SIGCHLD:
        _reap_orphans(pidfd)
    elif relay and number in (_signal.SIGWINCH, _signal.SIGCONT):
        relay.resume()
    else:
        try:
            _signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass  # it ended at the same time


def _reap_orphans(pidfd: int) -> None:
    """Collect dead children that this subreaper inherited, up to the container's own process, the one of pidfd: its
    exit status is the caller's, and its SIGCHLD may come before poll(2) says that it has ended."""
    while True:
        try:
            found = kernel.waitid(kernel.P_ALL, 0, kernel.WEXITED | kernel.WNOHANG | kernel.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == _dead(pidfd):
            return
        kernel.waitpid(found.si_pid, 0)


def _dead(pidfd: int) -> int:
    """The pid of a child that has ended and waits to be reaped, 0 for any other process."""
    try:
        found = kernel.waitid(kernel.P_PIDFD, pidfd, kernel.WEXITED | kernel.WNOHANG | kernel.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0
