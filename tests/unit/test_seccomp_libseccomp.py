"""The compiler against libseccomp: the verdict of both programs on every call that differs in anything.

Where pyoci means to differ (pyoci.plan.seccomp lists it) the test says what it expects instead.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyoci.plan import seccomp, syscalls
from tests.unit import bpf_sim, libseccomp

CONFIGS = Path(__file__).resolve().parents[3] / "shared" / "engine-configs"
LIBRARY: Any = libseccomp.library()  # None when it is not installed: then nothing here runs
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libseccomp.so.2 is not installed")

ENOSYS = 0x50026
X32_BIT = 0x40000000
MACHINES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
Program = list[tuple[int, int, int, int]]


def engine_profiles() -> list[Any]:
    """Every different profile in the engines' configs, as pytest parameters named after the first config."""
    found: dict[str, Any] = {}
    for path in sorted(CONFIGS.glob("*.config.json")):
        profile = json.loads(path.read_bytes()).get("linux", {}).get("seccomp")
        if profile is not None:
            found.setdefault(json.dumps(profile), pytest.param(profile, id=path.name.removesuffix(".config.json")))
    return list(found.values()) or [
        pytest.param(None, marks=pytest.mark.skip(reason=f"no engine configs in {CONFIGS}"), id="none")
    ]


def interesting(profile: dict[str, Any], wide: bool) -> dict[str, list[tuple[int, ...]]]:
    """Call name -> argument vectors around every value that a rule compares with."""
    values: dict[str, dict[int, set[int]]] = {}
    for rule in profile.get("syscalls") or ():
        for arg in rule.get("args") or ():
            near = {arg["value"], arg["value"] + 1, arg["value"] - 1, arg.get("valueTwo") or 0, 0}
            near |= {value | 1 << bit for value in list(near) for bit in (31, 32, 63)}
            near |= {arg["value"] | 1, arg["value"] ^ 1}
            limit = 0xFFFFFFFFFFFFFFFF if wide else 0xFFFFFFFF
            for name in rule["names"]:
                values.setdefault(name, {}).setdefault(arg["index"], set()).update(v & limit for v in near)
    return {name: vectors(by_index) for name, by_index in values.items()}


def vectors(by_index: dict[int, set[int]]) -> list[tuple[int, ...]]:
    product = itertools.product(*[sorted(by_index.get(i, {0})) for i in range(6)])
    return list(itertools.islice(product, 4000))


def numbers_of(arch: str) -> list[int]:
    return [*range(600), 983041, 983042, 983045, 983046, 1000, 4095, 0x3FFFFFFE]


def compare(profile: dict[str, Any], machine: str, archs: list[str]) -> int:
    """Compare on all numbers of these architectures; returns how many verdicts were compared."""
    ours = bpf_sim.parse(seccomp.compile(profile, machine).code)
    theirs = bpf_sim.parse(libseccomp.compile(LIBRARY, profile, MACHINES[machine]))
    return sum(compare_arch(profile, arch, ours, theirs) for arch in archs)


def compare_arch(profile: dict[str, Any], arch: str, ours: Program, theirs: Program) -> int:
    names = {name for rule in profile.get("syscalls") or () for name in rule["names"]}
    table = syscalls.numbers(arch)
    # A call that libseccomp is too old to know is for test_seccomp.py.
    unknown = {table[n] for n in names if n in table and libseccomp.resolve(LIBRARY, arch, n) == libseccomp.UNRESOLVED}
    newer = newer_than(profile, arch, {table[name] for name in names if name in table})
    special = {table[name]: v for name, v in interesting(profile, arch not in syscalls.NARROW).items() if name in table}
    bit = X32_BIT if arch == "SCMP_ARCH_X32" else 0
    count = 0
    for number in numbers_of(arch):
        if number in unknown:
            continue
        for args in special.get(number, [(0,) * 6, (1, 2, 3, 4, 5, 6), (0xFFFFFFFF,) * 6]):
            mine = bpf_sim.run(ours, number | bit, syscalls.TOKENS[arch], args)
            reference = bpf_sim.run(theirs, number | bit, syscalls.TOKENS[arch], args)
            expected = ENOSYS if number in newer else reference
            assert mine == expected, (arch, number, args, hex(mine), hex(expected))
            count += 1
    return count


