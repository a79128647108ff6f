"""Device rules (linux.resources.devices): one ordered list, two forms the kernel takes.

Meaning of the list, on both cgroup versions: everything is denied, then each rule in its order adds or
takes away access, and the last rule that speaks about a device and a kind of access wins.  After the
rules of the config come the default devices, as in runc: they cannot be denied.  linux.devices does not
open anything by itself, as in runc: engines list the access they want (`--device X:r`) in the rules.

v1 takes a default and exceptions to it (devices_lines), v2 a program (program).  Pure.
Sources: config-linux.md "Device allow list", linux/security/device_cgroup.c, linux/include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import struct

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANY = -1  # all majors, all minors
MKNOD, READ, WRITE = 1, 2, 4  # BPF_DEVCG_ACC_*
ALL = MKNOD | READ | WRITE
ACCESS = {"m": MKNOD, "r": READ, "w": WRITE}
WHERE = "/linux/resources/devices"


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
)
DENY_ALL = Rule(False, "a", ANY, ANY, ALL)


def rules(devices: list[dict[str, Any]] | None, where: str = WHERE) -> list[Rule]:
    """linux.resources.devices -> the whole ordered list; None and [] give the defaults only.

    Unset type, major, minor and access mean all.  Raises errors.InvalidConfig.
    """
    result = [DENY_ALL]
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
    for other, (access, where) in list(table.items()):
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
        for other, (more, _) in table.items():
            whole |= more if _covers(other, key) else 0
        table[key] = (whole, where)


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


# -- cgroup v2: a program --------------------------------------------------------------------

INSN = struct.Struct("<BBhi")  # code, dst | src << 4, offset, immediate
LDX_W, MOV32_K, MOV32_X, AND32_K, RSH32_K, MOV64_K = 0x61, 0xB4, 0xBC, 0x54, 0x74, 0xB7
JNE32_K, JSET32_K, JA, EXIT = 0x56, 0x46, 0x05, 0x95
CTX, TYPE, WANTED, MAJOR, MINOR = 1, 2, 3, 4, 5  # registers
TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*


def program(ordered: list[Rule]) -> bytes:
    """The list as a BPF_PROG_TYPE_CGROUP_DEVICE program: struct bpf_insn array, little endian.

    It walks the rules from the last to the first, crossing off what an allow rule grants: the last rule
    about each kind of access decides.  What no rule spoke about is denied.  Returns 1 (allow) or 0 in r0.
    """
    code = [
        _insn(LDX_W, WANTED, CTX, 0, 0),  # ctx->access_type: access << 16 | type
        _insn(MOV32_X, TYPE, WANTED),
        _insn(AND32_K, TYPE, value=0xFFFF),
        _insn(RSH32_K, WANTED, value=16),
        _insn(LDX_W, MAJOR, CTX, 4),
        _insn(LDX_W, MINOR, CTX, 8),
    ]
    for rule in reversed(ordered):
        code += _block(rule)
        if rule.everything:
            break  # the verifier refuses code that cannot be reached
    else:
        code += _answer(False)
    return b"".join(code)


def _block(rule: Rule) -> list[bytes]:
    if rule.allow and rule.access != ALL:
        body = [_insn(AND32_K, WANTED, value=ALL & ~rule.access), _insn(JNE32_K, WANTED, offset=2), *_answer(True)]
    elif rule.access != ALL:
        body = [_insn(JSET32_K, WANTED, offset=1, value=rule.access), _insn(JA, offset=2), *_answer(False)]
    else:
        body = _answer(rule.allow)
    tests = [(TYPE, TYPES.get(rule.type, ANY)), (MAJOR, rule.major), (MINOR, rule.minor)]
    for register, value in reversed(tests):
        if value != ANY:
            body.insert(0, _insn(JNE32_K, register, offset=len(body), value=value))
    return body


def _answer(allow: bool) -> list[bytes]:
    return [_insn(MOV64_K, 0, value=int(allow)), _insn(EXIT)]


def _insn(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    # JMP32 compares 32 bits: an immediate above 2**31 is the same bits as a negative one
    return INSN.pack(code, dst | src << 4, offset, value - (1 << 32) if value >= 1 << 31 else value)
