"""The systemd cgroup driver's decisions: which scope in which slice, with which properties.  Pure.

cgroupsPath is SLICE:PREFIX:NAME (system.slice:docker:0123ab): the scope PREFIX-NAME.scope in SLICE.  systemd makes
the scope with the container's first process in it and leaves what is below to us (Delegate=yes); the values that it
has no property for, and the exact ones of those it rounds, are written into the cgroup's files afterwards.
Sources: systemd.resource-control(5), systemd.slice(5), org.freedesktop.systemd1(5), runc's docs/systemd.md.
"""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import cgroup, gvariant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.plan.facts import Facts
    from pyoci.plan.gvariant import Value

    Properties = dict[str, Value]

INFINITY = 2**64 - 1
ANNOTATION = "org.systemd.property."
# What makes the scope this container's, and no one else's.
RESERVED = frozenset(("PIDs", "PIDFDs", "Slice", "Delegate", "DelegateSubgroup"))
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
NAME_LONGEST = 255
# v2 files whose value a property has in the same unit; where it is "max" or a plain number
UNIFIED = {
    "cpu.weight": "CPUWeight",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.max": "MemoryMax",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}
ROUND_QUOTA = 10000  # microseconds per second: systemd takes whole percents
BUS_HINT = "the form is SLICE:PREFIX:NAME, as in system.slice:pyoci:web; or leave out --systemd-cgroup"


class Unit:
    """The scope of one container.

    name:       str, "docker-0123ab.scope"
    slice:      str, "system.slice"
    user:       bool, asked of the user's systemd, not of the system's
    properties: dict, name -> (D-Bus signature, value); the host adds PIDs
    """

    __slots__ = ("name", "properties", "slice", "user")

    def __init__(self, name: str, slice: str, user: bool, properties: Properties) -> None:
        self.name = name
        self.slice = slice
        self.user = user
        self.properties = properties


def make(config: dict[str, Any], facts: Facts, ident: str) -> Unit:
    """The scope that a config asks for.  Raises errors.InvalidConfig."""
    linux = config.get("linux") or {}
    user = facts.euid != 0 or facts.userns
    slice, name = names(linux.get("cgroupsPath") or "", ident, user)
    version = 2 if facts.cgroup_mode == "unified" else 1
    properties: Properties = {
        "Description": ("s", f"container {ident}"),
        "Slice": ("s", slice),
        "Delegate": ("b", True),
        "DefaultDependencies": ("b", False),
        "CollectMode": ("s", "inactive-or-failed"),  # a scope that failed goes by itself, and its name is free
        "CPUAccounting": ("b", True),
        "IOAccounting" if version == 2 else "BlockIOAccounting": ("b", True),
        "MemoryAccounting": ("b", True),
        "TasksAccounting": ("b", True),
        **resources(linux.get("resources") or {}, version),
    }
    properties.update(annotated(config.get("annotations") or {}))
    return Unit(name, slice, user, properties)


def names(path: str, ident: str, user: bool) -> tuple[str, str]:
    """(slice, scope) of a cgroupsPath.  Raises errors.InvalidConfig."""
    slice, prefix, name = "", "pyoci", ident
    if path:
        parts = path.split(":")
        if len(parts) != 3:
            raise _bad(f"cgroup path {path!r} is not SLICE:PREFIX:NAME, which systemd needs")
        slice, prefix, name = parts
    slice = slice or ("user.slice" if user else "system.slice")
    slice_path(slice)
    if not name:
        raise _bad(f"cgroup path {path!r} has no name")
    if name.endswith(".slice"):
        raise _bad(f"cgroup path {path!r} names a slice: processes can be in a scope only")
    scope = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not set(scope) <= NAME_CHARACTERS or len(scope) > NAME_LONGEST:
        raise _bad(f"systemd takes no unit of the name {scope!r}")
    return slice, scope


def slice_path(slice: str) -> str:
    """Where a slice is below systemd's root: "a-b.slice" -> "/a.slice/a-b.slice", "-.slice" -> "".

    Raises errors.InvalidConfig.
    """
    if slice == "-.slice":
        return ""
    stem = slice.removesuffix(".slice")
    parts = stem.split("-")
    if stem == slice or not all(parts) or not set(stem) <= NAME_CHARACTERS or len(slice) > NAME_LONGEST:
        raise _bad(f"{slice!r} is not the name of a slice")
    return "".join([f"/{'-'.join(parts[:depth])}.slice" for depth in range(1, len(parts) + 1)])


def cgroup_path(unit: Unit, root: str) -> str:
    """The scope's cgroup below the mount point.  root: that of the systemd in question ("" of the system's)."""
    return f"{root}{slice_path(unit.slice)}/{unit.name}"


def _bad(problem: str) -> errors.InvalidConfig:
    return errors.InvalidConfig(problem, where=cgroup.PATH_WHERE, hint=BUS_HINT)


# -- resources ---------------------------------------------------------------------------------


def resources(wanted: dict[str, Any], version: int) -> Properties:
    """linux.resources as properties, those that systemd has any for.

    It must know them: it writes them again whenever it likes (daemon-reload, SetUnitProperties).
    wanted: validated.  Raises errors.InvalidConfig for sums of memory and swap that mean nothing.
    """
    properties: Properties = {}
    for part in (_memory, _cpu, _sets):
        if part is not _sets or version == 2:
            properties.update(part(wanted, version))
    limit = (wanted.get("pids") or {}).get("limit")
    if limit:  # systemd has no TasksMax=0: the file has
        properties["TasksMax"] = ("t", _limit(limit))
    for file, text in (wanted.get("unified") or {}).items() if version == 2 else ():
        value = text.strip()
        if file in UNIFIED and (value == "max" or (value.isdecimal() and int(value) > 0)):
            properties[UNIFIED[file]] = ("t", INFINITY if value == "max" else int(value))
    return properties


def _limit(value: int) -> int:
    return INFINITY if value < 0 else value


def _memory(wanted: dict[str, Any], version: int) -> Iterator[tuple[str, Value]]:
    memory = wanted.get("memory") or {}
    limit = memory.get("limit") or 0
    if limit:
        yield "MemoryMax" if version == 2 else "MemoryLimit", ("t", _limit(limit))
    if version == 2:
        from pyoci.plan import cgroup_v2

        if memory.get("reservation"):
            yield "MemoryLow", ("t", _limit(memory["reservation"]))
        where = f"{cgroup.RESOURCES_WHERE}/memory/swap"
        swap = cgroup_v2.swap_max(limit, memory.get("swap") or 0, where)
        if swap:
            yield "MemorySwapMax", ("t", INFINITY if swap == "max" else int(swap))


def _cpu(wanted: dict[str, Any], version: int) -> Iterator[tuple[str, Value]]:
    cpu = wanted.get("cpu") or {}
    if cpu.get("shares"):
        if version == 2:
            from pyoci.plan import cgroup_v2

            yield "CPUWeight", ("t", cgroup_v2.cpu_weight(cpu["shares"]))
        else:
            yield "CPUShares", ("t", cpu["shares"])
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if period:
        yield "CPUQuotaPeriodUSec", ("t", period)
    if quota:
        per_second = -(-quota * 1000000 // (period or 100000))
        yield "CPUQuotaPerSecUSec", ("t", INFINITY if quota < 0 else -(-per_second // ROUND_QUOTA) * ROUND_QUOTA)


def _sets(wanted: dict[str, Any], version: int) -> Iterator[tuple[str, Value]]:
    cpu = wanted.get("cpu") or {}
    for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
        if cpu.get(key):
            yield name, ("ay", mask(cpu[key], f"{cgroup.RESOURCES_WHERE}/cpu/{key}"))


def mask(text: str, where: str) -> bytes:
    """A list as in cpuset.cpus ("0-2,7") as a bit mask, the lowest byte first.  Raises errors.InvalidConfig."""
    bits = 0
    for part in text.replace("\n", ",").split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal()):
            problem = f"systemd cannot be told {text!r}: a list like 0-2,7 is needed"
            raise errors.InvalidConfig(problem, where=where)
        low, high = int(first), int(last)
        if not low <= high < 8192:
            raise errors.InvalidConfig(f"{text!r} is out of range", where=where)
        bits |= (1 << (high + 1)) - (1 << low)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


# -- annotations -------------------------------------------------------------------------------


def annotated(annotations: dict[str, str]) -> Properties:
    """The properties of the annotations org.systemd.property.NAME, whose value is GVariant text.

    A NAME that ends in Sec is seconds, for the property that ends in USec.  Raises errors.InvalidConfig.
    """
    properties: Properties = {}
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        where = f"/annotations/{key.replace('~', '~0').replace('/', '~1')}"
        name = key[len(ANNOTATION) :]
        if not (name.isascii() and name.isalnum() and name[:1].isupper()):
            raise errors.InvalidConfig(f"{name!r} is no property of systemd", where=where)
        if name in RESERVED:
            raise errors.InvalidConfig(f"the property {name} is the runtime's own", where=where)
        try:
            value = gvariant.parse(text)
            if name.endswith("Sec") and not name.endswith("USec"):
                name, value = name[:-3] + "USec", _microseconds(value)
        except ValueError as error:
            hint = "a text needs its own quotes: 'text'; a number may need its type: uint64 5"
            raise errors.InvalidConfig(f"the value {text!r} of {name}: {error}", where=where, hint=hint) from None
        properties[name] = value
    return properties


def _microseconds(value: Value) -> Value:
    signature, number = value
    if signature not in "nqiuxtd" or number < 0 or number * 1000000 >= 2**64:
        raise ValueError("no number of seconds")
    return "t", int(number * 1000000)
