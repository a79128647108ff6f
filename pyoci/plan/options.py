"""What the command line or the caller of the library decides about a plan: records without behaviour."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyoci.plan.seccomp import Program


class Options:
    """How a container or a process in it is to be made.

    id:             str, id of the container
    bundle:         str, absolute path of the bundle
    directory:      str, absolute path of the container's state: nothing in its namespaces needs what is in there
    cgroup_manager: str, "cgroupfs", "systemd" or "disabled"
    no_pivot:       bool, MS_MOVE and chroot in place of pivot_root (a root file system on the initramfs)
    no_new_keyring: bool, keep the caller's session keyring
    env:            list of str, variables beside those of the config ("LISTEN_FDS=1")
    preserve_fds:   int, count of descriptors from 3 on that the program inherits
    state:          dict, OCI state without status and pid: what the in-container hooks get on stdin
    rootless:       bool, cgroups that may not be made are left out, whatever is asked of them; None: where nothing is
    seccomp:        function from linux.seccomp to the compiled Program, or None: compile it here.
                    The host side passes one that looks into its cache first.
    names:          function from "owner" or "group" and a name to its id in the container, or None: there are no names
    """

    __slots__ = (
        "bundle",
        "cgroup_manager",
        "directory",
        "env",
        "id",
        "names",
        "no_new_keyring",
        "no_pivot",
        "preserve_fds",
        "rootless",
        "seccomp",
        "state",
    )

    def __init__(
        self,
        id: str,
        bundle: str,
        *,
        directory: str = "",
        cgroup_manager: str = "cgroupfs",
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        env: Sequence[str] = (),
        preserve_fds: int = 0,
        rootless: bool | None = None,
        state: dict[str, Any] | None = None,
        seccomp: Callable[[dict[str, Any]], Program] | None = None,
        names: Callable[[str, str], int] | None = None,
    ) -> None:
        self.id = id
        self.bundle = bundle
        self.directory = directory
        self.cgroup_manager = cgroup_manager
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.env = list(env)
        self.preserve_fds = preserve_fds
        self.rootless = rootless
        self.state = state or {}
        self.seccomp = seccomp
        self.names = names


class Target:
    """The container that `exec` enters.

    pid:        int, its init process
    namespaces: dict, namespace type -> "/proc/PID/ns/FILE", only those that differ from the runtime's
    cgroup:     dict, the record of its cgroups (see plan.cgroup.CgroupPlan), {} for none
    """

    __slots__ = ("cgroup", "namespaces", "pid")

    def __init__(self, pid: int, namespaces: dict[str, str], cgroup: dict[str, Any] | None = None) -> None:
        self.pid = pid
        self.namespaces = namespaces
        self.cgroup = cgroup or {}
