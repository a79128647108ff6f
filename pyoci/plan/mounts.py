"""The mounts of config.json in their order (rows M03 to M17, M23, M24)."""

from __future__ import annotations

from pyoci import errors, linux
from pyoci.plan import cgroupview, mountopts, ops
from pyoci.plan.draft import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.draft import Draft

# What lxcfs puts over procfs; nothing else may be mounted under /proc (CVE-2019-16884 and kin: a
# procfs file that is a plain file takes LSM labels and sysctls into the void).
OVER_PROC = frozenset(
    "/proc/cpuinfo /proc/diskstats /proc/meminfo /proc/stat /proc/swaps /proc/uptime /proc/loadavg /proc/slabinfo "
    "/proc/net/dev /proc/sys/kernel/ns_last_pid /proc/sys/crypto/fips_enabled".split()
)


def make(draft: Draft) -> list[ops.Op]:
    """The ops of all mounts.  What is to be read-only but still has things made in it is put on draft.late.

    Raises InvalidConfig for a mount without what it needs, and for one over /proc.
    """
    steps: list[ops.Op] = []
    for index, mount in enumerate(draft.config.get("mounts") or ()):
        steps += _one(draft, mount, f"/mounts/{index}")
    return steps


def bound(config: dict[str, Any], path: str) -> bool:
    """Whether the config binds something on path."""
    return any(clean(m["destination"]) == path and is_bind(m) for m in config.get("mounts") or ())


def order(config: dict[str, Any]) -> dict[str, int]:
    """Destination -> place in the list of the last mount there."""
    placed = {}
    for index, mount in enumerate(config.get("mounts") or ()):
        if "remount" not in (mount.get("options") or ()):
            placed[clean(mount["destination"])] = index
    return placed


def on_top(placed: dict[str, int], path: str) -> bool:
    """Whether what is at path is a mount of the config: of those of order(), no later one is on a directory above."""
    mine, above = placed.get(path, -1), path
    while above and placed.get(above, -1) <= mine:
        above = above.rpartition("/")[0]
    return mine >= 0 and not above


def is_bind(mount: dict[str, Any]) -> bool:
    """Row M05; type "bind" alone is taken for a bind mount as well, there is no such file system."""
    options = mount.get("options") or ()
    return "bind" in options or "rbind" in options or mount.get("type") == "bind"


def _one(draft: Draft, mount: dict[str, Any], where: str) -> list[ops.Op]:
    wanted = mountopts.parse(mount.get("options") or [], where)
    dest = clean(mount["destination"])
    kind = mount.get("type") or ""
    if wanted.copyup and kind != "tmpfs":
        raise errors.InvalidConfig("tmpcopyup is an option of tmpfs only", where=f"{where}/options")
    if wanted.remount:
        return [_remount(wanted, kind == "bind", dest, where)]
    _check(mount, dest, where)
    if wanted.look and not is_bind(mount):
        raise errors.InvalidConfig("only a bind mount can follow links or not", where=f"{where}/options")
    if wanted.idmap or wanted.extra or mount.get("uidMappings") or mount.get("gidMappings"):
        from pyoci.plan import mountextra

        idmap = mountextra.idmap(draft, wanted, mount, where)
        steps = [*mountextra.before(wanted, dest, where), *_mount(draft, wanted, mount, dest, where, idmap)]
        return steps + mountextra.after(draft, wanted, dest, where, "bind" if is_bind(mount) else kind)
    return _mount(draft, wanted, mount, dest, where, 0)


def _mount(
    draft: Draft, wanted: mountopts.Wanted, mount: dict[str, Any], dest: str, where: str, idmap: int
) -> list[ops.Op]:
    """idmap: see the op."""
    kind = mount.get("type")
    if is_bind(mount):
        return _bind(draft, wanted, mount, dest, where, idmap)
    if kind in ("cgroup", "cgroup2"):
        if idmap:
            raise errors.InvalidConfig("the ids of a cgroup mount cannot be mapped", where=where)
        return cgroupview.make(draft, wanted, kind, dest, where)
    return _filesystem(draft, wanted, mount, dest, where, idmap)


