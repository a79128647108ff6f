"""checkpoint: a container as files, by the criu program."""

from __future__ import annotations

import os
import stat

from pyoci import bundle, container_create, container_start, errors, json
from pyoci import container_shared as shared
from pyoci.host import criu, facts
from pyoci.plan import cgroup as plan_cgroup
from pyoci.plan import criu as plan_criu
from pyoci.plan import make as make_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.host.process import Process
    from pyoci.host.state import Directory
    from pyoci.plan import Plan

DESCRIPTORS = "descriptors.json"  # what stdin, stdout, stderr were: as runc writes it
OURS = "pyoci.json"  # "masked": files covered with the null device; "stdio": descriptor -> criu's name of its file


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
    for name in (wanted.images, wanted.work):
        criu.directory(name)
    if pre:
        criu.require_dirty_tracking(path)
    wanted.config = wanted.config or criu.config(record["annotations"])
    config = shared.record_config(directory)
    plan = plan_of(config, record)
    masked = covered(init.pid)
    freezer = os.path.dirname(plan_cgroup.freezer(record["cgroup"])) if record["cgroup"] else ""
    stdio = outside(init.pid)
    argv = plan_criu.dump(wanted, plan, init.pid, masked, inodes(plan, init.pid), "" if pre else freezer, pre)
    argv += [word for name in dict.fromkeys(stdio.values()) for word in ("--external", name)]
    save(wanted.images, DESCRIPTORS, descriptors(init.pid))
    save(wanted.images, OURS, {"masked": masked, "stdio": stdio})
    criu.run(path, argv, "pre-dump" if pre else "dump", f"{wanted.work}/dump.log", page_fds(wanted))
    if not pre and "leave-running" not in wanted.flags:
        container_start.delete(directory, lambda _: init, True, warnings)


def plan_of(config: dict[str, Any], record: dict[str, Any]) -> Plan:
    """The plan that the container was made by."""
    request = container_create.Request(record["id"], "/", (0, 1, 2))
    request.cgroup_manager = record["cgroup_manager"]
    source = bundle.from_config(config, record["bundle"])
    machine = facts.read(record["cgroup_manager"])
    options = container_create.plan_options(request, source, machine.arch)
    options.seccomp = None
    return make_plan(source.config, machine, options)


def covered(pid: int) -> list[str]:
    """The files of a container that are covered with the null device."""
    found = []
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            if fields[3] == "/null" and not fields[4].startswith("/dev/"):
                found.append(fields[4].replace("\\040", " "))
    return found


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
    """stdin, stdout and stderr that are files of no mount of the container (/dev/null of the host, a log): the
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


def page_fds(wanted: plan_criu.Wanted) -> list[int]:
    """The descriptor that criu tells that the pages are ready.  Raises errors.UsageError."""
    text = wanted.values.get("status-fd", "")
    if text and not text.isdecimal():
        raise errors.UsageError(f'invalid value "{text}" for flag -status-fd')
    return [int(text)] if text else []


def save(directory: str, name: str, value: Any) -> None:
    """Write a small JSON file.  Raises errors.SetupError."""
    try:
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(json.dumps(value))
    except OSError as error:
        text = errors.errno_text(error.errno or 0)
        raise errors.SetupError(f"write {directory}/{name}: {text}", errno=error.errno or 0) from None
