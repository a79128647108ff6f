"""Files and directories of the cgroup file systems: small kernel files, directories that are busy for a while."""

from __future__ import annotations

import errno
import select
import time

from pyoci import errors, kernel
from pyoci.plan import cgroup as plan_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DIRECTORY = kernel.O_RDONLY | kernel.O_DIRECTORY | kernel.O_NOFOLLOW | kernel.O_CLOEXEC
GONE = (errno.ENOENT, errno.ENODEV, errno.ESRCH)  # a cgroup or process that went while we looked


def read(file: str, dir_fd: int | None = None) -> bytes:
    """All of a small kernel file.  Raises OSError."""
    fd = kernel.open(file, kernel.O_RDONLY | kernel.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return kernel.read_all(fd)
    finally:
        kernel.close(fd)


def write(file: str, value: str, dir_fd: int | None = None) -> None:
    """Write a value with one write(2); never creates a file.  Raises OSError."""
    fd = kernel.open(file, kernel.O_WRONLY | kernel.O_CLOEXEC, dir_fd=dir_fd)
    try:
        kernel.write(fd, value.encode("utf-8", "surrogateescape"))
    finally:
        kernel.close(fd)


def frozen(record: dict[str, Any]) -> bool:
    """Whether the cgroup of a record is frozen (or on the way there).  One read."""
    file = plan_cgroup.freezer(record)
    if not file:
        return False
    try:
        return read(file).strip() in (b"1", b"FROZEN", b"FREEZING")
    except OSError:
        return False


def walk(top: str) -> Iterator[tuple[int, str]]:
    """(descriptor of the parent, name) of every directory below top, deepest first.

    By descriptors: a container with a writable cgroup mount can nest deeper than a path is allowed to be long.
    The descriptor is good until the next step.  top is gone: nothing.
    """
    try:
        fd = kernel.open(top, DIRECTORY)
    except OSError:
        return
    todo, names = [_children(fd)], [""]
    try:
        while todo:
            if todo[-1]:
                name = todo[-1].pop()
                try:
                    fd = _step(fd, name)
                except OSError:  # it went meanwhile
                    continue
                names.append(name)
                todo.append(_children(fd))
                continue
            todo.pop()
            name = names.pop()
            if names:
                fd = _step(fd, "..")
                yield fd, name
    finally:
        kernel.close(fd)


def has_children(directory: str) -> bool:
    """Whether there are cgroups below."""
    return next(walk(directory), None) is not None


def _step(fd: int, name: str) -> int:
    new = kernel.open(name, DIRECTORY, dir_fd=fd)
    kernel.close(fd)
    return new


def _children(fd: int) -> list[str]:
    try:
        with kernel.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def rmdir(directory: str, dir_fd: int | None = None) -> bool:
    """Remove a cgroup; True when it is gone, False while it is busy.  Raises errors.SetupError."""
    try:
        kernel.rmdir(directory, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        if error.errno in GONE or not _exists(directory, dir_fd):  # EROFS, EACCES: said before it is looked for
            return True
        raise errors.failed(f"remove cgroup {directory}", error) from None
    return True


def _exists(directory: str, dir_fd: int | None) -> bool:
    try:
        kernel.stat(directory, dir_fd=dir_fd)
    except OSError:
        return False
    return True


def pauses(deadline: float) -> Iterator[float]:
    """Growing pauses in seconds, until time.monotonic() reaches deadline; the one who asks waits them."""
    pause = 0.0005
    while time.monotonic() < deadline:
        yield pause
        pause = min(pause * 2, 0.1)


def wait_event(directory: str, wanted: bytes, timeout: float) -> bool:
    """Wait until cgroup.events has this line; False after timeout seconds.  True when the cgroup is gone."""
    try:
        fd = kernel.open(f"{directory}/cgroup.events", kernel.O_RDONLY | kernel.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        deadline = time.monotonic() + timeout
        while True:
            if wanted in kernel.pread(fd, 4096, 0).splitlines():
                return True
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            poller.poll(rest * 1000)
    except OSError as error:
        if error.errno in GONE:
            return True
        raise
    finally:
        kernel.close(fd)
