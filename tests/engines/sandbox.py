"""A machine inside the machine, for engines that believe they own it.

What an engine would change of the host (mounts, /run, /var/lib, /etc, the network, netfilter, cgroups, sysctls of the
network, processes that outlive it) is namespaced away: one process runs in new mount, network, pid, uts, ipc and cgroup
namespaces, on private copies of what engines write.  It ends with everything it started, because it is pid 1 there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.integration.harness import MS_BIND, MS_PRIVATE, MS_REC, checked, libc, mount, umount

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_NAMESPACES = 0x20000 | 0x40000000 | 0x20000000 | 0x4000000 | 0x8000000 | 0x2000000  # mnt net pid uts ipc cgroup
PR_SET_PDEATHSIG = 1
CGROUPS = Path("/sys/fs/cgroup")

# The rootless engines' user: he exists in the sandbox's /etc/passwd alone.
USER, UID = "pyoci-walnut", 4711
SUB_IDS = f"{USER}:200000:65536\ncontainers:400000:1000000\n"  # podman --userns=auto takes from the second

# Directories of engines that start empty in the sandbox, and those of /etc that start as a copy.
EMPTY = ("/run", "/var/lib/containers", "/var/lib/containerd", "/var/lib/docker", "/var/lib/cni", "/var/tmp")
COPIED = ("/etc/containers", "/etc/cni", "/etc/docker", "/etc/containerd")


class Hierarchy(NamedTuple):
    """One mounted cgroup hierarchy: its mount point's name below CGROUPS ("" for v2 alone), type and options."""

    name: str
    fstype: str
    options: str


def hierarchies() -> list[Hierarchy]:
    """The cgroup mounts of the host, in the order of mounting."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        point, fstype = Path(left.split()[4]), right.split()[0]
        if fstype in ("cgroup", "cgroup2") and point.is_relative_to(CGROUPS):
            options = [word for word in right.split()[2].split(",") if word not in ("rw", "ro")]
            found.append(Hierarchy(str(point.relative_to(CGROUPS)), fstype, ",".join(options)))
    assert found, "no cgroups are mounted in /sys/fs/cgroup"
    # crun refuses a v2 hierarchy with controllers beside those of v1, which hold what engines use.
    return [one for one in found if one.fstype == "cgroup"] or found


def let_go(place: Path) -> None:
    """Let the kernel forget the v1 hierarchies that nobody uses any more.

    One whose last cgroup was removed just before its last mount stays until it is mounted once more; containerd does
    not cope with one that is there and not mounted.  place: an empty directory, in a mount namespace of ours.
    """
    mounted = {word for hierarchy in hierarchies() for word in hierarchy.options.split(",")}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        controllers = line.split(":")[1]
        if controllers and not set(controllers.split(",")) <= mounted:
            mount("cgroup", str(place), "cgroup", 0, controllers)
            umount(place)


def own_cgroup(hierarchy: Hierarchy) -> Path:
    """The directory of this process's cgroup in a hierarchy, as mounted on the host."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        wanted = "" if hierarchy.fstype == "cgroup2" else hierarchy.options
        if set(controllers.split(",")) <= set(wanted.split(",")):
            return CGROUPS / hierarchy.name / path.lstrip("/")
    raise LookupError(f"{hierarchy.name} is not in /proc/self/cgroup")


def make_cgroups(name: str) -> list[Path]:
    """A cgroup of that name below our own in every hierarchy, with this process in it; the outer directories."""
    made = []
    for hierarchy in hierarchies():
        parent = own_cgroup(hierarchy)
        directory = parent / name
        directory.mkdir()
        made.append(directory)
        for key in ("cpuset.cpus", "cpuset.mems"):
            if hierarchy.fstype == "cgroup" and (parent / key).exists():
                (directory / key).write_text((parent / key).read_text())
        if hierarchy.fstype == "cgroup" and (directory / "cgroup.clone_children").exists():
            (directory / "cgroup.clone_children").write_text("1")
        (directory / "cgroup.procs").write_text("0")
    return made


def remove_cgroups(directories: list[Path]) -> None:
    """Remove cgroups and all below them; their processes are gone or going."""
    deadline = time.monotonic() + 10
    for top in directories:
        below = [Path(where) for where, _, _ in os.walk(top, topdown=False)]
        while below:
            try:
                below[0].rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            below.pop(0)


