"""G11: annotations, and the features document (features.md, features-linux.md)."""

from __future__ import annotations

import signal
from typing import Any

from conformance import machine
from conformance.box import Box, fail, has, holds, same
from conformance.runner import check

TOP = {
    "ociVersionMin",
    "ociVersionMax",
    "hooks",
    "mountOptions",
    "linux",
    "annotations",
    "potentiallyUnsafeConfigAnnotations",
    "solaris",
    "windows",
    "vm",
}
LINUX = {  # property: what it may hold, None for a list
    "namespaces": None,
    "capabilities": None,
    "cgroup": {"v1", "v2", "systemd", "systemdUser", "rdma"},
    "seccomp": {"enabled", "actions", "operators", "archs", "knownFlags", "supportedFlags"},
    "apparmor": {"enabled"},
    "selinux": {"enabled"},
    "intelRdt": {"enabled", "schemata", "monitoring"},
    "memoryPolicy": {"modes", "flags"},
    "mountExtensions": {"idmap"},
    "netDevices": {"enabled"},
}
HOOKS = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
OPTIONS = set(
    "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec "
    "noiversion nolazytime norelatime nostrictatime nosuid private ratime rbind rdev rdiratime relatime remount "
    "rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid ro rprivate rrelatime rro rrw "
    "rshared rslave rstrictatime rsuid runbindable rw shared silent slave strictatime suid sync unbindable".split()
)
NAMESPACES = {"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"}


SECCOMP_LISTS = {  # property: (how many there must be at least, how each begins)
    "actions": (7, "SCMP_ACT_"),
    "operators": (7, "SCMP_CMP_"),
    "archs": (1, "SCMP_ARCH_"),
    "knownFlags": (3, "SECCOMP_FILTER_FLAG_"),
    "supportedFlags": (1, "SECCOMP_FILTER_FLAG_"),
}


def features(box: Box) -> dict[str, Any]:
    """The document; a runtime without it fails."""
    if box.suite.features is None:
        fail("`features` prints no document")
    return box.suite.features


def part(box: Box, *names: str, kind: type = dict) -> Any:
    """A property of the document, which must be there."""
    place: Any = features(box)
    for name in names:
        if not isinstance(place, dict) or name not in place:
            fail(f"there is no {'.'.join(names)}")
        place = place[name]
    holds(isinstance(place, kind), f"{'.'.join(names)} is {place!r}")
    return place


@check("A01")
def annotations(box: Box) -> None:
    """Annotations are strings with names that are not empty; unknown ones are kept and ignored."""
    box.alone(lambda b: b.config.update(annotations={"org.example": 1}), "a value that is no string")
    box.alone(lambda b: b.config.update(annotations={"": "x"}), "an empty name")
    box.config["annotations"] = {"org.example.unknown": "", "x": "y"}
    box.create()
    same(box.state().get("annotations"), box.config["annotations"], "annotations of the state")


@check("A02")
def stop_signal(box: Box) -> None:
    """org.opencontainers.image.stopSignal is the signal of a kill without one."""
    box.config["annotations"] = {"org.opencontainers.image.stopSignal": "SIGUSR2"}
    box.script("trap 'exit 9' USR2; trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done")
    pid = box.up()
    holds(machine.until(lambda: "ready" in box.logs()), "the program does not run")
    box.kill()
    same(machine.wait_for(pid, 5), 9, "exit code (8: it was SIGTERM)")


@check("A02")
def default_signal(box: Box) -> None:
    """Without it the signal is SIGTERM."""
    box.script("trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done")
    pid = box.up()
    holds(machine.until(lambda: "ready" in box.logs()), "the program does not run")
    box.kill()
    same(machine.wait_for(pid, 5), 8, f"exit code ({signal.SIGTERM!r})")


@check("F01")
def versions(box: Box) -> None:
    """ociVersionMin and Max, both of which create accepts; nothing that the spec does not define."""
    for name in ("ociVersionMin", "ociVersionMax"):
        box.config["ociVersion"] = part(box, name, kind=str)
        same(box.output("echo", "x"), "x\n", f"with {name}")
    same(set(features(box)) - TOP, set(), "properties that the spec does not define")
    found = part(box, "linux")
    same(set(found) - set(LINUX), set(), "properties of linux that the spec does not define")
    for name, properties in LINUX.items():
        if properties and name in found:
            same(set(found[name]) - properties, set(), f"properties of linux.{name} that the spec does not define")


@check("F02")
def hooks_and_options(box: Box) -> None:
    """hooks and mountOptions name those of the spec."""
    same(set(part(box, "hooks", kind=list)), HOOKS, "hooks")
    same(OPTIONS - set(part(box, "mountOptions", kind=list)), set(), "mountOptions that are missing")


@check("F03")
def namespaces(box: Box) -> None:
    """linux.namespaces and capabilities."""
    same(set(part(box, "linux", "namespaces", kind=list)), NAMESPACES, "namespaces")
    names = part(box, "linux", "capabilities", kind=list)
    holds({"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF"} <= set(names), f"capabilities are {names}")


@check("F04")
def cgroup(box: Box) -> None:
    """linux.cgroup says v1, v2, systemd, systemdUser, rdma."""
    found = part(box, "linux", "cgroup")
    names = {"v1", "v2", "systemd", "systemdUser", "rdma"}
    same({name for name in names if type(found.get(name)) is not bool}, set(), "properties that are no boolean")


@check("F05")
def seccomp(box: Box) -> None:
    """linux.seccomp lists actions, operators, architectures and flags."""
    found = part(box, "linux", "seccomp")
    same(found.get("enabled"), True, "enabled")
    for name, (count, prefix) in SECCOMP_LISTS.items():
        words = found.get(name) or []
        holds(len(words) >= count and all(word.startswith(prefix) for word in words), f"{name} is {words}")
    holds(set(found["supportedFlags"]) <= set(found["knownFlags"]), "supportedFlags has what knownFlags lacks")


@check("F06")
def lsms(box: Box) -> None:
    """linux.apparmor and linux.selinux."""
    for name in ("apparmor", "selinux"):
        part(box, "linux", name, "enabled", kind=bool)


@check("F07")
def memory_policy(box: Box) -> None:
    """linux.memoryPolicy lists modes and flags."""
    has(" ".join(part(box, "linux", "memoryPolicy", "modes", kind=list)), "MPOL_INTERLEAVE", "modes")
    has(" ".join(part(box, "linux", "memoryPolicy", "flags", kind=list)), "MPOL_F_STATIC_NODES", "flags")


@check("F08")
def intel_rdt(box: Box) -> None:
    """linux.intelRdt says enabled, schemata, monitoring."""
    for name in ("enabled", "schemata", "monitoring"):
        part(box, "linux", "intelRdt", name, kind=bool)


@check("F09")
def extensions(box: Box) -> None:
    """linux.mountExtensions.idmap and linux.netDevices."""
    part(box, "linux", "mountExtensions", "idmap", "enabled", kind=bool)
    part(box, "linux", "netDevices", "enabled", kind=bool)


@check("F10")
def annotations_of_runtime(box: Box) -> None:
    """annotations, and potentiallyUnsafeConfigAnnotations, in which an end in "." means a prefix."""
    notes = part(box, "annotations")
    holds(all(type(value) is str for value in notes.values()), "values of annotations that are no strings")
    unsafe = part(box, "potentiallyUnsafeConfigAnnotations", kind=list)
    holds(all(type(name) is str and name for name in unsafe), f"potentiallyUnsafeConfigAnnotations is {unsafe}")
