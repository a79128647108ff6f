"""Other Intel RDT schemata for a running process: its control group is found by its tasks.

Source: the kernel's resctrl.rst.
"""

from __future__ import annotations

import os

from pyoci import errors
from pyoci.host import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "/sys/fs/resctrl"


def write(pid: int, schemata: Iterable[str], root: str = ROOT) -> None:
    """Write schemata ("L3:0=f") of the control group that the process pid is in.

    Raises errors.SetupError when there is no resctrl, when the process is in no group of its own, and for what
    the kernel refuses.
    """
    if not os.path.exists(f"{root}/schemata"):
        raise errors.SetupError(
            "Intel RDT is not available", hint=f"the CPU has to have it, and resctrl has to be mounted on {root}"
        )
    group = group_of(pid, root)
    for line in schemata:
        try:
            cgroupfs.write(f"{group}/schemata", line.rstrip("\n") + "\n")
        except OSError as error:
            raise errors.failed(f"set {line!r} in {group}/schemata", error) from None


def group_of(pid: int, root: str = ROOT) -> str:
    """The directory of the control group of a process.  Raises errors.SetupError when it is the root's."""
    for entry in sorted(os.listdir(root)):
        try:
            if str(pid) in cgroupfs.read(f"{root}/{entry}/tasks").decode().split():
                return f"{root}/{entry}"
        except OSError:  # no group: a file, or info, mon_groups, mon_data
            continue
    raise errors.SetupError("the container is in no RDT control group of its own", hint="create it with linux.intelRdt")
