"""Rules between the properties of one object, and of the whole config.

Each is asked of parts that are valid only, and may rely on what is required: see pyoci.spec_across.
"""

from __future__ import annotations

from pyoci import spec_words
from pyoci.spec_rules import MAX_FAULTS, at, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyoci.spec_rules import Found

    Config = dict[str, Any]

MAX_ID = 0xFFFFFFFF  # (uid_t) -1, which is no id


def _duplicates(entries: list[Any], name: str) -> Found:
    found: Found = None
    seen = set()
    for index, entry in enumerate(entries):
        if entry[name] in seen:
            found = under(index, at(name, message=f"{entry[name]} is there twice"), found)
            if len(found) >= MAX_FAULTS:
                break
        seen.add(entry[name])
    return found


# -- process ---------------------------------------------------------------------------------


def rlimit(value: Any) -> Found:
    """Row P06."""
    if value["soft"] > value["hard"]:
        return at("soft", message=f"is above the hard limit, {value['hard']}")
    return None


def rlimits(value: Any) -> Found:
    """Row P07."""
    return _duplicates(value, "type")


def process(value: Any) -> Found:
    """Row P02: consoleSize counts with a terminal only, and a terminal has 16-bit sizes."""
    found: Found = None
    if value.get("terminal"):
        for name, number in value.get("consoleSize", {}).items():
            if name in ("height", "width") and number > 0xFFFF:
                found = under(
                    "consoleSize", at(name, message=f"must be in 0..65535, not {spec_words.show(number)}"), found
                )
    return found


# -- mounts ----------------------------------------------------------------------------------


def mount(value: Any) -> Found:
    """Rows M05, M12."""
    found = _both_mappings(value)
    options = value.get("options", ())
    if ("bind" in options or "rbind" in options) and "remount" not in options and not value.get("source"):
        found = (found or []) + at("source", message="is required of a bind mount")
    return found


def _both_mappings(value: Any) -> Found:
    for one, other in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
        if one in value and other not in value:
            return at(other, message=f"is required together with {one}")
    return None


def mappings(value: Any) -> Found:
    """Row N05, user_namespaces(7): ranges inside the 32 bits, that do not overlap."""
    found: Found = None
    for name in ("containerID", "hostID"):
        end = 0
        for index, entry in sorted(enumerate(value), key=lambda item, name=name: item[1][name]):  # type: ignore[misc]
            if entry[name] < end:
                found = under(index, at(name, message="overlaps another range"), found)
            end = max(end, entry[name] + entry["size"])
            if entry[name] + entry["size"] > MAX_ID:
                found = under(index, at("size", message=f"{name} + size is above {MAX_ID}"), found)
    return found


# -- linux -----------------------------------------------------------------------------------


def namespaces(value: Any) -> Found:
    """Row N04."""
    return _duplicates(value, "type")


def device(value: Any) -> Found:
    """Row D01: a FIFO has no numbers, the others have."""
    found: Found = None
    for name in ("major", "minor"):
        if value["type"] != "p" and name not in value:
            found = (found or []) + at(name, message=f"is required of a device of type {value['type']}")
    return found


def cpu(value: Any) -> Found:
    """Row C10; whether there is a quota at all only the whole config (or cgroup) knows."""
    burst, quota = value.get("burst", 0), value.get("quota", 0)
    if burst and quota and burst > quota:
        return at("burst", message=f"must not be above the quota, {quota}")
    return None


def net_devices(value: Any) -> Found:
    """Row X02: no two of the same name in the container."""
    found: Found = None
    seen: set[str] = set()
    for host, entry in value.items():
        name = entry.get("name", host)
        if name in seen and "%d" not in name:
            found = under(host, at("name", message=f"{name} is there twice"), found)
            if len(found) >= MAX_FAULTS:
                break
        seen.add(name)
    return found


# -- the whole config ------------------------------------------------------------------------


def config(value: Any) -> Found:
    """What one part asks of another: mostly, of the namespaces."""
    linux = value.get("linux", {})
    spaces = {entry["type"]: entry.get("path", "") for entry in linux.get("namespaces", ())}
    found = [
        *_needs(spaces, "uts", [(name,) for name in ("hostname", "domainname") if value.get(name)]),
        *_needs(spaces, "mount", [("linux", n) for n in ("maskedPaths", "readonlyPaths") if linux.get(n)]),
        *_needs(spaces, "user", [("linux", n) for n in ("uidMappings", "gidMappings") if linux.get(n)]),
        *_needs(spaces, "network", [("linux", "netDevices")] if linux.get("netDevices") else []),
        *_offsets(spaces, linux),
    ]
    if "sysctl" in linux:
        found += _sysctls(value, spaces, linux["sysctl"])
    burst = linux.get("resources", {}).get("cpu", {})
    if burst.get("burst") and burst.get("quota", 0) <= 0:
        found += at("linux", "resources", "cpu", "burst", message="is for a cpu.quota above 0")
    if "uidMappings" not in linux and not spaces.get("user"):
        found += _idmaps(value.get("mounts", ()))
    return found


def _needs(spaces: dict[str, str], kind: str, parts: Iterable[tuple[str, ...]]) -> Any:
    if kind in spaces:
        return ()
    message = f"needs a {kind} namespace: else it would change the host's"
    hint = f'add {{"type": "{kind}"}} to linux.namespaces'
    return [(part, message, hint) for part in parts]


def _offsets(spaces: dict[str, str], linux: Config) -> Any:
    """Row N07: time_namespaces(7) takes offsets only before the first process is in it."""
    if not linux.get("timeOffsets"):
        return ()
    if spaces.get("time"):
        return at("linux", "timeOffsets", message="cannot be set in a time namespace that is joined")
    return _needs(spaces, "time", [("linux", "timeOffsets")])


def _idmaps(mounts: Any) -> Any:
    """Row M12: an idmap option needs mappings, the mount's or the container's."""
    found: Any = []
    for index, entry in enumerate(mounts):
        if len(found) >= MAX_FAULTS:
            break
        if "uidMappings" not in entry:
            for option in ("idmap", "ridmap"):
                if option in entry.get("options", ()):
                    message = f"has option {option}, but there are no mappings, neither here nor in linux"
                    found += at("mounts", index, message=message)
    return found


IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.auto_msgmni kernel.msg_next_id kernel.sem kernel.sem_next_id "
    "kernel.shmall kernel.shmmax kernel.shmmni kernel.shm_next_id kernel.shm_rmid_forced".split()
)


def sysctl_namespace(name: str) -> str:
    """The namespace type a sysctl belongs to, "" for none: row Z01, proc_sys(5)."""
    dotted = name.replace("/", ".") if "/" in name else name
    if dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        return "ipc"
    if dotted.startswith("net."):
        return "network"
    if dotted.startswith("user."):
        return "user"
    return "uts" if dotted in ("kernel.hostname", "kernel.domainname") else ""


def _sysctls(value: Config, spaces: dict[str, str], sysctls: dict[str, str]) -> Any:
    found: Any = []
    for name in sysctls:
        if len(found) >= MAX_FAULTS:
            break
        kind = sysctl_namespace(name)
        parts = ("linux", "sysctl", name)
        field = name.replace("/", ".").removeprefix("kernel.")
        if not kind:
            found += at(*parts, message="is not in a namespace: it would change the host's")
        elif kind == "uts" and value.get(field):
            found += at(*parts, message=f"is set by {field} already")
        else:
            found += _needs(spaces, kind, [parts])
    return found
