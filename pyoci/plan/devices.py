"""Devices and links in /dev (rows D01 to D04, L27)."""

from __future__ import annotations

from pyoci import errors, linux
from pyoci.plan import mounts, ops
from pyoci.plan.draft import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.draft import Draft

# runtime-spec, config-linux.md, Default Devices; /dev/ptmx is a link, /dev/console the console op's
DEFAULTS = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
)
_CHARACTER = linux.DEVICE_TYPES["c"] | 0o666


def make(draft: Draft) -> list[ops.Op]:
    """The nodes and links.  A /dev that is bound from the host is not touched: what would be made there,
    would be made on the host (and runc does not either).  For the same reason no symlink is followed, there and at any
    other path, and nothing is made on a mount that the config put somewhere else: a hostile image's lead to volumes.
    Where the config mounts something on the very path of a device, that is what is wanted there."""
    listed = [(clean(d["path"]), d, f"/linux/devices/{i}") for i, d in enumerate(draft.linux.get("devices") or ())]
    steps = []
    own = not mounts.bound(draft.config, "/dev")
    placed = mounts.order(draft.config)
    if own:
        paths = {path for path, _, _ in listed}
        for path, major, minor in DEFAULTS:
            if path not in paths and not mounts.on_top(placed, path):
                steps.append(_default(draft, path, major, minor))
    for path, device, where in listed:
        if (own or not path.startswith("/dev/")) and not mounts.on_top(placed, path):
            steps.append(_listed(draft, path, device, where))
    if own:
        steps.append(ops.op("symlink", "pts/ptmx", "/dev/ptmx", flags=ops.REPLACE | ops.OWN_WAY))
        steps += [ops.op("symlink", target, path, flags=ops.KEEP | ops.OWN_WAY) for path, target in LINKS]
    return steps


def _default(draft: Draft, path: str, major: int, minor: int) -> ops.Op:
    if draft.limited:
        return _bind(draft, path, "")
    return ops.op("mknod", path, mode=_CHARACTER, major=major, minor=minor, flags=ops.REPLACE | ops.OWN_WAY)


def _listed(draft: Draft, path: str, device: dict[str, Any], where: str) -> ops.Op:
    kind = device["type"]
    if kind not in linux.DEVICE_TYPES:
        raise errors.InvalidConfig(f"unknown device type {kind!r}", where=f"{where}/type")
    if draft.limited and kind != "p":
        return _bind(draft, path, where)
    mode = device.get("fileMode")
    return ops.op(
        "mknod",
        path,
        mode=linux.DEVICE_TYPES[kind] | (0o666 if mode is None else mode & 0o7777),
        major=device.get("major") or 0,
        minor=device.get("minor") or 0,
        uid=device.get("uid") or 0,
        gid=device.get("gid") or 0,
        flags=ops.OWN_WAY,
        where=where,
    )


def _bind(draft: Draft, path: str, where: str) -> ops.Op:
    """A user namespace gives no right to mknod(2): the host's node of that path serves.  Its mode stays the
    host's, also where host root is mapped; a device that is read-only in this way can be written to."""
    attributes = {"attr_set": linux.MOUNT_ATTR_RDONLY}
    slot = draft.source(path, 0, where, **attributes)
    if slot >= 0:
        attributes = {}
    return ops.op("bind", path, path, slot=slot, flags=ops.BIND_OWN_WAY, where=where, **attributes)
