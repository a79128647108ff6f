"""Files below a root that is not to be trusted: openat2(2) with RESOLVE_IN_ROOT, so that no symlink leads out."""

from __future__ import annotations

import ctypes
import os

_OPENAT2 = 437  # on every architecture
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def open(root: int, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """A descriptor of `path` as a process whose root is the directory `root` would see it.  Raises OSError."""
    flags |= os.O_CLOEXEC
    how = _How(flags, mode if flags & os.O_CREAT else 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    fd: int = _libc.syscall(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


def open_directory(path: str) -> int:
    """A descriptor of a directory of the host, to be a root."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def read(root: int, path: str, limit: int) -> bytes:
    """What a regular file holds, limit bytes at the most; nothing when there is none.

    O_NONBLOCK and the look at its kind: a fifo or a device in its place holds nobody up.
    """
    import stat

    try:
        fd = open(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return file.read(limit)
