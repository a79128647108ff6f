"""Scheduling, placement, memory policy, personality, labels in real containers: P06, P08, P13-P16, Z02, Z04."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from pathlib import Path

import pytest

from tests.integration.harness import Box, kernel_version, libc, proc_status, pyoci_only, status_field

pytestmark = pyoci_only("1.1 does not know these properties")

RT = {"realtimePeriod": 1000000, "realtimeRuntime": 10000}


def privileged(number: int) -> bool:
    """Whether the tests have the capability of that number."""
    return bool(int(status_field(Path("/proc/self/status").read_text(), "CapEff"), 16) >> number & 1)


needs_nice = pytest.mark.skipif(not privileged(23), reason="no CAP_SYS_NICE here")


def sched(box: Box) -> tuple[int, int]:
    """(policy, priority) of the container's init."""
    return os.sched_getscheduler(box.pid), os.sched_getparam(box.pid).sched_priority


def realtime(box: Box) -> None:
    """Let the container's cgroup have real-time processes."""
    if Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        box.linux.setdefault("resources", {})["cpu"] = RT


@needs_nice
@pytest.mark.parametrize(("policy", "number"), [("SCHED_FIFO", 1), ("SCHED_RR", 2)])
def test_realtime_policies(box: Box, policy: str, number: int) -> None:
    """P13"""
    realtime(box)
    box.process["scheduler"] = {"policy": policy, "priority": 3}
    box.up()
    assert sched(box) == (number, 3)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize(("policy", "number"), [("SCHED_BATCH", 3), ("SCHED_IDLE", 5), ("SCHED_OTHER", 0)])
def test_other_policies(box: Box, policy: str, number: int) -> None:
    """P13, with nice."""
    box.process["scheduler"] = {"policy": policy, "nice": 7}
    box.up()
    assert sched(box) == (number, 0)
    if number != 5:
        assert os.getpriority(os.PRIO_PROCESS, box.pid) == 7


@needs_nice
def test_realtime_in_a_user_namespace(box: Box) -> None:
    """P13: host root has the right before it is root of the namespace only."""
    realtime(box)
    box.userns()
    box.process["scheduler"] = {"policy": "SCHED_RR", "priority": 1}
    box.up()
    assert sched(box) == (2, 1)


@needs_nice
@pytest.mark.parametrize("user", [False, True])
def test_reset_on_fork(box: Box, user: bool) -> None:
    """P13: the flag stays with the process, though a fork on the way would have taken it."""
    realtime(box)
    if user:
        box.userns()
    wanted = {"policy": "SCHED_RR", "priority": 2, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    box.process["scheduler"] = wanted
    box.up()
    assert sched(box) == (2 | os.SCHED_RESET_ON_FORK, 2)
    shown = box.exec_json({**box.process, "args": ["sh", "-c", "cat /proc/self/sched; true"]}).out
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("policy")] == ["0"]


class SchedAttr(ctypes.Structure):
    """sched_setattr(2)."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


@needs_nice
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of sched_getattr(2) is x86-64's here")
@pytest.mark.parametrize("flags", [["SCHED_FLAG_RESET_ON_FORK"], ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"]])
def test_deadline(box: Box, flags: list[str]) -> None:
    """P13: runtime, deadline and period in nanoseconds; for exec as well."""
    wanted = {"policy": "SCHED_DEADLINE", "runtime": 2000000, "deadline": 4000000, "period": 8000000, "flags": flags}
    box.process["scheduler"] = wanted
    box.up()
    attr = SchedAttr()
    assert libc.syscall(315, box.pid, ctypes.byref(attr), ctypes.sizeof(attr), 0) == 0
    assert (attr.policy, attr.runtime, attr.deadline, attr.period) == (6, 2000000, 4000000, 8000000)
    assert attr.flags & 3 == len(flags) * 2 - 1
    shown = box.exec_json({**box.process, "args": ["cat", "/proc/self/sched"]}).out
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("policy")] == ["6"]


def test_policy_the_kernel_does_not_have(box: Box) -> None:
    """P13 L06: SCHED_ISO is a name without an implementation."""
    box.process["scheduler"] = {"policy": "SCHED_ISO"}
    result = box.create(check=False)
    assert result.code == 1
    assert "SCHED_ISO: invalid argument" in result.error
    assert "/process/scheduler" in result.error
    assert box.entries() == set()


@pytest.mark.parametrize(("kind", "number"), [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3), ("IOPRIO_CLASS_RT", 1)])
def test_io_priority(box: Box, kind: str, number: int) -> None:
    """P15, P21: of init and of what exec runs, in a user namespace too."""
    if number == 1 and not privileged(23) and not privileged(21):
        pytest.skip("no CAP_SYS_NICE here")
    box.userns()
    box.process["ioPriority"] = {"class": kind, "priority": 6}
    box.args("sh", "-c", "ionice -p $$ >/log; sleep 100")
    get = {"x86_64": 252, "aarch64": 31}[platform.machine()]
    shown = box.output("probe", "syscall", str(get), "1", "0")
    assert shown == f"ok {number << 13 | 6}\n"
    box.args("sleep", "100")
    box.up()
    assert box.exec("probe", "syscall", str(get), "1", "0").out == shown


def test_cpu_affinity_of_exec(box: Box) -> None:
    """P16: initial until it is in the cgroup, final from then on; init is not concerned."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU only")
    first, second = sorted(os.sched_getaffinity(0))[:2]
    box.process["execCPUAffinity"] = {"initial": str(first), "final": str(second)}
    box.up()
    assert os.sched_getaffinity(box.pid) == os.sched_getaffinity(0)
    shown = box.exec("cat", "/proc/self/status").out
    assert status_field(shown, "Cpus_allowed_list") == str(second)
    process = {**box.process, "args": ["cat", "/proc/self/status"], "execCPUAffinity": {"final": str(first)}}
    assert status_field(box.exec_json(process).out, "Cpus_allowed_list") == str(first)


