"""--userns=auto: a user namespace for one container, with ids of the host that no other container has.

The ids come from the lines of `mydocker` (or podman's `containers`) in /etc/subuid and /etc/subgid.  What is on disk
keeps the ids that the image has: the layers and the container's own directory are mounted with their ids mapped
(mount_setattr(2), MOUNT_ATTR_IDMAP), so diff, commit and the next container know nothing of it.
"""

from __future__ import annotations

import os

from pyoci.mydocker import calls, errors, numbers, rootless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_NAMES = ("mydocker", "containers")
_SIZE = 65536
_FILES = ("/etc/subuid", "/etc/subgid")


class Ids:
    """Ids of the host from `start` on, which a container has as 0 to size - 1."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = size

    def outside(self, id: int) -> int:
        """The host's id of a container's; that of its root for one that it has not."""
        return self.start + (id if 0 <= id < self.size else 0)

    def inside(self, id: int) -> int:
        """The container's id of a host's; 0 for one that is none of its."""
        return id - self.start if self.start <= id < self.start + self.size else 0

    def oci(self) -> list[dict[str, int]]:
        """uidMappings and gidMappings."""
        return [{"containerID": 0, "hostID": self.start, "size": self.size}]

    def namespace(self) -> int:
        """A descriptor of a user namespace with these ids, for mounts.

        The host's root is in it, too, beyond the container's ids: overlayfs makes its working files as root.
        """
        return calls.user_namespace(f"0 {self.start} {self.size}\n{self.size} 0 1\n")


def parse(text: str | None) -> dict[str, int] | None:
    """--userns: host, or auto (also private) with auto:size=N; gives None for the first.  Raises errors.UsageError."""
    kind, _, rest = (text or "host").partition(":")
    if kind == "host" and not rest:
        return None
    size = numbers.decimal(rest.removeprefix("size=")) if rest not in ("", "size=") else _SIZE
    if kind not in ("auto", "private") or not size or size >= 1 << 31:
        raise errors.UsageError(f"--userns: invalid USER mode: {text!r}", hint="host, or auto[:size=65536]")
    if rootless.active() or os.geteuid():
        raise errors.UsageError(
            "--userns: an ordinary user's containers are all in that user's own user namespace", hint="leave it out"
        )
    return {"start": 0, "size": size}


def of(host: dict[str, Any]) -> Ids | None:
    """The ids of a container, None for the host's own."""
    found = host.get("userns")
    return Ids(found["start"], found["size"]) if found else None


def choose(size: int, others: Sequence[dict[str, Any]]) -> dict[str, int]:
    """A range that nobody has.  others: `host` of every container.  Raises errors.Error."""
    taken = sorted((ids.start, ids.start + ids.size) for ids in map(of, others) if ids)
    for low, high in _allowed():
        start = low
        for begin, end in taken:
            if begin < start + size and start < end:
                start = end
        if start + size <= high:
            return {"start": start, "size": size}
    raise errors.Error(
        f"--userns: no range of {size} ids is left",
        hint=f"a line like {_NAMES[0]}:1000000:1048576 in each of {' and '.join(_FILES)} gives more",
        code=125,
    )


def _allowed() -> list[tuple[int, int]]:
    """What both files give, (first, after the last)."""
    for name in _NAMES:
        users, groups = ([(start, start + count) for start, count in rootless.ranges(path, name)] for path in _FILES)
        both = [(max(low, other), min(high, end)) for low, high in users for other, end in groups]
        if found := [(low, high) for low, high in both if low < high]:
            return found
    return []
