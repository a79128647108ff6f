"""Rules between the properties of one object, for pyoci.spec_rare: see pyoci.spec_cross."""

from __future__ import annotations

from pyoci.spec_rules import at, bad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.spec_rules import Found


def scheduler(value: Any) -> Found:
    """Row P13, sched_setattr(2): what belongs to another policy is an error."""
    policy = value["policy"]
    found: Found = None
    if value.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        found = at("priority", message=f"is for SCHED_FIFO and SCHED_RR, not {policy}")
    for name in ("runtime", "deadline", "period"):
        if value.get(name) and policy != "SCHED_DEADLINE":
            found = (found or []) + at(name, message=f"is for SCHED_DEADLINE, not {policy}")
    return found


def rdma(value: Any) -> Found:
    """Row C20."""
    if "hcaHandles" in value or "hcaObjects" in value:
        return None
    return bad("must have hcaHandles, hcaObjects or both")


def memory_policy(value: Any) -> Found:
    """Row Z04, set_mempolicy(2)."""
    mode, flags = value["mode"], value.get("flags", ())
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if value.get("nodes"):
            return at("nodes", message=f"must not be set with {mode}")
    elif mode != "MPOL_PREFERRED" and not value.get("nodes"):
        return at("nodes", message=f"is required with {mode}")
    if "MPOL_F_STATIC_NODES" in flags and "MPOL_F_RELATIVE_NODES" in flags:
        return at("flags", message="must not have both MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES")
    return None


WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")


def _errno(action: str, name: str, value: Any) -> Found:
    if name in value and action not in WITH_ERRNO:
        return at(name, message=f"must not be set, as {action} returns no errno")
    return None


def syscalls(value: Any) -> Found:
    """Rows S02, S08: write(2) must not wait for an agent that answers after we wrote to it."""
    found = _errno(value["action"], "errnoRet", value)
    if value["action"] == "SCMP_ACT_NOTIFY" and "write" in value["names"]:
        found = (found or []) + at("names", message="must not have write with SCMP_ACT_NOTIFY")
    return found


def seccomp(value: Any) -> Found:
    """Rows S02, S06, S07, S08."""
    default = value["defaultAction"]
    found = _errno(default, "defaultErrnoRet", value) or []
    if default == "SCMP_ACT_NOTIFY":
        found += at("defaultAction", message="cannot be SCMP_ACT_NOTIFY: the agent itself would wait")
    if "listenerPath" not in value:
        if "listenerMetadata" in value:
            found += at("listenerMetadata", message="must not be set without listenerPath")
        if any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in value.get("syscalls", ())):
            found += at("listenerPath", message="is required with SCMP_ACT_NOTIFY")
    return found
