"""The private corner of the host the bench runs in: mounts of its own, orphans its own children."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from conformance.machine import (  # the same corner, without a network of its own
    CGROUPS,
    CLONE_NEWNS,
    MS_BIND,
    MS_MOVE,
    MS_PRIVATE,
    MS_REC,
    PR_SET_CHILD_SUBREAPER,
    checked,
    libc,
    mount,
    umount,
)


def enter() -> None:
    """A private mount namespace, and this process as subreaper.  Needs root; raises OSError."""
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def add_hugetlb(stage: Path) -> str:
    """Give crun the hugetlb v1 controller it insists on; "" or why it cannot be had.

    /sys/fs/cgroup is a tmpfs shared with the host, and a directory made there would stay if we
    were killed.  So a copy of it, with hugetlb added, is mounted over it in our namespace only.
    """
    if "hugetlb" in _mounted_controllers() or not (CGROUPS / "cpu").exists():
        return ""  # nothing to do: it is there, or this is cgroup v2
    stage.mkdir()
    mount("cgroup", stage, "tmpfs", data="mode=755")
    (stage / "hugetlb").mkdir()
    try:
        mount("cgroup", stage / "hugetlb", "cgroup", data="hugetlb")
    except OSError as error:
        umount(stage)
        return f"crun needs the hugetlb v1 controller, which cannot be mounted: {os.strerror(error.errno or 0)}"
    for entry in CGROUPS.iterdir():
        _copy(entry, stage / entry.name)
    umount(CGROUPS)
    mount(stage, CGROUPS, flags=MS_MOVE)
    return ""


def _copy(entry: Path, target: Path) -> None:
    """A symlink ("cpu -> cpu,cpuacct") as it is, a hierarchy by a bind mount."""
    if entry.is_symlink():
        target.symlink_to(entry.readlink())
    elif entry.is_dir() and not target.exists():
        target.mkdir()
        mount(entry, target, flags=MS_BIND)


def _mounted_controllers() -> set[str]:
    options = set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup":
            options.update(line.split()[3].split(","))
    return options
