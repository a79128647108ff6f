"""The console socket.

A container's pty is opened inside the container, by nsexec; its master comes out as a
descriptor.  Here it goes on to whoever asked for it through --console-socket.
"""

from __future__ import annotations

import _socket
import errno
import struct

from pyoci import errors, kernel

SUN_PATH = 107  # bytes of a path that sockaddr_un holds beside the NUL, unix(7)
NAME = b"/dev/ptmx"  # goes with the descriptor: one byte at the least must


def connect(path: str, what: str = "console", seconds: int = 0) -> _socket.socket:
    """Connect to the AF_UNIX stream socket at path, which will get a descriptor: the master of the terminal.

    Done before anything is made, so that a wrong path leaves nothing behind.
    seconds: how long somebody who listens but accepts nobody is waited for, 0: for ever.  Raises SetupError.
    """
    peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # the kernel's own: in Python a socket with a time limit does not wait in connect(2) at all, unix(7)
        peer.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("ll", seconds, 0))
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
