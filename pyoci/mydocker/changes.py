"""What a container changed, by what its upper directory has and the image has not."""

from __future__ import annotations

import os
import stat

from pyoci.mydocker import calls, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def of(upper: str, lower: Sequence[str]) -> list[tuple[str, str]]:
    """("A" | "C" | "D", "/path"), sorted by path.  lower: the layers' directories, top first."""
    below = [os.open(path, _DIRECTORY) for path in lower]
    top = os.open(upper, _DIRECTORY)
    try:
        return sorted(_changes(top, below), key=lambda change: change[1])
    finally:
        for fd in (top, *below):
            os.close(fd)


def _changes(top: int, below: Sequence[int]) -> Iterator[tuple[str, str]]:
    for entry in tree.walk(top):
        path = "/" + os.fsdecode(entry.path)
        there = _exists(below, entry.path)
        if entry.is_whiteout:
            if there:
                yield "D", path
            continue
        yield "C" if there else "A", path
        if there and entry.is_directory and entry.is_opaque():
            yield from (("D", f"{path}/{name}") for name in _hidden(entry, below))


def _hidden(entry: tree.Entry, below: Sequence[int]) -> Iterator[str]:
    """What the layers have in a directory that was removed and made anew, and that did not come back."""
    fd = entry.open()
    try:
        back = set(os.listdir(fd))
    finally:
        os.close(fd)
    names = set[str]()
    for layer in below:
        try:
            fd = calls.open_in_root(layer, entry.path, _DIRECTORY, calls.RESOLVE_NO_SYMLINKS)
        except OSError:
            continue
        names.update(os.listdir(fd))
        os.close(fd)
    for name in sorted(names - back):
        if _exists(below, entry.path + b"/" + os.fsencode(name)):
            yield name


def _exists(below: Sequence[int], path: bytes) -> bool:
    """Whether the layers together show something at a path."""
    for layer in below:
        answer = _look(layer, path.split(b"/"))
        if answer is not None:
            return answer
    return False


def _look(layer: int, parts: Sequence[bytes]) -> bool | None:
    """What one layer says: there, hidden, or nothing (ask the next)."""
    fd = os.dup(layer)
    opaque = False
    try:
        for number, part in enumerate(parts, 1):
            found = tree.look(fd, part)
            if found is None:
                return False if opaque else None
            entry = tree.Entry(part, fd, part, found)
            if entry.is_whiteout:
                return False
            if number == len(parts):
                return True
            if not stat.S_ISDIR(found.st_mode):
                return False
            opaque = opaque or entry.is_opaque()
            below = entry.open()
            os.close(fd)
            fd = below
    finally:
        os.close(fd)
    return None
