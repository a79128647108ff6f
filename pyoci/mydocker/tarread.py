"""Reading a tar that may have been written to hurt: tarfile reads the format, bounded; what it says is not believed."""

from __future__ import annotations

import tarfile

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyoci.mydocker.streams import Readable

_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_NAME_MAX = 255
PATH_MAX = 4095
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_EXTENDED_LIMIT = 1 << 20  # bytes of one extended header, which tarfile reads into memory
_LATEST = 1 << 33  # seconds; a time beyond is a mistake


class Limits:
    """What a layer may be at most.

    entries: int, members of the tar
    size:    int, bytes of the tar, and of one file with its holes
    depth:   int, directories below each other
    """

    def __init__(self, entries: int = 2_000_000, size: int = 64 << 30, depth: int = 128) -> None:
        self.entries = entries
        self.size = size
        self.depth = depth


class Header(tarfile.TarInfo):
    """A header that is refused in place of being taken for the end, and whose extensions fit in memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors_: str) -> Header:
        return _checked(super().frombuf, buf, encoding, errors_)

    @classmethod
    def _frombuf(cls, *args: Any, **how: Any) -> Header:
        """The way of the later headers of a member, and in the end of all, since later security releases of Python."""
        return _checked(super()._frombuf, *args, **how)  # type: ignore[misc]


def _checked(build: Callable[..., Any], *args: Any, **how: Any) -> Header:
    try:
        found: Header = build(*args, **how)
    except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
        raise errors.Hostile(f"the tar is damaged: {error}") from None
    if found.size < 0:
        raise errors.Hostile(f"the tar is damaged: {found.name[:80]!r} has the size {found.size}")
    if found.type in _EXTENDED and found.size > _EXTENDED_LIMIT:
        raise errors.Hostile(f"the tar has an extended header of {found.size} bytes")
    return found


def members(stream: Readable, most: int) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar, one after the other as they come.  Raises errors.Hostile for what is none.

    most: how many there may be
    """
    count = 0
    tar = _parsed(lambda: tarfile.open(fileobj=stream, mode="r|", tarinfo=Header))  # type: ignore[call-overload]
    with tar:
        while (member := _parsed(tar.next)) is not None:
            count += 1
            if count > most:
                raise errors.Hostile(f"the tar has more than {most} entries")
            yield tar, member
            tar.members.clear()  # it would remember them all


def _parsed(read: Callable[[], Any]) -> Any:
    """tarfile meets strange numbers with whatever int() or a slice raises."""
    try:
        return read()
    except (errors.Error, OSError):
        raise
    except Exception as error:
        raise errors.Hostile(f"the tar is damaged: {error}") from None


def is_kept(xattr: str) -> bool:
    """Whether an extended attribute belongs to the file, and not to the kernel, overlayfs or a security module."""
    if xattr.startswith("user."):
        return not xattr.startswith("user.overlay.")
    return xattr == "security.capability" or xattr in _ACLS


def split(name: str, depth: int) -> list[bytes]:
    """The components of a member's name; [] is the root.  A leading slash means nothing.  Raises ValueError."""
    data = encode(name)
    if len(data) > PATH_MAX:
        raise ValueError(f"a path of {len(data)} bytes")
    parts = [part for part in data.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ValueError("a path with ..")
    if len(parts) > depth:
        raise ValueError(f"deeper than {depth} directories")
    if any(len(part) > _NAME_MAX for part in parts):
        raise ValueError("a name of more than 255 bytes")
    return parts


def encode(text: str) -> bytes:
    """The bytes that tarfile read: the user's locale has no say in them."""
    return text.encode("utf-8", "surrogateescape")


def owner(member: tarfile.TarInfo) -> tuple[int, int]:
    """Numbers only; -1 would mean "leave it"."""
    for number in (member.uid, member.gid):
        if not 0 <= number < 0xFFFFFFFF:
            raise ValueError(f"the owner {number}")
    return member.uid, member.gid


def nanoseconds(mtime: float) -> tuple[int, int]:
    """(atime, mtime); a time that is none is the beginning of time."""
    value = int(mtime * 1_000_000_000) if 0 <= mtime < _LATEST else 0
    return value, value
