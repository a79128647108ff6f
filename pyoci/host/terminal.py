"""The few ioctls that a relay between a container's pty and the user's terminal needs."""

from __future__ import annotations

import errno
import fcntl
import struct

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
