"""SECURITY 13, 15: the filter by what it does to system calls."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Box, pyoci_only

if TYPE_CHECKING:
    from pathlib import Path

SCHED_YIELD, GETPRIORITY, SET_THREAD_AREA = 24, 140, 205
BIG = 0x1_0000_0005


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW") -> dict[str, Any]:
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules)}


def deny(*args: dict[str, Any], errno: int = 99, name: str = "getpriority") -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": list(args)}


def arg(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def denied(box: Box, *values: int) -> bool:
    return box.output("probe", "syscall", str(GETPRIORITY), *map(str, values)).strip() == "EADDRNOTAVAIL"


@pytest.mark.parametrize(("values", "expected"), [((0, 0), True), ((0, 7), False), ((7, 0), False), ((7, 7), False)])
def test_conditions_of_one_rule_are_and(box: Box, values: tuple[int, int], expected: bool) -> None:
    box.linux["seccomp"] = profile(deny(arg(0, "EQ", 0), arg(1, "EQ", 0)))
    assert denied(box, *values) == expected


@pytest.mark.parametrize(("values", "expected"), [((0, 0), True), ((0, 7), True), ((7, 0), True), ((7, 7), False)])
def test_rules_of_one_call_are_or(box: Box, values: tuple[int, int], expected: bool) -> None:
    box.linux["seccomp"] = profile(deny(arg(0, "EQ", 0)), deny(arg(1, "EQ", 0)))
    assert denied(box, *values) == expected


@pytest.mark.parametrize(("value", "expected"), [(5, False), (BIG, True), (BIG + 1, False), (5 << 32, False)])
def test_all_64_bits_count(box: Box, value: int, expected: bool) -> None:
    box.linux["seccomp"] = profile(deny(arg(1, "EQ", BIG)))
    assert denied(box, 0, value) == expected


@pyoci_only("needs libseccomp's bad architecture action")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="i386 and x32 are there on x86-64 only")
@pytest.mark.parametrize("kind", ["i386", "x32"])
def test_foreign_architectures(armed: Box, kind: str) -> None:
    """A rule would not hold for them: so they are refused, not overlooked."""
    armed.linux["seccomp"] = profile(deny(name="sched_yield"))
    armed.args("attack", "foreign", kind)
    result = armed.run(check=False)
    assert result.code == 128 + 31 or "r -" in result.out, result
    assert "r 0" not in result.out


@pyoci_only("its init still closes and writes descriptors with the filter on")
@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("privileges", [True, False])
def test_only_execve_is_needed(box: Box, attack: Path, verb: str, privileges: bool) -> None:
    """SECURITY 13: under a profile that kills, the runtime needs nothing but execve(2) when it is loaded."""
    names = "execve brk arch_prctl set_tid_address set_robust_list rseq prlimit64 readlinkat getrandom mprotect write "
    names += "exit_group fstat newfstatat readlink getpid getuid pause"
    allow = {"names": names.split(), "action": "SCMP_ACT_ALLOW"}
    box.linux["seccomp"] = profile(allow, default="SCMP_ACT_KILL_PROCESS")
    box.process["noNewPrivileges"] = privileges
    box.process["user"] = {"uid": 1000, "gid": 1000}
    if verb == "run":
        assert box.output("probe", "syscall", "39") == "ok 1\n"
    else:
        os.link(attack, box.rootfs / "bin/attack")
        box.args("attack", "wait")
        box.up()
        assert box.exec("probe", "syscall", "102").out == "ok 1000\n"