def test_cpu_that_is_not_there(box: Box) -> None:
    """P16 L06"""
    box.process["execCPUAffinity"] = {"initial": "8000"}
    box.up()
    result = box.exec("true", check=False)
    assert result.code != 0
    assert "run on CPUs 8000: invalid argument" in result.error


def test_personality(box: Box) -> None:
    """Z02 P21"""
    box.linux["personality"] = {"domain": "LINUX32"}
    assert box.output("uname", "-m") in ("i686\n", "armv8l\n")
    box.args("sleep", "100")
    box.up()
    assert Path(f"/proc/{box.pid}/personality").read_text() == "00000008\n"
    assert box.exec("uname", "-m").out in ("i686\n", "armv8l\n")


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0"),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "weighted interleave:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "bind=relative:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
    ],
)
def test_memory_policy(box: Box, policy: dict[str, object], shown: str) -> None:
    """Z04: as numa_maps(5) names it."""
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("this kernel has no NUMA")
    if policy["mode"] == "MPOL_WEIGHTED_INTERLEAVE" and kernel_version() < (6, 9):
        pytest.skip("this kernel has no weighted interleaving (6.9)")
    box.linux["memoryPolicy"] = policy
    box.up()
    assert Path(f"/proc/{box.pid}/numa_maps").read_text().splitlines()[0].split(" ", 1)[1].startswith(shown)


def test_memory_node_that_is_not_there(box: Box) -> None:
    """Z04 L06"""
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("this kernel has no NUMA")
    box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "63"}
    result = box.create(check=False)
    assert result.code == 1
    assert "invalid argument" in result.error
    assert "/linux/memoryPolicy" in result.error


@pytest.mark.parametrize(
    ("key", "module", "sign"),
    [
        ("apparmorProfile", "AppArmor", "/sys/module/apparmor/parameters/enabled"),
        ("selinuxLabel", "SELinux", "/sys/fs/selinux/enforce"),
    ],
)
def test_label_without_its_module(box: Box, key: str, module: str, sign: str) -> None:
    """P08 P14 L06: an error, never a container without its confinement."""
    if Path(sign).exists():
        pytest.skip(f"this host has {module}")
    box.process[key] = "container_t"
    result = box.create(check=False)
    assert result.code == 1
    assert f"this host has no {module}" in result.error
    assert box.entries() == set()


def test_limits_are_raised_for_a_user_namespace(box: Box) -> None:
    """P06: by host root, which may; the container gets exactly what is asked."""
    if not privileged(24):
        pytest.skip("no CAP_SYS_RESOURCE here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    box.userns()
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": hard + 10}]
    assert box.sh("ulimit -n; ulimit -Hn") == f"100\n{hard + 10}\n"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_limits_that_only_fall(box: Box) -> None:
    """P06: nothing to raise, no right needed."""
    box.userns()
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]
    assert box.sh("ulimit -n; ulimit -Hn") == "50\n60\n"


def test_nothing_asked_nothing_changed(box: Box) -> None:
    """P13 P15 Z04: the caller's."""
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    box.up()
    assert sched(box) == (os.sched_getscheduler(0), 0)
    assert proc_status(box.pid, "Cpus_allowed") == proc_status("self", "Cpus_allowed")
