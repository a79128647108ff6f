"""The root file system around the mounts: propagation, masks, read-only, the change of root
(rows M01, M02, M18 to M20)."""

from __future__ import annotations

from pyoci import errors, linux
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.plan.draft import Draft

_RSLAVE = linux.MS_SLAVE | linux.MS_REC
_RPRIVATE = linux.MS_PRIVATE | linux.MS_REC
# What the mounts taken over from the host become.  Always the whole tree, or mounts made in the container
# would show up on the host; shared ones stay as they are, that is what was asked for.  An unbindable
# tree could not be bound as the root.
_INHERITED = {"slave": _RSLAVE, "rslave": _RSLAVE, "shared": linux.MS_SHARED, "rshared": linux.MS_SHARED}


def begin(draft: Draft) -> list[ops.Op]:
    """Cut the mount namespace off the host and take root.path as the root of all later paths."""
    path = draft.config["root"]["path"]
    if "mount" not in draft.namespaces:
        _check_inherited(draft)
        return [ops.op("rootfs", path, bind=0, where="/root/path")]
    word = draft.linux.get("rootfsPropagation") or "rslave"
    if word not in linux.PROPAGATION:
        raise errors.InvalidConfig(f"unknown rootfsPropagation {word!r}", where="/linux/rootfsPropagation")
    where = "/linux/rootfsPropagation" if "rootfsPropagation" in draft.linux else ""
    propagation = _INHERITED.get(word, _RPRIVATE)
    return [
        ops.op("propagation", propagation=propagation, where=where),
        ops.op("rootfs", path, bind=1, private=propagation == linux.MS_SHARED, where="/root/path"),
    ]


def restrict(draft: Draft) -> list[ops.Op]:
    """Rows M19, M20; read-only first, since a masked path under a read-only one is masked all the same."""
    steps = []
    for name, key in (("readonly", "readonlyPaths"), ("mask", "maskedPaths")):
        for index, path in enumerate(draft.linux.get(key) or ()):
            steps.append(ops.op(name, path, where=f"/linux/{key}/{index}"))
    return steps


def finish(draft: Draft) -> list[ops.Op]:
    """Make read-only what is to be, then change the root."""
    steps = list(draft.late)
    if draft.config["root"].get("readonly"):
        steps.append(ops.op("remount", "/", b"", attr_set=linux.MOUNT_ATTR_RDONLY, where="/root/readonly"))
    if "mount" not in draft.namespaces:
        mode = ops.PIVOT_CHROOT
    else:
        mode = ops.PIVOT_MOVE if draft.options.no_pivot else ops.PIVOT_ROOT
    steps.append(ops.op("pivot", mode=mode))
    word = draft.linux.get("rootfsPropagation")
    # after the pivot: pivot_root(2) refuses a shared root; private and slave hold since begin()
    if word in ("shared", "rshared", "unbindable", "runbindable"):
        bits = linux.PROPAGATION[word]
        steps.append(ops.op("remount", "/", b"", propagation=bits, where="/linux/rootfsPropagation"))
    return steps


def _check_inherited(draft: Draft) -> None:
    """Without a mount namespace of its own every mount would be the host's, and outlive the container."""
    asked = {
        "/mounts": draft.config.get("mounts"),
        "/root/readonly": draft.config["root"].get("readonly"),
        "/linux/maskedPaths": draft.linux.get("maskedPaths"),
        "/linux/readonlyPaths": draft.linux.get("readonlyPaths"),
        "/linux/rootfsPropagation": draft.linux.get("rootfsPropagation"),
    }
    for where, value in asked.items():
        if value:
            raise errors.InvalidConfig(
                f"{where[1:].replace('/', '.')} needs a mount namespace of the container's own",
                where=where,
                hint='add {"type": "mount"} to linux.namespaces',
            )
