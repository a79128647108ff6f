"""Device rules as cgroup v2 takes them: a program.  Source: linux/include/uapi/linux/bpf.h."""

from __future__ import annotations

import struct

from pyoci.plan.devfilter import ALL, ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.plan.devfilter import Rule

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
