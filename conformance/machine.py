"""The machine the checks run on: a private corner of it, and what it can show.

Everything is done in a mount and a network namespace of our own, as subreaper: the host's mounts and
devices are out of reach, and what a runtime leaves behind is found.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x2000, 0x4000, 0x40000, 0x100000
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
# the same numbers on every architecture
SYS_OPEN_TREE, SYS_MOUNT_SETATTR, OPEN_TREE_CLONE = 428, 442, 1
SYS_SET_MEMPOLICY = 238 if platform.machine() == "x86_64" else 237
AT_FDCWD, AT_EMPTY_PATH, MOUNT_ATTR_IDMAP = -100, 0x1000, 0x100000
# seconds one runtime command may take; more for an emulated machine, where every other patience grows with it
TIMEOUT = float(os.environ.get("CONFORMANCE_TIMEOUT", "20"))
SLOW = TIMEOUT / 20
CGROUPS = Path("/sys/fs/cgroup")
# v1 controllers that a machine may not mount although its kernel has them
EXTRA_CONTROLLERS = ("hugetlb", "net_cls", "net_prio")

libc = ctypes.CDLL(None, use_errno=True)
# ctypes passes int as C int otherwise, and mount(2) flags are unsigned long
libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def checked(result: int, what: str) -> None:
    """Raises OSError when a call of libc has failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: Path | str, target: Path | str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2).  Raises OSError."""
    words = [os.fsencode(word) or None for word in (source, target, fstype)]
    checked(libc.mount(*words, flags, data.encode() or None), f"mount {target}")


def umount(target: Path | str) -> None:
    """umount2(2) MNT_DETACH.  Raises OSError."""
    checked(libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def enter() -> None:
    """Private mount and network namespaces for this process, and orphans for its children.  Raises OSError."""
    checked(libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    if shutil.which("ip"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def add_controllers(stage: Path) -> None:
    """Mount the v1 controllers that the kernel has and nobody uses, on a copy of /sys/fs/cgroup that only we see.

    /sys/fs/cgroup is a tmpfs shared with the host, so nothing is made there.  Does nothing on a v2 machine.
    Where v2 keeps a controller its mount is left out of the copy: crun refuses to run beside that.
    """
    here = mounted_controllers()
    if not here:
        return
    stage.mkdir()
    mount("cgroup", stage, "tmpfs", data="mode=755")
    for entry in CGROUPS.iterdir():
        target = stage / entry.name
        if entry.is_symlink():
            target.symlink_to(entry.readlink())
        elif entry.is_dir():
            target.mkdir()
            mount(entry, target, flags=MS_BIND)
    for name in EXTRA_CONTROLLERS:
        if name not in here and not (stage / name).exists():
            (stage / name).mkdir()
            try:
                mount("cgroup", stage / name, "cgroup", data=name)
            except OSError:  # the kernel lacks it, or cgroup v2 has it
                (stage / name).rmdir()
    v2 = v2_mount()
    if v2 and (v2 / "cgroup.controllers").read_text().strip():
        umount(stage / v2.name)
        (stage / v2.name).rmdir()
    umount(CGROUPS)
    mount(stage, CGROUPS, flags=MS_MOVE)


def mounted_controllers() -> set[str]:
    """The v1 controllers (and named hierarchies) that are mounted; empty on a v2 machine."""
    found: set[str] = set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup":
            found.update(line.split()[3].split(",")[2:])
    return found - {"relatime", "nosuid", "nodev", "noexec"}


@functools.cache
def unified() -> bool:
    """Whether this is a pure cgroup v2 machine."""
    return (CGROUPS / "cgroup.controllers").exists()


def v2_mount() -> Path | None:
    """Where cgroup v2 is mounted, on a hybrid machine too."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    return None


def controller(name: str) -> Path | None:
    """The mount point of a v1 controller, or that of v2 when it has the controller; else None."""
    if unified():
        return CGROUPS if name in (CGROUPS / "cgroup.controllers").read_text().split() else None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup" and name in fields[3].split(","):
            return Path(fields[1])
    return None


@functools.cache
def takes(controller_name: str, file: str, value: str) -> str:
    """ "" when a cgroup made for the question takes the value in the file, else why not."""
    top = controller(controller_name)
    if top is None:
        return f"the kernel offers no {controller_name} controller here"
    probe = top / f"cf-takes-{os.getpid()}"
    probe.mkdir()
    try:
        if not (probe / file).exists():
            return f"the kernel has no {file}"
        (probe / file).write_text(value)
        if value.rsplit(maxsplit=1)[-1] not in (probe / file).read_text():
            return f"the kernel ignores what is written to {file}"
    except OSError as error:
        return f"the kernel refuses {value!r} in {file}: {os.strerror(error.errno or 0)}"
    finally:
        probe.rmdir()
    return ""


