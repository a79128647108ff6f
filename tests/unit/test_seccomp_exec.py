"""Attack class 15, executed: compiled filters loaded into the kernel, and the calls made.

Every filter is loaded in a child with no_new_privs, which needs no root.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import signal
import struct
from typing import TYPE_CHECKING, Any

import pytest

from pyoci.plan import seccomp
from tests.unit.test_seccomp import FLAG, arg, profile, rule
from tests.unit.test_seccomp_libseccomp import engine_profiles

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the calls are those of x86_64")

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS = 38
SECCOMP, SET_MODE_FILTER = 317, 1
GETPPID, GETPGRP, CLONE, KEYCTL, UNSHARE = 110, 111, 56, 250, 272
X32_BIT = 0x40000000
MARK = 77  # an errno that nothing else gives
DENY: dict[str, Any] = {"errnoRet": MARK}


class Filter(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("count", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def load(program: seccomp.Program) -> int:
    """What nsexec will do; the listener's descriptor, or 0.  Raises OSError."""
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    fprog = Filter(len(program.code) // 8, program.code)
    result: int = LIBC.syscall(SECCOMP, SET_MODE_FILTER, ctypes.c_ulong(program.flags), ctypes.byref(fprog))
    if result < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return result


def call(number: int, *args: int) -> int:
    """The errno of a system call, 0 for success."""
    ctypes.set_errno(0)
    LIBC.syscall(ctypes.c_long(number), *[ctypes.c_ulong(value) for value in args])
    return ctypes.get_errno()


def under(source: dict[str, Any], body: Callable[[], list[int]]) -> list[int] | int:
    """What body returns under the filter, or minus the signal that ended the child."""
    program = seccomp.compile(source, "x86_64")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            load(program)
            os.write(writer, struct.pack("64i", *[*(result := body()), *[-1] * (64 - len(result))]))
        finally:
            os._exit(0)
    os.close(writer)
    data = os.read(reader, 4096)
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        return status
    assert data, "the filter was not loaded"
    return [value for value in struct.unpack("64i", data) if value != -1]


def denied(*rules: dict[str, Any], calls: list[tuple[int, ...]]) -> list[bool]:
    """Which of these getppid calls a profile that allows the rest refuses."""
    result = under(profile(*rules, default="ALLOW"), lambda: [call(GETPPID, *args) for args in calls])
    assert isinstance(result, list)
    assert set(result) <= {0, MARK}
    return [value == MARK for value in result]


def test_and_within_a_rule() -> None:
    """S05"""
    one = rule("getppid", "ERRNO", arg(0, "EQ", 1), arg(3, "EQ", 2), **DENY)
    assert denied(one, calls=[(1, 0, 0, 2), (1, 0, 0, 3), (0, 0, 0, 2), (2, 0, 0, 1)]) == [True, False, False, False]


def test_or_across_rules() -> None:
    """S05"""
    rules = [rule("getppid", "ERRNO", arg(0, "EQ", 1), **DENY), rule("getppid", "ERRNO", arg(5, "EQ", 2), **DENY)]
    calls: list[tuple[int, ...]] = [(1, 0, 0, 0, 0, 2), (1, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 2), (2, 0, 0, 0, 0, 1)]
    assert denied(*rules, calls=calls) == [True, True, True, False]


HIGH = 0x1_0000_0005
SPREAD = [0, 4, 5, 6, HIGH - 1, HIGH, HIGH + 1, 0x1_0000_0000, 0x2_0000_0000, 1 << 63, (1 << 64) - 1]


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("EQ", [HIGH]),
        ("NE", [value for value in SPREAD if value != HIGH]),
        ("LT", [value for value in SPREAD if value < HIGH]),
        ("LE", [value for value in SPREAD if value <= HIGH]),
        ("GT", [value for value in SPREAD if value > HIGH]),
        ("GE", [value for value in SPREAD if value >= HIGH]),
    ],
)
def test_full_width(op: str, expected: list[int]) -> None:
    """S05: all 64 bits of an argument count."""
    one = rule("getppid", "ERRNO", arg(1, op, HIGH), **DENY)
    hit = denied(one, calls=[(9, value) for value in SPREAD])
    assert [value for value, yes in zip(SPREAD, hit, strict=True) if yes] == expected


