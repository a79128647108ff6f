"""A layer's hard link to a file of a layer below: the file is copied into the layer first, as overlayfs does itself.

What is unpacked is a layer alone, so the file is looked for as the mounted layers would show it: from the top down,
past whiteouts and opaque directories not at all.  No symlink is followed.
"""

from __future__ import annotations

import os
import stat

from pyoci.mydocker import tarread, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT, _HIDDEN = -1, -2  # in place of a descriptor: not in this layer; and not in those below it either


def copy_up(root: int, below: Sequence[str], parts: Sequence[bytes]) -> bool:
    """Copy a regular file of the layers `below` (directories, top first) into the layer `root`, with its directories.

    Gives whether there is such a file.  Raises OSError.
    """
    source = _find(root, below, parts, stat.S_ISREG)
    if source < 0:
        return False
    try:
        parent = _copy_directories(root, below, parts[:-1])
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(parts[-1], flags, 0o600, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            while os.sendfile(target, source, None, 1 << 30):
                pass
            _copy_attributes(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return True


def _copy_directories(root: int, below: Sequence[str], parts: Sequence[bytes]) -> int:
    """A descriptor of a directory of the layer, made with what the layers below say of it."""
    fd = os.dup(root)
    for number, name in enumerate(parts, 1):
        try:
            made = tree.look(fd, name) is None
            if made:
                os.mkdir(name, 0o700, dir_fd=fd)
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
        if made:
            source = _find(-1, below, parts[:number], stat.S_ISDIR)
            try:
                _copy_attributes(source, fd)
            finally:
                os.close(source)
    return fd


def _find(root: int, below: Sequence[str], parts: Sequence[bytes], kind: Callable[[int], bool]) -> int:
    """A descriptor of what the layers show at a path, root's own first; negative when that is not of the kind."""
    found = _look(root, parts, kind) if root >= 0 else _ABSENT
    for directory in below:
        if found != _ABSENT:
            break
        top = os.open(directory, _DIRECTORY)
        try:
            found = _look(top, parts, kind)
        finally:
            os.close(top)
    return found


def _look(top: int, parts: Sequence[bytes], kind: Callable[[int], bool]) -> int:
    fd, missing = os.dup(top), _ABSENT
    try:
        for number, name in enumerate(parts, 1):
            found = tree.look(fd, name)
            if found is None:
                return missing
            if not (kind if number == len(parts) else stat.S_ISDIR)(found.st_mode):
                return _HIDDEN  # by a whiteout, or by what is there
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = inner
            if any(name in tree.OPAQUE for name in os.listxattr(fd)):
                missing = _HIDDEN
        return os.dup(fd)
    finally:
        os.close(fd)


def _copy_attributes(source: int, target: int) -> None:
    """Owner, then mode (chown clears set-uid), then what is kept of a layer's xattrs, then times."""
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        if tarread.is_kept(name):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
