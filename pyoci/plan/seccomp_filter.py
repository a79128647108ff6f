"""Checked seccomp rules -> a BPF program: what happens to each number, and a binary search for it.

Loaded when a profile is compiled, not when a cached program is used.
"""

from __future__ import annotations

import itertools

from pyoci.plan import bpf, seccomp, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias

    Verdict: TypeAlias = int | list[seccomp.Way]
    Line: TypeAlias = list[tuple[int, Verdict]]  # (first number, verdict), ascending, each up to the next

BAD_ARCH = seccomp.ACTIONS["SCMP_ACT_KILL_THREAD"]
NEWER = seccomp.ACTIONS["SCMP_ACT_ERRNO"] | 38  # ENOSYS
PERMISSIVE = frozenset([seccomp.ACTIONS["SCMP_ACT_" + name] for name in ("ALLOW", "LOG", "TRACE")])
ACTION = 0xFFFF0000  # SECCOMP_RET_ACTION_FULL
# What a tracer writes in place of a number to skip a call: no call of any architecture.
SKIPPED = 0xFFFFFFFF


def program(architectures: list[str], rules: list[seccomp.Rule], default: int) -> bytes:
    """The filter: an array of struct sock_filter.  Raises InvalidConfig when it is longer than the kernel takes.

    architectures: SCMP_ARCH_* that have a table, the native one first
    default:       SECCOMP_RET_* of calls no rule is about
    """
    builder = bpf.Builder()
    start = builder.ret(BAD_ARCH)
    tokens: dict[int, list[str]] = {}
    for arch in architectures:
        tokens.setdefault(syscalls.TOKENS[arch], []).append(arch)
    # Back to front: the native token is compared first.
    for token in reversed(tokens):
        line = _line(tokens[token], rules, default)
        tree = _tree(builder, line, default, syscalls.NARROW.issuperset(tokens[token]))
        start = builder.jump(bpf.EQUAL, token, builder.then(bpf.LOAD, bpf.NUMBER, tree), start)
    builder.then(bpf.LOAD, bpf.ARCH, start)
    return builder.encode()


# -- deciding -------------------------------------------------------------------------------


def _line(architectures: list[str], rules: list[seccomp.Rule], default: int) -> Line:
    """All numbers under the one token of these architectures: one, or x86_64 and x32."""
    line: Line = [(0, BAD_ARCH)]
    for arch in sorted(architectures, key="SCMP_ARCH_X32".__eq__):
        _add_architecture(line, arch, rules, default)
    if architectures == ["SCMP_ARCH_X86_64"]:
        _put(line, syscalls.X32_BIT, BAD_ARCH)
    _put(line, SKIPPED, default)
    return line


def _add_architecture(line: Line, arch: str, rules: list[seccomp.Rule], default: int) -> None:
    table = syscalls.numbers(arch)
    verdicts = _verdicts(table, syscalls.multiplexed(arch), rules, default)
    named = {table[name] for rule in rules for name in rule.names if name in table}
    base = syscalls.X32_BIT if arch == "SCMP_ARCH_X32" else 0
    bounds = [0, syscalls.SECOND_BLOCK[arch], SKIPPED] if arch in syscalls.SECOND_BLOCK else [0, SKIPPED]
    for first, end in itertools.pairwise(bounds):
        _put(line, base + first, default)
        for number in sorted([n for n in verdicts if first <= n < end]):
            _put(line, base + number, verdicts[number])
            _put(line, base + number + 1, default)
        newest = max([n for n in named if first <= n < end], default=-1)
        if newest >= 0 and default & ACTION not in PERMISSIVE:
            _put(line, base + newest + 1, NEWER)


def _put(line: Line, first: int, verdict: Verdict) -> None:
    """From first on (not before the last entry) the verdict is this."""
    if line[-1][0] == first:
        line.pop()
    if not line or line[-1][1] != verdict:
        line.append((first, verdict))


def _verdicts(
    table: dict[str, int], multiplexed: dict[str, tuple[int, int, int]], rules: list[seccomp.Rule], default: int
) -> dict[int, Verdict]:
    """What happens to each call that the rules touch: an action, or ways to one."""
    direct: dict[int, Verdict] = {}
    shared: dict[tuple[int, int, int], Verdict] = {}
    for rule in rules:
        if rule.action == default:
            continue
        for name in rule.names:
            if name in table:
                _merge(direct, table[name], rule)
            if name in multiplexed:
                _merge(shared, multiplexed[name], rule)
    for (number, call, mask), verdict in shared.items():
        action = verdict if isinstance(verdict, int) else _strictest([default, *[way[1] for way in verdict]])
        if action != default:
            conditions = [(0, "MASKED_EQ", mask, call)]
            _merge(direct, number, seccomp.Rule([], action, [(conditions, action)]))
    return direct


def _merge(verdicts: dict[Any, Verdict], key: object, rule: seccomp.Rule) -> None:
    known = verdicts.get(key)
    if isinstance(known, int):
        return
    if not rule.ways:
        verdicts[key] = rule.action
    elif known is None:
        verdicts[key] = list(rule.ways)
    else:
        known.extend(rule.ways)


def _strictest(actions: Iterable[int]) -> int:
    """The action the kernel would take of several filters' (seccomp(2)); the first of equals."""
    return min(actions, key=lambda action: (action & ACTION) ^ 0x80000000)


# -- writing the program --------------------------------------------------------------------


def _tree(builder: bpf.Builder, line: Line, default: int, narrow: bool) -> int:
    """A binary search over the numbers, which are in A."""
    if len(line) == 1:
        return _verdict(builder, line[0][1], default, narrow)
    middle = len(line) // 2
    above = _tree(builder, line[middle:], default, narrow)
    below = _tree(builder, line[:middle], default, narrow)
    return builder.jump(bpf.AT_LEAST, line[middle][0], above, below)


def _verdict(builder: bpf.Builder, verdict: Verdict, default: int, narrow: bool) -> int:
    if isinstance(verdict, int):
        return builder.ret(verdict)
    start = builder.ret(default)
    for conditions, action in reversed(verdict):
        otherwise = start
        start = builder.ret(action)
        for condition in reversed(conditions):
            start = builder.compare(condition, narrow, start, otherwise)
    return start
