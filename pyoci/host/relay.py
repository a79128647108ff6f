"""Between the user's terminal and that of a container."""

from __future__ import annotations

import select

from pyoci import kernel
from pyoci.host import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

STDIN, STDOUT, STDERR = 0, 1, 2
CHUNK = 4096  # PIPE_BUF: a pipe that poll(2) calls writable takes that much without blocking
LEFT_OVER = 128 << 10  # bytes read from a pty after its process ended: more than the kernel holds
END_OF_FILE = b"\x04"  # VEOF of a new pty


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
        self._raw = terminal.RawMode(STDIN)
        self._sizes = next((fd for fd in (STDIN, STDOUT, STDERR) if terminal.window_size(fd)), -1)
        kernel.set_blocking(master, False)
        self._edge = select.epoll()
        self._edge.register(master, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self._resize()

    def start(self) -> None:
        """Put the user's terminal into raw mode; of a restored container the size has become that of the checkpoint."""
        self.resume()

    def resume(self) -> None:
        """The size changed, or the user's shell gave the terminal back."""
        self._raw.enter()
        self._resize()

    def _resize(self) -> None:
        size = terminal.window_size(self._sizes) if self._sizes >= 0 else None
        if size and any(size) and self._master >= 0:  # a serial line says 0x0: then consoleSize stays
            terminal.set_window_size(self._master, size)

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