def newer_than(profile: dict[str, Any], arch: str, named: set[int]) -> set[int]:
    """The numbers that runc's stub answers with ENOSYS; pyoci counts the two blocks of x32 and arm apart."""
    if profile["defaultAction"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"):
        return set()
    found: set[int] = set()
    second = {"SCMP_ARCH_X32": 512, "SCMP_ARCH_ARM": 0xF0000}.get(arch, X32_BIT)
    for first, end in ((0, second), (second, X32_BIT)):
        block = [number for number in named if first <= number < end]
        if block:
            found.update(number for number in numbers_of(arch) if max(block) < number < end)
    return found


@pytest.mark.parametrize("profile", engine_profiles())
def test_engine_profile_x86(profile: dict[str, Any]) -> None:
    """S01 S03 S05 S09"""
    assert compare(profile, "x86_64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]) > 3000
    # x32 calls run on 64-bit registers: pyoci compares them in full, libseccomp their lower half.
    narrow_only = dict(profile, syscalls=[rule for rule in profile["syscalls"] if not rule.get("args")])
    assert compare(narrow_only, "x86_64", ["SCMP_ARCH_X32"]) > 1000


@pytest.mark.parametrize("profile", engine_profiles())
def test_engine_profile_arm(profile: dict[str, Any]) -> None:
    """S03: the same profiles as an engine on arm64 would write them."""
    moved = dict(profile, architectures=["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    assert compare(moved, "aarch64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]) > 3000


@pytest.mark.parametrize("listed", [[], ["SCMP_ARCH_X86_64"], ["SCMP_ARCH_X86"], ["SCMP_ARCH_X32"], ["SCMP_ARCH_ARM"]])
@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_architectures_not_listed(listed: list[str], default: str) -> None:
    """S03: what is not listed is refused as libseccomp refuses it, x32 included; -1 is no call."""
    rule = {"names": ["read", "getpid"], "action": "SCMP_ACT_LOG"}
    profile = {"defaultAction": default, "architectures": listed, "syscalls": [rule]}
    ours = bpf_sim.parse(seccomp.compile(profile, "x86_64").code)
    theirs = bpf_sim.parse(libseccomp.compile(LIBRARY, profile, "SCMP_ARCH_X86_64"))
    for token in [*syscalls.TOKENS.values(), 0, 0xFFFFFFFF, 0xC00000F3]:
        for number in (0, 1, 3, 20, 39, X32_BIT, X32_BIT | 39, 0xFFFFFFFF):
            mine = bpf_sim.run(ours, number, token)
            reference = bpf_sim.run(theirs, number, token)
            if mine == ENOSYS:  # S09
                assert reference == bpf_sim.run(theirs, 20000 | (number & X32_BIT), token) == seccomp_default(default)
            else:
                assert mine == reference, (hex(token), hex(number))


def seccomp_default(name: str) -> int:
    return seccomp.ACTIONS[name] | (name == "SCMP_ACT_ERRNO")


VALUES = st.sampled_from(
    [0, 1, 2, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, 1 << 63, (1 << 64) - 1]
)
MASKS = st.sampled_from([0, 1, 5, 0x80000000, 0xFFFFFFFF, (1 << 64) - 1, ((1 << 64) - 1) ^ 7])


def conditions(operators: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Masks have an upper half of all zeros or all ones: on 32-bit ABIs libseccomp forgets any other."""
    op = st.sampled_from(operators)
    return op.flatmap(
        lambda name: st.fixed_dictionaries(
            {
                "index": st.integers(0, 2),
                "op": st.just("SCMP_CMP_" + name),
                "value": MASKS if name == "MASKED_EQ" else VALUES,
                "valueTwo": VALUES,
            }
        )
    )


def one_each(operators: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(conditions(operators), min_size=1, max_size=3, unique_by=lambda arg: arg["index"])


# libseccomp 2.5 joins the trees of several rules wrongly when they hold inequalities (`a0 != 1` or
# `a0 < 2**32` lets a0 = 1 through), so rules are only joined by OR where they hold none; test_seccomp.py
# has all operators in all combinations, against plain Python.
RULES = st.one_of(
    st.lists(one_each(list(libseccomp.OPERATORS)), min_size=1, max_size=1),
    st.lists(one_each(["EQ"]), min_size=1, max_size=4),
)
ABIS = [("SCMP_ARCH_X86_64", 101, 0xFFFFFFFFFFFFFFFF), ("SCMP_ARCH_X86", 26, 0xFFFFFFFF)]


@pytest.mark.parametrize(("arch", "number", "limit"), ABIS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rules=RULES,
    default=st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"]),
    calls=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=20),
)
def test_conditions(
    arch: str, number: int, limit: int, rules: list[list[dict[str, Any]]], default: str, calls: list[tuple[int, ...]]
) -> None:
    """S05: AND within a rule, OR across them, any operators, 64 bits."""
    other = "SCMP_ACT_ALLOW" if default == "SCMP_ACT_ERRNO" else "SCMP_ACT_ERRNO"
    profile = {
        "defaultAction": default,
        "architectures": [arch],
        "syscalls": [{"names": ["ptrace"], "action": other, "args": args} for args in rules],
    }
    ours = bpf_sim.parse(seccomp.compile(profile, "x86_64").code)
    theirs = bpf_sim.parse(libseccomp.compile(LIBRARY, profile, "SCMP_ARCH_X86_64"))
    token = syscalls.TOKENS[arch]
    for call in calls:
        args = tuple(value & limit for value in call)
        assert bpf_sim.run(ours, number, token, args) == bpf_sim.run(theirs, number, token, args), args
