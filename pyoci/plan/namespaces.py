"""Namespaces: which are joined, which are made, and in which order (rows N01 to N09)."""

from __future__ import annotations

from pyoci import errors, linux
from pyoci.plan import cgroup, ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.plan.draft import Draft


def table(config: dict[str, Any]) -> dict[str, str]:
    """Namespace type -> path to join, "" for a new one.  Raises InvalidConfig for an unknown or doubled type."""
    result: dict[str, str] = {}
    for index, entry in enumerate((config.get("linux") or {}).get("namespaces") or ()):
        kind = entry["type"]
        where = f"/linux/namespaces/{index}/type"
        if kind not in linux.NAMESPACES:
            raise errors.InvalidConfig(f"unknown namespace type {kind!r}", where=where)
        if kind in result:
            raise errors.InvalidConfig(f"duplicate namespace type {kind!r}", where=where)
        result[kind] = entry.get("path") or ""
    return result


def pointer(config: dict[str, Any], kind: str) -> str:
    """Where config.json asks for the namespace of that type."""
    for index, entry in enumerate((config.get("linux") or {}).get("namespaces") or ()):
        if entry["type"] == kind:
            return f"/linux/namespaces/{index}"
    return "/linux/namespaces"


def enter(draft: Draft) -> list[ops.Op]:
    """From the runtime's namespaces and cgroups into the container's."""
    _check(draft)
    own = draft.cgroup
    steps = cgroups(own.record, own.optional) if own and not own.unit else []
    # from inside a cgroup namespace the kernel lets nobody be born outside of it (v2, nsdelegate): so it is joined
    # when we are in our cgroup; with a user namespace it must be before, by the host's root
    late = ("cgroup",) if "user" not in draft.namespaces else ()
    steps += join(draft, {kind: path for kind, path in draft.namespaces.items() if kind not in late})
    if draft.namespaces.get("user") == "":
        where = pointer(draft.config, "user")
        steps.append(ops.op("unshare", namespaces=linux.NAMESPACES["user"], where=where))
        steps.append(ops.op("sync", sync=ops.SYNC_MAPS, where="/linux/uidMappings"))
    steps += become_root(draft)
    steps += _unshare(draft)
    steps += _clocks(draft)
    steps += fork(draft.namespaces, steps)
    if draft.namespaces.get("cgroup") == "":
        # its root is the cgroup we are in, and that we entered with the fork
        where = pointer(draft.config, "cgroup")
        steps.append(ops.op("unshare", namespaces=linux.NAMESPACES["cgroup"], where=where))
    return steps + join(draft, {kind: draft.namespaces.get(kind, "") for kind in late})


def cgroups(record: dict[str, Any], optional: bool = False) -> list[ops.Op]:
    """The cgroups of a record, which the process enters with the fork.  They are opened while it has the host's
    rights and sees the host's paths.  optional: no error where an ordinary user may not."""
    where = cgroup.PATH_WHERE
    return [ops.op("enter", path, optional=int(optional), where=where) for path in cgroup.entries(record)]


def join(draft: Draft, namespaces: dict[str, str]) -> list[ops.Op]:
    """One group of joins.  The mount namespace is last but one, since it changes what "/" is; the user
    namespace is last: host root may join the others only as long as it is host root, and nsexec tries
    again after it those that belong to it."""
    steps = []
    kinds = [kind for kind, path in namespaces.items() if path and kind not in ("mount", "user")]
    for kind in [*kinds, "mount", "user"]:
        path = namespaces.get(kind)
        if path:
            where = pointer(draft.config, kind)
            fd = draft.descriptor(f"ns:{kind}:{path}")
            steps.append(ops.op("join", path, kind=linux.NAMESPACES[kind], fd=fd, where=where))
    return steps


def gather(draft: Draft) -> list[ops.Op]:
    """A mount namespace of the host's for what was opened, of which a copy has it locked (`take`)."""
    return [
        ops.op("unshare", namespaces=linux.NAMESPACES["mount"], where="/linux/namespaces"),
        ops.op("propagation", propagation=linux.MS_SLAVE | linux.MS_REC),
        ops.op("gather", draft.options.directory),
    ]


