"""Read what the plan needs to know of this machine: a handful of procfs reads, nothing run, nothing changed."""

from __future__ import annotations

from pyoci import errors, json, kernel
from pyoci.plan.facts import Facts

CGROUP_ROOT = "/sys/fs/cgroup"
APPARMOR = "/sys/module/apparmor/parameters/enabled"
SELINUX = "/sys/fs/selinux/enforce"
WHOLE_USERNS = [b"0", b"0", b"4294967295"]  # uid_map of the initial user namespace


def read(manager: str = "cgroupfs") -> Facts:
    """The facts of this machine, as the calling process sees them.

    manager: who is going to make cgroups; "systemd" is asked where it keeps them, when it is the user's.
    Raises errors.SetupError when /proc is not there or not readable.  See proc(5), cgroups(7).
    """
    facts = Facts(
        euid=kernel.geteuid(),
        umask=_umask(),
        userns=_read("/proc/self/uid_map").split() != WHOLE_USERNS,
        last_cap=json.integer(_read("/proc/sys/kernel/cap_last_cap")),
        arch=kernel.uname().machine,
        apparmor=kernel.exists(APPARMOR) and _read(APPARMOR).startswith(b"Y"),
        selinux=kernel.exists(SELINUX),
        cgroup_own=parse_own(_read("/proc/self/cgroup")),
    )
    parse_mounts(facts, _read("/proc/self/mountinfo"))
    if facts.cgroup_mode == "unified":
        facts.cgroup_controllers = tuple(_text(_read(facts.cgroup_unified + "/cgroup.controllers")).split())
    if manager == "systemd" and (facts.euid != 0 or facts.userns):
        from pyoci.host import systemd

        facts.systemd_root = systemd.root(user=True)
    return facts


def parse_own(data: bytes) -> dict[str, str]:
    """/proc/PID/cgroup -> {controller: path}; the key of v2 is ""."""
    own = {}
    for line in _text(data).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    return own


def parse_mounts(facts: Facts, mountinfo: bytes) -> None:
    """Fill in the cgroup_* facts from /proc/self/mountinfo; facts.cgroup_own names the controllers to look for."""
    for line in mountinfo.split(b"\n"):
        left, found, right = line.partition(b" - cgroup")  # the cheap test first: there may be thousands of mounts
        if not found:
            continue
        kind, _, options = _text(right).split(" ", 2)
        _, _, _, root, point, *_ = _text(left).split(" ")
        if kind == "2":
            facts.cgroup_options = ",".join([o for o in options.split(",") if o not in ("ro", "rw")])
        controllers = [""] if kind == "2" else [o for o in options.split(",") if o and o in facts.cgroup_own]
        for controller in controllers:
            _mounted(facts, controller, unescape(root), unescape(point))
    facts.cgroup_mode = _mode(facts)


def _mounted(facts: Facts, controller: str, root: str, point: str) -> None:
    known = facts.cgroup_mounts.get(controller, "") if controller else facts.cgroup_unified
    # A hierarchy may be mounted again for a container's view: the one in the usual place is the one to use.
    if known and (known.startswith(CGROUP_ROOT) or not point.startswith(CGROUP_ROOT)):
        return
    facts.cgroup_roots[controller] = root
    if controller:
        facts.cgroup_mounts[controller] = point
    else:
        facts.cgroup_unified = point


def _mode(facts: Facts) -> str:
    if facts.cgroup_unified == CGROUP_ROOT:
        return "unified"  # even if somebody mounted a v1 controller elsewhere (VPN programs do, for net_cls)
    if any("=" not in controller for controller in facts.cgroup_mounts):
        return "hybrid" if facts.cgroup_unified else "legacy"
    return "unified" if facts.cgroup_unified else "none"


def _umask() -> int:
    # Not umask(2): it can only be read by setting it, and another thread might create a file just then.
    status = _read("/proc/self/status")
    start = status.index(b"\nUmask:") + 7
    return int(status[start : status.index(b"\n", start)], 8)


def _read(path: str) -> bytes:
    try:
        fd = kernel.open(path, kernel.O_RDONLY | kernel.O_CLOEXEC)
        try:
            return kernel.read_all(fd)
        finally:
            kernel.close(fd)
    except OSError as error:
        raise errors.failed(f"read {path}", error) from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def unescape(path: str) -> str:
    """A path of mountinfo: space, tab, newline and backslash are \\ooo there, see proc(5)."""
    if "\\" not in path:
        return path
    for code in (" ", "\t", "\n", "\\"):
        path = path.replace(f"\\{ord(code):03o}", code)
    return path
