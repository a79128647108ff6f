"""What the builders of one plan share while it is made."""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.cgroup import CgroupPlan
    from pyoci.plan.facts import Facts
    from pyoci.plan.options import Options


class Draft:
    """A plan in the making.

    config, facts, options: what it is made of
    linux:      dict, config["linux"] or {}
    namespaces: dict, type -> path to join, "" for a new one; absent ones are inherited
    cgroup:     the cgroup part, or None
    apart:      bool, sources are in another mount namespace than destinations: they are opened before it is joined
    fds:        descriptors the host side has to open
    trees:      `tree` ops: bind sources that are opened before the host's rights are given up
    slots:      how many descriptors of mounts nsexec keeps: of the trees, and of what `late` makes read-only
    late:       ops that make read-only what had to be writable while the root was being set up
    warnings:   what is not as asked, and no error
    """

    __slots__ = (
        "apart",
        "cgroup",
        "config",
        "facts",
        "fds",
        "late",
        "linux",
        "namespaces",
        "options",
        "slots",
        "trees",
        "warnings",
    )

    def __init__(self, config: dict[str, Any], facts: Facts, options: Options, namespaces: dict[str, str]) -> None:
        self.config = config
        self.facts = facts
        self.options = options
        self.linux: dict[str, Any] = config.get("linux") or {}
        self.namespaces = namespaces
        self.cgroup: CgroupPlan | None = None
        self.apart = False
        self.fds: list[str] = []
        self.trees: list[ops.Op] = []
        self.slots = 0
        self.late: list[ops.Op] = []
        self.warnings: list[str] = []

    @property
    def limited(self) -> bool:
        """Whether the process has no rights over the initial user namespace's objects: no mknod, no host's files."""
        return "user" in self.namespaces or self.facts.userns or self.facts.euid != 0

    @property
    def locking(self) -> bool:
        """Whether what was opened goes into a user namespace, which must not undo what the host did to its mounts."""
        return bool(self.trees) and "user" in self.namespaces and self.facts.euid == 0

    def source(self, path: str, flags: int, where: str, idmap: int = 0, **attributes: int) -> int:
        """The slot of a bind source, or -1 when the process may open it as itself.

        Host root that enters a user namespace loses the right to search the host's directories and to map the ids
        of its mounts (idmap: see the op), so the source is opened before; its attributes are set then as well.
        """
        if (
            not idmap
            and not self.apart
            and ("user" not in self.namespaces or self.facts.userns or self.facts.euid != 0)
        ):
            return -1
        self.slots += 1
        self.trees.append(
            ops.op("tree", path, slot=self.slots - 1, flags=flags, idmap=idmap, where=where, **attributes)
        )
        return self.slots - 1

    def read_only_later(self, dest: str, where: str) -> int:
        """The `keep` of a mount that becomes read-only when everything is in place."""
        self.late.append(ops.op("seal", dest, slot=self.slots, where=where))
        self.slots += 1
        return self.slots

    def descriptor(self, name: str) -> int:
        """The index in Plan.fds of a descriptor that the host side opens; see Plan.  Raises InvalidConfig."""
        if name not in self.fds:
            if len(self.fds) == ops.MAX_FDS - 1:  # one is left for the fifo
                raise errors.InvalidConfig(f"the plan needs more than {ops.MAX_FDS} descriptors: {name}")
            self.fds.append(name)
        return self.fds.index(name)


def clean(path: str) -> str:
    """path without "", "." and ".." components, absolute: how it reads if nothing on it is a symlink."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
