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
    from typing import Any

    from pyoci.plan.cgroup import Write
    from pyoci.plan.facts import Facts
    from pyoci.plan.gvariant import Value

    Properties = dict[str, Value]

ANNOTATION = "org.systemd.property."
# What makes the scope this container's, and no one else's.
RESERVED = frozenset(("PIDs", "PIDFDs", "Slice", "Delegate", "DelegateSubgroup"))
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
NAME_LONGEST = 255
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
    """The scope that a config asks for, without what describe() adds.  Raises errors.InvalidConfig."""
    linux = config.get("linux") or {}
    user = facts.euid != 0 or facts.userns
    slice, name = names(linux.get("cgroupsPath") or "", ident, user)
    version = 2 if facts.cgroup_mode == "unified" else 1
    if user and version == 1:
        problem = "systemd gives an ordinary user no cgroups on cgroup v1"
        raise errors.InvalidConfig(problem, where=cgroup.PATH_WHERE, hint="leave out --systemd-cgroup")
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
    }
    return Unit(name, slice, user, properties)


def describe(unit: Unit, config: dict[str, Any], writes: list[Write], version: int) -> None:
    """Add what systemd is to know of the values that are going to be written, and the annotations, which win.

    Raises errors.InvalidConfig.
    """
    from pyoci.plan import systemd_limits

    unit.properties.update(systemd_limits.told(writes, version))
    unit.properties.update(annotated(config.get("annotations") or {}))


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
            problem = f"the value {errors.value(text)!r} of {name}: {error}"
            raise errors.InvalidConfig(problem, where=where, hint=hint) from None
        properties[name] = value
    return properties


def _microseconds(value: Value) -> Value:
    signature, number = value
    if signature not in "nqiuxtd" or number < 0 or number * 1000000 >= 2**64:
        raise ValueError("no number of seconds")
    return "t", int(number * 1000000)
