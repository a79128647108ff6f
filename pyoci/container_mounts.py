"""mounts add, mounts remove: more or fewer mounts for a container that runs."""

from __future__ import annotations

from pyoci import bundle, container_exec, errors, kernel, spec
from pyoci import container_shared as shared
from pyoci.host import facts, nsexec
from pyoci.plan import make_mounts
from pyoci.plan.options import Options, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.host.process import Process
    from pyoci.host.state import Directory
    from pyoci.plan import Plan


def change(
    directory: Directory, record: dict[str, Any], init: Process, mounts: Sequence[dict[str, Any]], remove: bool
) -> list[str]:
    """See Container.mount and Container.unmount.  Returns warnings."""
    directory.lock()
    status = directory.status(record)
    if status not in ("created", "running", "paused"):
        raise errors.WrongState(f"container not running: it is {status}")
    config = shared.record_config(directory)
    try:
        if not remove:
            spec.refuse(spec.check({**config, "mounts": list(mounts)}))
        wanted = [absolute(mount, record["bundle"]) for mount in mounts]
        plan = plan_of(wanted, config, record, init, remove)
        return run(plan, init)
    except errors.Error as error:
        if error.where:  # a place in what was given, which is not config.json
            error.message += f" ({error.where} of the mounts)"
            error.where = ""
        raise


def absolute(mount: dict[str, Any], directory: str) -> dict[str, Any]:
    """A mount whose source, if that is a path, is absolute: relative ones are in the bundle."""
    source = mount.get("source")
    if not source or not bundle.is_bind(mount):
        return mount
    return {**mount, "source": kernel.join(directory, source)}


def plan_of(
    mounts: list[dict[str, Any]], config: dict[str, Any], record: dict[str, Any], init: Process, remove: bool
) -> Plan:
    """The plan.  Raises errors.InvalidConfig."""
    target = Target(init.pid, container_exec.namespaces(init.pid))
    if "mount" not in target.namespaces:
        raise errors.WrongState("the container has no mount namespace of its own")
    options = Options(record["id"], record["bundle"], names=shared.names(f"/proc/{init.pid}/root"))
    return make_mounts(mounts, config, target, facts.read(), options, remove)


def run(plan: Plan, init: Process) -> list[str]:
    """Carry it out.  Returns warnings.  Raises errors.SetupError."""
    runner = nsexec.Runner(plan.ops)
    fds: list[int] = []
    try:
        for name in plan.fds:
            fds.append(shared.open_descriptor(name, plan))
        if not init.running():  # asked after the namespaces were opened: so they were those of init
            raise errors.WrongState("container not running")
        runner.spawn((0, 2, 2))
        runner.send_plan(fds)
        runner.run(nsexec.Host())
        fate = nsexec.reap(runner.pid)
        runner.pid = 0
    finally:
        runner.abort()
        for fd in fds:
            kernel.close(fd)
    if fate != "exit status 0":
        raise errors.SetupError(f"nsexec ended early: {fate}")
    return plan.warnings + runner.warnings