def idmaps(path: Path) -> bool:
    """Whether the kernel maps the owners of the file system at path (tmpfs: since Linux 6.3)."""
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "cat"], stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdin and holder.stdout
        holder.stdin.write(b"x")
        holder.stdin.flush()
        holder.stdout.read(1)  # it is in its namespace
        space = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
        tree = libc.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), OPEN_TREE_CLONE)
        attributes = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, space)
        result: int = libc.syscall(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes))
        os.close(space)
        if tree >= 0:
            os.close(tree)
    return result == 0


def lsm(name: str) -> bool:
    """Whether a Linux security module is active."""
    roots = {"apparmor": Path("/sys/module/apparmor/parameters/enabled"), "selinux": Path("/sys/fs/selinux/enforce")}
    root = roots[name]
    return root.exists() and (name != "apparmor" or root.read_text().strip() == "Y")


def memory_policy(mode: int) -> str:
    """ "" when the kernel takes this mode of set_mempolicy(2), with node 0 where it takes nodes; else why not."""
    text = (
        "import ctypes, sys; call = ctypes.CDLL(None, use_errno=True).syscall; node = ctypes.c_ulong(1); "
        f"found = call({SYS_SET_MEMPOLICY}, {mode}, ctypes.byref(node) if {mode not in (0, 4)} else None, 64); "
        "sys.exit(ctypes.get_errno() if found else 0)"
    )
    code = subprocess.run([sys.executable, "-c", text], check=False).returncode
    return os.strerror(code) if code else ""


def resctrl() -> bool:
    """Whether the kernel has resctrl."""
    return "resctrl" in Path("/proc/filesystems").read_text()


X86 = platform.machine() == "x86_64"


def cpus() -> set[int]:
    """The processors we may run on."""
    return os.sched_getaffinity(0)


# -- processes -------------------------------------------------------------------------------


def children() -> set[int]:
    """The living children of this process; zombies are reaped."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            return set()
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", name, "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(name))
    return found


def wait_for(pid: int, timeout: float) -> int | None:
    """Exit code (or -signal) of a child, or of a process the runtime left to us; None when it still runs.

    timeout: seconds, SLOW times as many.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if not select.select([fd], [], [], timeout * SLOW)[0]:
            return None
    finally:
        os.close(fd)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def until(condition: Callable[[], Any], timeout: float = 5.0) -> bool:
    """Wait for something that has no descriptor to wait on.  timeout: seconds, SLOW times as many."""
    deadline = time.monotonic() + timeout * SLOW
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# -- what is left over -----------------------------------------------------------------------


def cgroups(part: str) -> set[Path]:
    """Every cgroup, in any hierarchy, with part in its path."""
    return {path for path in _walk(CGROUPS) if part in str(path)}


def _walk(top: Path) -> Iterator[Path]:
    todo = [top]  # no recursion: a cgroup tree may be deeper than our stack
    while todo:
        directory = todo.pop()
        try:
            below = [Path(e.path) for e in os.scandir(directory) if e.is_dir(follow_symlinks=False)]
        except (OSError, ValueError):
            continue  # gone meanwhile, or its path is too long to be one of ours
        todo += below
        yield from below


def mounts() -> list[str]:
    """The mount points of our namespace."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def clean(part: str, mounts_before: list[str], keep: set[int]) -> None:
    """Remove what has part in its name, new mounts and new processes: one failure stays one."""
    for pid in children() - keep:
        os.kill(pid, signal.SIGKILL)
    extra = mounts()
    for point in mounts_before:
        if point in extra:
            extra.remove(point)
    for point in reversed(extra):
        try:
            umount(point)
        except OSError:
            continue  # went with the one above it
    for directory in sorted(cgroups(part), reverse=True):
        until(functools.partial(_remove, directory))
    until(lambda: not children() - keep)


def _remove(directory: Path) -> bool:
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        if (directory / name).exists() and directory.parent != CGROUPS:
            (directory / name).write_text(value)
    try:
        for pid in (directory / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def workplace() -> Path:
    """A new directory that the users of containers can reach."""
    directory = Path(tempfile.mkdtemp(prefix="conformance-"))
    directory.chmod(0o711)
    return directory
