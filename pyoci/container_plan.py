"""What to give to create, and what it would do."""

from __future__ import annotations

from pyoci import container_create, errors, kernel, spec
from pyoci.host import facts
from pyoci.plan import make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.plan import Plan


_UNIFIED = "/sys/fs/cgroup/cgroup.controllers"  # is there when cgroup v2 is all there is


def default_config(*, rootless: bool = False) -> dict[str, Any]:
    """The config that `pyoci spec` writes: a shell with a terminal, in namespaces of its own, on a read-only rootfs/.

    rootless: for the calling user, without privileges.
    """
    return spec.default(rootless, kernel.geteuid(), kernel.getegid(), kernel.exists(_UNIFIED))


def make_plan(
    bundle: str | None = None,
    *,
    config: dict[str, Any] | None = None,
    config_path: str | None = None,
    id: str = "ID",
    root: str | None = None,
    preserve_fds: int = 0,
    no_pivot: bool = False,
    no_new_keyring: bool = False,
    cgroup_manager: str = "cgroupfs",
    assume: Sequence[str] = (),
) -> Plan:
    """What create() would do with a bundle on this machine, without doing it; the arguments are those of create.

    assume: "apparmor", "selinux": as if this machine had it.  Raises errors.InvalidConfig, errors.UsageError.
    """
    request = container_create.Request(id, root, (0, 1, 2))
    request.preserve_fds = preserve_fds
    request.no_pivot = no_pivot
    request.no_new_keyring = no_new_keyring
    request.cgroup_manager = cgroup_manager
    source = container_create.read_bundle(bundle, config, config_path)
    machine = facts.read(cgroup_manager)
    for name in assume:
        if name not in ("apparmor", "selinux"):
            raise errors.UsageError(f"{name!r} cannot be assumed", hint="apparmor or selinux")
        setattr(machine, name, True)
    options = container_create.plan_options(request, source, machine.arch)
    options.seccomp = None  # what it compiles is not kept: nothing is changed
    return make(source.config, machine, options)
