"""What criu is asked for, for a container of this plan: pure.

Sources: criu's images/rpc.proto and criu(8); the options of `runc checkpoint` and `runc restore`, which are handed on.
"""

from __future__ import annotations

from pyoci import errors, json, linux
from pyoci.plan import criu_rpc, ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyoci.plan import Plan

# options that are criu's own flags: ours -> the field
FLAGS = {
    "leave-running": "leave_running",
    "tcp-established": "tcp_established",
    "tcp-close": "tcp_close",
    "tcp-skip-in-flight": "tcp_skip_in_flight",
    "ext-unix-sk": "ext_unix_sk",
    "shell-job": "shell_job",
    "file-locks": "file_locks",
    "link-remap": "link_remap",
    "auto-dedup": "auto_dedup",
    "lazy-pages": "lazy_pages",
}
# options with a value
VALUES = {"lsm-profile": "lsm_profile", "lsm-mount-context": "lsm_mount_context"}
# namespaces that were joined by path stay outside: criu's name of the resource
OUTSIDE = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
# those whose content criu has written down, and that are joined again: its name of the type
JOINED = {"ipc": "ipc", "uts": "uts", "time": "time"}
MAX_PORT = 65535
# what of a plan makes mount points in the root
_MOUNTING = ("propagation", "tree", "rootfs", "mount", "bind", "subdir")


class Wanted:
    """What was asked of criu.

    flags:   names of FLAGS that were given
    values:  name of VALUES -> value
    images, work: absolute directories; work is where the log goes
    parent:  images of an earlier pre-dump, relative to images, or ""
    cgroups: one of criu_rpc.CGROUP_MODES, or ""
    empty_ns: list, "network": the namespace comes back empty
    page_server: "ADDRESS:PORT", or ""
    status_fd: descriptor that gets a NUL when the pages can be fetched, or -1
    config:  a criu configuration file, or ""
    """

    __slots__ = (
        *("cgroups", "config", "empty_ns", "flags", "images", "page_server", "parent", "status_fd", "values", "work"),
    )

    def __init__(self, images: str, work: str) -> None:
        self.images = images
        self.work = work
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        self.parent = self.cgroups = self.page_server = self.config = ""
        self.status_fd = -1
        self.empty_ns: Sequence[str] = ()


def common(wanted: Wanted, log: str) -> dict[str, Any]:
    """What dump and restore both get.  Raises errors.UsageError."""
    options: dict[str, Any] = {"log_file": log, "log_level": 4, "notify_scripts": True, "orphan_pts_master": True}
    options.update({field: True for name, field in FLAGS.items() if name in wanted.flags})
    options.update({field: wanted.values[name] for name, field in VALUES.items() if wanted.values.get(name)})
    options["manage_cgroups"] = True  # for a criu that knows no modes
    options["manage_cgroups_mode"] = criu_rpc.CGROUP_MODES[wanted.cgroups or "soft"]
    if wanted.config:
        options["config_file"] = wanted.config
    for kind in wanted.empty_ns:
        if kind != "network":
            raise errors.UsageError(f"namespace {kind} is not supported", hint="--empty-ns network")
        options["empty_ns"] = linux.NAMESPACES["network"]
    return options


def binds(plan: Plan) -> dict[str, str]:
    """The mounts whose content is not the container's own: destination -> source."""
    return {
        op.string("dest").decode("utf-8", "surrogateescape"): op.string("source").decode("utf-8", "surrogateescape")
        for op in plan.ops
        if op.name == "bind"
    }


def dump(
    wanted: Wanted,
    plan: Plan,
    pid: int,
    external: Sequence[str],
    namespaces: Mapping[str, int],
    freezer: str,
    pre: bool,
) -> dict[str, Any]:
    """The options of criu to write a checkpoint, without the descriptors of the directories.

    pid: init.  external: mount points whose content is not the container's, and criu's names of other resources.
    namespaces: type -> inode of those joined by path.  freezer: directory of the cgroup that criu may freeze, or "".
    pre: write memory only, the container runs on.
    """
    options = {**common(wanted, "dump.log"), "pid": pid, "root": plan.rootfs}
    if freezer:
        options["freeze_cgroup"] = freezer
    if pre or wanted.parent:
        options["track_mem"] = True
    if wanted.parent:
        if wanted.parent.startswith("/"):
            raise errors.UsageError("--parent-path must be relative to --image-path", hint="../earlier")
        options["parent_img"] = wanted.parent
    if wanted.page_server:
        options["ps"] = server(wanted.page_server)
    options["external"] = [f"mnt[{word}]:{word}" if word.startswith("/") else word for word in external]
    for kind, inode in namespaces.items():
        name, resource = OUTSIDE[kind]
        options["external"].append(f"{name}[{inode}]:{resource}")
    return options