def test_masked() -> None:
    """S05"""
    one = rule("getppid", "ERRNO", arg(2, "MASKED_EQ", 0x3_0000_0003, 0x1_0000_0002), **DENY)
    values = [0x1_0000_0002, 0xFFFF_FFFD_FFFF_FFFE, 0x1_0000_0003, 0x3_0000_0002, 2]
    assert denied(one, calls=[(0, 0, value) for value in values]) == [True, True, False, False, False]


def test_foreign_architecture_is_killed() -> None:
    """S03: i386 by int 0x80, and x32, where they are not listed."""
    source = profile(default="ALLOW")
    assert under(source, lambda: [call(X32_BIT | GETPPID)]) == -signal.SIGSYS
    if not int80_works():
        pytest.skip("this kernel has no 32-bit calls")
    assert under(source, lambda: [int80(20)]) == -signal.SIGSYS


def test_listed_architectures() -> None:
    """S03: a rule holds for the same call of every listed architecture, with its own number."""
    rules = rule("getppid", "ERRNO", **DENY)
    source = profile(rules, default="ALLOW", architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    result = under(source, lambda: [call(GETPPID), call(X32_BIT | GETPPID), call(GETPGRP)])
    assert result == [MARK, MARK, 0]
    if not int80_works():
        pytest.skip("this kernel has no 32-bit calls")
    # getppid is 64, getpid 20; an error comes back negative
    assert under(source, lambda: [-int80(64), int80(20) > 0]) == [MARK, True]


def int80(number: int) -> int:
    """An i386 system call without arguments."""
    code = b"\xb8" + struct.pack("<I", number) + b"\xcd\x80\xc3"  # mov eax, number; int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result: int = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    return result


def int80_works() -> bool:
    child = os.fork()
    if not child:
        os._exit(not int80(20) > 0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_deadly_actions(action: str) -> None:
    """S01"""
    assert under(profile(rule("getppid", action), default="ALLOW"), lambda: [call(GETPPID)]) == -signal.SIGSYS


def test_other_actions() -> None:
    """S01: LOG lets through; TRACE without a tracer, and errno 0, do not run the call."""
    body = lambda: [call(GETPPID), call(GETPGRP), LIBC.syscall(39)]
    rules = [rule("getppid", "LOG"), rule("getpgrp", "TRACE"), rule("getpid", "ERRNO", errnoRet=0)]
    assert under(profile(*rules, default="ALLOW"), body) == [0, errno.ENOSYS, 0]


@pytest.mark.parametrize("names", [[], ["TSYNC", "LOG", "SPEC_ALLOW"], ["TSYNC", "WAIT_KILLABLE_RECV"]])
def test_flags_with_listener(names: list[str]) -> None:
    """S04 S06: the kernel takes every combination of flags, and answers with a descriptor when calls are passed on."""
    flags = [FLAG + name for name in names]
    quiet = profile(default="ALLOW", flags=flags)
    assert under(quiet, lambda: [0]) == [0]
    program = seccomp.compile(
        profile(rule("mkdir", "NOTIFY"), default="ALLOW", flags=flags, listenerPath="/l"), "x86_64"
    )
    child = os.fork()
    if not child:
        ok = False
        try:
            ok = os.readlink(f"/proc/self/fd/{load(program)}") == "anon_inode:seccomp notify"
        finally:
            os._exit(not ok)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("source", engine_profiles())
def test_engine_profiles(source: dict[str, Any]) -> None:
    """S09 and the engines' own: what they forbid is forbidden, what is newer than they are does not exist."""
    calls = [(GETPPID,), (UNSHARE, 0x10000000), (KEYCTL, 0, 0), (20000,), (X32_BIT | 20000,)]
    result = under(source, lambda: [call(*args) for args in calls])
    assert isinstance(result, list)
    assert result[0] == 0
    assert result[3:] == [errno.ENOSYS, errno.ENOSYS]
    allowed = {name for one in source["syscalls"] if one["action"] == "SCMP_ACT_ALLOW" for name in one["names"]}
    for name, got in zip(("unshare", "keyctl"), result[1:3], strict=True):
        assert name in allowed or got in (errno.EPERM, errno.ENOSYS)
