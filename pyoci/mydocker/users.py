"""USER of an image and -u: names become numbers by the files of the container, which are hostile.

What consists of digits is a number, never a name.
"""

from __future__ import annotations

from pyoci.mydocker import errors, inroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = 1 << 20  # bytes of /etc/passwd and /etc/group that are read
_MAX_ID = (1 << 31) - 1


class User:
    """Whom a process runs as.  home: str, "/" when nobody knows."""

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(root: int, text: str, added: tuple[str, ...] = ()) -> User:
    """USER[:GROUP] of a container whose root is the directory `root`; added: --group-add.

    Raises errors.UsageError for a name that its files do not have, a number that is out of range.
    """
    passwd, group = [*_lines(root, "etc/passwd", 6)], [*_lines(root, "etc/group", 3)]
    user, _, wanted_group = text.partition(":")
    name, uid, gid, home = _find_user(passwd, user or "0")
    groups: list[int] = []
    if wanted_group:
        gid = _find_group(group, wanted_group)
    elif name:
        groups = [int(fields[2]) for fields in group if len(fields) > 3 and name in fields[3].split(",")]
    groups += [_find_group(group, one) for one in added]
    return User(uid, gid, sorted({*groups, gid}) if groups else [], home)


def _lines(root: int, path: str, least: int) -> Iterator[list[str]]:
    """The entries of passwd(5) or group(5) whose ids are numbers."""
    for line in inroot.read(root, path, _LIMIT).decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        ids = fields[2:4] if least > 3 else fields[2:3]
        if len(fields) >= least and all(map(_is_id, ids)):
            yield fields


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID


def _find_user(passwd: list[list[str]], user: str) -> tuple[str, int, int, str]:
    numeric = user.isascii() and user.isdigit()
    if numeric and not _is_id(user):
        raise errors.UsageError(f"user {user} is out of range: ids are 0 to {_MAX_ID}")
    for fields in passwd:
        if (int(fields[2]) == int(user)) if numeric else (fields[0] == user):
            home = fields[5] if fields[5].startswith("/") and fields[5].isprintable() else "/"
            return fields[0], int(fields[2]), int(fields[3]), home
    if not numeric:
        raise errors.UsageError(f"unable to find user {user!r}: no matching entries in passwd file")
    return "", int(user), 0, "/"


def _find_group(group: list[list[str]], wanted: str) -> int:
    if wanted.isascii() and wanted.isdigit():
        if not _is_id(wanted):
            raise errors.UsageError(f"group {wanted} is out of range: ids are 0 to {_MAX_ID}")
        return int(wanted)
    for fields in group:
        if fields[0] == wanted:
            return int(fields[2])
    raise errors.UsageError(f"unable to find group {wanted!r}: no matching entries in group file")
