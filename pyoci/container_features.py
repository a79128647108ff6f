"""features: what this runtime can do on this machine (features.md, features-linux.md; rows F01 to F10)."""

from __future__ import annotations

import os

from pyoci import errors, linux, spec
from pyoci.host import facts as host_facts
from pyoci.host import probe
from pyoci.plan import attributes, make, mountopts, seccomp, syscalls
from pyoci.plan.facts import Facts
from pyoci.plan.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OLDEST = "1.0.0"
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
# what the kernel calls the actions of seccomp
KERNEL_ACTIONS = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_KILL": "kill_thread",
    "SCMP_ACT_KILL_PROCESS": "kill_process",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_NOTIFY": "user_notif",
    "SCMP_ACT_TRACE": "trace",
    "SCMP_ACT_TRAP": "trap",
}
UNSAFE = ("org.criu.config", "org.systemd.property.", "run.oci.")  # a dot at the end: all that begin so


def document() -> dict[str, Any]:
    """The features document.  Raises errors.SetupError without /proc."""
    facts = host_facts.read()
    return {
        "ociVersionMin": OLDEST,
        "ociVersionMax": spec.VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(set(mountopts.NAMES)),
        "linux": {
            "namespaces": probe.namespaces(),
            "capabilities": list(linux.CAPABILITIES[: facts.last_cap + 1]),
            "cgroup": cgroup(facts),
            "seccomp": seccomp_part(),
            **security(),
            "intelRdt": rdt(),
            "memoryPolicy": memory_policy(),
            "mountExtensions": {"idmap": {"enabled": probe.release() >= (5, 12)}},
            "netDevices": {"enabled": understood({"netDevices": {"dummy": {}}})},
        },
        "annotations": {},
        "potentiallyUnsafeConfigAnnotations": list(UNSAFE),
    }


def cgroup(facts: Facts) -> dict[str, bool]:
    """Which of the cgroup drivers can be used here."""
    systemd = os.path.isdir("/run/systemd/system") and driver_exists()
    controllers = {*facts.cgroup_controllers, *facts.cgroup_mounts}
    return {
        "v1": facts.cgroup_mode in ("legacy", "hybrid"),
        "v2": facts.cgroup_mode in ("unified", "hybrid"),
        "systemd": systemd,
        "systemdUser": systemd and facts.cgroup_mode == "unified",
        "rdma": "rdma" in controllers,
    }


def driver_exists() -> bool:
    """Whether there is a driver that asks systemd for cgroups."""
    try:
        make(_config({}), Facts(), Options("ID", "/", cgroup_manager="systemd"))
    except errors.Error as error:
        return "not available" not in error.message
    return True


def seccomp_part() -> dict[str, Any]:
    """The seccomp object."""
    known = probe.seccomp_actions()
    if not known:
        return {"enabled": False}
    return {
        "enabled": True,
        "actions": [name for name, its in KERNEL_ACTIONS.items() if its in known],
        "operators": sorted(f"SCMP_CMP_{name}" for name in seccomp.OPERATORS),
        "archs": sorted(syscalls.TOKENS),
        "knownFlags": list(seccomp.FLAGS),
        "supportedFlags": [name for name, flag in seccomp.FLAGS.items() if probe.seccomp_flag(flag)],
    }


def security() -> dict[str, Any]:
    """The apparmor and the selinux object."""
    active = probe.security_modules()
    wanted = {"apparmor": {"apparmorProfile": "x"}, "selinux": {"selinuxLabel": "x"}}
    return {name: {"enabled": name in active and understood({}, process)} for name, process in wanted.items()}


def rdt() -> dict[str, bool]:
    """The intelRdt object."""
    has = "resctrl" in probe.filesystems() and understood({"intelRdt": {"closID": "x"}})
    monitoring = has and os.path.isdir("/sys/fs/resctrl/mon_groups")
    return {"enabled": has, "schemata": has, "monitoring": monitoring}


def memory_policy() -> dict[str, list[str]]:
    """The memoryPolicy object."""
    bind = attributes.MEMORY_MODES["MPOL_BIND"]
    return {
        "modes": [name for name, mode in attributes.MEMORY_MODES.items() if probe.memory_policy(mode)],
        "flags": [name for name, flag in attributes.MEMORY_FLAGS.items() if probe.memory_policy(bind | flag)],
    }


def understood(linux_part: dict[str, Any], process: dict[str, Any] | None = None) -> bool:
    """Whether a plan can be made of such a config: the plan is asked, so that this cannot say otherwise."""
    try:
        make(_config(linux_part, process), Facts(), Options("ID", "/", cgroup_manager="disabled"))
    except errors.Error as error:
        return "not supported" not in error.message
    return True


def _config(linux_part: dict[str, Any], process: dict[str, Any] | None = None) -> dict[str, Any]:
    spaces = [{"type": kind} for kind in ("mount", "network")]
    program = {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}, **(process or {})}
    return {"root": {"path": "/"}, "process": program, "linux": {"namespaces": spaces, **linux_part}}
