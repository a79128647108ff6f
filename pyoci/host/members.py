"""The processes of a container that has no cgroup of its own, found through /proc."""

from __future__ import annotations

import os

from pyoci.host import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def without_cgroup(init: process.Process) -> list[int]:
    """init, its descendants, and whoever is in its pid namespace, if that is not ours; sorted.

    A snapshot.  A process that left both (it daemonized, and there is no pid namespace) is not found.
    """
    if not init.running():
        return []
    parents = dict(_parents())
    own, theirs = _namespace(os.getpid()), _namespace(init.pid)
    found = {init.pid}
    if theirs and theirs != own:
        found.update(pid for pid in parents if _namespace(pid) == theirs)
    grown = True
    while grown:  # children of a namespace's processes may be in one below it
        children = {pid for pid, parent in parents.items() if parent in found}
        grown = not children <= found
        found |= children
    return sorted(found)


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it has ended
                continue
            yield int(name), int(fields[1])


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
