"""A classic BPF machine, as strict as the kernel's checker (net/core/filter.c, kernel/seccomp.c), for tests."""

from __future__ import annotations

import struct

INSTRUCTION = struct.Struct("=HBBI")
DATA_SIZE = 64  # struct seccomp_data
LOW = 0xFFFFFFFF


def parse(code: bytes) -> list[tuple[int, int, int, int]]:
    """The instructions (code, jt, jf, k); AssertionError for a program the kernel would not take."""
    program = list(INSTRUCTION.iter_unpack(code))
    assert 0 < len(program) <= 4096
    for at, (op, yes, no, k) in enumerate(program):
        left = len(program) - at - 1
        if op == 0x20:
            assert k % 4 == 0 and k < DATA_SIZE
        elif op == 0x05:
            assert k < left
        elif op in (0x15, 0x25, 0x35, 0x45):
            assert yes < left and no < left
        else:
            assert op in (0x06, 0x54), f"instruction {op:#x}"
    assert program[-1][0] == 0x06
    return program


def run(program: list[tuple[int, int, int, int]], number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the filter returns for one system call (little-endian struct seccomp_data)."""
    return run_counted(program, number, arch, args)[0]


def run_counted(
    program: list[tuple[int, int, int, int]], number: int, arch: int, args: tuple[int, ...] = ()
) -> tuple[int, int]:
    """As run, with the number of instructions it took."""
    data = struct.unpack("<16I", struct.pack("<IIQ6Q", number, arch, 0, *args, *[0] * (6 - len(args))))
    a = at = steps = 0
    while True:
        op, yes, no, k = program[at]
        at += 1
        steps += 1
        if op == 0x20:
            a = data[k // 4]
        elif op == 0x54:
            a &= k
        elif op == 0x05:
            at += k
        elif op == 0x06:
            return k, steps
        else:
            at += yes if _holds(op, a, k) else no


def _holds(op: int, a: int, k: int) -> bool:
    if op == 0x15:
        return a == k
    if op == 0x25:
        return a > k
    if op == 0x35:
        return a >= k
    return bool(a & k)
