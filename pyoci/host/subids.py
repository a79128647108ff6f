"""The user namespace that an ordinary user's container gets when config.json asks for none, as with crun.

The user of the process is the caller outside; all other ids are those that subuid(5) and subgid(5) give the caller,
by newuidmap(1) and newgidmap(1), or there are none.
"""

from __future__ import annotations

from pyoci import json, kernel
from pyoci.host.maps import helper_path
from pyoci.plan import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.bundle import Bundle

_KINDS = (
    ("uid", kernel.geteuid, "newuidmap", "/etc/subuid"),
    ("gid", kernel.getegid, "newgidmap", "/etc/subgid"),
)


def complete(bundle: Bundle) -> None:
    """Add a user namespace and its mappings to the config of a bundle, where it has none."""
    config = dict(bundle.config)
    linux = dict(config.get("linux") or {})
    user = (config.get("process") or {}).get("user") or {}
    linux["namespaces"] = [*(linux.get("namespaces") or ()), {"type": "user"}]
    for kind, own, program, file in _KINDS:
        if not linux.get(f"{kind}Mappings"):
            given = ranges(file, kernel.geteuid()) if helper_path(program) else []
            linux[f"{kind}Mappings"] = mappings(user.get(kind) or 0, own(), given)
    config["linux"] = linux
    config["mounts"] = [_mapped(mount, linux["gidMappings"]) for mount in config.get("mounts") or ()]
    bundle.config = config
    bundle.raw = json.dumps(config).encode()


def mappings(inside: int, own: int, ranges: Sequence[tuple[int, int]]) -> list[dict[str, int]]:
    """The mappings that make inside the id own, and the others, from 0 on, those of ranges of (first, count)."""
    made = [{"containerID": inside, "hostID": own, "size": 1}]
    at = 0
    for first, count in ranges:
        before = min(count, max(inside - at, 0))
        if before:
            made.append({"containerID": at, "hostID": first, "size": before})
        at += before
        if count > before:
            at += at == inside
            made.append({"containerID": at, "hostID": first + before, "size": count - before})
            at += count - before
    return sorted(made, key=lambda mapping: mapping["containerID"])


def ranges(path: str, uid: int) -> list[tuple[int, int]]:
    """The ranges (first, count) of a user, by name or number, in a file like subuid(5); [] when there are none."""
    import pwd

    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            fields = [line.strip().split(":") for line in file]
    except OSError:
        return []
    entries = [[*map(json.decimal, entry[1:])] for entry in fields if len(entry) == 3 and entry[0] in names]
    return [(first, size) for first, size in entries if first is not None and size is not None]


def _mapped(mount: dict[str, Any], gids: Sequence[dict[str, int]]) -> dict[str, Any]:
    """A mount of devpts without gid=5, which every default config has, when the group tty is not mapped."""
    if mount.get("type") != "devpts" or namespaces.mapped(gids, 5):
        return mount
    return {**mount, "options": [word for word in mount.get("options") or () if word != "gid=5"]}
