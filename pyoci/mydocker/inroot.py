"""Files below a root that is not to be trusted: openat2(2) with RESOLVE_IN_ROOT, so that no symlink leads out."""

from __future__ import annotations

import os

from pyoci.mydocker import calls


def open(root: int, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of `path` as a process whose root is the directory `root` would see it.  Raises OSError."""
    return calls.open_in_root(root, os.fsencode(path), flags | os.O_CLOEXEC)


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
