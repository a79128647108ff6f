"""Questions to the kernel that only `features` and `info` ask: nothing is changed."""

from __future__ import annotations

import ctypes
import errno
import os

from pyoci.linux import NAMESPACE_FILES

SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
SYS_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 1, 8


def release() -> tuple[int, int]:
    """The kernel's version, as far as it says what there is: (6, 1)."""
    major, _, rest = os.uname().release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor) if minor.isdecimal() else 0


def namespaces() -> list[str]:
    """The types of namespaces that this kernel has."""
    return sorted(kind for kind, file in NAMESPACE_FILES.items() if os.path.exists(f"/proc/self/ns/{file}"))


def seccomp_actions() -> list[str]:
    """The actions as the kernel calls them, most severe first; [] without seccomp."""
    return text("/proc/sys/kernel/seccomp/actions_avail").split()


def seccomp_flag(flag: int) -> bool:
    """Whether seccomp(2) knows a SECCOMP_FILTER_FLAG_*.  No filter is given, and so none is set."""
    number = SYS_SECCOMP.get(os.uname().machine)
    if number is None:
        return False
    with_it = flag | NEW_LISTENER if flag == 32 else flag  # WAIT_KILLABLE_RECV: only together with a listener
    return _errno(number, SECCOMP_SET_MODE_FILTER, with_it, None) == errno.EFAULT


def memory_policy(mode: int) -> bool:
    """Whether set_mempolicy(2) knows a mode: one that it knows complains about a node that cannot be read."""
    number = SYS_SET_MEMPOLICY.get(os.uname().machine)
    if number is None:
        return False
    # the kernel looks at the mode first: EINVAL for one that it does not know, EFAULT for the nodes
    return _errno(number, mode, 1, 64) == errno.EFAULT


def _errno(number: int, *arguments: int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(value) for value in arguments])
    return ctypes.get_errno()


def security_modules() -> list[str]:
    """The security modules in use: "apparmor", "selinux"."""
    found = []
    if text("/sys/module/apparmor/parameters/enabled") == "Y":
        found.append("apparmor")
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.append("selinux")
    return found


def filesystems() -> list[str]:
    """The types of file systems that the kernel knows by now."""
    return [line.split()[-1] for line in text("/proc/filesystems").splitlines()]


def text(file: str) -> str:
    """A file's content without white space around it, "" when it cannot be read."""
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""
