"""The private corner of the host the bench runs in: mounts of its own, orphans its own children."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x20000
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
CGROUPS = Path("/sys/fs/cgroup")

libc = ctypes.CDLL(None, use_errno=True)
libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: Path | str, target: Path | str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = [os.fsencode(word) or None for word in (source, target, fstype)]
    _checked(libc.mount(*words, flags, data.encode() or None), f"mount {target}")


def umount(target: Path) -> None:
    """umount2(2), also of what is in use: nothing of it is seen outside of this namespace."""
    _checked(libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def enter() -> None:
    """A private mount namespace, and this process as subreaper.  Needs root; raises OSError."""
    _checked(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    _checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


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
        _checked(libc.umount2(str(stage).encode(), MNT_DETACH), "umount")
        return f"crun needs the hugetlb v1 controller, which cannot be mounted: {os.strerror(error.errno or 0)}"
    for entry in CGROUPS.iterdir():
        _copy(entry, stage / entry.name)
    _checked(libc.umount2(str(CGROUPS).encode(), MNT_DETACH), "umount")
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
