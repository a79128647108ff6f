"""pyoci doctor: what this host gives to containers, what it lacks, and what does not work for that reason."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys

import pyoci
from pyoci import cli, errors, json
from pyoci.cli import options
from pyoci.cli.options import Option
from pyoci.host import facts, nsexec, probe, subids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.plan.facts import Facts

ARGS = ()
OPTIONS = (Option("json", "as JSON"),)
HELP = """\
Every line begins with "ok", with "--" for something that some containers need, or with "!!" for something
without which no container can be made; then the exit status is 1. Nothing is made or changed.
"""
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Calls of which architectures differ in the number: name -> (machine -> number, needed, what is so without it)
_NUMBERED = {
    "seccomp": (
        {"x86_64": 317, "aarch64": 277, "riscv64": 277, "s390x": 348, "ppc64le": 358},
        False,
        "no seccomp profiles: Linux 3.17, CONFIG_SECCOMP",
    ),
    "statx": (
        {"x86_64": 332, "aarch64": 291, "riscv64": 291, "s390x": 379, "ppc64le": 383},
        True,
        "mounts cannot be told from each other: Linux 5.8",
    ),
}
# name -> (number, needed, what is so without it)
_CALLS = {
    "pidfd_open": (434, True, "processes cannot be told from others of the same number: Linux 5.3"),
    "open_tree": (428, True, "no mounts: Linux 5.2"),
    "move_mount": (429, True, "no mounts: Linux 5.2"),
    "fsopen": (430, True, "no mounts: Linux 5.2"),
    "fsconfig": (431, True, "no mounts: Linux 5.2"),
    "fsmount": (432, True, "no mounts: Linux 5.2"),
    "mount_setattr": (442, True, "no read-only paths, no flags of bind mounts: Linux 5.12"),
    "clone3": (435, False, "processes are moved into their v2 cgroup, which is slower: Linux 5.7"),
    "close_range": (436, False, "descriptors are closed one by one: Linux 5.9"),
    "openat2": (437, False, "paths are walked one component at a time, as safe and slower: Linux 5.6"),
}
MISSING = {True: "!!", False: "--"}


class Check:
    """One finding.

    area: "calls", "cgroup"...; status: "ok", "missing" or "refused"; value: what was found
    needed: no container without it; effect: what is so for lack of it, "" where nothing lacks
    """

    __slots__ = ("area", "effect", "name", "needed", "status", "value")

    def __init__(self, area: str, name: str, found: str | bool, effect: str = "", *, needed: bool = False) -> None:
        self.area = area
        self.name = name
        self.needed = needed
        self.value = (found or "none") if isinstance(found, str) else ("yes" if found else "no")
        self.status = "ok" if found else "missing"
        self.effect = "" if found else effect

    def line(self) -> str:
        mark = "ok" if self.status == "ok" else MISSING[self.needed]
        return f"{mark}  {self.area:12} {self.name:22} {self.value}{': ' if self.effect else ''}{self.effect}\n"

    def as_dict(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("area", "name", "status", "value", "needed", "effect")}


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print it; 1 when something needed is not there."""
    found = list(examine())
    well = not any(check.needed and check.status != "ok" for check in found)
    if opts.flag("json"):
        cli.write(json.dumps({"ok": well, "checks": [check.as_dict() for check in found]}, indent=2) + "\n")
    else:
        cli.write("".join([check.line() for check in found]))
        cli.write(
            "\ncontainers can be made here\n" if well else "\nno container can be made here: see the lines with !!\n"
        )
    return 0 if well else 1


def examine() -> Iterator[Check]:
    """All checks, in order."""
    yield from versions()
    yield from calls()
    machine = facts.read()
    yield from cgroups(machine)
    yield from namespaces(machine)
    yield from security()
    yield from helpers(machine)


def versions() -> Iterator[Check]:
    yield Check("versions", "pyoci", pyoci.__version__)
    yield Check("versions", "kernel", f"{os.uname().release} {os.uname().machine}")
    yield Check("versions", "python", f"{sys.version.split()[0]} {sys.executable}")
    try:
        os.close(os.dup(nsexec.binary()))
        yield Check("versions", "nsexec", nsexec.nsexec_path())
    except errors.Error as error:
        yield Check("versions", "nsexec", "", str(error), needed=True)


