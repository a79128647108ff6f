"""pause, resume, and who is in a container."""

from __future__ import annotations

from pyoci import errors
from pyoci.host import cgroup, cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.host.process import Process
    from pyoci.host.state import Directory


def pause(directory: Directory) -> None:
    """See Container.pause."""
    directory.lock()
    record = directory.load()
    status = directory.status(record)
    if status not in ("created", "running"):
        raise errors.WrongState(f"container not running: it is {status}")
    cgroup.freeze(record["cgroup"] or _none())


def resume(directory: Directory) -> None:
    """See Container.resume."""
    directory.lock()
    record = directory.load()
    # not by the status: a container that was frozen before `start` is created as well
    if not record or not record["cgroup"] or not cgroupfs.frozen(record["cgroup"]):
        raise errors.WrongState("container not paused")
    cgroup.thaw(record["cgroup"])


def _none() -> dict[str, Any]:
    return {"version": 1, "dirs": {}}


def pids(record: dict[str, Any], init: Process) -> list[int]:
    """See Container.pids."""
    if record and record["cgroup"] and cgroup.tree(record["cgroup"]):
        return cgroup.pids(record["cgroup"])
    from pyoci.host import members

    return members.without_cgroup(init)
