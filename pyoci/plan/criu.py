"""What the criu program is called with, for a container of this plan: pure.

Sources: criu(8), the options of `runc checkpoint` and `runc restore`, which are handed on under criu's names.
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pyoci.plan import Plan

# options that are criu's own flags: ours -> criu's
FLAGS = {
    "leave-running": "--leave-running",
    "tcp-established": "--tcp-established",
    "tcp-close": "--tcp-close",
    "tcp-skip-in-flight": "--skip-in-flight",
    "ext-unix-sk": "--ext-unix-sk",
    "shell-job": "--shell-job",
    "file-locks": "--file-locks",
    "link-remap": "--link-remap",
    "auto-dedup": "--auto-dedup",
    "lazy-pages": "--lazy-pages",
}
# options with a value
VALUES = {"status-fd": "--status-fd", "lsm-profile": "--lsm-profile", "lsm-mount-context": "--lsm-mount-context"}
CGROUP_MODES = ("soft", "full", "strict", "ignore")
# namespaces that were joined by path stay outside: criu's name of the resource
OUTSIDE = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}


class Wanted:
    """What was asked of criu.

    flags:   names of FLAGS that were given
    values:  name of VALUES -> value
    images, work: absolute directories; work is where the log goes
    parent:  images of an earlier pre-dump, relative to images, or ""
    cgroups: one of CGROUP_MODES, or ""
    empty_ns: list, "network": the namespace comes back empty
    page_server: "ADDRESS:PORT", or ""
    config:  a criu configuration file, or ""
    """

    __slots__ = ("cgroups", "config", "empty_ns", "flags", "images", "page_server", "parent", "values", "work")

    def __init__(self, images: str, work: str) -> None:
        self.images = images
        self.work = work
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        self.parent = self.cgroups = self.page_server = self.config = ""
        self.empty_ns: Sequence[str] = ()


def common(wanted: Wanted, log: str) -> list[str]:
    """What dump and restore both get.  Raises errors.UsageError."""
    argv = ["--images-dir", wanted.images, "--work-dir", wanted.work, "--log-file", log, "-v4"]
    argv += [flag for name, flag in FLAGS.items() if name in wanted.flags]
    for name, option in VALUES.items():
        if wanted.values.get(name):
            argv += [option, wanted.values[name]]
    argv.append(f"--manage-cgroups={wanted.cgroups or 'soft'}")
    if wanted.config:
        argv += ["--config", wanted.config]
    for kind in wanted.empty_ns:
        if kind != "network":
            raise errors.UsageError(f"namespace {kind} is not supported", hint="--empty-ns network")
        argv += ["--empty-ns", "net"]
    return argv


def binds(plan: Plan) -> list[tuple[str, str]]:
    """(mount point, source) of the mounts whose content is not the container's own."""
    return [
        (op.string("dest").decode("utf-8", "surrogateescape"), op.string("source").decode("utf-8", "surrogateescape"))
        for op in plan.ops
        if op.name == "bind"
    ]


def dump(
    wanted: Wanted, plan: Plan, pid: int, masked: Iterable[str], namespaces: dict[str, int], freezer: str, pre: bool
) -> list[str]:
    """The arguments of criu to write a checkpoint.

    pid: init.  masked: files that are covered with the null device.  namespaces: type -> inode of those joined by
    path.  freezer: directory of the cgroup that criu may freeze, or "".  pre: write memory only, the container runs on.
    """
    argv = ["pre-dump" if pre else "dump", "--tree", str(pid), "--root", plan.rootfs, *common(wanted, "dump.log")]
    if freezer:
        argv += ["--freeze-cgroup", freezer]
    if pre or wanted.parent:
        argv.append("--track-mem")
    if wanted.parent:
        if wanted.parent.startswith("/"):
            raise errors.UsageError("--parent-path must be relative to --image-path", hint="../earlier")
        argv += ["--prev-images-dir", wanted.parent]
    if wanted.page_server:
        argv += server(wanted.page_server)
    for dest in [*[dest for dest, _ in binds(plan)], *masked]:
        argv += ["--external", f"mnt[{dest}]:{dest}"]
    for kind, inode in namespaces.items():
        if kind in OUTSIDE:
            name, resource = OUTSIDE[kind]
            argv += ["--external", f"{name}[{inode}]:{resource}"]
    return argv


def server(text: str) -> list[str]:
    """--page-server ADDRESS:PORT.  Raises errors.UsageError."""
    address, _, port = text.rpartition(":")
    if not address or not port.isdecimal():
        raise errors.UsageError(f'invalid page server "{text}"', hint="--page-server ADDRESS:PORT")
    return ["--page-server", "--address", address, "--port", port]


def restore(
    wanted: Wanted, plan: Plan, root: str, masked: Iterable[str], namespaces: dict[str, int], stdio: dict[int, str]
) -> list[str]:
    """The arguments of criu to bring a container back.

    root: where the root file system is mounted.  namespaces: type -> descriptor of those joined by path.
    stdio: descriptor of ours -> criu's name of the pipe or file that was stdin, stdout or stderr in its place.
    """
    argv = ["restore", "--root", root, "--restore-detached", "--restore-sibling", *common(wanted, "restore.log")]
    for dest, source in [*binds(plan), *[(path, "/dev/null") for path in masked]]:
        argv += ["--external", f"mnt[{dest}]:{source}"]
    for kind, fd in namespaces.items():
        argv += ["--inherit-fd", f"fd[{fd}]:{OUTSIDE[kind][1]}"]
    for fd, name in stdio.items():
        argv += ["--inherit-fd", f"fd[{fd}]:{name}"]
    if plan.cgroup:
        for controller, path in cgroup_roots(plan.cgroup.record, plan.cgroup.tops):
            argv += ["--cgroup-root", f"{controller}:{path}" if controller else path]
    return argv


def cgroup_roots(record: dict[str, Any], tops: dict[str, str]) -> list[tuple[str, str]]:
    """(controller, path below the mount point) of the container's cgroups: it may come back under another id."""
    found = []
    for controller, directory in record["dirs"].items():
        if controller or record["version"] == 2:
            found.append((controller, directory[len(tops.get(directory, "")) :]))
    return found
