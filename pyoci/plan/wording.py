"""How the operations of a plan read: the sentences of `pyoci plan` and of errors.  A create that goes well has none."""

from __future__ import annotations

from pyoci import linux
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe(item: ops.Op) -> str:
    """The sentence of an operation, with its numbers and strings put in."""
    definition = item.definition
    values: dict[str, str] = {}
    for name, number in zip(definition.nums, item.nums, strict=True):
        values[name] = describe_number(name, number)
    for index, name in enumerate(definition.strs):
        if name.endswith("*"):
            values[name[:-1]] = describe_strings(item)
        else:
            values[name] = item.strs[index].decode("utf-8", "backslashreplace")
    return definition.text.format_map(values)


def as_dict(item: ops.Op) -> dict[str, Any]:
    """An operation for `pyoci plan --json`."""
    result: dict[str, Any] = {"op": item.name, "text": item.describe()}
    result.update(zip(item.definition.nums, item.nums, strict=True))
    for index, name in enumerate(item.definition.strs):
        if name.endswith("*"):
            result[name[:-1]] = [s.decode("utf-8", "backslashreplace") for s in item.strs[index:]]
        elif name in ("program", "groups", "mask"):
            result[name] = item.strs[index].hex()
        else:
            result[name] = item.strs[index].decode("utf-8", "backslashreplace")
    if item.where:
        result["where"] = item.where
    return result


MS_NAMES = {
    linux.MS_RDONLY: "ro",
    linux.MS_NOSUID: "nosuid",
    linux.MS_NODEV: "nodev",
    linux.MS_NOEXEC: "noexec",
    linux.MS_SYNCHRONOUS: "sync",
    linux.MS_MANDLOCK: "mand",
    linux.MS_DIRSYNC: "dirsync",
    linux.MS_NOSYMFOLLOW: "nosymfollow",
    linux.MS_NOATIME: "noatime",
    linux.MS_NODIRATIME: "nodiratime",
    linux.MS_SILENT: "silent",
    linux.MS_RELATIME: "relatime",
    linux.MS_I_VERSION: "iversion",
    linux.MS_STRICTATIME: "strictatime",
    linux.MS_LAZYTIME: "lazytime",
}
ATTR_NAMES = {
    linux.MOUNT_ATTR_RDONLY: "ro",
    linux.MOUNT_ATTR_NOSUID: "nosuid",
    linux.MOUNT_ATTR_NODEV: "nodev",
    linux.MOUNT_ATTR_NOEXEC: "noexec",
    linux.MOUNT_ATTR_NOATIME: "noatime",
    linux.MOUNT_ATTR_STRICTATIME: "strictatime",
    linux.MOUNT_ATTR_NODIRATIME: "nodiratime",
    linux.MOUNT_ATTR_IDMAP: "idmap",
    linux.MOUNT_ATTR_NOSYMFOLLOW: "nosymfollow",
}
PIVOT_NAMES = {ops.PIVOT_ROOT: "pivot_root", ops.PIVOT_MOVE: "move and chroot", ops.PIVOT_CHROOT: "chroot"}


def bit_names(value: int, names: dict[int, str]) -> str:
    """The names of the bits set in value, comma joined."""
    found = [name for bit, name in names.items() if value & bit == bit]
    return ",".join(found)


def describe_caps(mask: int) -> str:
    """A capability mask as words: "none", "all", or the names without CAP_."""
    names = [name[4:].lower() for bit, name in enumerate(linux.CAPABILITIES) if mask >> bit & 1]
    if not names:
        return "none"
    return "all" if len(names) == len(linux.CAPABILITIES) else ",".join(names)


def describe_number(name: str, value: int) -> str:
    """How a number of that name reads in a sentence."""
    if name in ("kind", "namespaces"):
        return ", ".join(k for k, bit in linux.NAMESPACES.items() if value & bit)
    if name == "sync":
        return ops.SYNCS.get(value, str(value))
    if name in ("flags", "sb_flags"):
        return f" ({bit_names(value, MS_NAMES)})" if value else ""
    if name in ("attr_set", "attr_clr", "rec_set", "rec_clr"):
        return _describe_attr(name, value)
    if name == "gate":
        return " and wait until its listener was fetched" if value else ""
    if name == "early":
        return " (raising the hard limit)" if value else ""
    if name == "idmap":
        return ", its ids mapped" if value else ""
    if name == "propagation":
        return next((f" {k}" for k, bits in linux.PROPAGATION.items() if bits == value), "")
    if name in ("effective", "permitted", "inheritable", "ambient", "caps"):
        return describe_caps(value)
    if name == "verb":
        return next((verb for verb, number in ops.VERBS.items() if number == value), str(value))
    if name == "umask":
        return f"{value:04o}"
    if name == "mode":
        return PIVOT_NAMES[value] if value in PIVOT_NAMES else "as it is" if value == ops.UNCHANGED else f"{value:o}"
    if name in ("soft", "hard"):
        return "unlimited" if value == -1 else str(value & 0xFFFFFFFFFFFFFFFF)
    return str(value)


def _describe_attr(name: str, value: int) -> str:
    if not value:
        return ""
    names = bit_names(value & ~linux.MOUNT_ATTR__ATIME if name.endswith("clr") else value, ATTR_NAMES)
    if not names:
        return ""
    sign = "-" if name.endswith("clr") else "+"
    tree = " in the whole tree" if name.startswith("rec") else ""
    return f" {sign}{names}{tree}"


def describe_strings(item: ops.Op) -> str:
    """The argument vector of a hook or exec op, for reading."""
    start = len(item.definition.strs) - 1
    argv = item.strs[start : start + item.num("argc")]
    return " ".join(a.decode("utf-8", "backslashreplace") for a in argv)
