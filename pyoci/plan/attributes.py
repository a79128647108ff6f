"""What few processes ask for: scheduling, I/O priority, CPUs, NUMA, personality, labels (P08 P13-P16, Z02-Z04)."""

from __future__ import annotations

from pyoci import errors, json
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.draft import Draft

# sched(7), linux/sched.h
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
# ioprio_set(2)
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
# personality(2)
PERSONAS = {"LINUX": 0, "LINUX32": 8}
# set_mempolicy(2)
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
_HIGHEST = 8 * 8192 - 1  # the last CPU or node that fits into nsexec's masks


def early(process: dict[str, Any], joining: bool) -> list[ops.Op]:
    """While the process has the rights of the host.  joining: it is one of `exec` (row P16)."""
    steps = []
    affinity = process.get("execCPUAffinity") or {}
    if joining and affinity.get("initial"):
        steps.append(_affinity(affinity["initial"], "initial"))
    scheduler = process.get("scheduler")
    if scheduler and not _of_the_child(scheduler):
        steps.append(_scheduler(scheduler))
    if process.get("ioPriority"):
        wanted = process["ioPriority"]
        name = wanted["class"]
        priority = wanted.get("priority") or 0
        steps.append(
            ops.op("io_priority", name, **{"class": IO_CLASSES[name]}, priority=priority, where="/process/ioPriority")
        )
    return steps


def final_affinity(process: dict[str, Any]) -> list[ops.Op]:
    """Row P16, when the process is in the container's cgroup."""
    final = process["execCPUAffinity"].get("final")
    return [_affinity(final, "final")] if final else []


def late_scheduler(process: dict[str, Any]) -> ops.Op | None:
    """The scheduler op that is for the host side, with its rights and on the finished process; else None."""
    wanted = process["scheduler"]
    return _scheduler(wanted) if _of_the_child(wanted) else None


def _of_the_child(scheduler: dict[str, Any]) -> bool:
    """Whether fork(2) would not hand it on, or not be allowed: sched(7)."""
    return scheduler["policy"] == "SCHED_DEADLINE" or "SCHED_FLAG_RESET_ON_FORK" in (scheduler.get("flags") or ())


def _scheduler(wanted: dict[str, Any]) -> ops.Op:
    """Row P13."""
    flags = 0
    for name in wanted.get("flags") or ():
        flags |= SCHED_FLAGS[name]
    name = wanted["policy"]
    numbers = {key: wanted.get(key) or 0 for key in ("nice", "priority", "runtime", "deadline", "period")}
    for key in ("runtime", "deadline", "period"):
        if numbers[key] >> 63:
            raise errors.InvalidConfig(f"{key} {numbers[key]} is too large", where=f"/process/scheduler/{key}")
    return ops.op("scheduler", name, policy=POLICIES[name], options=flags, where="/process/scheduler", **numbers)


def _affinity(cpus: str, key: str) -> ops.Op:
    where = f"/process/execCPUAffinity/{key}"
    return ops.op("affinity", cpus, mask(cpus, where), where=where)


def mask(text: str, where: str) -> bytes:
    """A list like "0-3,7" as a bit mask of whole longs, little endian.  Raises InvalidConfig."""
    bits = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = json.decimal(first), json.decimal(last if dash else first)
        if low is None or high is None:
            raise errors.InvalidConfig(f"{errors.value(text)!r} is no list of numbers", where=where)
        if not low <= high <= _HIGHEST:
            raise errors.InvalidConfig(f"{part.strip()} is no range from 0 to {_HIGHEST}", where=where)
        bits |= (1 << high + 1) - (1 << low)
    return bits.to_bytes((bits.bit_length() + 63) // 64 * 8, "little")


def labels(draft: Draft, process: dict[str, Any]) -> list[ops.Op]:
    """Rows P08, P14: what the next execve(2) gets.  Raises SetupError where the host has no such module."""
    steps = []
    profile = process.get("apparmorProfile")
    if profile and not draft.facts.apparmor and profile != "unconfined":
        raise _missing("AppArmor", "profile", "/process/apparmorProfile")
    if profile and draft.facts.apparmor:
        files = ("self/attr/apparmor/exec", "self/attr/exec")
        steps.append(ops.op("label", *files, f"exec {profile}", where="/process/apparmorProfile"))
    label = process.get("selinuxLabel")
    if label:
        if not draft.facts.selinux:
            raise _missing("SELinux", "label", "/process/selinuxLabel")
        steps.append(ops.op("label", "self/attr/exec", "", label, where="/process/selinuxLabel"))
    return steps


def key_label(draft: Draft, process: dict[str, Any]) -> list[ops.Op]:
    """Row P14: the session keyring is labelled as the process is; execve(2) takes this setting back."""
    label = process.get("selinuxLabel")
    if not label or not draft.facts.selinux:
        return []
    return [ops.op("label", "self/attr/keycreate", "", label, where="/process/selinuxLabel")]


def _missing(module: str, what: str, where: str) -> errors.SetupError:
    return errors.SetupError(
        f"this host has no {module}: the {what} cannot be applied", where=where, hint="leave it out, or boot with it"
    )


def of_container(draft: Draft) -> list[ops.Op]:
    """Rows Z02, Z04: for init and for exec, in the cgroup whose memory nodes count."""
    steps = []
    personality = draft.linux.get("personality")
    if personality:
        name = personality["domain"]
        steps.append(ops.op("personality", name, persona=PERSONAS[name], where="/linux/personality"))
    policy = draft.linux.get("memoryPolicy")
    if policy:
        mode = MEMORY_MODES[policy["mode"]]
        for name in policy.get("flags") or ():
            mode |= MEMORY_FLAGS[name]
        nodes = policy.get("nodes") or ""
        bits = mask(nodes, "/linux/memoryPolicy/nodes") if nodes else b""
        steps.append(ops.op("mempolicy", nodes, bits, memory=mode, where="/linux/memoryPolicy"))
    return steps
