"""The seccomp compiler: every program is run in a BPF machine and compared with what the profile says."""

from __future__ import annotations

import errno
import hashlib
import operator
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyoci import errors
from pyoci.plan import bpf, seccomp, syscalls
from tests.unit import bpf_sim

X86_64, X86, X32 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"
X32_BIT = 0x40000000
ALLOW, KILL, LOG = 0x7FFF0000, 0, 0x7FFC0000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
COMPARE = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
}


def rule(names: str, action: str = "ALLOW", *args: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"names": names.split(), "action": f"SCMP_ACT_{action}", "args": list(args), **more}


def arg(index: int, op: str, value: int, two: int | None = None) -> dict[str, Any]:
    condition: dict[str, Any] = {"index": index, "op": f"SCMP_CMP_{op}", "value": value}
    return condition if two is None else condition | {"valueTwo": two}


def profile(*rules: dict[str, Any], default: str = "ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **more}


class Filter:
    """A compiled profile, called by name."""

    def __init__(self, source: dict[str, Any], machine: str = "x86_64") -> None:
        self.program = bpf_sim.parse(seccomp.compile(source, machine).code)

    def __call__(self, name: str | int, *args: int, arch: str = X86_64) -> int:
        number = syscalls.numbers(arch)[name] if isinstance(name, str) else name
        bit = X32_BIT if arch == X32 else 0
        return bpf_sim.run(self.program, number | bit, syscalls.TOKENS[arch], args)


def refused(source: dict[str, Any], machine: str = "x86_64") -> str:
    """The pointer of the error."""
    with pytest.raises(errors.InvalidConfig) as caught:
        seccomp.compile(source, machine)
    return caught.value.where


# -- actions --------------------------------------------------------------------------------

ACTIONS = {
    "KILL": 0,
    "KILL_THREAD": 0,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x30000,
    "ERRNO": EPERM,
    "TRACE": 0x7FF00001,
    "ALLOW": ALLOW,
    "LOG": LOG,
    "NOTIFY": 0x7FC00000,
}


@pytest.mark.parametrize("action", ACTIONS)
def test_actions(action: str) -> None:
    """S01: all nine, in a rule and (but NOTIFY) as default."""
    other = "ALLOW" if action != "ALLOW" else "ERRNO"
    filter_ = Filter(profile(rule("getpid", action), default=other, listenerPath="/l"))
    assert filter_("getpid") == ACTIONS[action]
    assert filter_("read") == ACTIONS[other]
    if action != "NOTIFY":
        assert Filter(profile(rule("getpid", other), default=action))("read") == ACTIONS[action]


@pytest.mark.parametrize("action", [None, "", "SCMP_ACT_DENY", "ALLOW", 7])
def test_unknown_action(action: object) -> None:
    """S01"""
    assert refused({"defaultAction": action}) == "/linux/seccomp/defaultAction"
    assert refused({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": action}]}) == (
        "/linux/seccomp/syscalls/0/action"
    )


def test_errno_ret() -> None:
    """S02: the data of ERRNO and TRACE, EPERM if there is none."""
    filter_ = Filter(profile(rule("a getpid", "ERRNO", errnoRet=0), rule("read", "TRACE", errnoRet=0xFFFF)))
    assert filter_("getpid") == 0x50000
    assert filter_("read") == 0x7FF0FFFF
    assert filter_("write") == EPERM
    assert Filter(profile(defaultErrnoRet=4095))("write") == 0x50FFF


@pytest.mark.parametrize("action", [name for name in ACTIONS if name not in ("ERRNO", "TRACE")])
def test_errno_ret_without_errno(action: str) -> None:
    """S02"""
    wrong = profile(rule("read"), rule("write", action, errnoRet=1), default="LOG")
    assert refused(wrong) == "/linux/seccomp/syscalls/1/errnoRet"
    assert refused(profile(default=action, defaultErrnoRet=1)) == "/linux/seccomp/defaultErrnoRet"


@pytest.mark.parametrize("value", [-1, 4096, True, 1.0, "1"])
def test_errno_ret_range(value: object) -> None:
    """S02: the kernel cuts an errno at 4095 without a word."""
    assert refused(profile(rule("read", "ERRNO", errnoRet=value))) == "/linux/seccomp/syscalls/0/errnoRet"


# -- architectures --------------------------------------------------------------------------


def test_architecture_names() -> None:
    """S03: the 23 of the runtime-spec load; those without a table with a warning."""
    assert len(syscalls.ARCHITECTURES) == 23
    program = seccomp.compile(profile(rule("read"), architectures=sorted(syscalls.ARCHITECTURES)), "x86_64")
    assert len(program.warnings) == 23 - len(syscalls.TOKENS)
    assert "SCMP_ARCH_RISCV64" in " ".join(program.warnings)
    wrong = profile(architectures=[X86, "SCMP_ARCH_VAX"])
    assert refused(wrong) == "/linux/seccomp/architectures/1"


def test_native_is_always_covered() -> None:
    """S03"""
    filter_ = Filter(profile(rule("read"), architectures=["SCMP_ARCH_MIPS"]))
    assert filter_("read") == ALLOW
    assert Filter(profile(rule("read")), "aarch64")("read", arch="SCMP_ARCH_AARCH64") == ALLOW
    with pytest.raises(errors.InvalidConfig, match="s390x"):
        seccomp.compile(profile(), "s390x")


@pytest.mark.parametrize("default", ["ALLOW", "LOG", "ERRNO"])
def test_foreign_architecture(default: str) -> None:
    """S03, attack class 15: calls of an architecture that is not listed are refused, whatever the default."""
    filter_ = Filter(profile(rule("read write"), default=default))
    assert filter_("read") == ALLOW
    for name, token in syscalls.TOKENS.items():
        if name not in (X86_64, X32):
            assert bpf_sim.run(filter_.program, 0, token) == KILL
    assert bpf_sim.run(filter_.program, 0, 0xC00000F3) == KILL
    assert filter_("read", arch=X32) == KILL
    assert filter_(512, arch=X32) == KILL


def test_x32_listed() -> None:
    """S03: numbers of x32 are its own."""
    filter_ = Filter(profile(rule("execve ioctl read openat2"), rule("map_shadow_stack"), architectures=[X86_64, X32]))
    assert [filter_(n, arch=X32) for n in (0, 514, 520, 16, 59, 453)] == [ALLOW] * 3 + [EPERM] * 2 + [ENOSYS]
    assert [filter_(n) for n in (0, 16, 59, 520, 453)] == [ALLOW] * 3 + [ENOSYS, ALLOW]


@pytest.mark.parametrize("default", ["ALLOW", "ERRNO"])
def test_skipped_call(default: str) -> None:
    """-1 is what a tracer writes to skip a call, not an x32 call."""
    filter_ = Filter(profile(rule("read", "LOG"), default=default))
    assert filter_(0xFFFFFFFF) == ACTIONS[default]


# -- conditions -----------------------------------------------------------------------------

VALUES = st.one_of(
    st.sampled_from([0, 1, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, 1 << 63, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
OPERATOR = st.sampled_from(sorted(seccomp.OPERATORS))


def holds(condition: dict[str, Any], args: tuple[int, ...]) -> bool:
    value = args[condition["index"]]
    name = condition["op"].removeprefix("SCMP_CMP_")
    if name == "MASKED_EQ":
        return bool(value & condition["value"] == condition.get("valueTwo", 0) & condition["value"])
    return bool(COMPARE[name](value, condition["value"]))


def matches(one: dict[str, Any], args: tuple[int, ...]) -> bool:
    conditions = one["args"]
    if len({condition["index"] for condition in conditions}) < len(conditions):
        return any(holds(condition, args) for condition in conditions)
    return all(holds(condition, args) for condition in conditions)


@settings(max_examples=500, deadline=None)
@given(OPERATOR, st.integers(0, 5), VALUES, VALUES, VALUES)
def test_operators(op: str, index: int, value: int, two: int, given_value: int) -> None:
    """S05, attack class 15: seven operators, six arguments, all 64 bits."""
    one = rule("ptrace", "ALLOW", arg(index, op, value, two))
    filter_ = Filter(profile(one))
    for number in (given_value, value, value ^ 1 << 32, value ^ 1, two):
        args = tuple(number if i == index else 0xDEADBEEF for i in range(6))
        assert filter_("ptrace", *args) == (ALLOW if holds(one["args"][0], args) else EPERM)


def test_and_or() -> None:
    """S05, attack class 15: AND within a rule, OR across rules, OR for one argument named twice (as runc)."""
    both = Filter(profile(rule("ptrace", "ALLOW", arg(0, "EQ", 1), arg(1, "EQ", 2))))
    assert [both("ptrace", *args) for args in ((1, 2), (1, 3), (3, 2))] == [ALLOW, EPERM, EPERM]
    either = Filter(profile(rule("ptrace", "ALLOW", arg(0, "EQ", 1)), rule("ptrace", "ALLOW", arg(1, "EQ", 2))))
    assert [either("ptrace", *args) for args in ((1, 3), (3, 2), (3, 3))] == [ALLOW, ALLOW, EPERM]
    twice = Filter(profile(rule("ptrace", "ALLOW", arg(0, "EQ", 1), arg(0, "EQ", 2), arg(1, "EQ", 7))))
    assert [twice("ptrace", *args) for args in ((1, 0), (2, 0), (0, 7), (0, 0))] == [ALLOW, ALLOW, ALLOW, EPERM]


def test_first_match_and_last_word() -> None:
    """Of rules with conditions the first that matches; one without conditions decides wherever it stands."""
    first = Filter(profile(rule("ptrace", "LOG", arg(0, "LT", 5)), rule("ptrace", "ALLOW", arg(0, "LT", 9))))
    assert [first("ptrace", n) for n in (4, 8, 9)] == [LOG, ALLOW, EPERM]
    plain = Filter(profile(rule("ptrace", "KILL", arg(0, "EQ", 1)), rule("ptrace"), rule("ptrace", "LOG")))
    assert plain("ptrace", 1) == ALLOW
    default = Filter(profile(rule("ptrace", "ERRNO"), rule("ptrace")))
    assert default("ptrace") == ALLOW


CONDITIONS = st.lists(st.builds(arg, st.integers(0, 2), OPERATOR, VALUES, VALUES), max_size=3)
NAMES = st.lists(st.sampled_from("read write ptrace clone openat mseal socket".split()), min_size=1, max_size=3)
RULES = st.lists(
    st.builds(
        lambda names, action, args: {"names": names, "action": action, "args": args},
        NAMES,
        st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]),
        CONDITIONS,
    ),
    max_size=8,
)


def expected(rules: list[dict[str, Any]], name: str, args: tuple[int, ...], default: str) -> int:
    own = [one for one in rules if name in one["names"] and one["action"] != f"SCMP_ACT_{default}"]
    for one in [one for one in own if not one["args"]] + [one for one in own if matches(one, args)]:
        return seccomp.ACTIONS[one["action"]]
    return ACTIONS[default]


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RULES, st.sampled_from(["ALLOW", "TRAP"]), st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=8))
def test_profiles(rules: list[dict[str, Any]], default: str, calls: list[tuple[int, int, int]]) -> None:
    """S05: whole profiles against the sentences at the top of pyoci.plan.seccomp, in plain Python."""
    filter_ = Filter(profile(*rules, default=default))
    for name in {name for one in rules for name in one["names"]}:
        for args in calls:
            assert filter_(name, *args) == expected(rules, name, args, default), (name, args)


@pytest.mark.parametrize(
    ("condition", "where"),
    [
        (arg(6, "EQ", 0), "index"),
        (arg(-1, "EQ", 0), "index"),
        ({"op": "SCMP_CMP_EQ", "value": 0}, "index"),
        (arg(0, "XX", 0), "op"),
        ({"index": 0, "value": 0, "op": "EQ"}, "op"),
        ({"index": 0, "value": 0}, "op"),
        (arg(0, "EQ", 1 << 64), "value"),
        (arg(0, "EQ", -1), "value"),
        ({"index": 0, "op": "SCMP_CMP_EQ"}, "value"),
        (arg(0, "MASKED_EQ", 0, 1 << 64), "valueTwo"),
    ],
)
def test_bad_conditions(condition: dict[str, Any], where: str) -> None:
    """S05"""
    wrong = profile(rule("read"), rule("ptrace", "ALLOW", arg(0, "EQ", 0), condition))
    assert refused(wrong) == f"/linux/seccomp/syscalls/1/args/1/{where}"


def test_names() -> None:
    """S05: at least one; those nobody knows are ignored with a warning, those of other architectures without."""
    assert refused(profile({"names": [], "action": "SCMP_ACT_ALLOW"})) == "/linux/seccomp/syscalls/0/names"
    assert refused(profile({"action": "SCMP_ACT_ALLOW"})) == "/linux/seccomp/syscalls/0/names"
    program = seccomp.compile(profile(rule("read no_such_call s390_sthyi set_tls socketcall")), "x86_64")
    assert program.warnings == ["seccomp: unknown system calls ignored: no_such_call"]


# -- 32-bit ABIs ----------------------------------------------------------------------------


def test_narrow_arguments() -> None:
    """i386 has 32-bit arguments: the lower half of a value counts, so that -1 written with 64 bits is -1."""
    minus = Filter(profile(rule("ptrace", "ALLOW", arg(0, "EQ", (1 << 64) - 1)), architectures=[X86]))
    assert minus("ptrace", 0xFFFFFFFF, arch=X86) == ALLOW
    assert minus("ptrace", 0xFFFFFFFF) == EPERM
    mask = Filter(profile(rule("ptrace", "ALLOW", arg(0, "MASKED_EQ", 1 << 32, 1 << 32)), architectures=[X86, X32]))
    assert mask("ptrace", 0, arch=X86) == EPERM
    assert mask("ptrace", 1 << 32, arch=X32) == ALLOW  # 64-bit registers


def test_multiplexers() -> None:
    """i386 reaches socket calls and System V IPC by one number each: a rule must hold there as well."""
    deny = Filter(profile(rule("socket shmat semop", "ERRNO"), default="ALLOW", architectures=[X86]))
    assert [deny("socketcall", n, arch=X86) for n in (1, 2, 0)] == [EPERM, ALLOW, ALLOW]
    assert [deny("ipc", n, arch=X86) for n in (1, 21, 0x10015, 22)] == [EPERM, EPERM, EPERM, ALLOW]
    assert deny("socket", arch=X86) == EPERM
    grant = Filter(profile(rule("accept4 sendmsg"), architectures=[X86]))
    assert [grant("socketcall", n, arch=X86) for n in (18, 16, 1)] == [ALLOW, ALLOW, EPERM]
    plain = Filter(profile(rule("socketcall"), rule("socket", "KILL"), architectures=[X86]))
    assert plain("socketcall", 1, arch=X86) == ALLOW


def test_multiplexed_conditions() -> None:
    """Their arguments are behind a pointer: what cannot be looked at is not granted."""
    grant = Filter(profile(rule("socket", "ALLOW", arg(0, "NE", 40)), architectures=[X86]))
    assert grant("socketcall", 1, 7, arch=X86) == EPERM
    assert grant("socket", 2, arch=X86) == ALLOW
    deny = Filter(profile(rule("socket", "ERRNO", arg(2, "EQ", 9)), default="ALLOW", architectures=[X86]))
    assert deny("socketcall", 1, 7, 0, arch=X86) == EPERM
    assert deny("socketcall", 2, 7, 0, arch=X86) == ALLOW


# -- newer than the profile -----------------------------------------------------------------


@pytest.mark.parametrize("default", ["ERRNO", "KILL", "KILL_PROCESS", "TRAP"])
def test_newer_calls(default: str) -> None:
    """S09: above the highest number the profile names, whatever it says about it."""
    filter_ = Filter(profile(rule("read"), rule("openat2", "ERRNO", errnoRet=1), default=default))
    assert filter_("openat2") == EPERM
    assert filter_("close_range") == ACTIONS[default]
    assert filter_("pidfd_getfd") == filter_(20000) == filter_(X32_BIT - 1) == ENOSYS


@pytest.mark.parametrize("default", ["ALLOW", "LOG", "TRACE"])
def test_newer_calls_let_through(default: str) -> None:
    """S09: a default that lets calls through stays."""
    assert Filter(profile(rule("read", "KILL"), default=default))("openat2") == ACTIONS[default]


def test_newer_calls_by_block() -> None:
    """S09: the second blocks of x32 and arm say nothing about age; no name of a block, no answer for it."""
    x32 = Filter(profile(rule("execve read openat2"), architectures=[X32]))
    assert [x32(n, arch=X32) for n in (437, 438, 511, 512, 520, 521)] == [ALLOW, ENOSYS, ENOSYS, EPERM, ALLOW, ENOSYS]
    arm = "SCMP_ARCH_ARM"
    filter_ = Filter(profile(rule("set_tls read openat2")), "armv7l")
    assert [filter_(n, arch=arm) for n in (437, 438, 0xF0001, 0xF0005)] == [ALLOW, ENOSYS, EPERM, ALLOW]
    only = Filter(profile(rule("set_tls")), "armv7l")
    assert only("openat2", arch=arm) == EPERM


# -- flags and listener ---------------------------------------------------------------------

FLAG = "SECCOMP_FILTER_FLAG_"


@pytest.mark.parametrize(
    ("names", "flags"),
    [
        (None, 4),  # as runc: a profile that says nothing gets SPEC_ALLOW
        ([], 0),
        (["TSYNC"], 1),
        (["LOG"], 2),
        (["SPEC_ALLOW", "LOG", "TSYNC", "LOG"], 7),
    ],
)
def test_flags(names: list[str] | None, flags: int) -> None:
    """S04"""
    more: dict[str, Any] = {} if names is None else {"flags": [FLAG + name for name in names]}
    program = seccomp.compile(profile(**more), "x86_64")
    assert (program.flags, program.listener, program.warnings) == (flags, False, [])


def test_listener_flags() -> None:
    """S04 S06: NEW_LISTENER; TSYNC beside it needs TSYNC_ESRCH; WAIT_KILLABLE_RECV is for a listener only."""
    wait = [FLAG + "WAIT_KILLABLE_RECV", FLAG + "TSYNC"]
    program = seccomp.compile(profile(rule("mkdir", "NOTIFY"), flags=wait, listenerPath="/l"), "x86_64")
    assert (program.flags, program.listener) == (32 | 1 | 8 | 16, True)
    assert seccomp.compile(profile(rule("mkdir", "NOTIFY"), listenerPath="/l"), "x86_64").flags == 8 | 4
    program = seccomp.compile(profile(flags=wait, listenerPath="/l"), "x86_64")
    assert (program.flags, program.listener, len(program.warnings)) == (1, False, 1)


def test_unknown_flag() -> None:
    """S04"""
    assert refused(profile(flags=[FLAG + "LOG", FLAG + "NEW_LISTENER"])) == "/linux/seccomp/flags/1"


def test_listener_rules() -> None:
    """S07 S08"""
    assert refused(profile(listenerMetadata="x")) == "/linux/seccomp/listenerMetadata"
    assert refused(profile(listenerMetadata="x", listenerPath="")) == "/linux/seccomp/listenerMetadata"
    assert refused(profile(default="NOTIFY", listenerPath="/l")) == "/linux/seccomp/defaultAction"
    on_write = profile(rule("mkdir", "NOTIFY"), rule("read write", "NOTIFY", arg(0, "EQ", 1)), listenerPath="/l")
    assert refused(on_write) == "/linux/seccomp/syscalls/1/action"
    assert refused(profile(rule("mkdir", "NOTIFY"))) == "/linux/seccomp/listenerPath"


# -- the program ----------------------------------------------------------------------------


def test_long_jumps() -> None:
    """Targets beyond the 255 instructions of a conditional jump are reached."""
    rules = [rule("ptrace", "ALLOW", arg(0, "EQ", n * 7), arg(1, "GT", n)) for n in range(250)]
    filter_ = Filter(profile(*rules, rule("read write openat"), architectures=[X86]))
    assert len(filter_.program) > 1500
    for n in (0, 1, 100, 249):
        assert filter_("ptrace", n * 7, n + 1) == ALLOW
        assert filter_("ptrace", n * 7, n) == filter_("ptrace", n * 7 + 1, n + 1) == EPERM
        assert filter_("ptrace", n * 7, n + 1, arch=X86) == ALLOW
    assert filter_("read") == filter_("openat", arch=X86) == ALLOW


def test_too_long() -> None:
    """The kernel takes 4096 instructions; more is an error that says so, in bounded time."""
    many = profile(*[rule("ptrace", "ALLOW", arg(0, "EQ", n)) for n in range(100_000)])
    with pytest.raises(errors.InvalidConfig, match="4096") as caught:
        seccomp.compile(many, "x86_64")
    assert caught.value.where == "/linux/seccomp/syscalls"


@pytest.mark.parametrize("filler", [*range(240, 262), 600])
def test_builder_limits(filler: int) -> None:
    """Stand-ins for far targets: neither of a jump's, one, both, and one for the sake of the other."""
    builder = bpf.Builder()
    no, yes = builder.ret(2), builder.ret(1)
    tail = builder.then(bpf.LOAD, 60, builder.ret(3))
    for offset in range(filler):
        tail = builder.then(bpf.AND, offset, tail)
    below = builder.jump(bpf.AT_LEAST, 7, yes, tail)
    builder.then(bpf.LOAD, bpf.NUMBER, builder.jump(bpf.GREATER, 7, no, below))
    program = bpf_sim.parse(builder.encode())
    assert [bpf_sim.run(program, n, 0) for n in (6, 7, 8)] == [3, 1, 2]
    both = bpf.Builder()
    no, yes = both.ret(2), both.ret(1)
    tail = both.then(bpf.LOAD, 60, both.ret(3))
    for offset in range(filler):
        tail = both.then(bpf.AND, offset, tail)
    both.then(bpf.LOAD, bpf.NUMBER, both.jump(bpf.EQUAL, 7, yes, no))
    program = bpf_sim.parse(both.encode())
    assert [bpf_sim.run(program, n, 0) for n in (6, 7)] == [2, 1]


def test_searching_is_logarithmic() -> None:
    """A hundred isolated numbers take some ten comparisons, not a hundred."""
    names = sorted(syscalls.numbers(X86_64), key=syscalls.numbers(X86_64).__getitem__)[::3]
    program = bpf_sim.parse(seccomp.compile(profile(rule(" ".join(names))), "x86_64").code)
    assert max(bpf_sim.run_counted(program, n, 0xC000003E)[1] for n in range(500)) <= 15


def test_version() -> None:
    """A cached program is found by seccomp.VERSION: raise it when the compiler makes something else of a profile."""
    source = profile(
        rule("read socket openat2"),
        rule("clone", "TRAP", arg(0, "MASKED_EQ", 0x7E020000, 0), arg(1, "GE", 1 << 40)),
        rule("shmat", "KILL"),
        architectures=[X86, X32],
    )
    made = hashlib.sha256(seccomp.compile(source, "x86_64").code).hexdigest()[:16]
    assert (seccomp.VERSION, made) == (1, "454256f186930ca7")


# -- tables ---------------------------------------------------------------------------------

HEADERS = {X86_64: "unistd_64.h", X86: "unistd_32.h", X32: "unistd_x32.h"}


@pytest.mark.parametrize("arch", HEADERS)
def test_tables_against_headers(arch: str) -> None:
    """The numbers of the kernel headers installed here."""
    header = next(Path("/usr/include").glob(f"*/asm/{HEADERS[arch]}"), None)
    if header is None:
        pytest.skip("the kernel headers for x86 are not installed")
    defined = re.findall(r"#define __NR_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)", header.read_text())
    table = syscalls.numbers(arch)
    assert len(defined) > 300
    assert {name: table.get(name) for name, _ in defined} == {name: int(number) for name, number in defined}


@pytest.mark.parametrize("arch", syscalls.TOKENS)
def test_tables_are_whole(arch: str) -> None:
    """One name for a number (arm has one twice), and the calls up to Linux 6.18 everywhere."""
    table = syscalls.numbers(arch)
    doubles = len(table) - len(set(table.values()))
    assert doubles == (arch == "SCMP_ARCH_ARM")
    assert [table[name] for name in ("pidfd_open", "mseal", "file_setattr")] == [434, 462, 469]
