"""linux.seccomp -> the filter the kernel runs: classic BPF and the flags of seccomp(2).  Pure.

What a profile means (runc and crun through libseccomp; the differences are marked):

* The conditions of one rule are joined by AND; rules for one system call by OR.  Two conditions on
  the same argument in one rule are two rules, as runc and crun have it.
* A rule without conditions is the last word on its call, wherever it stands; of several such the first.
  Of rules with conditions the first that matches decides (libseccomp's order is its own).
* A rule whose action is the default one does nothing (runc), but see the next point.
* A call with a number above all that the profile names is newer than the profile: ENOSYS, so that C
  libraries fall back, unless the default action lets it through (ALLOW, LOG, TRACE).
* The native architecture is always covered.  Calls of an architecture that is not listed kill the
  thread, x32 (a bit in the number of x86_64 calls) included.  A listed architecture for which pyoci has
  no table is treated as not listed, with a warning.
* On i386 the rules hold for socketcall(2) and ipc(2) as well.  *Arguments* of those lie behind a pointer: the
  strictest of the actions that the conditions choose from is taken (libseccomp compares the wrong registers).
* Names no architecture has are ignored, with a warning.
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Condition: TypeAlias = tuple[int, str, int, int]  # argument, operator without SCMP_CMP_, value, valueTwo
    Way: TypeAlias = tuple[list[Condition], int]  # all of the conditions -> the action; the first way counts

VERSION = 1  # of what compile() makes of a profile: part of the name under which a program is cached

# linux/seccomp.h, SECCOMP_RET_*
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
OPERATORS = frozenset(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
# SECCOMP_FILTER_FLAG_*
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
NEW_LISTENER = 8
TSYNC_ESRCH = 16

EPERM = 1
# The largest errno the kernel hands on, the largest message a tracer gets.
DATA_LIMITS = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}


class Program:
    """A compiled profile.

    code:     bytes, an array of struct sock_filter
    flags:    int, SECCOMP_FILTER_FLAG_* for seccomp(2)
    listener: bool, seccomp(2) returns a notification descriptor (flags has NEW_LISTENER)
    warnings: list of str, what the profile asked for in vain
    """

    __slots__ = ("code", "flags", "listener", "warnings")

    def __init__(self, code: bytes, flags: int, listener: bool, warnings: list[str]) -> None:
        self.code = code
        self.flags = flags
        self.listener = listener
        self.warnings = warnings


class Rule:
    """One of linux.seccomp.syscalls: its names, its action (SECCOMP_RET_*), its ways to match (none: always)."""

    __slots__ = ("action", "names", "ways")

    def __init__(self, names: Sequence[str], action: int, ways: list[Way]) -> None:
        self.names = names
        self.action = action
        self.ways = ways


def compile(profile: dict[str, Any], arch: str) -> Program:
    """The filter of a linux.seccomp object (of the types that pyoci.spec lets through) on a machine that
    uname(2) calls arch.

    Raises InvalidConfig, with a pointer under /linux/seccomp, for what the runtime-spec or the kernel forbids.
    """
    from pyoci.plan import seccomp_filter

    default = _action(profile, "defaultAction", "defaultErrnoRet", "/linux/seccomp")
    rules = [_rule(entry, f"/linux/seccomp/syscalls/{i}") for i, entry in enumerate(profile.get("syscalls") or ())]
    listener = _check_listener(profile, default, rules)
    warnings: list[str] = []
    flags = _flags(profile, listener, warnings)
    architectures = _architectures(profile, arch, warnings)
    _warn_unknown(rules, warnings)
    return Program(seccomp_filter.program(architectures, rules, default), flags, listener, warnings)


def raw(text: str, annotation: str) -> Program:
    """A filter that the caller compiled: struct sock_filter in base64 (crun's annotation run.oci.seccomp_bpf_data).

    The kernel checks it.  Raises InvalidConfig.
    """
    import binascii

    try:
        code = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one
        code = b"?"
    if not code or len(code) % 8:
        raise errors.InvalidConfig("not a BPF program in base64", where=f"/annotations/{annotation}")
    return Program(code, 0, False, [])


# -- reading the profile --------------------------------------------------------------------


def _action(source: dict[str, Any], key: str, errno_key: str, where: str) -> int:
    name = source.get(key)
    if name not in ACTIONS:
        raise errors.InvalidConfig(f"{name!r} is no seccomp action", where=f"{where}/{key}")
    data = source.get(errno_key)
    limit = DATA_LIMITS.get(name)
    if limit is None:
        if data is not None:
            raise errors.InvalidConfig(
                f"{name} takes no errno", where=f"{where}/{errno_key}", hint=f"remove {errno_key}"
            )
        return ACTIONS[name]
    return ACTIONS[name] | (EPERM if data is None else _uint(data, limit, f"{where}/{errno_key}"))


def _uint(value: Any, limit: int, where: str) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise errors.InvalidConfig(f"{value!r} is not a number from 0 to {limit}", where=where)
    return value


def _rule(entry: dict[str, Any], where: str) -> Rule:
    names = entry.get("names")
    if not names:
        raise errors.InvalidConfig("a seccomp rule without names", where=f"{where}/names")
    action = _action(entry, "action", "errnoRet", where)
    conditions = [_condition(arg, f"{where}/args/{i}") for i, arg in enumerate(entry.get("args") or ())]
    if len({condition[0] for condition in conditions}) < len(conditions):
        return Rule(names, action, [([condition], action) for condition in conditions])
    return Rule(names, action, [(conditions, action)] if conditions else [])


def _condition(arg: dict[str, Any], where: str) -> Condition:
    name = arg.get("op")
    operator = name.removeprefix("SCMP_CMP_") if isinstance(name, str) and name.startswith("SCMP_CMP_") else ""
    if operator not in OPERATORS:
        raise errors.InvalidConfig(f"{name!r} is no seccomp operator", where=f"{where}/op")
    index = _uint(arg.get("index"), 5, f"{where}/index")
    value = _uint(arg.get("value"), (1 << 64) - 1, f"{where}/value")
    return index, operator, value, _uint(arg.get("valueTwo") or 0, (1 << 64) - 1, f"{where}/valueTwo")


def _check_listener(profile: dict[str, Any], default: int, rules: list[Rule]) -> bool:
    """Whether calls are passed to a listener, and that they can be."""
    path = profile.get("listenerPath")
    if profile.get("listenerMetadata") and not path:
        raise errors.InvalidConfig(
            "listenerMetadata is set without listenerPath", where="/linux/seccomp/listenerMetadata"
        )
    notify = ACTIONS["SCMP_ACT_NOTIFY"]
    if default == notify:
        # The listener would have to allow the calls by which it gets its descriptor.
        raise errors.InvalidConfig(
            "SCMP_ACT_NOTIFY cannot be used as default action", where="/linux/seccomp/defaultAction"
        )
    listener = False
    for number, rule in enumerate(rules):
        if rule.action == notify:
            listener = True
            if "write" in rule.names:
                where = f"/linux/seccomp/syscalls/{number}/action"
                raise errors.InvalidConfig("SCMP_ACT_NOTIFY cannot be used for the write syscall", where=where)
    if listener and not path:
        raise errors.InvalidConfig("SCMP_ACT_NOTIFY is used without listenerPath", where="/linux/seccomp/listenerPath")
    return listener


def _flags(profile: dict[str, Any], listener: bool, warnings: list[str]) -> int:
    names = profile.get("flags")
    if names is None:
        return FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"] | (NEW_LISTENER if listener else 0)  # as runc
    flags = 0
    for number, name in enumerate(names):
        if name not in FLAGS:
            raise errors.InvalidConfig(f"{name!r} is no seccomp flag", where=f"/linux/seccomp/flags/{number}")
        flags |= FLAGS[name]
    wait = FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    if listener:
        # seccomp(2) can report one of two things in its result: the descriptor or a thread that was out of step.
        return flags | NEW_LISTENER | (TSYNC_ESRCH if flags & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"] else 0)
    if flags & wait:
        warnings.append("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV ignored: no rule has SCMP_ACT_NOTIFY")
    return flags & ~wait


def _architectures(profile: dict[str, Any], machine: str, warnings: list[str]) -> list[str]:
    """The native architecture and the listed ones that have a table."""
    from pyoci.plan import syscalls

    if machine not in syscalls.NATIVE:
        raise errors.InvalidConfig(f"pyoci has no seccomp tables for {machine}", where="/linux/seccomp")
    found = {syscalls.NATIVE[machine]: None}
    for number, name in enumerate(profile.get("architectures") or ()):
        if name not in syscalls.ARCHITECTURES:
            where = f"/linux/seccomp/architectures/{number}"
            raise errors.InvalidConfig(f"{name!r} is no seccomp architecture", where=where)
        if name in syscalls.TOKENS:
            found[name] = None
        else:
            warnings.append(f"seccomp: no table for {name}, its system calls stay refused")
    return list(found)


def _warn_unknown(rules: list[Rule], warnings: list[str]) -> None:
    from pyoci.plan import syscalls

    unknown = {name for rule in rules for name in rule.names}
    unknown -= syscalls.FOREIGN
    for arch in syscalls.TOKENS:
        if unknown:
            unknown.difference_update(syscalls.numbers(arch))
    if unknown:
        warnings.append(f"seccomp: unknown system calls ignored: {', '.join(sorted(unknown))}")
