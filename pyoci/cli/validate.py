"""pyoci validate: every fault of a config.json at once, and what this machine lacks for it."""

from __future__ import annotations

import itertools
import os
import sys

from pyoci import bundle, cli, errors, json, plan, schema, spec, spec_across, spec_rules
from pyoci.cli import options
from pyoci.cli.options import Option
from pyoci.host import facts as host_facts
from pyoci.host import lacks
from pyoci.plan.facts import Facts
from pyoci.plan.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ARGS = ("[BUNDLE|FILE|-]",)
OPTIONS = (Option("json", "print JSON"),)
HELP = """\
BUNDLE is a directory with a config.json (default: the current directory), FILE a config.json, - the standard input.
Faults come with their place (a JSON pointer), the section of the specification, and a hint.  What this machine lacks
for the config, properties that are not known and deprecated ones are warnings.
The exit status is 0 when there are no faults, 1 when there are.
"""

# where a property is explained: the longest prefix counts
SECTIONS = {
    "": "config.md",
    "/ociVersion": "config.md#specification-version",
    "/root": "config.md#root",
    "/mounts": "config.md#mounts",
    "/process": "config.md#process",
    "/process/user": "config.md#user",
    "/process/rlimits": "config.md#posix-process",
    "/process/capabilities": "config.md#linux-process",
    "/process/apparmorProfile": "config.md#linux-process",
    "/process/selinuxLabel": "config.md#linux-process",
    "/process/noNewPrivileges": "config.md#linux-process",
    "/process/oomScoreAdj": "config.md#linux-process",
    "/process/scheduler": "config.md#linux-process",
    "/process/ioPriority": "config.md#linux-process",
    "/process/execCPUAffinity": "config.md#linux-process",
    "/hostname": "config.md#hostname",
    "/domainname": "config.md#domainname",
    "/hooks": "config.md#posix-platform-hooks",
    "/annotations": "config.md#annotations",
    "/linux": "config-linux.md",
    "/linux/namespaces": "config-linux.md#namespaces",
    "/linux/uidMappings": "config-linux.md#user-namespace-mappings",
    "/linux/gidMappings": "config-linux.md#user-namespace-mappings",
    "/linux/timeOffsets": "config-linux.md#offset-for-time-namespace",
    "/linux/devices": "config-linux.md#devices",
    "/linux/netDevices": "config-linux.md#network-devices",
    "/linux/cgroupsPath": "config-linux.md#cgroups-path",
    "/linux/resources": "config-linux.md#control-groups",
    "/linux/resources/devices": "config-linux.md#allowed-device-list",
    "/linux/resources/memory": "config-linux.md#memory",
    "/linux/resources/cpu": "config-linux.md#cpu",
    "/linux/resources/blockIO": "config-linux.md#block-io",
    "/linux/resources/hugepageLimits": "config-linux.md#huge-page-limits",
    "/linux/resources/network": "config-linux.md#network",
    "/linux/resources/pids": "config-linux.md#pids",
    "/linux/resources/rdma": "config-linux.md#rdma",
    "/linux/resources/unified": "config-linux.md#unified",
    "/linux/intelRdt": "config-linux.md#intelrdt",
    "/linux/memoryPolicy": "config-linux.md#memory-policy",
    "/linux/sysctl": "config-linux.md#sysctl",
    "/linux/seccomp": "config-linux.md#seccomp",
    "/linux/rootfsPropagation": "config-linux.md#rootfs-mount-propagation",
    "/linux/maskedPaths": "config-linux.md#masked-paths",
    "/linux/readonlyPaths": "config-linux.md#readonly-paths",
    "/linux/mountLabel": "config-linux.md#mount-label",
    "/linux/personality": "config-linux.md#personality",
}
EXPLAINED = 128 << 10  # bytes of a config that jsonschema looks at: it takes seconds for more
DEPRECATED = {
    "/hooks/prestart": "use createRuntime, createContainer or startContainer",
    "/linux/resources/memory/kernel": "the kernel ignores it since Linux 5.16",
    "/linux/resources/memory/kernelTCP": "cgroup v2 does not have it",
}


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print what was found."""
    faults, warnings = examine(opts.args[0] if opts.args else ".")
    if opts.flag("json"):
        found = {"valid": not faults, "faults": as_dicts(faults), "warnings": as_dicts(warnings)}
        cli.write(json.dumps(found, indent=2) + "\n")
    else:
        cli.write("".join([*map(entry, faults), *(f"warning: {entry(fault)}" for fault in warnings)]) or "valid\n")
    return int(bool(faults))


def examine(place: str) -> tuple[list[errors.Fault], list[errors.Fault]]:
    """Every fault, and every warning, of a bundle, a file or "-".  Raises errors.SetupError when it cannot be read."""
    directory = place if place != "-" and os.path.isdir(place) else ""
    try:
        data = read(os.path.join(directory, "config.json") if directory else place)
        config = json.loads(data, "config.json")
    except errors.InvalidConfig as error:
        return list(error.faults) or [errors.Fault(error.where, error.message, error.hint)], []
    most = spec_rules.MAX_FAULTS if len(data) <= EXPLAINED else 1  # that take a plan each
    faults, warnings = explain(config, len(data))
    if directory and not faults:
        root = os.path.join(directory, config["root"]["path"])
        if not os.path.isdir(root):
            faults.append(errors.Fault("/root/path", f"root file system {errors.one_line(root)}: not a directory"))
    if not faults:
        faults = planned(config, directory, Facts(apparmor=True, selinux=True), "disabled", most)
    if not faults:
        for found in lacks.check(config), advice(config):
            warnings += itertools.islice(found, spec_rules.MAX_FAULTS)
        known = [fault.where for fault in warnings if fault.where]
        for fault in planned(config, directory, host_facts.read(), "cgroupfs", most):
            if not any(fault.where.startswith(where) for where in known):
                warnings.append(errors.Fault(fault.where, f"{fault.message}: create will refuse it here", fault.hint))
    if isinstance(config, dict):
        warnings += [fault for fault in schema.unknown(config) if fault.where not in {f.where for f in faults}]
        warnings += [
            errors.Fault(where, "is deprecated", hint) for where, hint in DEPRECATED.items() if at(config, where)
        ]
    return faults, warnings


def planned(config: dict[str, Any], directory: str, machine: Facts, manager: str, most: int) -> list[errors.Fault]:
    """What of a valid config cannot be planned on a machine: a mount over /proc, an id without a mapping.

    The plan stops at the first, so it is made again without that, until most are found.  manager: of cgroups.
    """
    chosen = Options("validate", directory or "/", cgroup_manager=manager, names=lambda *_: 0)
    found: list[errors.Fault] = []
    places: list[tuple[str | int, ...]] = []
    while len(found) < most:
        rest, moved = spec_across.without(config, places)
        try:
            plan.make(bundle.from_config(rest, directory or "/").config, machine, chosen)
        except errors.Error as error:
            place = spec_across.before(parts(rest, error.where), moved)
            if not place or place in places or (isinstance(error, errors.InvalidConfig) and error.faults):
                break  # nothing more can be left out
            places.append(place)
            found.append(errors.Fault(spec.pointer(*place), error.message, error.hint))
        else:
            break
    return found


def parts(config: Any, where: str) -> tuple[str | int, ...]:
    """A JSON pointer as names and indexes."""
    found: list[str | int] = []
    for word in where.split("/")[1:]:
        name = word.replace("~1", "/").replace("~0", "~")
        found.append(int(name) if isinstance(config, list) else name)
        config = config[int(name)] if isinstance(config, list) else (config or {}).get(name)
    return tuple(found)


def advice(config: dict[str, Any]) -> Iterator[errors.Fault]:
    """What a valid config should not have: the SHOULDs of the runtime-spec."""
    if [int(part) for part in config["ociVersion"].split(".")[:2]] > [
        int(part) for part in spec.VERSION.split(".")[:2]
    ]:
        yield errors.Fault("/ociVersion", f"is later than {spec.VERSION}: what is new in it is ignored")
    seen: dict[tuple[Any, ...], int] = {}
    for index, device in enumerate((config.get("linux") or {}).get("devices") or ()):
        first = seen.setdefault((device["type"], device.get("major"), device.get("minor")), index)
        if first != index and device["type"] != "p":
            yield errors.Fault(f"/linux/devices/{index}", f"is the same device as /linux/devices/{first}")
    for name in config.get("annotations") or ():
        if name.startswith("org.opencontainers.") and not name.startswith("org.opencontainers.image."):
            yield errors.Fault(spec.pointer("annotations", name), "is a reserved name", "use a domain of your own")


def explain(config: Any, size: int) -> tuple[list[errors.Fault], list[errors.Fault]]:
    """The faults at length; of a config of many bytes, or without jsonschema, in short, with a warning that says so."""
    if size > EXPLAINED:
        reason = f"is larger than {EXPLAINED >> 10} KiB: what a property is for is not told"
        return spec.check(config), [errors.Fault("", reason)]
    try:
        return schema.explain(config), []
    except errors.Error as error:
        return spec.check(config), [
            errors.Fault("", f"{error.message}: what a property is for is not told", error.hint)
        ]


def at(config: Any, where: str) -> Any:
    """What is at a JSON pointer (of plain names), None when nothing is."""
    for name in where[1:].split("/"):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def read(path: str) -> bytes:
    """The bytes of a file or, for "-", of the standard input.  Raises errors.SetupError, errors.InvalidConfig."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(bundle.MAX_SIZE + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(bundle.MAX_SIZE + 1)
    except OSError as error:
        raise errors.failed(f"cannot read {path}", error) from None
    if len(data) > bundle.MAX_SIZE:
        raise errors.InvalidConfig(f"is larger than {bundle.MAX_SIZE >> 20} MiB")
    return data


def section(where: str) -> str:
    """The part of the runtime-spec that a JSON pointer is about."""
    prefix = where
    while prefix not in SECTIONS:
        prefix = prefix.rpartition("/")[0]
    return SECTIONS[prefix]


def entry(fault: errors.Fault) -> str:
    """A fault for reading: the place, the fault, then indented the hint and the section."""
    lines = [f"{errors.short(fault.where) or '/'}: {errors.short(fault.message)}"]
    if fault.hint:
        lines.append(f"    hint: {errors.short(fault.hint)}")
    return "\n".join([*map(errors.one_line, lines), f"    see {section(fault.where)}", ""])


def as_dicts(faults: list[errors.Fault]) -> list[dict[str, str]]:
    """Faults for programs."""
    return [{"where": f.where, "message": f.message, "hint": f.hint, "spec": section(f.where)} for f in faults]
