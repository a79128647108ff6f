"""Walking and removing directories that a container has filled, and may still be changing.

A directory is a descriptor, opened below the root without following any symlink; nothing recurses, however deep it is.
"""

from __future__ import annotations

import os
import stat

from pyoci.mydocker import calls, errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def look(parent: int, name: bytes) -> os.stat_result | None:
    """What a name of a directory is; None when it is not there."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


class Entry:
    """One name of a directory.

    path:   bytes, relative to the root of the walk
    parent: int, descriptor of its directory, open until the next entry is asked for
    name:   bytes
    stat:   os.stat_result
    """

    __slots__ = ("name", "parent", "path", "stat")

    def __init__(self, path: bytes, parent: int, name: bytes, found: os.stat_result) -> None:
        self.path = path
        self.parent = parent
        self.name = name
        self.stat = found

    def open(self) -> int:
        """A descriptor of the file or directory; ours to close.  OSError when it has become something else."""
        fd = os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.parent)
        if not os.path.samestat(os.fstat(fd), self.stat):
            os.close(fd)
            raise FileNotFoundError(2, "replaced meanwhile", os.fsdecode(self.path))
        return fd

    @property
    def is_directory(self) -> bool:
        """A directory itself, not a symlink to one."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_whiteout(self) -> bool:
        """overlayfs' mark of what has been removed."""
        return stat.S_ISCHR(self.stat.st_mode) and self.stat.st_rdev == 0

    def is_opaque(self) -> bool:
        """Whether a directory hides what the layers below have in it."""
        try:
            fd = self.open()
        except OSError:
            return False
        try:
            return any(_xattr(fd, name) == b"y" for name in OPAQUE)
        finally:
            os.close(fd)


def _xattr(fd: int, name: str) -> bytes:
    try:
        return os.getxattr(fd, name)
    except OSError:
        return b""


def walk(root: int) -> Iterator[Entry]:
    """Everything below a directory, a directory before what is in it, names in order.

    What vanishes meanwhile is left out.  Raises errors.StorageError for a path that is too long to be opened.
    """
    todo = [b""]
    while todo:
        path = todo.pop()
        try:
            fd = calls.open_in_root(root, path, _DIRECTORY, calls.RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise errors.StorageError(f"cannot read {os.fsdecode(path[:200])!r}: {error.strerror}") from None
        below = []
        try:
            for entry in _entries(fd, path):
                yield entry
                if entry.is_directory:
                    below.append(entry.path)
        finally:
            os.close(fd)
        todo += reversed(below)


def _entries(fd: int, path: bytes) -> Iterator[Entry]:
    for name in sorted(map(os.fsencode, os.listdir(fd))):
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield Entry(path + b"/" + name if path else name, fd, name, found)


def size(path: str) -> int:
    """Bytes on disk below a directory."""
    root = os.open(path, _DIRECTORY)
    try:
        return sum(entry.stat.st_blocks * 512 for entry in walk(root))
    finally:
        os.close(root)


def remove(path: str) -> None:
    """A directory of ours and all in it; no error when it is not there.

    Raises errors.StorageError, and removes nothing, when something is mounted in it.
    """
    for point in mounts_below(path):
        raise errors.StorageError(f"cannot remove {path}: {point} is mounted", hint="unmount it")
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        clear(top)
        os.rmdir(path)
    except OSError as error:
        raise errors.StorageError(f"cannot remove {error.filename or path}: {error.strerror}") from None
    finally:
        os.close(top)


def clear(top: int) -> None:
    """All that is in a directory, by its descriptor.

    What lies deep is first moved up: a tree of any depth goes, with two descriptors and no recursion.
    """
    while names := os.listdir(top):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            fd = os.open(name, _DIRECTORY, dir_fd=top)
            try:
                for below in os.listdir(fd):
                    if stat.S_ISDIR(os.stat(below, dir_fd=fd, follow_symlinks=False).st_mode):
                        os.rename(below, f".removed-{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                    else:
                        os.unlink(below, dir_fd=fd)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=top)


def mounts_below(path: str) -> list[str]:
    """Mount points at or below a path, the last mounted first."""
    real = os.path.realpath(path)
    with open("/proc/self/mountinfo", "rb") as file:
        points = [os.fsdecode(_unescape(line.split(b" ")[4])) for line in file]
    return [point for point in reversed(points) if point == real or point.startswith(f"{real}/")]


def _unescape(text: bytes) -> bytes:
    """proc(5): space, tab, newline and backslash are octal."""
    for octal, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        text = text.replace(octal, character)
    return text