def become_root(draft: Draft) -> list[ops.Op]:
    """In a user namespace of its own the process is root of it, or its files belong to nobody."""
    if "user" not in draft.namespaces:
        return []
    new = draft.namespaces["user"] == ""
    uid = 0 if not new or mapped(draft.linux.get("uidMappings"), 0) else ops.UNCHANGED
    gid = 0 if not new or mapped(draft.linux.get("gidMappings"), 0) else ops.UNCHANGED
    return [ops.op("setids", b"", uid=uid, gid=gid)]


def fork(namespaces: dict[str, str], before: list[ops.Op], *, shed: bool = False) -> list[ops.Op]:
    """setns(2) and unshare(2) of a pid or time namespace hold for children only, and so do `enter` ops.
    shed: with nothing of the host open."""
    needed = "pid" in namespaces or "time" in namespaces or any(op.name == "enter" for op in before)
    return [ops.op("fork", shed=int(shed))] if needed else []


def _unshare(draft: Draft) -> list[ops.Op]:
    new = 0
    for kind, path in draft.namespaces.items():
        if not path and kind not in ("user", "cgroup"):
            new |= linux.NAMESPACES[kind]
    return [ops.op("unshare", namespaces=new, where="/linux/namespaces")] if new else []


def _clocks(draft: Draft) -> list[ops.Op]:
    """Row N07: the offsets can be set only before the first process is in the new time namespace."""
    lines = []
    for clock, offset in (draft.linux.get("timeOffsets") or {}).items():
        lines.append(f"{clock} {offset.get('secs') or 0} {offset.get('nanosecs') or 0}\n")
    if not lines:
        return []
    if draft.namespaces.get("time") != "":
        raise errors.InvalidConfig(
            "clock offsets need a new time namespace",
            where="/linux/timeOffsets",
            hint='add {"type": "time"} to linux.namespaces',
        )
    return [ops.op("timens", "".join(lines), where="/linux/timeOffsets")]


def _check(draft: Draft) -> None:
    if "user" not in draft.namespaces:
        for key in ("uidMappings", "gidMappings"):
            if draft.linux.get(key):
                raise errors.InvalidConfig(
                    "id mappings without a user namespace",
                    where=f"/linux/{key}",
                    hint='add {"type": "user"} to linux.namespaces',
                )
        if draft.facts.euid != 0:
            raise errors.InvalidConfig(
                "without root rights a container needs a user namespace of its own",
                where="/linux/namespaces",
                hint='add {"type": "user"} and mappings: `pyoci spec --rootless` shows how',
            )
    elif draft.namespaces["user"] == "":
        for key in ("uidMappings", "gidMappings"):
            if not draft.linux.get(key):
                raise errors.InvalidConfig(f"a new user namespace needs linux.{key}", where=f"/linux/{key}")


def maps(draft: Draft, key: str) -> str:
    """The lines of uid_map or gid_map, "" unless a user namespace is made.

    A joined one has its maps already: what the config says of them is the engine's note (row N09).
    """
    if draft.namespaces.get("user") != "":
        return ""
    return "".join([f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in draft.linux.get(key) or ()])


def devices(draft: Draft) -> dict[str, str]:
    """Rows X01, X03: the network devices that move to the container, and their names there."""
    wanted: dict[str, dict[str, Any]] = draft.linux.get("netDevices") or {}
    if wanted and "network" not in draft.namespaces:
        raise errors.InvalidConfig(
            "network devices need a network namespace to move to",
            where="/linux/netDevices",
            hint='add {"type": "network"} to linux.namespaces',
        )
    return {host: entry.get("name") or host for host, entry in wanted.items()}


def mapped(mappings: Sequence[dict[str, Any]] | None, number: int) -> bool:
    """Whether the id exists in a user namespace with these mappings."""
    return any(m["containerID"] <= number < m["containerID"] + m["size"] for m in mappings or ())
