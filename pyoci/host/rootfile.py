"""Read a file of a container from outside, without the container having a say in what is read.

The kernel would follow symlinks in /proc/PID/root/... from the host's root.  Here every component is opened by
itself, never following, and symlinks are resolved by us below the container's root; ".." goes back to a directory
that was opened on the way, not to whatever is above it by now.  (openat2(2) RESOLVE_IN_ROOT does the same, but
Python does not have it.)  What is read is a regular file: a device or FIFO of the container is never opened.
"""

from __future__ import annotations

import errno
import os
import stat

MAX_LINKS = 40  # as the kernel
OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def read(root: str, path: str, limit: int) -> bytes:
    """The content of path under root (a directory: "/proc/PID/root").

    Raises OSError: of what the walk met, ELOOP, EISDIR and EINVAL for what is no regular file, EFBIG when
    it has more than limit bytes.
    """
    fd = walk(root, path)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "not a regular file", path)
        # the link is to the open file itself: nothing is looked up any more
        file = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(fd)
    with open(file, "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data


def walk(root: str, path: str) -> int:
    """An O_PATH descriptor of path under root.  Raises OSError."""
    opened = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]  # the directories on the way, root first
    todo = path.split("/")[::-1]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(opened) > 1:
                    os.close(opened.pop())
                continue
            fd = os.open(name, OPEN, dir_fd=opened[-1])
            opened.append(fd)
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink("", dir_fd=fd)
                os.close(opened.pop())
                while target.startswith("/") and len(opened) > 1:
                    os.close(opened.pop())
                todo += target.split("/")[::-1]
        return opened.pop()
    finally:
        for fd in opened:
            os.close(fd)
