"""Classic BPF for seccomp filters, written back to front.

A jump only goes forward, so in a program that grows from its end every target exists
before the jump to it.  A position counts from the end of the program; equal instructions with
equal targets are one.  Source: linux/filter.h, linux/bpf_common.h, linux/seccomp.h.
"""

from __future__ import annotations

import struct

from pyoci import errors

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS: A = 32 bits of struct seccomp_data
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
ALWAYS = 0x05  # BPF_JMP | BPF_JA
EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K; unsigned, as the two below
GREATER = 0x25
AT_LEAST = 0x35
RETURN = 0x06  # BPF_RET | BPF_K

NUMBER = 0  # offsets in struct seccomp_data
ARCH = 4
ARGS = 16

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
LOW = 0xFFFFFFFF

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter


class Builder:
    """A program in the making.  Every method returns the position of what it wrote (or found)."""

    __slots__ = ("_code", "_known", "_near")

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []
        self._known: dict[tuple[int, ...], int] = {}
        self._near: dict[int, int] = {}  # position -> its latest stand-in

    def encode(self) -> bytes:
        """The program as an array of struct sock_filter."""
        return b"".join([_INSTRUCTION.pack(code, yes, no, value) for code, value, yes, no in reversed(self._code)])

    def ret(self, action: int) -> int:
        """Leave the filter with a SECCOMP_RET_* value."""
        key = (RETURN, action, 0, 0)
        return self._known.get(key) or self._place(key, RETURN, action)

    def then(self, code: int, value: int, follow: int) -> int:
        """LOAD or AND, and go on at follow."""
        key = (code, value, follow, follow)
        found = self._known.get(key)
        if found:
            return found
        if follow != len(self._code):
            self._place((), ALWAYS, len(self._code) - follow)
        return self._place(key, code, value)

    def jump(self, test: int, value: int, yes: int, no: int) -> int:
        """Compare A with value and go on at yes or no."""
        key = (test, value, yes, no)
        found = yes if yes == no else self._known.get(key)
        if found:
            return found
        near_yes = self._within(yes)
        near_no = self._within(no)
        near_yes = self._within(yes)  # again: a stand-in for no may have moved it out of reach
        here = len(self._code)
        return self._place(key, test, value, here - near_yes, here - near_no)

    def compare(self, condition: tuple[int, str, int, int], narrow: bool, yes: int, no: int) -> int:
        """One linux.seccomp.syscalls[].args condition: (index, operator without SCMP_CMP_, value, valueTwo).

        All 64 bits count; narrow: the ABI has 32-bit arguments, and only the lower half of the values counts.
        Little endian, as every architecture of pyoci.plan.syscalls is.
        """
        if yes == no:
            return yes
        index, operator, value, two = condition
        low = ARGS + 8 * index
        if operator == "MASKED_EQ":
            return self._masked(low, value, two & value, narrow, yes, no)
        test, negated = _TESTS[operator]
        if negated:
            yes, no = no, yes
        position = self.then(LOAD, low, self.jump(test, value & LOW, yes, no))
        if narrow:
            return position
        position = self.jump(EQUAL, value >> 32, position, no)
        if test != EQUAL:
            position = self.jump(GREATER, value >> 32, yes, position)
        return self.then(LOAD, low + 4, position)

    def _masked(self, low: int, mask: int, value: int, narrow: bool, yes: int, no: int) -> int:
        if narrow:
            # A sign-extended mask asks for its lower half; any other bit up there is never set.
            return no if mask >> 32 != LOW and value >> 32 else self._half(low, mask & LOW, value & LOW, yes, no)
        position = self._half(low, mask & LOW, value & LOW, yes, no)
        return self._half(low + 4, mask >> 32, value >> 32, position, no)

    def _half(self, offset: int, mask: int, value: int, yes: int, no: int) -> int:
        if not mask:
            return yes
        position = self.jump(EQUAL, value, yes, no)
        if mask != LOW:
            position = self.then(AND, mask, position)
        return self.then(LOAD, offset, position)

    def _within(self, target: int) -> int:
        """The target, or a stand-in for it that an 8-bit offset reaches from the next instruction."""
        near = self._near.get(target, target)
        far = len(self._code) - near
        if far > 255:
            code, value, _, _ = self._code[near - 1]
            # A second return costs no more than a jump to the first, and runs faster.
            near = self._place((), RETURN, value) if code == RETURN else self._place((), ALWAYS, far)
            self._near[target] = near
        return near

    def _place(self, key: tuple[int, ...], code: int, value: int, yes: int = 0, no: int = 0) -> int:
        self._code.append((code, value, yes, no))
        position = len(self._code)
        if position > MAX_INSTRUCTIONS:
            raise errors.InvalidConfig(
                f"the seccomp profile needs more than the {MAX_INSTRUCTIONS} instructions the kernel takes",
                where="/linux/seccomp/syscalls",
                hint="use fewer argument conditions",
            )
        if key:
            self._known[key] = position
        return position


# operator -> the test, and whether its outcome is turned round
_TESTS = {
    "EQ": (EQUAL, False),
    "NE": (EQUAL, True),
    "GT": (GREATER, False),
    "LE": (GREATER, True),
    "GE": (AT_LEAST, False),
    "LT": (AT_LEAST, True),
}
