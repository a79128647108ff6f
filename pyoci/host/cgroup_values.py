"""What cgroup files say now, in the form in which it can be written back: `update` restores it after a failure."""

from __future__ import annotations

from pyoci import errors, kernel
from pyoci.host import cgroupfs
from pyoci.plan.cgroup import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# file -> what stands for "no limit" behind the device in files with one line for each device
UNSET = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "rdma.max": "hca_handle=max hca_object=max",
}
NO_WEIGHT = ("cpu.weight", "0")  # while cpu.idle is 1; it cannot be written
PLAIN = ("cpu.max", "memory.oom_control")  # several words, but one value


def text(file: str) -> str:
    """A file's content without the last newline, "" when it cannot be read."""
    try:
        return cgroupfs.read(file).decode("utf-8", "surrogateescape").strip()
    except OSError:
        return ""


def before(writes: Iterable[Write]) -> list[Write]:
    """The writes that undo these, last first.  Files that are not there have nothing to undo.

    Device rules of v1 are no values: plan/devchange.py has what undoes them."""
    undo: list[Write] = []
    for write in writes:
        while write.other and not kernel.exists(write.file):
            write = write.other  # noqa: PLW2901
        name = write.file.rpartition("/")[2]
        if kernel.exists(write.file):
            value = old(name, text(write.file), write.value)
            if (name, value) != NO_WEIGHT:
                undo.append(Write(write.file, value, write.where))
    undo.reverse()
    return undo


def changed(undo: list[Write]) -> list[Write]:
    """Those of before(), with one value for a file, whose files say something else by now."""
    now = {write.file: write.value for write in before(undo)}
    return [write for write in undo if now.get(write.file) != write.value]


def old(name: str, content: str, value: str) -> str:
    """What to write into the file called name, whose content is this, to undo writing value."""
    lines = content.split("\n")
    if name == "memory.oom_control":
        return lines[0].rpartition(" ")[2]
    key, space, _ = value.partition(" ")
    if space and name not in PLAIN:
        for line in lines:
            if line.split(" ")[0] == key:
                return line
        return f"{key} {UNSET.get(name, '0')}"
    if lines[0].startswith("default "):
        return lines[0].partition(" ")[2]
    return content or "\n"  # an empty write would be none


def check_memory(record: dict[str, Any], limit: int, where: str) -> None:
    """Row C08, checkBeforeUpdate.  Raises errors.SetupError when the cgroup uses more than the new limit."""
    version = record["version"]
    directory = record["dirs"].get("" if version == 2 else "memory", "")
    used = text(f"{directory}/memory.current" if version == 2 else f"{directory}/memory.usage_in_bytes")
    if 0 < limit < int(used or 0):
        raise errors.SetupError(
            f"the container uses {used} bytes of memory, more than the new limit of {limit}",
            where=where,
            hint="give a higher limit, or leave checkBeforeUpdate out to have the kernel reclaim or kill",
        )
