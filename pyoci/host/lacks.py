"""What a valid config asks of this machine that it does not have: warnings of `pyoci validate`.  Cold.

Create decides; this only looks, so that the user knows before.
"""

from __future__ import annotations

import os

from pyoci import errors, linux
from pyoci.host import facts as host_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.plan.facts import Facts

# linux.resources property -> controller, on v1 and on v2 ("": v2 needs none, None: v2 has no such thing)
CONTROLLERS: dict[str, tuple[str, str | None]] = {
    "memory": ("memory", "memory"),
    "cpu": ("cpu", "cpu"),
    "pids": ("pids", "pids"),
    "blockIO": ("blkio", "io"),
    "hugepageLimits": ("hugetlb", "hugetlb"),
    "rdma": ("rdma", "rdma"),
    "devices": ("devices", ""),
}
ACTIONS = "/proc/sys/kernel/seccomp/actions_avail"
ACTION_WORDS = {"trap": "SCMP_ACT_TRAP", "errno": "SCMP_ACT_ERRNO", "trace": "SCMP_ACT_TRACE", "log": "SCMP_ACT_LOG"}
ACTION_WORDS |= {"kill_process": "SCMP_ACT_KILL_PROCESS", "user_notif": "SCMP_ACT_NOTIFY", "allow": "SCMP_ACT_ALLOW"}


def check(config: dict[str, Any]) -> Iterator[errors.Fault]:
    """What this machine lacks for a config that is valid: warnings, each with its JSON pointer.

    Raises errors.SetupError when /proc cannot be read.
    """
    facts = host_facts.read()
    part = config.get("linux") or {}
    yield from _namespaces(part)
    yield from _controllers(part.get("resources") or {}, facts)
    yield from _modules(config, facts)
    yield from _seccomp(part.get("seccomp") or {})
    yield from _kernel(part)
    yield from _file_systems(config.get("mounts") or ())
    yield from _capabilities((config.get("process") or {}).get("capabilities") or {})


def _namespaces(part: dict[str, Any]) -> Iterator[errors.Fault]:
    for index, entry in enumerate(part.get("namespaces") or ()):
        where = f"/linux/namespaces/{index}"
        if not os.path.exists(f"/proc/self/ns/{linux.NAMESPACE_FILES[entry['type']]}"):
            yield errors.Fault(where, f"this kernel has no {entry['type']} namespaces")
        elif "path" in entry and not os.path.exists(entry["path"]):
            yield errors.Fault(f"{where}/path", f"{entry['path']} is not there now")


def _controllers(resources: dict[str, Any], facts: Facts) -> Iterator[errors.Fault]:
    unified = facts.cgroup_mode == "unified"
    for name, (v1, v2) in CONTROLLERS.items():
        controller = v2 if unified else v1
        there = facts.cgroup_controllers if unified else tuple(facts.cgroup_mounts)
        if resources.get(name) and controller and controller not in there:
            yield errors.Fault(f"/linux/resources/{name}", f"the cgroup controller {controller} is not available here")
    if resources.get("network") and unified:
        yield errors.Fault("/linux/resources/network", "cgroup v2, which this machine has, knows no network settings")
    if resources.get("unified") and not unified:
        yield errors.Fault("/linux/resources/unified", "these are settings of cgroup v2, and this machine has v1")


def _modules(config: dict[str, Any], facts: Facts) -> Iterator[errors.Fault]:
    process = config.get("process") or {}
    label = (config.get("linux") or {}).get("mountLabel")
    for where, asked, there, name in (
        ("/process/apparmorProfile", process.get("apparmorProfile"), facts.apparmor, "AppArmor"),
        ("/process/selinuxLabel", process.get("selinuxLabel"), facts.selinux, "SELinux"),
        ("/linux/mountLabel", label, facts.selinux, "SELinux"),
    ):
        if asked and not there:
            yield errors.Fault(where, f"this host has no {name}", "create will refuse it: leave it out")


def _seccomp(profile: dict[str, Any]) -> Iterator[errors.Fault]:
    if not profile:
        return
    if not os.path.exists(ACTIONS):
        yield errors.Fault("/linux/seccomp", "this kernel has no seccomp filters")
        return
    with open(ACTIONS, encoding="ascii") as file:
        lacking = set(ACTION_WORDS.values()) - {ACTION_WORDS.get(word) for word in file.read().split()}
    rules = [
        (f"/linux/seccomp/syscalls/{n}/action", rule["action"]) for n, rule in enumerate(profile.get("syscalls", ()))
    ]
    for where, action in [("/linux/seccomp/defaultAction", profile["defaultAction"]), *rules]:
        if action in lacking:
            yield errors.Fault(where, f"this kernel does not know {action}")
    path = profile.get("listenerPath")
    if path and not os.path.exists(path):
        yield errors.Fault("/linux/seccomp/listenerPath", f"nobody listens at {path} now")


def _kernel(part: dict[str, Any]) -> Iterator[errors.Fault]:
    if part.get("intelRdt") and not os.path.exists("/sys/fs/resctrl/schemata"):
        yield errors.Fault("/linux/intelRdt", "resctrl is not mounted, or this kernel has none")
    if part.get("memoryPolicy") and not os.path.exists("/proc/self/numa_maps"):
        yield errors.Fault("/linux/memoryPolicy", "this kernel knows no NUMA")
    for name in part.get("netDevices") or ():
        if not os.path.exists(f"/sys/class/net/{name}"):
            yield errors.Fault(f"/linux/netDevices/{name}", "there is no such network device now")


def _file_systems(mounts: Any) -> Iterator[errors.Fault]:
    with open("/proc/filesystems", encoding="ascii") as file:
        known = {line.split()[-1] for line in file}
    for index, mount in enumerate(mounts):
        options = mount.get("options") or ()
        where = f"/mounts/{index}"
        if "bind" in options or "rbind" in options:
            source = mount.get("source", "")
            if source.startswith("/") and not os.path.exists(source) and "nofail" not in options:
                yield errors.Fault(f"{where}/source", f"{source} is not there now")
        elif mount.get("type") and mount["type"] not in known | {"none", "bind", "cgroup", "fuse"}:
            hint = "it may be a module that is loaded when it is needed"
            yield errors.Fault(f"{where}/type", f"this kernel has no file system {mount['type']} loaded", hint)


def _capabilities(sets: dict[str, list[str]]) -> Iterator[errors.Fault]:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    for kind, names in sets.items():
        for index, name in enumerate(names):
            bit = linux.CAPABILITY_BIT.get(name)
            where = f"/process/capabilities/{kind}/{index}"
            if bit is None:
                yield errors.Fault(where, f"{errors.one_line(name)} is not known", "it is left out")
            elif not bounding >> bit & 1:
                yield errors.Fault(where, f"{name} is not ours to give", "it is left out")
