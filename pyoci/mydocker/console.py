"""A person's end of a container: its stdin, stdout and stderr, by conmon's socket or the pipes or pty of an exec.

With a terminal the person's is raw meanwhile, its size follows, and the detach keys are looked for in what is typed:
the beginning of the sequence is held back for a moment only, so that ctrl-p alone still arrives.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import termios
import time
import tty

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

CHUNK = 8192  # conmon's own
DEFAULT_KEYS = "ctrl-p,ctrl-q"
_PATIENCE = 0.5  # seconds for the next key of the sequence
_LATE = 1.0  # seconds that output may go on after the end of the process
STDOUT, STDERR = 2, 3  # the first byte of conmon's messages
_FORWARDED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "CONT", "WINCH")


def parse_keys(text: str) -> bytes:
    """ "ctrl-p,ctrl-q" -> the bytes they send; "" is no sequence.  Raises errors.UsageError."""
    made = b""
    for key in filter(None, text.split(",")):
        letter = key.removeprefix("ctrl-").encode()
        if len(letter) != 1:
            raise errors.UsageError(f"invalid detach keys {text!r}", hint="single characters or ctrl-X, comma between")
        made += bytes([letter.upper()[0] ^ 0x40]) if key.startswith("ctrl-") else letter
    return made


class Keys:
    """Looks for a sequence in what is typed.  waiting: whether the beginning of one is held back."""

    def __init__(self, sequence: bytes) -> None:
        self.sequence = sequence
        self.held = b""
        self.since = 0.0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to send on, and whether the sequence was complete."""
        out = b""
        for value in data:
            self.held += bytes([value])
            while self.held and not self.sequence.startswith(self.held):
                out += self.held[:1]
                self.held = self.held[1:]
            if self.sequence and self.held == self.sequence:
                self.held = b""
                return out, True
        self.since = time.monotonic()
        return out, False

    def timeout(self) -> float | None:
        """Seconds until what is held back has to go; None when there is nothing."""
        return max(0.0, self.since + _PATIENCE - time.monotonic()) if self.held else None

    def flush(self) -> bytes:
        """What was held back too long."""
        if not self.held or self.timeout():
            return b""
        held, self.held = self.held, b""
        return held


class Terminal:
    """The person's terminal, raw inside the with block.  fd: its descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.old: Any = None

    def __enter__(self) -> Self:
        self.old = termios.tcgetattr(self.fd)
        tty.setraw(self.fd, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self.fd, termios.TCSADRAIN, self.old)

    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        size = os.get_terminal_size(self.fd)
        return size.lines, size.columns


class Wakeup:
    """Signals as something to poll: caught ones are readable from fd, inside the with block."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.numbers = [getattr(signal, f"SIG{name}") for name in names]

    def __enter__(self) -> Self:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # what the caller made us ignore (nohup) stays ignored
        self._old = {n: signal.getsignal(n) for n in self.numbers if signal.getsignal(n) != signal.SIG_IGN}
        for number in self._old:
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self.fd)
        os.close(self._write)

    def read(self) -> list[int]:
        """The signals since."""
        try:
            return list(os.read(self.fd, 256))
        except BlockingIOError:
            return []


class Stream:
    """Where a container's bytes come from and go to.

    sources: descriptor -> STDOUT, STDERR or 0 (a message of conmon's, which says it itself)
    sink: the descriptor that send() writes stdin to, -1 when that is closed
    """

    def __init__(self) -> None:
        self.sources: dict[int, int] = {}
        self.sink = -1

    def send(self, data: bytes) -> int:
        """Of descriptor `sink`."""
        return os.write(self.sink, data)

    def close_stdin(self) -> None:
        """No more will come."""
        sink, self.sink = self.sink, -1
        if sink >= 0:
            os.close(sink)

    def drop(self, fd: int) -> None:
        """Nothing more comes from one of the sources."""
        del self.sources[fd]
        if fd == self.sink:
            self.sink = -1
        os.close(fd)

    def resize(self, rows: int, columns: int) -> None:
        """The person's terminal has this size now."""

    def signal(self, number: int) -> None:
        """The caller was sent a signal."""

    def ended(self) -> int:
        """A descriptor that is readable once the process has ended, for who keeps pipes open; -1 is none."""
        return -1

    def close(self) -> None:
        """Let go."""
        for fd in [*self.sources]:
            self.drop(fd)
        self.close_stdin()


class Attached(Stream):
    """conmon's attach socket."""

    def __init__(self, path: str, resize: Callable[[int, int], None], signal: Callable[[int], None]) -> None:
        """Raises errors.Error."""
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
        try:  # through a descriptor: an address has 107 bytes at the most
            self.socket.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        except OSError as error:
            self.socket.close()
            raise errors.Error(f"cannot attach: {error.strerror}", hint="its monitor has ended") from None
        finally:
            os.close(directory)
        self.sources = {self.socket.fileno(): 0}
        self.sink = self.socket.fileno()
        self._resize = resize
        self._signal = signal

    def drop(self, fd: int) -> None:
        """The socket is one for all, and is closed with the object."""
        del self.sources[fd]
        self.sink = -1

    def send(self, data: bytes) -> int:
        """One message."""
        return self.socket.send(data[:CHUNK])

    def close_stdin(self) -> None:
        """The other direction stays open."""
        if self.sink >= 0:
            self.sink = -1
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def resize(self, rows: int, columns: int) -> None:
        """As the base."""
        self._resize(rows, columns)

    def signal(self, number: int) -> None:
        """As the base."""
        self._signal(number)

    def close(self) -> None:
        """Without the end of stdin, if it is still open: that would be EOF to the container of `run -i`."""
        self.sources = {}
        self.sink = -1
        self.socket.close()


