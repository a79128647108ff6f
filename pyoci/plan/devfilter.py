"""Device rules (linux.resources.devices): one ordered list, two forms the kernel takes.

Meaning of the list, on both cgroup versions: everything is denied, then each rule in its order adds or
takes away access, and the last rule that speaks about a device and a kind of access wins.  After the
rules of the config come the default devices, as in runc: they cannot be denied.  linux.devices does not
open anything by itself, as in runc: engines list the access they want (`--device X:r`) in the rules.

v1 takes a default and exceptions to it (lines; plan/devchange.py where there are some already), v2 a program
(plan/devprogram.py).  Pure.
Sources: config-linux.md "Device allow list", linux/security/device_cgroup.c.
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANY = -1  # all majors, all minors
MKNOD, READ, WRITE = 1, 2, 4  # BPF_DEVCG_ACC_*
ALL = MKNOD | READ | WRITE
ACCESS = {"m": MKNOD, "r": READ, "w": WRITE}
WHERE = "/linux/resources/devices"
MAX_RULES = 4096  # each may be held against every other, here and by the kernel at each open(2)


class Rule:
    """One rule: allow or deny, type "a", "b" or "c", major and minor (ANY: all), access bits, JSON pointer."""

    __slots__ = ("access", "allow", "major", "minor", "type", "where")

    def __init__(self, allow: bool, kind: str, major: int, minor: int, access: int, where: str = "") -> None:
        self.allow = allow
        self.type = kind
        self.major = major
        self.minor = minor
        self.access = access
        self.where = where

    @property
    def everything(self) -> bool:
        """The rule speaks about every device and every access: what came before it is void."""
        return self.type == "a" and self.major == ANY and self.minor == ANY and self.access == ALL

    def __str__(self) -> str:
        return f"{'allow' if self.allow else 'deny'} {line(self.type, self.major, self.minor, self.access)}"


# Making any node is harmless as long as it cannot be opened; the rest is what every program expects to work.
DEFAULTS = (
    Rule(True, "c", ANY, ANY, MKNOD),
    Rule(True, "b", ANY, ANY, MKNOD),
    Rule(True, "c", 1, 3, ALL),  # null
    Rule(True, "c", 1, 5, ALL),  # zero
    Rule(True, "c", 1, 7, ALL),  # full
    Rule(True, "c", 1, 8, ALL),  # random
    Rule(True, "c", 1, 9, ALL),  # urandom
    Rule(True, "c", 5, 0, ALL),  # tty
    Rule(True, "c", 5, 1, ALL),  # console
    Rule(True, "c", 5, 2, ALL),  # ptmx
    Rule(True, "c", 136, ANY, ALL),  # pts/N
    Rule(True, "c", 10, 200, ALL),  # net/tun
)
DENY_ALL = Rule(False, "a", ANY, ANY, ALL)


def rules(devices: list[dict[str, Any]] | None, where: str = WHERE) -> list[Rule]:
    """linux.resources.devices -> the whole ordered list; None and [] give the defaults only.

    Unset type, major, minor and access mean all.  Raises errors.InvalidConfig.
    """
    result = [DENY_ALL]
    if len(devices or ()) > MAX_RULES:
        raise errors.InvalidConfig(
            f"there are {len(devices or ())} device rules, and at most {MAX_RULES} are taken", where=where
        )
    for index, device in enumerate(devices or ()):
        rule = _rule(device, f"{where}/{index}")
        if rule.everything:
            result.clear()
        result.append(rule)
    if not result[-1].everything or not result[-1].allow:
        result.extend(DEFAULTS)
    return result


def _rule(device: dict[str, Any], where: str) -> Rule:
    kind = device.get("type") or "a"
    kind = "c" if kind == "u" else kind
    if kind not in ("a", "b", "c"):
        raise errors.InvalidConfig(f"device rule has type {kind!r}, not a, b or c", where=f"{where}/type")
    access = 0
    for letter in device.get("access", "rwm"):
        if letter not in ACCESS:
            raise errors.InvalidConfig(f"device rule has access {letter!r}, not r, w or m", where=f"{where}/access")
        access |= ACCESS[letter]
    if not access:
        raise errors.InvalidConfig("device rule has an empty access", where=f"{where}/access")
    return Rule(device.get("allow") is True, kind, _number(device, "major"), _number(device, "minor"), access, where)


def _number(device: dict[str, Any], name: str) -> int:
    value = device.get(name)
    return ANY if value is None or value < 0 else int(value)


def line(kind: str, major: int, minor: int, access: int) -> str:
    """The rule as devices.allow, devices.deny and devices.list write it: "c 1:3 rwm"."""
    numbers = ":".join("*" if n == ANY else str(n) for n in (major, minor))
    return f"{kind} {numbers} " + "".join(letter for letter in "rwm" if access & ACCESS[letter])


# -- cgroup v1: a default and exceptions -----------------------------------------------------

Key = tuple[str, int, int]  # type "b" or "c", major, minor


def exceptions(ordered: list[Rule]) -> tuple[bool, dict[Key, tuple[int, str]]]:
    """The ordered list as the v1 controller keeps it: (default, {device: (access, where)}).

    The exceptions are allowed where the default is deny, and denied where it is allow.  The kernel
    only forgets an exception that is named exactly, so the order has to be worked out here.
    Raises errors.InvalidConfig for what v1 cannot say: a hole in a wider exception.
    """
    default = False
    table: dict[Key, tuple[int, str]] = {}
    for rule in ordered:
        if rule.everything:
            default = rule.allow
            table.clear()
            continue
        for kind in "bc" if rule.type == "a" else rule.type:
            key = (kind, rule.major, rule.minor)
            if rule.allow != default:
                table[key] = (table.get(key, (0, ""))[0] | rule.access, rule.where)
            else:
                _withdraw(table, key, rule)
    if not default:
        _close(table)
    return default, table


def _withdraw(table: dict[Key, tuple[int, str]], key: Key, rule: Rule) -> None:
    for other in list(table) if ANY in key else [near for near in _around(key) if near in table]:
        access, where = table[other]
        if not access & rule.access:
            continue
        if _covers(key, other):
            table[other] = (access & ~rule.access, where)
            if not table[other][0]:
                del table[other]
        elif _overlap(key, other):
            raise errors.InvalidConfig(
                f"cgroup v1 cannot {rule} within the wider rule {line(*other, access)!r}",
                where=rule.where or where,
                hint="leave the device out of the wider rule, or use cgroup v2",
            )


def _close(table: dict[Key, tuple[int, str]]) -> None:
    # The kernel wants one exception that has all of an open's access: give each the access of those around it.
    for key, (access, where) in table.items():
        whole = access
        for other in _around(key):
            whole |= table.get(other, (0, ""))[0]
        table[key] = (whole, where)


def _around(key: Key) -> tuple[Key, ...]:
    """Every exception that covers key, itself included: the table may be long."""
    kind, major, minor = key
    return key, (kind, major, ANY), (kind, ANY, minor), (kind, ANY, ANY)


def _covers(wide: Key, narrow: Key) -> bool:
    return wide[0] == narrow[0] and all(w in (ANY, n) for w, n in zip(wide[1:], narrow[1:], strict=True))


def _overlap(one: Key, two: Key) -> bool:
    return one[0] == two[0] and all(a == b or ANY in (a, b) for a, b in zip(one[1:], two[1:], strict=True))


def lines(ordered: list[Rule]) -> list[tuple[str, str, str]]:
    """What to write for the v1 controller, in order: (file, text, where)."""
    default, table = exceptions(ordered)
    start, rest = ("devices.allow", "devices.deny") if default else ("devices.deny", "devices.allow")
    result = [(start, "a", ordered[0].where)]
    result += [(rest, line(*key, access), where) for key, (access, where) in table.items()]
    return result
