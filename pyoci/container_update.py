"""update: other limits for a container that runs."""

from __future__ import annotations

from pyoci import errors, spec
from pyoci.host import cgroup_make, cgroup_values, cgroupfs, facts
from pyoci.plan import cgroup as plan_cgroup
from pyoci.plan import devfilter, devprogram
from pyoci.plan.cgroup import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.host.state import Directory

    Record = dict[str, Any]

NO_CGROUP = "the container has no cgroup of its own"


def update(directory: Directory, resources: dict[str, Any], rdt: dict[str, str]) -> None:
    """See Container.update."""
    spec.refuse(spec.check_resources(resources), "resources")
    directory.lock()
    record = directory.load()
    status = directory.status(record)
    if status not in ("created", "running", "paused"):
        raise errors.WrongState(f"container not running: it is {status}")
    if rdt:
        from pyoci.host import schemata

        schemata.write(record["pid"], rdt.values())
    if not resources:
        return
    if not record["cgroup"] or not record["cgroup"]["dirs"]:
        raise errors.SetupError(NO_CGROUP, hint="create it without --cgroup-manager disabled, with rights to make one")
    try:
        _update(record["cgroup"], without_zeros(resources))
    except errors.Error as error:
        error.document = "resources"
        raise


def without_zeros(resources: dict[str, Any]) -> dict[str, Any]:
    """What is to be changed: docker sends every number, 0 for those that are to stay.

    plan.cgroup passes over the zeros that mean nothing to the kernel; a limit of no processes at all means
    something at create, but not here (no runtime takes it).
    """
    if (resources.get("pids") or {}).get("limit") == 0:
        resources = {**resources, "pids": {}}
    return resources


def _update(record: Record, resources: dict[str, Any]) -> None:
    wanted = complete(record, resources)
    writes = plan_cgroup.settings(record, wanted, facts.read().cgroup_controllers, "")
    if (resources.get("memory") or {}).get("checkBeforeUpdate"):
        cgroup_values.check_memory(record, resources["memory"].get("limit") or 0, "/memory/limit")
    program, devices, undo = b"", list[Write](), list[Write]()
    if "devices" in resources:
        rules = devfilter.rules(resources["devices"], "/devices")
        if record["version"] == 2:
            program = devprogram.program(rules)
        elif "devices" in record["dirs"]:
            devices, undo = _devices(record["dirs"]["devices"], rules)
    before = cgroup_values.before(writes)
    try:
        cgroup_make.apply(writes)
        cgroup_make.apply(devices)
        if program:
            from pyoci.host import bpf

            bpf.attach_device_program(record["dirs"][""], program)
        if record.get("systemd"):
            _tell_systemd(record, writes)
    except errors.Error as error:
        try:
            cgroup_make.apply(undo + before, undo=True)
        except errors.Error as second:
            error.message += f"; and what was before could not be restored: {second.message}"
        raise


def _devices(directory: str, rules: list[devfilter.Rule]) -> tuple[list[Write], list[Write]]:
    """What to write on v1, and what undoes it."""
    from pyoci.plan import devchange

    content = cgroup_values.text(f"{directory}/devices.list")
    new, old = devchange.lines(rules, content, cgroupfs.has_children(directory), "/devices")
    writes, undo = ([Write(f"{directory}/{f}", text, where) for f, text, where in lines] for lines in (new, old))
    return writes, undo


def _tell_systemd(record: Record, writes: list[Write]) -> None:
    """Have systemd know what the kernel has taken, and nothing that it refused: it would apply that some day.

    It writes every file it knows then, as it knows them: they get back what they said.  Raises errors.SetupError.
    """
    from pyoci.host import systemd
    from pyoci.plan import systemd_limits

    files = list(dict.fromkeys(write.file for write in writes if not write.other))
    taken = [Write(file, cgroup_values.text(file), "") for file in (*systemd_limits.companions(files), *files)]
    named_twice = [write for write in writes if write.other]
    properties = systemd_limits.told(taken + named_twice, record["version"])
    exact = cgroup_values.before([Write(file, "", "") for file in systemd_limits.written(record)])
    systemd.set_properties(record["systemd"], properties)
    cgroup_make.apply(cgroup_values.changed(exact))


def complete(record: Record, resources: dict[str, Any]) -> dict[str, Any]:
    """The resources with what v2 wants in one file: what was not given of it stays as it is there.

    cpu.max holds quota and period; swap without memory needs to know the limit that the sum is counted from.
    """
    if record["version"] != 2:
        return resources
    cpu, memory = dict(resources.get("cpu") or {}), dict(resources.get("memory") or {})
    directory = record["dirs"].get("", "")
    if bool(cpu.get("quota")) != bool(cpu.get("period")):
        quota, period = (cgroup_values.text(f"{directory}/cpu.max").split() or ["max", "100000"])[:2]
        cpu["quota"] = cpu.get("quota") or (-1 if quota == "max" else int(quota))
        cpu["period"] = cpu.get("period") or int(period)
    if (memory.get("swap") or 0) > 0 and not memory.get("limit"):
        limit = cgroup_values.text(f"{directory}/memory.max")
        memory["limit"] = int(limit) if limit.isdecimal() else 0
    return {**resources, "cpu": cpu, "memory": memory}
