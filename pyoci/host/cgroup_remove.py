"""The end of a container's cgroup: its directories, and whatever still runs in them."""

from __future__ import annotations

import select
import time

from pyoci import errors, kernel
from pyoci.host import cgroupfs
from pyoci.plan import cgroup as plan_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.host.cgroup import Record

EMPTY_TIME = 10.0  # seconds until a cgroup whose processes were killed must be empty


def destroy(record: Record) -> None:
    """Remove the container's cgroup with whatever the container made below it; end what still runs in it.

    Parents stay (others may use them; runc leaves them too), and so do directories that were there before create.
    Gone already: no error.  Raises errors.SetupError when processes do not die.
    """
    left = _remove(record, [directory for _, directory in plan_cgroup.unique(record)])
    if not left and not record["keep"]:
        return
    from pyoci.host import cgroup

    survivors = cgroup.pids(record)
    if survivors:
        cgroup.kill(record, cgroup.SIGKILL)
        _wait_for(survivors)
    for pause in cgroupfs.pauses(time.monotonic() + EMPTY_TIME):
        left = _remove(record, left)
        if not left:
            return
        if record["version"] == 2:
            cgroupfs.wait_event(left[0], b"populated 0", pause)
        else:
            select.poll().poll(pause * 1000)
    raise errors.SetupError(f"cgroup {left[0]} cannot be removed: processes {cgroup.pids(record)} are still in it")


def _wait_for(processes: list[int]) -> None:
    """Wait until the processes have ended, EMPTY_TIME for all of them."""
    from pyoci.host import cgroup

    deadline = time.monotonic() + EMPTY_TIME
    for pid in processes:
        pidfd = cgroup.pidfd(pid)
        if pidfd >= 0:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll(max(0, deadline - time.monotonic()) * 1000)
            kernel.close(pidfd)


def _remove(record: Record, directories: list[str]) -> list[str]:
    """Remove these with those below them, deepest first; what was there before create keeps its top.

    Returns those that are still busy.
    """
    return [directory for directory in directories if not _remove_tree(directory, directory in record["keep"])]


def _remove_tree(top: str, keep: bool) -> bool:
    if not keep and cgroupfs.rmdir(top):  # the usual case: no children
        return True
    busy = [name for fd, name in cgroupfs.walk(top) if not cgroupfs.rmdir(name, fd)]
    return not busy and (keep or cgroupfs.rmdir(top))
