"""A user namespace that nobody lives in: the maps of an id-mapped mount (row M12), as mount_setattr(2) takes them."""

from __future__ import annotations

from pyoci import errors, kernel, linux
from pyoci.host import maps, nsexec
from pyoci.plan import ops

# nsexec makes a user namespace, asks for its maps, and has nothing more to do
_PLAN = (ops.op("unshare", namespaces=linux.NAMESPACES["user"]), ops.op("sync", sync=ops.SYNC_MAPS))


def open_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a user namespace with these maps ("ID HOST SIZE", comma joined).  Raises errors.SetupError."""
    maker = _Maker(uid_map, gid_map)
    runner = nsexec.Runner(_PLAN)
    try:
        maker.runner = runner
        runner.spawn()
        runner.send_plan([])
        runner.run(maker)
    except errors.Error as error:
        maker.close()
        error.message = f"make a user namespace for the ids of a mount: {error.message}"
        error.where = ""
        raise
    except BaseException:
        maker.close()
        raise
    finally:
        runner.abort()
    return maker.fd


class _Maker:
    """Answers nsexec: the maps are written and the namespace is opened while its only process waits."""

    __slots__ = ("fd", "maps", "runner")

    def __init__(self, uid_map: str, gid_map: str) -> None:
        self.maps = [text.replace(",", "\n") + "\n" if text else "" for text in (uid_map, gid_map)]
        self.runner: nsexec.Runner | None = None
        self.fd = -1

    def close(self) -> None:
        if self.fd >= 0:
            kernel.close(self.fd)

    def sync(self, what: int) -> None:
        """nsexec is in its user namespace."""
        assert self.runner
        pid = self.runner.pid
        maps.write(pid, *self.maps, euid=kernel.geteuid())
        self.fd = kernel.open(f"/proc/{pid}/ns/user", kernel.O_RDONLY | kernel.O_CLOEXEC)

    def forked(self, pid: int) -> None:
        """Not in this plan."""

    def outside(self, pid: int) -> None:
        """Not in this plan."""

    def console(self, master: int) -> None:
        """Not in this plan."""

    def ready(self) -> None:
        """Not in this plan."""
