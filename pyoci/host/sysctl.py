"""sysctls of namespaces that are joined by path: row Z01 asks whether they are the host's after all."""

from __future__ import annotations

from pyoci import errors, kernel, linux
from pyoci.plan import sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.plan import Plan


def check(plan: Plan, fds: Sequence[int]) -> None:
    """fds: the open descriptors of Plan.fds.  Raises errors.InvalidConfig for a sysctl that would change the host."""
    for name, fd in zip(plan.fds, fds, strict=True):
        what, _, rest = name.partition(":")
        kind = rest.partition(":")[0]
        if what != "ns" or not _ours(kind, fd):
            continue
        for op in plan.ops:
            if op.name == "sysctl" and sysctl.owner(op.string("path").decode("utf-8", "surrogateescape")) == kind:
                raise errors.InvalidConfig(
                    f"{op.describe()}: the joined {kind} namespace is the runtime's own, so it would change the host",
                    where=op.where,
                    hint=f"leave the path of the {kind} namespace out",
                )


def _ours(kind: str, fd: int) -> bool:
    own, joined = kernel.stat(f"/proc/self/ns/{linux.NAMESPACE_FILES[kind]}"), kernel.fstat(fd)
    return (own.st_dev, own.st_ino) == (joined.st_dev, joined.st_ino)
