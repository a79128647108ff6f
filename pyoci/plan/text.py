"""A plan for people (`pyoci plan`) and for programs (`pyoci plan --json`).  Cold: no hot path imports it."""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import wording

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan import Plan
    from pyoci.plan.cgroup import CgroupPlan, Write
    from pyoci.plan.rdt import Rdt
    from pyoci.plan.systemd import Unit

_ON_HOST = ("prestart", "createRuntime", "poststart", "poststop")  # the other points are ops
_COLUMN = 72  # where the pointers into config.json begin


def render(plan: Plan) -> str:
    """The plan as text: what the host side does, then the numbered ops, each with its pointer into config.json."""
    lines = ["host:"]
    lines += _lines(_host(plan))
    lines.append("")
    lines.append("container:")
    width = len(str(len(plan.ops) - 1))
    for index, item in enumerate(plan.ops):
        lines.append(_line(f"{index:{width + 2}}  {item.describe()}", item.where))
    return "\n".join([*lines, ""])


def as_dict(plan: Plan) -> dict[str, Any]:
    """The plan as a JSON object: host (maps, cgroup, hooks, descriptors ...) and ops."""
    return {
        "host": {
            "rootfs": plan.rootfs,
            "namespaces": plan.namespaces,
            "uidMap": plan.uid_map.splitlines(),
            "gidMap": plan.gid_map.splitlines(),
            "cgroup": _cgroup_dict(plan.cgroup),
            "netDevices": plan.net_devices,
            "intelRdt": {"class": plan.rdt.group, "schemata": [text for text, _ in plan.rdt.schemas]}
            if plan.rdt
            else None,
            "hooks": {point: plan.hooks[point] for point in _ON_HOST if plan.hooks.get(point)},
            "fds": plan.fds,
            "terminal": plan.terminal,
            "consoleSize": list(plan.console_size) if plan.console_size else None,
        },
        "ops": [wording.as_dict(item) for item in plan.ops],
        "warnings": plan.warnings,
    }


def _line(text: str, where: str) -> str:
    text = errors.one_line(text).rstrip()
    return f"{text:<{_COLUMN}}  {where}" if where else text


def _lines(entries: list[tuple[str, str]]) -> list[str]:
    return [_line(f"  {text}", where) for text, where in entries]


def _rdt(rdt: Rdt) -> list[tuple[str, str]]:
    if not rdt.named:
        what = f"make the RDT class {rdt.group}, and remove it at delete"
    elif rdt.schemas:
        what = f"use the RDT class {rdt.group}, or make it; what is there must have this"
    else:
        what = f"use the RDT class {rdt.group or '/'}, which must be there"
    entries = [(what, "/linux/intelRdt"), *((f"with {text.strip()}", where) for text, where in rdt.schemas)]
    if rdt.monitor:
        entries.append((f"monitor it as {rdt.monitor}, until delete", "/linux/intelRdt/enableMonitoring"))
    return entries


def _host(plan: Plan) -> list[tuple[str, str]]:
    """Sentences and pointers of the host's part, in the order in which things happen."""
    entries = [(f"warning: {warning}", "") for warning in plan.warnings]
    entries += _cgroup(plan.cgroup)
    entries += [(_descriptor(name), "") for name in plan.fds]
    for name, text in (("uid", plan.uid_map), ("gid", plan.gid_map)):
        for line in text.splitlines():
            inside, outside, size = line.split()
            entries.append((f"map {name} {inside} to {outside} of the host, {size} ids", f"/linux/{name}Mappings"))
    if plan.rdt:
        entries += _rdt(plan.rdt)
    for host, name in plan.net_devices.items():
        entries.append((f"move network device {host} to the container as {name}", f"/linux/netDevices/{host}"))
    if plan.terminal:
        size = "{}x{}".format(*plan.console_size) if plan.console_size else "any size"
        entries.append((f"receive the terminal ({size})", "/process/terminal"))
    for point in _ON_HOST:
        for index, hook in enumerate(plan.hooks.get(point) or ()):
            entries.append((f"{point} hook {' '.join(hook.get('args') or [hook['path']])}", f"/hooks/{point}/{index}"))
    return entries


def _descriptor(name: str) -> str:
    kind, _, rest = name.partition(":")
    if kind == "idmap":
        uids, _, gids = rest.partition(":")
        return f"make a user namespace with uids {uids or 'unmapped'} and gids {gids or 'unmapped'}"
    return f"open {name.split(':', 2)[-1]}"


def _cgroup(plan: CgroupPlan | None) -> list[tuple[str, str]]:
    if plan is None:
        return []
    entries = []
    if plan.unit:
        whose = "the user's systemd" if plan.unit.user else "systemd"
        entries.append((f"have {whose} start {plan.unit.name} in {plan.unit.slice}", "/linux/cgroupsPath"))
        for name, (kind, value) in plan.unit.properties.items():
            entries.append((f"with the property {name} = {kind} {value!r}", ""))
    for directory in dict.fromkeys(plan.dirs.values()):
        entries.append((f"make cgroup {directory}", "/linux/cgroupsPath"))
    if plan.owner > 0:
        entries.append((f"give the cgroup to uid {plan.owner}", ""))
    if plan.enable:
        entries.append((f"enable controllers {' '.join(plan.enable)}", ""))
    entries += [(str(write), write.where) for write in plan.writes]
    if plan.program:
        entries += [(f"device rule: {rule}", rule.where) for rule in plan.devices]
    return entries


def _cgroup_dict(plan: CgroupPlan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {
        "version": plan.version,
        "path": plan.path,
        "directories": plan.dirs,
        "enable": list(plan.enable),
        "optional": plan.optional,
        "owner": plan.owner,
        **({"systemd": _unit_dict(plan.unit)} if plan.unit else {}),
        "writes": [_write_dict(write) for write in plan.writes],
        "devices": [str(rule) for rule in plan.devices],
    }


def _unit_dict(unit: Unit) -> dict[str, Any]:
    properties = {name: [kind, list(v) if kind == "ay" else v] for name, (kind, v) in unit.properties.items()}
    return {"unit": unit.name, "slice": unit.slice, "user": unit.user, "properties": properties}


def _write_dict(write: Write) -> dict[str, Any]:
    result: dict[str, Any] = {"file": write.file, "value": write.value}
    if write.where:
        result["where"] = write.where
    if write.other is not None:
        result["else"] = _write_dict(write.other)
    return result
