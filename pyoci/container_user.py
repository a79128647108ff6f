"""Names of users and groups, looked up in the container's own /etc/passwd and /etc/group.

Both files are the image's, hence hostile: they may be links, devices, gigabytes, or hold numbers that are none.  All
that can come of it are ids in a user namespace or container that whoever wrote the files has anyway.  Numbers given
by the caller are ids and are never looked up (SECURITY 14).  Sources: passwd(5), group(5).
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pyoci.host.process import Process

PASSWD, GROUP = "/etc/passwd", "/etc/group"
MAX_FILE = 8 << 20  # bytes
MAX_ID = (1 << 32) - 2  # 2^32 - 1 is "unchanged" to the kernel


def resolve(init: Process, base: dict[str, Any], who: str, groups: Sequence[str]) -> dict[str, Any]:
    """See Container.user."""
    return Lookup(f"/proc/{init.pid}/root", init).user(base, who, groups)


def number(text: str) -> int | None:
    """An id, None for what is no number.  Raises errors.UsageError when it is too large to be one."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > MAX_ID:
        raise errors.UsageError(f"id {text[:20]} is out of range", hint=f"the largest is {MAX_ID}")
    return int(text)


class Lookup:
    """Looks names up in one container: below root, as long as init, if there is one, has not ended."""

    __slots__ = ("_files", "_init", "_root")

    def __init__(self, root: str, init: Process | None = None) -> None:
        self._root = root
        self._init = init
        self._files: dict[str, list[str]] = {}

    def user(self, base: dict[str, Any], who: str, groups: Sequence[str]) -> dict[str, Any]:
        """The user object: base, changed by who ("name", "uid", either with ":group") and by more groups."""
        result = dict(base)
        if who:
            name, given, group = who.partition(":")
            if not name or (given and not group):
                raise errors.UsageError(f'invalid user "{who}"', hint="USER or USER:GROUP, by name or number")
            uid = number(name)
            if uid is not None:
                result["uid"] = uid
            else:
                result["uid"], result["gid"] = self._passwd(name)
                result["additionalGids"] = [] if group else self._memberships(name)
            if group:
                result["gid"] = self._group(group)
        if groups:
            more = [self._group(group) for group in groups]
            result["additionalGids"] = [*dict.fromkeys([*(result.get("additionalGids") or ()), *more])]
        return result

    def id(self, kind: str, name: str) -> int:
        """The id of an "owner", or of a "group"."""
        return self._group(name) if kind == "group" else self._passwd(name)[0]

    def _passwd(self, name: str) -> tuple[int, int]:
        for fields in self._lines(PASSWD, 4):
            if fields[0] == name:
                return _id(fields[2], PASSWD), _id(fields[3], PASSWD)
        raise errors.UsageError(
            f"unable to find user {name}: no matching entries in passwd file", hint="give its number, or add it"
        )

    def _group(self, name: str) -> int:
        gid = number(name)
        if gid is not None:
            return gid
        for fields in self._lines(GROUP, 3):
            if fields[0] == name:
                return _id(fields[2], GROUP)
        raise errors.UsageError(
            f"unable to find group {name}: no matching entries in group file", hint="give its number, or add it"
        )

    def _memberships(self, name: str) -> list[int]:
        found = [_id(fields[2], GROUP) for fields in self._lines(GROUP, 4) if name in fields[3].split(",")]
        return [*dict.fromkeys(found)]

    def _lines(self, path: str, least: int) -> Iterator[list[str]]:
        """The lines of a file with at least so many fields.  A file that is not there has none."""
        if path not in self._files:
            self._files[path] = self._read(path).split("\n")
        for line in self._files[path]:  # taken apart one by one: of eight million they are a gigabyte
            fields = line.split(":")
            if len(fields) >= least and fields[0]:
                yield fields

    def _read(self, path: str) -> str:
        from pyoci.host import rootfile  # numbers need no file

        try:
            data = rootfile.read(self._root, path, MAX_FILE)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise errors.failed(f"read {path} of the container", error) from None
        if self._init and not self._init.running():  # asked after: so it was the container's root
            raise errors.WrongState("cannot exec in a container that has stopped")
        return data.decode("utf-8", "surrogateescape")


def _id(text: str, path: str) -> int:
    """An id of a file.  Raises errors.SetupError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_ID):
        raise errors.SetupError(f"{path} of the container has an invalid id {errors.one_line(text[:40])!r}")
    return int(text)
