"""checkpoint: a container as files, by the criu program."""

from __future__ import annotations

import os
import stat
import subprocess

from pyoci import bundle, container_create, container_start, errors, json
from pyoci import container_shared as shared
from pyoci.host import cgroup_options, criu, facts, rootfile
from pyoci.plan import cgroup as plan_cgroup
from pyoci.plan import criu as plan_criu
from pyoci.plan import criu_rpc
from pyoci.plan import devices as plan_devices
from pyoci.plan import make as make_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.host.process import Process
    from pyoci.host.state import Directory
    from pyoci.plan import Plan

DESCRIPTORS = "descriptors.json"  # what stdin, stdout, stderr were: as runc writes it
# "binds": mount point -> destination in config.json; "devices": mount point -> device of the host;
# "stdio": descriptor -> criu's name of its file
OURS = "pyoci.json"
# devices that are bound where none can be made, and what a masked file is covered with: path -> its numbers
DEVICES = {path: (major, minor) for path, major, minor in plan_devices.DEFAULTS}


def checkpoint(
    directory: Directory, init: Process, wanted: plan_criu.Wanted, program: str, pre: bool, warnings: list[str]
) -> None:
    """See Container.checkpoint."""
    directory.lock()
    record = directory.load()
    status = directory.status(record)
    if status not in ("running", "paused"):
        raise errors.WrongState(f"Container cannot be checkpointed in {status} state")
    path = criu.find(program)
    config = shared.record_config(directory)
    plan = plan_of(config, record)
    # in its user namespace criu asks for images that are not there; the files are root's alone in any case
    mode = 0o711 if "user" in plan.namespaces else 0o700
    for name in (wanted.images, wanted.work):
        criu.directory(name, mode)
    if pre:
        criu.require_dirty_tracking(path)
    wanted.config = wanted.config or criu.config(record["annotations"])
    binds = bound(plan, init.pid)
    devices = covered(init.pid, binds)
    freezer = os.path.dirname(plan_cgroup.freezer(record["cgroup"])) if record["cgroup"] else ""
    stdio = outside(init.pid)
    external = [*dict.fromkeys([*binds, *devices, *stdio.values()])]
    options = plan_criu.dump(wanted, plan, init.pid, external, inodes(plan, init.pid), "" if pre else freezer, pre)
    save(wanted.images, DESCRIPTORS, descriptors(init.pid))
    save(wanted.images, OURS, {"binds": binds, "devices": devices, "stdio": stdio})
    with cgroup_options.kept(warnings):
        ask(path, options, wanted, pre)
    if not pre and "leave-running" not in wanted.flags:
        container_start.delete(directory, lambda _: init, True, warnings)


def ask(program: str, options: dict[str, Any], wanted: plan_criu.Wanted, pre: bool) -> None:
    """Have criu write the checkpoint.  Raises errors.SetupError."""

    def notify(event: str, pid: int, fd: int) -> None:
        if event == "status-ready" and wanted.status_fd >= 0:
            os.write(wanted.status_fd, b"\0")
            os.close(wanted.status_fd)
            wanted.status_fd = -1

    with criu.Service(program, wanted, options, stdio=subprocess.DEVNULL) as service:
        service.ask(criu_rpc.PRE_DUMP if pre else criu_rpc.DUMP, notify)


def plan_of(config: dict[str, Any], record: dict[str, Any]) -> Plan:
    """The plan that the container was made by."""
    request = container_create.Request(record["id"], "/", (0, 1, 2))
    request.cgroup_manager = record["cgroup_manager"]
    source = bundle.from_config(config, record["bundle"])
    machine = facts.read(record["cgroup_manager"])
    options = container_create.plan_options(request, source, machine.arch)
    options.seccomp = None
    return make_plan(source.config, machine, options)


def bound(plan: Plan, pid: int) -> dict[str, str]:
    """The bind mounts: mount point, which is what the destination comes to in the root -> destination."""
    found = {}
    for dest in plan_criu.binds(plan):
        try:
            fd = rootfile.walk(f"/proc/{pid}/root", dest)
        except OSError:  # it is no longer there
            continue
        try:
            root, path = os.readlink(f"/proc/{pid}/root"), os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        found[path.removeprefix(root) if root != "/" else path] = dest
    return found


def covered(pid: int, binds: dict[str, str]) -> dict[str, str]:
    """The files of a container that are devices of the host, and none of its binds: mount point -> source."""
    found = {}
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            root, point = map(facts.unescape, line.split(" ")[3:5])
            source = f"/dev{root}"  # the root of a mount is below the top of its file system, whichever that is
            if source in DEVICES and point not in binds and device(pid, point) == DEVICES[source]:
                found[point] = source
    return found


def device(pid: int, point: str) -> tuple[int, int] | None:
    """The numbers of a container's character device; None for what is none, whatever its name."""
    try:
        fd = rootfile.walk(f"/proc/{pid}/root", point)
    except OSError:  # it is no longer there
        return None
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISCHR(status.st_mode) else None


def inodes(plan: Plan, pid: int) -> dict[str, int]:
    """Of the namespaces that were joined by path: type -> inode."""
    paths = {kind: f"/proc/{pid}/ns/{plan_criu.OUTSIDE[kind][0]}" for kind in plan_criu.OUTSIDE}
    return {kind: os.stat(path).st_ino for kind, path in paths.items() if plan.namespaces.get(kind)}


def descriptors(pid: int) -> list[str]:
    """What stdin, stdout and stderr of a process are."""
    found = []
    for fd in range(3):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:  # closed
            found.append("")
    return found


def outside(pid: int) -> dict[str, str]:
    """stdin, stdout and stderr that are files of no mount of the container, a log: the
    descriptor -> what criu calls it.  Who restores gives others in their place."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        mounts = {line.split()[0] for line in file}
    found = {}
    for fd in range(3):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}", "rb") as file:
                info = dict(line.split(b":", 1) for line in file)
            status = os.stat(f"/proc/{pid}/fd/{fd}")
        except OSError:  # closed
            continue
        mount = info[b"mnt_id"].strip()
        if mount not in mounts and (stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            found[str(fd)] = f"file[{int(mount):x}:{status.st_ino:x}]"
    return found


def save(directory: str, name: str, value: Any) -> None:
    """Write a small JSON file.  Raises errors.SetupError."""
    try:
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(json.dumps(value))
    except OSError as error:
        raise errors.failed(f"write {directory}/{name}", error) from None
