"""Terminals, seen from the host: the console socket, and the user's own terminal.

A container's pty is opened inside the container, by nsexec; its master comes out as a
descriptor.  Here it goes on to whoever asked for it through --console-socket, and here
are the few ioctls that a relay between it and the user's terminal needs.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import struct

from pyoci import errors, kernel

# ioctl_tty(2); the termios module would cost a dlopen for the same four calls
TCGETS = 0x5401
TCSETS = 0x5402
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TERMIOS = struct.Struct("4IB19s")  # struct termios of the kernel: iflag, oflag, cflag, lflag, line, cc

# What cfmakeraw(3) clears and sets; bits of termios(3) as asm-generic has them, x86-64 and arm64 alike.
IFLAG_OFF = 0o2753  # IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON
OFLAG_OFF = 0o1  # OPOST
LFLAG_OFF = 0o100113  # ISIG ICANON ECHO ECHONL IEXTEN
CFLAG_OFF = 0o460  # CSIZE PARENB
CS8 = 0o60
VTIME, VMIN = 5, 6

SUN_PATH = 107  # bytes of a path that sockaddr_un holds beside the NUL, unix(7)
NAME = b"/dev/ptmx"  # goes with the descriptor: one byte at the least must


def connect(path: str, what: str = "console") -> _socket.socket:
    """Connect to the AF_UNIX stream socket at path, which will get a descriptor: the master of the terminal.

    Done before anything is made, so that a wrong path leaves nothing behind.  Raises SetupError.
    """
    peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        _connect(peer, path)
    except OSError as error:
        peer.close()
        raise errors.SetupError(
            f"cannot connect to {what} socket {path}: {errors.errno_text(error.errno or errno.EINVAL)}",
            errno=error.errno or 0,
        ) from None
    return peer


def _connect(peer: _socket.socket, path: str) -> None:
    if not path or "\0" in path:
        raise OSError(errno.EINVAL, "not a path")
    if len(kernel.fsencode(path)) <= SUN_PATH:
        peer.connect(path)
        return
    # Engines with a deep state directory give paths that no sockaddr_un can hold: go through the directory.
    parent, name = kernel.split(path)
    directory = kernel.open(parent or ".", kernel.O_PATH | kernel.O_DIRECTORY | kernel.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{directory}/{name}"
        if len(kernel.fsencode(short)) > SUN_PATH:
            raise OSError(errno.ENAMETOOLONG, "name too long")
        peer.connect(short)
    finally:
        kernel.close(directory)


def send(peer: _socket.socket, fd: int, what: str = "terminal", name: bytes = NAME) -> None:
    """Hand a descriptor to a socket of connect(): one message, one descriptor.  Raises SetupError."""
    try:
        peer.sendmsg([name], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))])
    except OSError as error:
        number = error.errno or errno.EIO
        raise errors.SetupError(
            f"cannot send the {what} to its socket: {errors.errno_text(number)}", errno=number
        ) from None


def check(terminal: bool, socket: str | None, detached: bool) -> None:
    """Refuse a process.terminal and a --console-socket that do not go together.

    terminal: process.terminal; socket: path or None; detached: nobody stays to relay the terminal.
    Raises UsageError.
    """
    if terminal and detached and not socket:
        raise errors.UsageError(
            "cannot allocate tty if pyoci will detach without setting console socket",
            hint="give --console-socket, or make process.terminal false",
        )
    if socket and not (terminal and detached):
        raise errors.UsageError(
            "cannot use console socket if pyoci will not detach or allocate tty",
            hint="--console-socket goes with process.terminal (exec: --tty) and, for run and exec, --detach",
        )


# -- the user's terminal ----------------------------------------------------------------------


def window_size(fd: int) -> bytes | None:
    """struct winsize of the terminal fd, or None when fd is no terminal."""
    try:
        return fcntl.ioctl(fd, TIOCGWINSZ, bytes(8))
    except OSError:
        return None


def set_window_size(master: int, size: bytes) -> None:
    """Give the pty of master a size as window_size returns it; its foreground processes get SIGWINCH."""
    try:
        fcntl.ioctl(master, TIOCSWINSZ, size)
    except OSError as error:
        if error.errno != errno.EIO:  # EIO: the other side is closed, so nobody is there to see the size
            raise


def raw(attributes: bytes) -> bytes:
    """A struct termios changed as by cfmakeraw(3): every byte passes as it is."""
    iflag, oflag, cflag, lflag, line, cc = TERMIOS.unpack(attributes)
    chars = bytearray(cc)
    chars[VMIN], chars[VTIME] = 1, 0
    return TERMIOS.pack(
        iflag & ~IFLAG_OFF,
        oflag & ~OFLAG_OFF,
        cflag & ~CFLAG_OFF | CS8,
        lflag & ~LFLAG_OFF,
        line,
        bytes(chars),
    )


class RawMode:
    """Raw mode of the terminal fd, from enter() to restore(); does nothing when fd is no terminal."""

    __slots__ = ("fd", "saved")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.saved: bytes | None = None
        try:
            self.saved = fcntl.ioctl(fd, TCGETS, bytes(TERMIOS.size))
        except OSError:
            pass

    def enter(self) -> None:
        """Switch to raw mode; again after the user's shell took the terminal and gave it back."""
        if self.saved is not None:
            self._set(raw(self.saved))

    def restore(self) -> None:
        """Back to what was found."""
        if self.saved is not None:
            self._set(self.saved)

    def _set(self, attributes: bytes) -> None:
        try:
            fcntl.ioctl(self.fd, TCSETS, attributes)
        except OSError:
            pass  # the terminal is gone (a hang-up brings SIGCONT along): nothing to put right