def calls() -> Iterator[Check]:
    """Each call with arguments that no kernel takes: EINVAL and the like say that it is there."""
    table = {**_CALLS}
    for name, (numbers, needed, effect) in _NUMBERED.items():
        if os.uname().machine in numbers:
            table[name] = (numbers[os.uname().machine], needed, effect)
    for name, (number, needed, effect) in table.items():
        check = Check("calls", name, True, needed=needed)
        error = _answer(number)
        # an ordinary user may not, until he is root of a user namespace
        refused = error == errno.EPERM and (
            os.geteuid() == 0 or name in ("clone3", "close_range", "openat2", "pidfd_open", "statx")
        )
        if error == errno.ENOSYS or refused:
            check.status = "refused" if refused else "missing"
            check.value = "refused, by a seccomp filter perhaps" if refused else "not in this kernel"
            check.effect = effect
        yield check


def _answer(number: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    minus = [ctypes.c_long(-1)] * 6
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *minus) < 0 else 0


def cgroups(machine: Facts) -> Iterator[Check]:
    found = machine.cgroup_mode
    yield Check("cgroup", "mode", "" if found == "none" else found, "no cgroups: no limits, no pause, no statistics")
    have = {*machine.cgroup_controllers, *machine.cgroup_mounts}
    for name in ("cpu", "cpuset", "memory", "pids", "io" if found == "unified" else "blkio"):
        yield Check("cgroup", name, name in have, f"limits of {name} are refused")
    if found == "unified":
        kept = "nsdelegate" in machine.cgroup_options.split(",")
        yield Check("cgroup", "nsdelegate", kept, "containers of ordinary users may lift their own limits")
    yield Check("cgroup", "systemd", os.path.isdir("/run/systemd/system"), "no --systemd-cgroup")
    place = machine.cgroup_unified or next(iter(machine.cgroup_mounts.values()), "")
    yield Check("cgroup", "writable", bool(place) and os.access(place, os.W_OK), "as who you are: limits are refused")


def namespaces(machine: Facts) -> Iterator[Check]:
    have = probe.namespaces()
    for name in ("mount", "pid", "network", "ipc", "uts", "user", "cgroup", "time"):
        needed = name == "mount"
        yield Check("namespaces", name, name in have, "containers that ask for one are refused", needed=needed)
    limit = _number("/proc/sys/user/max_user_namespaces")
    yield Check(
        "namespaces", "user, how many", str(limit) if limit else "", "their number is limited to 0 (/proc/sys/user)"
    )
    if machine.euid != 0:
        closed = [
            path
            for path, bad in (
                ("/proc/sys/kernel/unprivileged_userns_clone", 0),
                ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 1),
            )
            if _number(path) == bad
        ]
        yield Check("namespaces", "for ordinary users", not closed, f"closed by {', '.join(closed)}", needed=True)


def security() -> Iterator[Check]:
    modules = probe.security_modules()
    yield Check("security", "modules", " ".join(modules), "no AppArmor or SELinux labels")
    yield Check("security", "seccomp actions", " ".join(probe.seccomp_actions()), "no seccomp profiles")
    yield Check("security", "keyrings", os.path.exists("/proc/keys"), "containers share the caller's keyring")


def helpers(machine: Facts) -> Iterator[Check]:
    """Programs and files beside the kernel."""
    version = _first_line("criu", "--version")
    yield Check("helpers", "criu", version, "no checkpoint, no restore")
    for name in ("newuidmap", "newgidmap"):
        yield Check(
            "helpers", name, shutil.which(name, path=PROGRAMS) or "", "one id only for an ordinary user's containers"
        )
    for path in ("/etc/subuid", "/etc/subgid"):
        found = " ".join(f"{first}+{count}" for first, count in subids.ranges(path, machine.euid))
        yield Check("helpers", path, found, "no range for this user: one id only")


def _first_line(program: str, *args: str) -> str:
    path = shutil.which(program, path=PROGRAMS)
    if not path:
        return ""
    try:
        done = subprocess.run([path, *args], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"{path} {done.stdout.splitlines()[0]}" if done.stdout else path


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
