"""Whether the container may manage its own cgroup: the owner it gets (row C04, config-linux.md "Cgroup ownership").

Never on v1.  On v2 with a cgroup namespace of its own and a cgroup file system that is mounted for writing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOBODY = -1
# Where /sys/kernel/cgroup/delegate is missing.
FILES = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def owner(config: dict[str, Any]) -> int:
    """The host's uid that the cgroup and the files of its delegation are given to; NOBODY: they stay root's."""
    linux = config.get("linux") or {}
    namespaces = {entry["type"]: entry.get("path") or "" for entry in linux.get("namespaces") or ()}
    if namespaces.get("cgroup") != "" or not any(_writable(mount) for mount in config.get("mounts") or ()):
        return NOBODY
    uid: int = ((config.get("process") or {}).get("user") or {}).get("uid") or 0
    if "user" not in namespaces:
        return uid
    for entry in linux.get("uidMappings") or ():
        if entry["containerID"] <= uid < entry["containerID"] + entry["size"]:
            return int(entry["hostID"] + uid - entry["containerID"])
    return NOBODY


def _writable(mount: dict[str, Any]) -> bool:
    if mount.get("type") not in ("cgroup", "cgroup2"):
        return False
    read_only = False
    for option in mount.get("options") or ():
        if option in ("ro", "rro"):
            read_only = True
        elif option in ("rw", "rrw"):
            read_only = False
    return not read_only
