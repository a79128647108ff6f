"""Mounts of type cgroup and cgroup2: what a container sees of its cgroups (row M17)."""

from __future__ import annotations

from pyoci import linux
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.plan.draft import Draft
    from pyoci.plan.mountopts import Wanted

_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_ATTRS = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC


def make(draft: Draft, wanted: Wanted, kind: str, dest: str, where: str) -> list[ops.Op]:
    """The view below dest."""
    if kind == "cgroup2" or draft.facts.cgroup_mode == "unified":
        return [_unified(draft, wanted, dest, where)]
    return _legacy(draft, wanted, dest, where)


def _unified(draft: Draft, wanted: Wanted, dest: str, where: str) -> ops.Op:
    """A new mount shows the cgroup namespace's root.  Without a namespace of its own the host's mount is bound: a
    user namespace may make none then, and one that root makes there sets the options of the host's (nsdelegate).
    So it would in one that is joined, which may be the host's: with the options that are set it changes nothing."""
    if "cgroup" not in draft.namespaces and draft.facts.cgroup_unified:
        source = draft.facts.cgroup_unified
        return ops.op(
            "bind",
            source,
            dest,
            slot=-1,
            attr_set=wanted.on | wanted.rec_on,
            attr_clr=wanted.off | wanted.rec_off,
            propagation=wanted.propagation,
            where=where,
        )
    own = draft.namespaces.get("cgroup") == ""
    data = ",".join([*wanted.data, *([] if own or not draft.facts.cgroup_options else [draft.facts.cgroup_options])])
    flags = wanted.ms_flags()
    return ops.op("mount", "cgroup2", "cgroup", dest, data, flags=flags, propagation=wanted.propagation, where=where)


def _legacy(draft: Draft, wanted: Wanted, dest: str, where: str) -> list[ops.Op]:
    """v1: a tmpfs with one mount per hierarchy, and a link for each controller that shares one."""
    read_only = wanted.ms_flags() & linux.MS_RDONLY
    data = "mode=755"
    if draft.linux.get("mountLabel"):
        from pyoci.plan import mountextra

        data = ",".join([data, *mountextra.label(draft, "tmpfs")])
    keep = draft.read_only_later(dest, where) if read_only else 0
    numbers = {"flags": _FLAGS, "propagation": wanted.propagation, "keep": keep}
    steps = [ops.op("mount", "tmpfs", "tmpfs", dest, data, where=where, **numbers)]
    links = []
    for mount_point, controllers in _hierarchies(draft).items():
        name = mount_point.rpartition("/")[2]
        target = f"{dest}/{name}"
        if "cgroup" in draft.namespaces:
            data = ",".join(controllers)
            step = ops.op("mount", "cgroup", "cgroup", target, data, flags=_FLAGS | read_only, where=where)
        else:
            step = _bind(own_directory(draft, controllers[0]), target, read_only, where)
        steps.append(step)
        shared = [c for c in controllers if c != name and not c.startswith("name=")]
        links += [ops.op("symlink", name, f"{dest}/{c}", flags=ops.KEEP, where=where) for c in shared]
    return steps + links


def _bind(source: str, target: str, read_only: int, where: str) -> ops.Op:
    """No tree op, not even in a user namespace: the host makes the directory while the container is being
    made, and everybody may search the cgroup file systems."""
    attributes = _ATTRS | (linux.MOUNT_ATTR_RDONLY if read_only else 0)
    return ops.op("bind", source, target, slot=-1, flags=ops.BIND_RECURSIVE, attr_set=attributes, where=where)


def _hierarchies(draft: Draft) -> dict[str, list[str]]:
    """Mount point -> the controllers it holds."""
    result: dict[str, list[str]] = {}
    for controller, mount_point in draft.facts.cgroup_mounts.items():
        result.setdefault(mount_point, []).append(controller)
    return result


def own_directory(draft: Draft, controller: str) -> str:
    """Where the container's own cgroup of a v1 controller lies on the host.  One that is optional cannot be
    made without root's rights: then the container stays in the runtime's."""
    facts = draft.facts
    mount_point = facts.cgroup_mounts[controller]
    cgroup = draft.cgroup
    if cgroup is not None and controller in cgroup.dirs and not (cgroup.optional and draft.limited):
        return cgroup.dirs[controller]
    own = facts.cgroup_own.get(controller, "/")
    root = facts.cgroup_roots.get(controller, "/").rstrip("/")
    if own.startswith(root + "/"):
        own = own[len(root) :]
    return (mount_point + own).rstrip("/")
