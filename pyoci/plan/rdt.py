"""linux.intelRdt: the class of service and the monitoring group of a container (rows Z05 to Z09).  Pure.

Source: config-linux.md "IntelRdt", the kernel's resctrl.rst.
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHERE = "/linux/intelRdt"


class Rdt:
    """What host.rdt does.

    group:   str, name of the class's directory below the mount of resctrl, "" for the mount itself
    named:   bool, closID was given: then the class may be there before and stays behind
    schemas: list of (text, JSON pointer) to write into `schemata`, in order
    monitor: str, name of the monitoring group, "" for none
    """

    __slots__ = ("group", "monitor", "named", "schemas")

    def __init__(self, group: str, named: bool, schemas: list[tuple[str, str]], monitor: str) -> None:
        self.group = group
        self.named = named
        self.schemas = schemas
        self.monitor = monitor


def make(wanted: dict[str, Any], container: str) -> Rdt:
    """The plan of an intelRdt object.  container: id.  Raises InvalidConfig."""
    name = wanted.get("closID") or ""
    schemas = [(wanted[key], f"{WHERE}/{key}") for key in ("l3CacheSchema", "memBwSchema") if wanted.get(key)]
    if wanted.get("schemata"):
        schemas.append(("\n".join(wanted["schemata"]), f"{WHERE}/schemata"))
    for text, where in schemas:
        domains(text, where)
    if name == "/" and schemas:
        # it is everybody's who has no class of his own
        raise errors.InvalidConfig("the root class of resctrl cannot be changed for a container", where=schemas[0][1])
    monitor = container if wanted.get("enableMonitoring") else ""
    return Rdt("" if name == "/" else name or container, bool(name), schemas, monitor)


def domains(text: str, where: str) -> dict[tuple[str, str], str]:
    """(resource, domain) -> value of the lines "L3:0=f;1=f0" of a schema.  Raises InvalidConfig."""
    found = {}
    for line in text.split("\n"):
        resource, colon, values = line.strip().partition(":")
        if not resource:
            continue
        for part in values.split(";"):
            domain, equals, value = part.partition("=")
            if not colon or not equals:
                raise errors.InvalidConfig(f"{line!r} is no line of a schema like L3:0=f;1=f", where=where)
            found[resource.strip(), domain.strip()] = value.strip().lstrip("0") or "0"
    return found