def mount_system(points: list[Hierarchy]) -> None:
    """procfs, sysfs and cgroups as the new namespaces show them."""
    for old in ("/proc", "/sys"):  # with all below: engines go through mountinfo and would find the host's
        umount(old)
    mount("proc", "/proc", "proc", 0xE)  # nosuid nodev noexec
    mount("sysfs", "/sys", "sysfs", 0xE)
    if points[0].name != ".":
        mount("tmpfs", str(CGROUPS), "tmpfs", 0xE, "mode=755")
    for point in points:
        (CGROUPS / point.name).mkdir(exist_ok=True)
        mount("cgroup", str(CGROUPS / point.name), point.fstype, 0xE, point.options if point.fstype == "cgroup" else "")
    if points[0].fstype == "cgroup2" and points[0].name == ".":
        (CGROUPS / "matrix").mkdir()
        (CGROUPS / "matrix/cgroup.procs").write_text("0")
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
        (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{word}" for word in controllers))


def cover(directory: str, keep: bool) -> None:
    """A private tmpfs over a directory that exists, with a copy of its files if keep."""
    if not Path(directory).is_dir():
        return
    aside = Path(os.environ["TMPDIR"]) / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    if keep:
        shutil.copytree(directory, aside, symlinks=True)
    mount("tmpfs", directory, "tmpfs", 0x6, "mode=755")
    if keep:
        shutil.copytree(aside, directory, symlinks=True, dirs_exist_ok=True)


def replace(path: str, text: str) -> None:
    """Another text in a file of /etc, for the sandbox alone."""
    copy = Path(os.environ["TMPDIR"]) / path.strip("/").replace("/", "-")
    copy.write_text(text)
    mount(str(copy), path, flags=MS_BIND)


def mount_private(work: Path) -> None:
    """The files of this machine that engines write or read, as private copies; work is a tmpfs with room for images."""
    mount("tmpfs", str(work), "tmpfs", 0, "mode=755,size=6g")
    (work / "tmp").mkdir()
    (work / "tmp").chmod(0o1777)
    os.environ["TMPDIR"] = str(work / "tmp")
    for directory in EMPTY:
        cover(directory, keep=False)
    for directory in COPIED:
        cover(directory, keep=True)
    Path("/run/lock").mkdir()
    Path("/var/tmp").chmod(0o1777)
    passwd = f"{USER}:x:{UID}:{UID}::{work}/home:/bin/sh\n{USER}1:x:{UID + 1}:{UID + 1}::{work}/home1:/bin/sh\n"
    replace("/etc/passwd", Path("/etc/passwd").read_text() + passwd)
    replace("/etc/group", Path("/etc/group").read_text() + f"{USER}:x:{UID}:\n{USER}1:x:{UID + 1}:\n")
    for path in ("/etc/subuid", "/etc/subgid"):
        if Path(path).exists():
            replace(path, SUB_IDS)


def mount_devices() -> None:
    """A /dev with the host's nodes, a message queue directory, and devices that a user without privileges may open."""
    nodes = []
    for where, _, names in os.walk("/dev"):
        for name in names:
            path = Path(where, name)
            if path.is_symlink():
                nodes.append((path, 0, 0, os.readlink(path)))
            elif path.is_char_device() or path.is_block_device():
                nodes.append((path, path.stat().st_mode, path.stat().st_rdev, ""))
    mount("tmpfs", "/dev", "tmpfs", 0x2, "mode=755")
    for path, mode, number, link in nodes:
        if path.is_relative_to("/dev/pts"):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if link:
            path.symlink_to(link)
            continue
        os.mknod(path, mode, number)
        path.chmod(0o666 if str(path) in ("/dev/fuse", "/dev/net/tun") else mode & 0o7777)
    for name, fstype, data in (
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("shm", "tmpfs", "mode=1777"),
        ("mqueue", "mqueue", ""),
    ):
        Path("/dev", name).mkdir(exist_ok=True)
        mount(fstype, f"/dev/{name}", fstype, 0xA, data)
    Path("/dev/ptmx").unlink(missing_ok=True)
    Path("/dev/ptmx").symlink_to("pts/ptmx")


def network() -> None:
    """Loopback, and an interface with an address and a default route that leads nowhere."""
    commands = """
        link set lo up
        link add outside0 type veth peer name outside1
        addr add 192.0.2.10/24 dev outside0
        link set outside0 up
        link set outside1 up
        route add default via 192.0.2.1
    """
    for line in commands.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True)
    for key in ("ipv4/ip_forward", "ipv4/conf/all/route_localnet"):
        Path("/proc/sys/net", key).write_text("1")


def as_init(work: Callable[[], int]) -> int:
    """Run work in a child; meanwhile reap, as pid 1 must.  Its exit status."""
    child = os.fork()
    if child == 0:
        os._exit(guarded(work))
    while True:
        pid, status = os.wait()
        if pid == child:
            return abs(os.waitstatus_to_exitcode(status))


def guarded(work: Callable[[], int]) -> int:
    """work's result; an exception is printed and is 1."""
    try:
        return work()
    except BaseException:  # this is the top of a process: nothing may go on above it
        import traceback

        traceback.print_exc()
        return 1


def inside(work: Path, function: Callable[[], int]) -> int:
    """What the first process of the new namespaces does."""
    points = hierarchies()
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    let_go(work)
    mount_private(work)
    mount_devices()
    mount_system(points)
    network()
    return as_init(function)


def run(work: Path, function: Callable[[], int]) -> int:
    """Call function in a sandbox with its files in work, an empty directory that is removed afterwards.

    The exit status of function's process.  Everything it started is dead when this returns.
    """
    name = work.name
    reader, writer = os.pipe()
    outer = os.fork()
    if outer == 0:
        os.close(reader)
        os._exit(guarded(lambda: enter(name, writer, work, function)))
    os.close(writer)
    try:
        _, status = os.waitpid(outer, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(outer, signal.SIGKILL)
        with open(reader, encoding="utf-8") as pipe:  # ends when the last process of the sandbox has ended
            cgroups = [Path(line) for line in pipe.read().splitlines()]
        remove_cgroups(cgroups)
        work.rmdir()
    return abs(os.waitstatus_to_exitcode(status))


def enter(name: str, report: int, work: Path, function: Callable[[], int]) -> int:
    """In a process of its own: into new cgroups and namespaces, then wait for the one that lives in them."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    made = make_cgroups(name)
    for directory in made:
        os.write(report, f"{directory}\n".encode())
    checked(libc.unshare(NEW_NAMESPACES), "unshare")
    if (made[0] / "cgroup.controllers").exists():  # v2: no process may be where controllers are handed on
        (made[0] / "outer").mkdir()
        (made[0] / "outer/cgroup.procs").write_text("0")
    child = os.fork()
    if child == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os._exit(guarded(lambda: inside(work, function)))
    _, status = os.waitpid(child, 0)
    return abs(os.waitstatus_to_exitcode(status))