def _check(mount: dict[str, Any], dest: str, where: str) -> None:
    """Row M23, as far as the words tell; nsexec checks what the path comes to in the root."""
    bind = is_bind(mount)
    kind = mount.get("type")
    if not bind and not kind:
        raise errors.InvalidConfig(f"the mount on {dest} has neither a type nor bind or rbind", where=where)
    if bind and not mount.get("source"):
        raise errors.InvalidConfig(f"the bind mount on {dest} has no source", where=where)
    if dest == "/":
        raise errors.InvalidConfig(
            "a mount on / would hide the root file system", where=f"{where}/destination", hint="set root.path"
        )
    allowed = True
    if dest == "/proc":
        allowed = clean(mount["source"]) == "/proc" if bind else kind == "proc"
    elif dest.startswith("/proc/"):
        allowed = dest in OVER_PROC
    if not allowed:
        raise errors.InvalidConfig(
            f"{dest} cannot be mounted on: it is procfs, or inside it",
            where=f"{where}/destination",
            hint='/proc takes type "proc" only; under it only the files of lxcfs may be covered',
        )


def _filesystem(
    draft: Draft, wanted: mountopts.Wanted, mount: dict[str, Any], dest: str, where: str, idmap: int
) -> list[ops.Op]:
    kind = mount["type"]
    flags = wanted.ms_flags()
    keep = 0
    # in a tmpfs the mount points of later mounts, and in /dev the devices, are still to be made (row M24)
    if flags & linux.MS_RDONLY and (kind == "tmpfs" or dest == "/dev") and not draft.apart:
        flags &= ~linux.MS_RDONLY
        keep = draft.read_only_later(dest, where)
    data = wanted.data
    if draft.linux.get("mountLabel"):
        from pyoci.plan import mountextra

        data = data + mountextra.label(draft, kind)
    return [
        ops.op(
            "mount",
            kind,
            mount.get("source") or kind,
            dest,
            ",".join(data),
            flags=flags,
            propagation=wanted.propagation,
            copyup=_copy_up(wanted) if kind == "tmpfs" else 0,
            idmap=idmap,
            optional=wanted.nofail,
            keep=keep,
            where=where,
        )
    ]


def _copy_up(wanted: mountopts.Wanted) -> int:
    """What a tmpfs takes over from the directory it covers (row M14): its mode in any case, as with runc and crun."""
    given = {option.partition("=")[0] for option in wanted.data}
    copy = ops.COPY_CONTENT if wanted.copyup else 0
    if wanted.copyup and not given & {"uid", "gid"}:
        copy |= ops.COPY_OWNER
    return copy if "mode" in given else copy | ops.COPY_MODE


def _bind(
    draft: Draft, wanted: mountopts.Wanted, mount: dict[str, Any], dest: str, where: str, idmap: int
) -> list[ops.Op]:
    if wanted.data or wanted.flags:
        words = ",".join(wanted.data) or "flags of a file system"
        draft.warnings.append(f"{where}/options: {words}: no effect on a bind mount")
    keep = 0
    if dest == "/dev" and wanted.on & linux.MOUNT_ATTR_RDONLY and not draft.apart:
        wanted.on &= ~linux.MOUNT_ATTR_RDONLY
        keep = draft.read_only_later(dest, where)
    flags = wanted.look | (ops.BIND_RECURSIVE if wanted.bind == ops.BIND_RECURSIVE else 0)
    if wanted.nofail:
        flags |= ops.BIND_OPTIONAL
    source = mount["source"]
    tree_flags = flags | (ops.TREE_IDMAP_ALL if wanted.idmap == mountopts.IDMAP_TREE else 0)
    attributes = {
        "attr_set": wanted.on,
        "attr_clr": wanted.off,
        "rec_set": wanted.rec_on,
        "rec_clr": wanted.rec_off,
    }
    slot = draft.source(source, tree_flags, f"{where}/source", idmap, **attributes)
    if slot >= 0:
        attributes = {}
    if dest in OVER_PROC:
        flags |= ops.BIND_OVER_PROC
    return [
        ops.op(
            "bind",
            source,
            dest,
            slot=slot,
            flags=flags,
            propagation=wanted.propagation,
            keep=keep,
            where=where,
            **attributes,
        )
    ]


def _remount(wanted: mountopts.Wanted, bind: bool, dest: str, where: str) -> ops.Op:
    """Row M06 remount.  With bind only the mount changes; else the file system under it too, as mount(8) does."""
    whole = not (bind or wanted.bind)
    return ops.op(
        "remount",
        dest,
        ",".join(wanted.data) if whole else "",
        attr_set=wanted.on,
        attr_clr=wanted.off,
        rec_set=wanted.rec_on,
        rec_clr=wanted.rec_off,
        propagation=wanted.propagation,
        sb=whole,
        sb_flags=wanted.ms_flags() if whole else 0,
        where=where,
    )