def server(text: str) -> dict[str, Any]:
    """--page-server ADDRESS:PORT.  Raises errors.UsageError."""
    address, _, digits = text.rpartition(":")
    port = json.decimal(digits)
    if not address or port is None or port > MAX_PORT:
        raise errors.UsageError(f'invalid page server "{errors.value(text)}"', hint="--page-server ADDRESS:PORT")
    return {"address": address, "port": port}


def restore(
    wanted: Wanted,
    plan: Plan,
    root: str,
    mounts: Mapping[str, str],
    namespaces: Mapping[str, int],
    stdio: dict[int, str],
) -> dict[str, Any]:
    """The options of criu to bring a container back, without the descriptors of the directories.

    root: where the root file system is mounted.  mounts: mount point -> source, of those that are not the
    container's.  namespaces: type -> descriptor of those joined by path.
    stdio: descriptor of ours -> criu's name of the pipe or file that was stdin, stdout or stderr in its place.
    """
    options = {**common(wanted, "restore.log"), "root": root, "rst_sibling": True, "evasive_devices": True}
    options["external"] = [f"mnt[{dest}]:{source}" for dest, source in mounts.items()]
    inherited = [{"key": OUTSIDE[kind][1], "fd": fd} for kind, fd in namespaces.items()]
    options["inherit_fd"] = inherited + [{"key": inherit_key(name), "fd": fd} for fd, name in stdio.items()]
    options["join_ns"] = [
        {"ns": JOINED[kind], "ns_file": path} for kind, path in plan.namespaces.items() if path and kind in JOINED
    ]
    if plan.cgroup:
        options["cg_root"] = cgroup_roots(plan.cgroup.record, plan.cgroup.tops)
    return options


def inherit_key(name: str) -> str:
    """The name under which criu finds a descriptor to take over as it is.

    A file outside of the container's mounts is opened anew by its name, and must be what it was, mode and all;
    before that criu looks for its path, which is the name without the first letter, where other files have their
    slash.  What is found there is taken over, whatever it is.
    """
    return name[1:] if name.startswith("file[") else name


def cgroup_roots(record: dict[str, Any], tops: dict[str, str]) -> list[dict[str, str]]:
    """The paths of the container's cgroups below the mount points: it may come back under another id."""
    found = []
    for controller, directory in record["dirs"].items():
        path = directory[len(tops.get(directory, "")) :]
        if controller:
            found.append({"ctrl": controller, "path": path})
        elif record["version"] == 2:
            found.append({"path": path})
    return found


def mount_points(plan: Plan) -> tuple[ops.Op, ...]:
    """The operations that make the mount points in the root, as create does, in a mount namespace that is thrown
    away: criu mounts, but makes nothing to mount on."""
    steps = [ops.op("unshare", namespaces=linux.NAMESPACES["mount"])]
    for step in plan.ops:
        if step.name == "pivot":
            break
        if step.name in _MOUNTING and not _of_cgroups(step, plan):
            steps.append(without_idmap(step))
    return tuple(steps)


def _of_cgroups(step: ops.Op, plan: Plan) -> bool:
    """Whether this is a view of cgroups, on a file system that goes away again: nobody looks at it.  The cgroup that is
    bound is not there yet when systemd is to make it, around the process that criu restores."""
    if step.name == "mount":
        return step.string("type").startswith(b"cgroup")
    unmade = plan.cgroup.dirs.values() if plan.cgroup and plan.cgroup.unit else ()
    return step.name == "bind" and step.string("source").decode("utf-8", "surrogateescape") in unmade


def without_idmap(step: ops.Op) -> ops.Op:
    """The same with the ids as they are: nobody looks at them."""
    names = step.definition.nums
    nums = [0 if index < len(names) and names[index] == "idmap" else num for index, num in enumerate(step.nums)]
    return ops.Op(step.definition, nums, step.strs, step.where)
