"""Seccomp from inside: S01 S02 S05 S08 S10, and docker's default profile, which bundles/seccomp has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.harness import PROJECT, Box, pyoci_only, status_field

# system call numbers of x86-64
NR = {
    "getpid": 39,
    "socket": 41,
    "ptrace": 101,
    "personality": 135,
    "mkdir": 83,
    "getpriority": 140,
    "sched_yield": 24,
    "mount": 165,
    "keyctl": 250,
    "add_key": 248,
    "unshare": 272,
    "clone3": 435,
    "kexec_load": 246,
}
NOWHERE = 462  # newer than any profile of these tests: mseal


def docker_profile() -> dict[str, Any]:
    config = json.loads((PROJECT / "bundles/seccomp/config.json").read_text())
    profile: dict[str, Any] = config["linux"]["seccomp"]
    return profile


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **fields: Any) -> dict[str, Any]:
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules), **fields}


def rule(
    name: str, action: str, *args: tuple[int, str, int] | tuple[int, str, int, int], **fields: Any
) -> dict[str, Any]:
    """A rule for one call; args are (index, op, value[, valueTwo])."""
    made = [
        {"index": index, "op": f"SCMP_CMP_{op}", "value": values[0], "valueTwo": values[1] if values[1:] else 0}
        for index, op, *values in args
    ]
    return {"names": [name], "action": f"SCMP_ACT_{action}", "args": made, **fields}


def call(box: Box, name: str, *args: int) -> str:
    """The verdict of one system call inside: "ok N" or the errno's name."""
    return box.output("probe", "syscall", str(NR[name]), *map(str, args)).strip()


def calls(box: Box, *wanted: tuple[str, tuple[int, ...]]) -> list[str]:
    """Several verdicts of one container."""
    lines = [" ".join(["probe", "syscall", str(NR[name]), *map(str, args)]) for name, args in wanted]
    return box.sh("\n".join(lines)).splitlines()


@pytest.fixture
def docker(box: Box) -> Box:
    box.linux["seccomp"] = docker_profile()
    return box


# -- docker's default profile ---------------------------------------------------------------


def test_docker_profile_is_on(docker: Box) -> None:
    """S01: mode filter, one filter, and the program runs."""
    status = docker.output("cat", "/proc/self/status")
    assert status_field(status, "Seccomp") == "2"
    assert status_field(status, "Seccomp_filters") == "1"


def test_docker_profile_verdicts(docker: Box) -> None:
    """S01 S05: what the profile says, with the errno it names."""
    verdicts = calls(
        docker,
        ("keyctl", (0,)),
        ("add_key", ()),
        ("unshare", (0x10000000,)),
        ("mount", ()),
        ("kexec_load", ()),
        ("clone3", ()),
        ("getpid", ()),
        ("sched_yield", ()),
    )
    assert verdicts[:5] == ["EPERM"] * 5
    assert verdicts[5] == "ENOSYS"
    assert all(verdict.startswith("ok") for verdict in verdicts[6:])


def test_docker_profile_compares_arguments(docker: Box) -> None:
    """S05: personality by value; socket of every family but vsock."""
    verdicts = calls(
        docker,
        ("personality", (0xFFFFFFFF,)),
        ("personality", (0,)),
        ("personality", (8,)),
        ("personality", (0x20000,)),
        ("personality", (1,)),
        ("personality", (0x1FFFFFFFF,)),
        ("socket", (40, 1, 0)),
        ("socket", (1, 1, 0)),
    )
    assert [verdict[:2] == "ok" for verdict in verdicts] == [True, True, True, True, False, False, False, True]


@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("user", [0, 1000])
def test_docker_profile_for_any_user(docker: Box, nnp: bool, user: int) -> None:
    """SECURITY 13: with and without no_new_privileges; loading leaves no capability behind."""
    docker.process["noNewPrivileges"] = nnp
    docker.process["user"] = {"uid": user, "gid": user}
    docker.caps("CAP_KILL")
    status = docker.output("cat", "/proc/self/status")
    assert status_field(status, "Seccomp") == "2"
    assert status_field(status, "NoNewPrivs") == str(int(nnp))
    assert int(status_field(status, "CapPrm"), 16) == (0 if user else 1 << 5)
    assert int(status_field(status, "CapBnd"), 16) == 1 << 5


