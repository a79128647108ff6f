"""A container process in the foreground: signals go to it, the user's terminal is its own, its end is ours.

Everything is waited for at once by poll(2): the end of the process (pidfd), signals (a pipe
that the interpreter's handler writes to), and the descriptors of the relay.
"""

from __future__ import annotations

import select

from pyoci import kernel
from pyoci.host import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any, Self

    from pyoci.host.notify import Notify
else:
    import _signal

STDIN, STDOUT, STDERR = 0, 1, 2
CHUNK = 4096  # PIPE_BUF: a pipe that poll(2) calls writable takes that much without blocking
LEFT_OVER = 128 << 10  # bytes read from a pty after its process ended: more than the kernel holds
END_OF_FILE = b"\x04"  # VEOF of a new pty

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
            _signal.signal(number, _signal.SIG_DFL if handler is None else handler)
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
        self._relay = Relay(master)

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
        _reap_orphans()
    elif relay and number in (_signal.SIGWINCH, _signal.SIGCONT):
        relay.resume()
    else:
        try:
            _signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass  # it ended at the same time


def _reap_orphans() -> None:
    """Collect dead children that this subreaper inherited, up to the container's own process."""
    while True:
        try:
            found = kernel.waitid(kernel.P_ALL, 0, kernel.WEXITED | kernel.WNOHANG | kernel.WNOWAIT)
        except ChildProcessError:
            return
        if found is None:
            return
        kernel.waitpid(found.si_pid, 0)


class Relay:
    """Moves bytes between the user's stdin and stdout and the master of a container's pty.

    The master is watched edge-triggered: its other side may be closed and opened again (an init
    system does that), and until then poll(2) would report the hang-up without end.
    """

    __slots__ = ("_edge", "_eof", "_input", "_master", "_output", "_raw", "_readable", "_sizes", "_writable")

    def __init__(self, master: int) -> None:
        self._master = master
        self._input = b""  # read from stdin, not yet written to the master
        self._output = b""  # read from the master, not yet written to stdout
        self._eof = False  # of stdin
        self._readable = self._writable = True  # the master, until it says EAGAIN
        self._raw = console.RawMode(STDIN)
        self._sizes = next((fd for fd in (STDIN, STDOUT, STDERR) if console.window_size(fd)), -1)
        kernel.set_blocking(master, False)
        self._edge = select.epoll()
        self._edge.register(master, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self._resize()

    def start(self) -> None:
        """Put the user's terminal into raw mode."""
        self._raw.enter()

    def resume(self) -> None:
        """The size changed, or the user's shell gave the terminal back."""
        self._raw.enter()
        self._resize()

    def _resize(self) -> None:
        size = console.window_size(self._sizes) if self._sizes >= 0 else None
        if size and any(size) and self._master >= 0:  # a serial line says 0x0: then consoleSize stays
            console.set_window_size(self._master, size)

    def close(self) -> None:
        """Give the user's terminal back as it was, and hang up the container's."""
        # From the background this would stop us for good measure.
        old = _signal.signal(_signal.SIGTTOU, _signal.SIG_IGN)
        self._raw.restore()
        _signal.signal(_signal.SIGTTOU, _signal.SIG_DFL if old is None else old)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._master >= 0:
            self._edge.close()
            kernel.close(self._master)
            self._master = -1
            self._output = b""

    def register(self, poller: select.poll) -> None:
        """Tell the poller what there is to wait for."""
        if self._master < 0:
            return
        poller.register(self._edge.fileno(), select.POLLIN)
        if not self._input and not self._eof:
            poller.register(STDIN, select.POLLIN)
        if self._output:
            poller.register(STDOUT, select.POLLOUT)

    def work(self, ready: dict[int, int]) -> None:
        """Move what can be moved without blocking; ready: what poll(2) said."""
        if self._master < 0:
            return
        if self._edge.fileno() in ready:
            self._edge.poll(0)
            self._readable = self._writable = True
        if STDIN in ready:
            self._read_stdin()
        if self._input and self._writable:
            self._write_master()
        if STDOUT in ready:
            self._write_stdout()
        if self._readable and not self._output:
            self._read_master()

    def _read_stdin(self) -> None:
        try:
            data = kernel.read(STDIN, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the user's terminal is gone
            data = b""
        self._input = data
        if not data:
            self._eof = True
            # A pipe or file that ended: say so as a user does.  The first one only sends what stands in the line.
            self._input = END_OF_FILE * 2

    def _write_master(self) -> None:
        try:
            self._input = self._input[kernel.write(self._master, self._input) :]
        except BlockingIOError:
            self._writable = False
        except OSError:  # EIO: nobody has the other side open
            self._input = b""

    def _read_master(self) -> int:
        """Returns the number of bytes there are to write now."""
        try:
            self._output = kernel.read(self._master, CHUNK)
        except OSError:  # EAGAIN: no more for now; EIO: nobody has the other side open
            self._readable = False
        return len(self._output)

    def _write_stdout(self) -> None:
        try:
            self._output = self._output[kernel.write(STDOUT, self._output) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody looks at it any more: what a closed terminal window is to a shell
            self._hang_up()

    def drain(self) -> None:
        """Write out what the process left in its pty when it ended."""
        poller = select.poll()
        poller.register(STDOUT, select.POLLOUT)
        left = LEFT_OVER  # another process may have the pty too, and write for ever
        while self._master >= 0 and left > 0:
            if not self._output:
                count = self._read_master()
                if not count:
                    return
                left -= count
            poller.poll()
            self._write_stdout()
