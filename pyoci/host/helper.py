"""nsexec as a helper: what needs a process of its own, or a system call that Python does not have."""

from __future__ import annotations

from pyoci import errors, kernel, linux
from pyoci.host import maps, nsexec
from pyoci.plan import ops

# makes a user namespace, asks for its maps, and has nothing more to do
_USER_NAMESPACE = (ops.op("unshare", namespaces=linux.NAMESPACES["user"]), ops.op("sync", sync=ops.SYNC_MAPS))


class Helper(nsexec.Host):
    """The host side of a plan without a container; a subclass answers what its plan asks."""

    __slots__ = ("runner",)

    def __init__(self, plan: tuple[ops.Op, ...]) -> None:
        self.runner = nsexec.Runner(plan)

    def run(self) -> None:
        """Raises errors.SetupError."""
        try:
            self.runner.spawn()
            self.runner.send_plan([])
            self.runner.run(self)
        finally:
            self.runner.abort()


def user_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a user namespace with these maps ("ID HOST SIZE", comma joined) in which nobody lives: for the
    ids of a mount, mount_setattr(2).  Raises errors.SetupError."""
    helper = _UserNamespace(uid_map, gid_map)
    try:
        helper.run()
    except BaseException as error:
        if helper.fd >= 0:
            kernel.close(helper.fd)
        if isinstance(error, errors.Error):
            error.message = f"make a user namespace for the ids of a mount: {error.message}"
            error.where = ""
        raise
    return helper.fd


class _UserNamespace(Helper):
    """The maps are written and the namespace is opened while its only process waits."""

    __slots__ = ("fd", "maps")

    def __init__(self, uid_map: str, gid_map: str) -> None:
        super().__init__(_USER_NAMESPACE)
        self.maps = [text.replace(",", "\n") + "\n" if text else "" for text in (uid_map, gid_map)]
        self.fd = -1

    def sync(self, what: int) -> None:
        """It is in its user namespace."""
        pid = self.runner.pid
        maps.write(pid, *self.maps, euid=kernel.geteuid())
        self.fd = kernel.open(f"/proc/{pid}/ns/user", kernel.O_RDONLY | kernel.O_CLOEXEC)


def schedule(wanted: ops.Op, pid: int) -> None:
    """Do a scheduler op to another process.  Raises errors.SetupError."""
    nums = [*wanted.nums[:-1], pid]
    Helper((ops.Op(wanted.definition, nums, wanted.strs, wanted.where),)).run()
