"""The filter libseccomp makes of a profile, built call by call as runc 1.1 does (without its ENOSYS stub)."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from pyoci.plan import seccomp

TOKENS = {  # SCMP_ARCH_*: the AUDIT_ARCH value, but for x32
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
OPERATORS = {name: number for number, name in enumerate("NE LT LE EQ GE GT MASKED_EQ".split(), 1)}
UNRESOLVED = -1  # __NR_SCMP_ERROR


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def library() -> ctypes.CDLL | None:
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    context, word = ctypes.c_void_p, ctypes.c_uint32
    lib.seccomp_init.restype = context
    lib.seccomp_init.argtypes = [word]
    lib.seccomp_release.argtypes = [context]
    lib.seccomp_release.restype = None
    lib.seccomp_arch_add.argtypes = lib.seccomp_arch_remove.argtypes = [context, word]
    lib.seccomp_rule_add_array.argtypes = [context, word, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)]
    lib.seccomp_export_bpf.argtypes = [context, ctypes.c_int]
    lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_syscall_resolve_name_arch.argtypes = [word, ctypes.c_char_p]
    return lib


def resolve(lib: ctypes.CDLL, arch: str, name: str) -> int:
    """The number of a call, UNRESOLVED or below for none of its own; x32 without its bit."""
    number: int = lib.seccomp_syscall_resolve_name_arch(TOKENS[arch], name.encode())
    return number & ~0x40000000 if arch == "SCMP_ARCH_X32" and number > 0 else number


def compile(lib: ctypes.CDLL, profile: dict[str, Any], native: str) -> bytes:
    """The program for a machine whose own architecture is native (SCMP_ARCH_*)."""
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = lib.seccomp_init(default)
    try:
        wanted = {TOKENS[native], *[TOKENS[name] for name in profile.get("architectures") or ()]}
        for token in wanted - {TOKENS["SCMP_ARCH_X86_64"]}:
            assert lib.seccomp_arch_add(context, token) == 0
        if TOKENS["SCMP_ARCH_X86_64"] not in wanted:
            assert lib.seccomp_arch_remove(context, TOKENS["SCMP_ARCH_X86_64"]) == 0
        for rule in profile.get("syscalls") or ():
            action = _action(rule["action"], rule.get("errnoRet"))
            if action != default:
                for name in rule["names"]:
                    _add(lib, context, action, name, rule.get("args") or [])
        return _export(lib, context)
    finally:
        lib.seccomp_release(context)


def _action(name: str, data: int | None) -> int:
    number = seccomp.ACTIONS[name]
    return number | (1 if data is None else data) if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else number


def _add(lib: ctypes.CDLL, context: int, action: int, name: str, args: list[dict[str, Any]]) -> None:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number == UNRESOLVED:
        return
    conditions = [
        Comparison(arg["index"], OPERATORS[arg["op"][9:]], arg["value"], arg.get("valueTwo") or 0) for arg in args
    ]
    split = len({arg["index"] for arg in args}) < len(args)
    for group in [[condition] for condition in conditions] if split else [conditions]:
        array = (Comparison * len(group))(*group)
        result = lib.seccomp_rule_add_array(context, action, number, len(group), array)
        assert result == 0, (name, args, result)


def _export(lib: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("bpf", os.MFD_CLOEXEC)
    try:
        assert lib.seccomp_export_bpf(context, fd) == 0
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