def test_exec_is_filtered(docker: Box) -> None:
    """S10 P21"""
    docker.up()
    assert status_field(docker.exec("cat", "/proc/self/status").out, "Seccomp") == "2"
    assert docker.exec("probe", "syscall", str(NR["keyctl"])).out == "EPERM\n"


def test_terminal_and_user_namespace_work_with_it(docker: Box) -> None:
    docker.userns()
    assert call(docker, "keyctl") == "EPERM"


# -- actions --------------------------------------------------------------------------------


def test_errno(box: Box) -> None:
    """S02: errnoRet of the rule; EPERM when there is none."""
    box.linux["seccomp"] = profile(rule("mkdir", "ERRNO", errnoRet=28), rule("sched_yield", "ERRNO"))
    assert calls(box, ("mkdir", ()), ("sched_yield", ())) == ["ENOSPC", "EPERM"]


def test_default_errno(box: Box) -> None:
    """S02: defaultErrnoRet for what no rule names."""
    profile_ = docker_profile()
    profile_["defaultErrnoRet"] = 28
    box.linux["seccomp"] = profile_
    assert call(box, "kexec_load") == "ENOSPC"


@pytest.mark.parametrize(
    ("action", "code"), [("KILL", 159), ("KILL_PROCESS", 159), ("KILL_THREAD", 159), ("TRAP", 159)]
)
def test_kill_and_trap(box: Box, action: str, code: int) -> None:
    """S01: dies of SIGSYS.  A child of init does: the init of a pid namespace survives a trap."""
    box.linux["seccomp"] = profile(rule("sched_yield", action))
    box.script("probe syscall 24; echo code $?")
    assert box.run().out == f"code {code}\n"


def test_log_allows(box: Box) -> None:
    """S01"""
    box.linux["seccomp"] = profile(rule("sched_yield", "LOG"))
    assert call(box, "sched_yield") == "ok 0"


def test_trace_without_a_tracer_is_enosys(box: Box) -> None:
    """S01"""
    box.linux["seccomp"] = profile(rule("sched_yield", "TRACE", errnoRet=5))
    assert call(box, "sched_yield") == "ENOSYS"


