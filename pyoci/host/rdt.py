"""Classes of service and monitoring groups of resctrl (rows Z05 to Z09); see plan.rdt.

In this order, so that a SIGKILL in between leaves what delete can clean: check (changes nothing; its record goes
to state.json), create, enter.
"""

from __future__ import annotations

import errno

from pyoci import errors, kernel
from pyoci.host import cgroupfs
from pyoci.plan import rdt as plan_rdt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.rdt import Rdt

# where the kernel's documents mount it; tests put a directory of theirs in its place
root = "/sys/fs/resctrl"


def check(plan: Rdt) -> dict[str, Any]:
    """See whether the class can be used.  Raises errors.SetupError.

    Returns the record: groups (directories whose `tasks` the container's processes go into), remove (those that
    delete removes, deepest first), new (the class is to be made).
    """
    if not kernel.exists(f"{root}/schemata"):
        raise errors.SetupError(
            "Intel RDT is not available",
            where=plan_rdt.WHERE,
            hint=f"the CPU has to have it, and resctrl has to be mounted on {root}",
        )
    group = f"{root}/{plan.group}".rstrip("/")
    new = not kernel.isdir(group)
    if new and plan.named and not plan.schemas:
        raise errors.SetupError(
            f"there is no RDT class {plan.group}",
            where=f"{plan_rdt.WHERE}/closID",
            hint=f"make {group}, or give schemata to make it with",
        )
    if not new and plan.named:
        _compare(plan, group)
    record: dict[str, Any] = {"groups": [group], "remove": [], "new": new}
    if plan.monitor:
        record["groups"].append(f"{group}/mon_groups/{plan.monitor}")
        record["remove"].append(record["groups"][1])
    if new and not plan.named:
        record["remove"].append(group)
    return record


def _compare(plan: Rdt, group: str) -> None:
    """Row Z07: a class that is there is somebody's: it has to be what was asked for."""
    try:
        there = plan_rdt.domains(cgroupfs.read(f"{group}/schemata").decode(), plan_rdt.WHERE)
    except OSError as error:
        raise errors.failed(f"read {group}/schemata", error, plan_rdt.WHERE) from None
    for text, where in plan.schemas:
        for (resource, domain), value in plan_rdt.domains(text, where).items():
            found = there.get((resource, domain))
            if found != value:
                raise errors.SetupError(
                    f"the RDT class {plan.group} has {resource}:{domain}={found or '?'}, not {value}", where=where
                )


def create(plan: Rdt, record: dict[str, Any]) -> None:
    """Make the class with its schemata, and the monitoring group.  Raises errors.SetupError."""
    group = record["groups"][0]
    if record["new"]:
        _mkdir(group, f"{plan_rdt.WHERE}/closID" if plan.named else plan_rdt.WHERE)
    # the class of an earlier container of this id without closID is not compared: it is this container's
    if record["new"] or not plan.named:
        for text, where in plan.schemas:
            _write(f"{group}/schemata", text.rstrip("\n") + "\n", where)
    if plan.monitor:
        _mkdir(record["groups"][1], f"{plan_rdt.WHERE}/enableMonitoring")


def enter(record: dict[str, Any], pid: int) -> None:
    """Put a process into the class and the monitoring group.  Raises errors.SetupError."""
    for group in record["groups"]:
        _write(f"{group}/tasks", str(pid), plan_rdt.WHERE)


def destroy(record: dict[str, Any]) -> None:
    """Remove what is the container's.  Gone already: no error.  Raises errors.SetupError."""
    for directory in record["remove"]:
        _rmdir(directory)


def undo(record: dict[str, Any]) -> None:
    """After a failed create: also a class that was made under a name of the config.  Raises errors.SetupError."""
    destroy(record)
    if record["new"]:
        _rmdir(record["groups"][0])


def make_directory(path: str) -> None:
    """mkdir(2), upon which resctrl makes the files."""
    kernel.mkdir(path, 0o755)


def _mkdir(path: str, where: str) -> None:
    try:
        make_directory(path)
    except FileExistsError:
        return
    except OSError as error:
        hint = "the hardware has no class or monitor left" if error.errno == errno.ENOSPC else ""
        raise errors.failed(f"make {path}", error, where, hint) from None


def _rmdir(path: str) -> None:
    try:
        kernel.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise errors.failed(f"remove {path}", error, plan_rdt.WHERE) from None


def _write(file: str, text: str, where: str) -> None:
    try:
        cgroupfs.write(file, text)
    except OSError as error:
        status = cgroupfs.read(f"{root}/info/last_cmd_status").decode() if kernel.exists(f"{root}/info") else ""
        why = f" ({status.strip()})" if status.strip() not in ("", "ok") else ""
        raise errors.failed(f"write {text.strip()!r} to {file}{why}", error, where) from None
