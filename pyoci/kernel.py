"""What the hot path uses of `os`: the system calls and a few path functions.

Importing `os` costs a millisecond, a tenth of a `run`, for collections.abc and much that is not used here;
`posix`, where its system calls come from, is part of the interpreter.  Everything here is as in `os`.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import *  # noqa: F403
else:
    from posix import *  # noqa: F403

    def fsencode(path: str) -> bytes:
        """os.fsencode: with -I the file system encoding is UTF-8."""
        return path.encode("utf-8", "surrogateescape")


def environment() -> dict[str, str]:
    """The environment, a copy.  A program that uses pyoci as a library may have changed os.environ."""
    loaded = sys.modules.get("os")
    if loaded is not None:
        return dict(loaded.environ)
    return {_text(name): _text(value) for name, value in posix.environ.items()}


def variable(name: str) -> str:
    """The value of an environment variable, "" when it is not set."""
    return environment().get(name, "")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def read_all(fd: int) -> bytes:
    """What is left to read of a file whose size is not known before, as those of the kernel.  Raises OSError."""
    parts = []
    while part := posix.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def poll_time(seconds: float | None) -> float | None:
    """The milliseconds for poll(2), which takes 31 bits of them: who waits over 24 days asks again.  None: no end."""
    return None if seconds is None else min(seconds * 1000, 0x7FFFFFFF)


def split(path: str) -> tuple[str, str]:
    """os.path.split."""
    head, slash, tail = path.rpartition("/")
    return (head.rstrip("/") or head + slash, tail)


def dirname(path: str) -> str:
    """os.path.dirname."""
    return split(path)[0]


def join(directory: str, path: str) -> str:
    """os.path.join."""
    if path.startswith("/") or not directory:
        return path
    return f"{directory}{path}" if directory.endswith("/") else f"{directory}/{path}"


def abspath(path: str) -> str:
    """os.path.abspath."""
    parts: list[str] = []
    for part in join(posix.getcwd(), path).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def realpath(path: str) -> str:
    """os.path.realpath, strict: by the kernel, which has resolved the path when it is open.  Raises OSError."""
    fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def exists(path: str) -> bool:
    """os.path.exists."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def isdir(path: str) -> bool:
    """os.path.isdir."""
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False