@pyoci_only("its init still closes and writes descriptors with the filter on")
def test_only_what_is_allowed(box: Box) -> None:
    """SECURITY 13: a profile that allows a static program's few calls needs to allow nothing for the runtime."""
    names = ["execve", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlinkat"]
    names += ["getrandom", "mprotect", "write", "exit_group", "fstat", "newfstatat", "readlink", "ioctl", "uname"]
    names += ["readlink", "prctl", "getpid", "futex"]
    allow = {"names": names, "action": "SCMP_ACT_ALLOW"}
    box.linux["seccomp"] = profile(allow, default="SCMP_ACT_ERRNO")
    assert box.output("probe", "syscall", "39") == "ok 1\n"
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["noNewPrivileges"] = False
    assert box.output("probe", "syscall", "39") == "ok 1\n"


@pyoci_only("libseccomp 2.5: a call newer than the profile gets the default action")
def test_newer_than_the_profile_is_enosys(box: Box) -> None:
    """S09: so that programs fall back."""
    box.linux["seccomp"] = docker_profile()
    assert box.output("probe", "syscall", "9999").strip() in ("ENOSYS",)


# -- comparisons ----------------------------------------------------------------------------

BIG = 0x1_0000_0005
COMPARISONS = [
    ("EQ", (5,), {5}, {4, 6, BIG}),
    ("NE", (5,), {4, 6, BIG}, {5}),
    ("LT", (5,), {0, 4}, {5, 6, BIG}),
    ("LE", (5,), {4, 5}, {6, BIG}),
    ("GT", (5,), {6, BIG}, {4, 5}),
    ("GE", (5,), {5, 6, BIG}, {4}),
    ("EQ", (BIG,), {BIG}, {5, BIG + 1}),
    ("GT", (BIG,), {BIG + 1, BIG << 1}, {BIG, 5, 0xFFFFFFFF}),
    ("LT", (BIG,), {BIG - 1, 5, 0xFFFFFFFF}, {BIG, BIG + 1}),
    ("MASKED_EQ", (0xF0, 0x50), {0x50, 0x5F, 0x150}, {0x40, 0x60, 0}),
    ("MASKED_EQ", (1 << 32, 1 << 32), {1 << 32, BIG}, {5, 1 << 33}),
]


@pytest.mark.parametrize(("op", "values", "hits", "misses"), COMPARISONS)
def test_comparison(box: Box, op: str, values: tuple[int, ...], hits: set[int], misses: set[int]) -> None:
    """S05 SECURITY 15: each operator on all 64 bits, by executing."""
    box.linux["seccomp"] = profile(rule("sched_yield", "ERRNO", (1, op, *values), errnoRet=28))  # type: ignore[arg-type]
    numbers = sorted(hits | misses)
    verdicts = calls(box, *(("sched_yield", (0, number)) for number in numbers))
    assert {number for number, verdict in zip(numbers, verdicts, strict=True) if verdict == "ENOSPC"} == hits


def test_conditions_are_and_rules_are_or(box: Box) -> None:
    """S05 SECURITY 15"""
    box.linux["seccomp"] = profile(
        rule("sched_yield", "ERRNO", (0, "EQ", 1), (1, "EQ", 2), errnoRet=28),
        rule("sched_yield", "ERRNO", (2, "EQ", 3), errnoRet=28),
    )
    arguments = [(1, 2, 0), (1, 0, 0), (0, 2, 0), (0, 0, 3), (1, 2, 3), (0, 0, 0)]
    verdicts = calls(box, *(("sched_yield", values) for values in arguments))
    assert verdicts == ["ENOSPC", "ok 0", "ok 0", "ENOSPC", "ENOSPC", "ok 0"]


# -- refused profiles -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        profile(default="SCMP_ACT_FROB"),
        profile(rule("sched_yield", "FROB")),
        profile(rule("sched_yield", "ERRNO", (0, "FROB", 1))),
        profile(architectures=["SCMP_ARCH_FROB"]),
        profile(rule("sched_yield", "ERRNO", (7, "EQ", 1))),
        profile(rule("write", "NOTIFY")),
        profile(default="SCMP_ACT_NOTIFY"),
        pytest.param({"syscalls": []}, marks=pyoci_only("takes it as no profile")),
        pytest.param(profile({"names": [], "action": "SCMP_ACT_ALLOW"}), marks=pyoci_only("takes no names")),
        pytest.param(profile(rule("mkdir", "ALLOW", errnoRet=1)), marks=pyoci_only("ignores errnoRet there")),
        pytest.param(profile(listenerMetadata="x"), marks=pyoci_only("ignores it")),
    ],
)
def test_bad_profile(box: Box, bad: dict[str, Any]) -> None:
    """S01 S02 S05 S07 S08 L24"""
    box.linux["seccomp"] = bad
    result = box.create(check=False)
    assert result.code == 1
    assert "seccomp" in result.error.lower()
    assert box.entries() == set()


def test_unknown_call_names_are_ignored(box: Box) -> None:
    """Profiles name calls of other kernels and architectures."""
    box.linux["seccomp"] = profile({"names": ["frobnicate", "sched_yield"], "action": "SCMP_ACT_ERRNO"})
    assert call(box, "sched_yield") == "EPERM"


def test_program_is_cached(box: Box) -> None:
    """S11: the same profile again; the second run must not differ."""
    box.linux["seccomp"] = docker_profile()
    assert [call(box, "keyctl") for _ in range(3)] == ["EPERM"] * 3