class Session:
    """Moves bytes until the container's side ends or the person detaches."""

    def __init__(self, stream: Stream, *, stdin: bool, terminal: bool, keys: bytes = b"", proxy: bool = True) -> None:
        """stdin: read ours; terminal: ours is one, and so is the container's; proxy: signals go to the container."""
        self.stream = stream
        self.shown = {STDOUT, STDERR}  # what of the output; with nothing, all is done at the end of stdin
        self.stdin = stdin
        self.terminal = Terminal(0) if terminal and stdin and os.isatty(0) else None
        self.screen = Terminal(1) if terminal and os.isatty(1) else self.terminal
        self.keys = Keys(keys if self.terminal else b"")
        self.caught = (*_FORWARDED,) if proxy and not self.terminal else ("WINCH", "TERM", "HUP")
        self.proxy = proxy and not self.terminal
        self.killed = 0  # by this signal: the terminal is given back first
        self.pending = b""  # for the container's stdin
        self.at_end = not stdin
        self.detached = False

    def run(self) -> bool:
        """Until the end; False when the person detached."""
        with Wakeup(self.caught) as wakeup:
            self._resize()
            if self.terminal:
                with self.terminal:
                    self._loop(wakeup)
            else:
                self._loop(wakeup)
        if self.killed:
            raise SystemExit(128 + self.killed)
        return not self.detached

    def _resize(self) -> None:
        if self.screen:
            try:
                self.stream.resize(*self.screen.size())
            except OSError:
                return

    def _loop(self, wakeup: Wakeup) -> None:
        deadline: float | None = None
        while self.stream.sources and not self.detached and not self.killed and (self.shown or self.stdin):
            poller = select.poll()
            self._register(poller, wakeup, deadline is None)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            waits = [seconds for seconds in (left, self.keys.timeout()) if seconds is not None]
            events = dict(poller.poll(min(waits) * 1000 + 1 if waits else None))
            self._signals(wakeup.read() if wakeup.fd in events else [])
            self._output(events)
            self._input(events)
            if deadline is None and self.stream.ended() in events:
                deadline = time.monotonic() + _LATE  # others may hold its pipes for ever
            if deadline is not None and time.monotonic() >= deadline:
                break

    def _register(self, poller: Any, wakeup: Wakeup, watch_end: bool) -> None:
        poller.register(wakeup.fd, select.POLLIN)
        masks = dict.fromkeys(self.stream.sources, select.POLLIN)
        if self.pending and self.stream.sink >= 0:
            masks[self.stream.sink] = masks.get(self.stream.sink, 0) | select.POLLOUT
        elif not self.at_end:
            masks[0] = select.POLLIN
        if watch_end and self.stream.ended() >= 0:
            masks[self.stream.ended()] = select.POLLIN
        for fd, mask in masks.items():
            poller.register(fd, mask)

    def _signals(self, numbers: list[int]) -> None:
        for number in numbers:
            if number == signal.SIGWINCH:
                self._resize()
            elif self.proxy:
                self.stream.signal(number)
            else:
                self.killed = number

    def _output(self, events: dict[int, int]) -> None:
        for fd, kind in list(self.stream.sources.items()):
            if not events.get(fd, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR):
                continue
            try:
                data = os.read(fd, CHUNK + 1)
            except OSError as error:
                if error.errno not in (errno.EIO, errno.ECONNRESET):  # the last slave of a pty is closed
                    raise
                data = b""
            if not data:
                self.stream.drop(fd)
            elif not kind:
                self._show(data[0], data[1:])
            else:
                self._show(kind, data)

    def _show(self, kind: int, data: bytes) -> None:
        if (STDERR if kind == STDERR else STDOUT) in self.shown:
            _write(kind, data)

    def _input(self, events: dict[int, int]) -> None:
        if not self.at_end and events.get(0, 0):
            try:
                data = os.read(0, CHUNK)
            except OSError:  # EIO: our terminal is gone
                data = b""
            if data:
                typed, self.detached = self.keys.feed(data)
                self.pending += typed
            else:
                self.at_end = True
        self.pending += self.keys.flush()
        if self.pending and self.stream.sink >= 0 and not self.detached:
            try:
                self.pending = self.pending[self.stream.send(self.pending[:CHUNK]) :]
            except BlockingIOError:
                return
            except OSError:  # the container has closed its stdin
                self.pending = b""
                self.at_end = True
        if self.stdin and self.at_end and not self.pending:
            self.stdin = False
            self.stream.close_stdin()


def _write(kind: int, data: bytes) -> None:
    fd = 2 if kind == STDERR else 1
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except BrokenPipeError:
            return  # nobody reads any more; the container goes on
