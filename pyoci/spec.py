"""What the runtime-spec asks of config.json, checked: every fault at once, in microseconds.

The rules are in spec_tables (the shape of the config), spec_kinds (strings with a form of
their own) and spec_cross (rules between properties); spec_rules has what they are made of.
pyoci.schema says the same as JSON Schema, at length; a test holds the two to one verdict.
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.spec_rules import Rule

VERSION = "1.3.0"  # of the runtime-spec that is implemented
ID_LENGTH = 1024
ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.")


def pointer(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) to a place: ("linux", "sysctl", "a/b") -> "/linux/sysctl/a~1b"."""
    return "".join(["/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts])


def check(config: Any) -> list[errors.Fault]:
    """Every fault of a config.json, [] when it is valid (rows L24, L29).  The config is not changed.

    Unknown properties are no faults (row L23).  At most about a hundred faults are listed.
    """
    return _check("CONFIG", config, "config.json")


def check_process(process: Any) -> list[errors.Fault]:
    """Every fault of a process object: that of a config, or exec's process.json."""
    return _check("PROCESS", process, "process")


def check_resources(resources: Any) -> list[errors.Fault]:
    """Every fault of a linux.resources object: `update --resources`."""
    return _check("RESOURCES", resources, "resources")


def check_seccomp(profile: Any) -> list[errors.Fault]:
    """Every fault of a linux.seccomp object."""
    return _check("SECCOMP", profile, "profile")


def validate(config: Any) -> None:
    """Raise errors.InvalidConfig, with every fault, unless config is a valid config.json."""
    refuse(check(config))


def validate_process(process: Any) -> None:
    """Raise errors.InvalidConfig, with every fault, unless process is a valid process.json."""
    refuse(check_process(process), "process")


def refuse(faults: list[errors.Fault], document: str = "config.json") -> None:
    """Raise errors.InvalidConfig when there are faults: its text is the first and the number of the others.

    document: what was checked.
    """
    if not faults:
        return
    first = faults[0]
    others = len(faults) - 1
    see = ": see `pyoci validate`" if document == "config.json" else ""
    more = f" (and {others} more fault{'s' * (others > 1)}{see})" if others else ""
    error = errors.InvalidConfig(first.message + more, faults=faults, where=first.where, hint=first.hint)
    error.document = document
    raise error


def _check(table: str, value: Any, name: str) -> list[errors.Fault]:
    from pyoci import spec_tables  # half a millisecond: `state` and `kill` only want check_id
    from pyoci.spec_rules import MAX_FAULTS

    rule: Rule = getattr(spec_tables, table)
    problems = rule(value)
    if not problems:
        return []
    return [
        errors.Fault(pointer(*parts), f"{_subject(parts, name)} {message}", hint if parts else "")
        for parts, message, hint in problems[:MAX_FAULTS]
    ]


def _subject(parts: tuple[str | int, ...], name: str) -> str:
    """What a sentence calls a place: the last name, with the indexes after it."""
    subject = ""
    for part in reversed(parts):
        if isinstance(part, str):
            return (part if part.isidentifier() else errors.one_line(repr(part))) + subject
        subject = f"[{part}]" + subject
    return name + subject


def check_id(id: str) -> None:
    """Raise errors.InvalidConfig unless id can name a container (row L03).

    As runc: letters, digits and _ + - . only, not "." or ".."; at most ID_LENGTH bytes.
    """
    if not id:
        raise errors.InvalidConfig("container id cannot be empty")
    if id in (".", "..") or not ID_CHARACTERS.issuperset(id):
        raise errors.InvalidConfig(
            f"invalid container id {errors.one_line(ascii(id[:100]))}", hint="use letters, digits and _ + - . only"
        )
    if len(id) > ID_LENGTH:
        raise errors.InvalidConfig(f"container id is longer than {ID_LENGTH} characters")


def default(rootless: bool = False, uid: int = 0, gid: int = 0, unified: bool = False) -> dict[str, Any]:
    """The config that `pyoci spec [--rootless]` writes, as `runc spec` does.

    uid, gid: with rootless, the ids of the user on the host, to whom the container's 0 is mapped.
    unified: the host has cgroup v2 only: then a cgroup namespace belongs to it.
    """
    from pyoci import spec_default

    return spec_default.make(VERSION, rootless, uid, gid, unified)
