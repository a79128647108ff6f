"""G2, second part: scheduling, ids, names, and what exec takes over (config.md)."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path
from typing import Any

from conformance import machine
from conformance.box import Box, Skip, has, holds, same, status_of
from conformance.g02_process import mask, status
from conformance.runner import check

POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6}


def sched(box: Box, **scheduler: Any) -> list[int]:
    """policy nice priority flags runtime deadline period of the program."""
    box.process["scheduler"] = scheduler
    return [int(word) for word in box.output("probe", "sched").split()]


@check("P13")
def scheduler(box: Box) -> None:
    """Policies for everybody, with nice and flags."""
    mine = os.nice(0)
    for policy, nice in (("SCHED_OTHER", 7), ("SCHED_BATCH", 5), ("SCHED_IDLE", mine)):  # which has no nice
        same(sched(box, policy=policy, nice=nice)[:2], [POLICIES[policy], nice], policy)
    same(
        sched(box, policy="SCHED_OTHER", nice=3, flags=["SCHED_FLAG_RESET_ON_FORK"])[:4], [0, 3, 0, 1], "reset on fork"
    )
    same(sched(box, policy="SCHED_OTHER", nice=4, flags=["SCHED_FLAG_KEEP_POLICY"])[:2], [0, 4], "keep policy")
    same(sched(box, policy="SCHED_OTHER", nice=4, flags=["SCHED_FLAG_KEEP_PARAMS"])[:2], [0, mine], "keep parameters")
    for what, value in (
        ("an unknown policy", {"policy": "SCHED_NOSUCH"}),
        ("a policy that Linux does not have", {"policy": "SCHED_ISO"}),
        ("an unknown flag", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NOSUCH"]}),
    ):
        box.process["scheduler"] = value
        box.refused(what)


@check("P13")
def real_time_scheduler(box: Box) -> None:
    """Policies of real time, with priority or times."""
    if machine.takes("cpu", "cpu.rt_runtime_us", "1000"):
        box.no_namespace("nosuch")
    else:  # processes of a cgroup have a share of real time, or none
        box.resources["cpu"] = {"realtimeRuntime": 1000}
    for policy in ("SCHED_FIFO", "SCHED_RR"):
        same(sched(box, policy=policy, priority=11)[:3], [POLICIES[policy], 0, 11], policy)


@check("P13")
def deadline_scheduler(box: Box) -> None:
    """SCHED_DEADLINE with runtime, deadline, period."""
    text = "import os,ctypes,struct;l=ctypes.CDLL(None,use_errno=True);" \
        "a=struct.pack('IIQiIQQQ',48,6,0,0,0,10**6,10**7,10**7);" \
        "raise SystemExit(0 if l.syscall(314,0,a,0)==0 else ctypes.get_errno())"  # fmt: skip
    if machine.X86 and (code := subprocess.run(["python3", "-c", text], check=False).returncode):
        raise Skip(f"this kernel refuses SCHED_DEADLINE to root: {os.strerror(code)}")
    found = sched(box, policy="SCHED_DEADLINE", runtime=1000000, deadline=10000000, period=20000000)
    same((found[0], found[4:]), (6, [1000000, 10000000, 20000000]), "SCHED_DEADLINE")
    flags = ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]
    found = sched(box, policy="SCHED_DEADLINE", runtime=1000000, deadline=10000000, period=20000000, flags=flags)
    same(found[3], 2 | 4, "its flags")


@check("P14")
def selinux(box: Box) -> None:
    """The program runs with the label."""
    label = box.process["selinuxLabel"] = "system_u:system_r:container_t:s0"
    if not machine.lsm("selinux"):
        plan = f"set label {label} in self/attr/exec"
        box.skip_or_plan("this kernel runs without SELinux", plan, assume="selinux")
    has(box.output("cat", "/proc/self/attr/current"), label, "the label")


@check("P15")
def io_priority(box: Box) -> None:
    """Class and priority; one out of range is an error."""
    for name, number, priority in (("IOPRIO_CLASS_BE", 2, 6), ("IOPRIO_CLASS_RT", 1, 3), ("IOPRIO_CLASS_IDLE", 3, 0)):
        box.process["ioPriority"] = {"class": name, "priority": priority}
        same(box.output("probe", "ioprio").split(), [str(number), str(priority)], name)
    for name, priority in (("IOPRIO_CLASS_NOSUCH", 0), ("IOPRIO_CLASS_BE", 8), ("IOPRIO_CLASS_BE", -1)):
        box.process["ioPriority"] = {"class": name, "priority": priority}
        box.refused(f"{name} {priority}")


@check("P16")
def exec_affinity(box: Box) -> None:
    """Exec runs on the processors of execCPUAffinity.final; unset, where it would without."""
    cpus = sorted(machine.cpus())
    if len(cpus) < 2:
        raise Skip("there is one processor only")
    process = copy.deepcopy(box.process)
    process["args"] = ["grep", "Cpus_allowed_list", "/proc/self/status"]
    box.process["execCPUAffinity"] = {"initial": str(cpus[1]), "final": str(cpus[1])}
    box.up()
    free = box.exec_json(process).out.split()[1]
    same(box.exec(*process["args"]).out.split()[1], str(cpus[1]), "processors with final in the config")
    process["execCPUAffinity"] = {"initial": str(cpus[0]), "final": str(cpus[1])}
    same(box.exec_json(process).out.split()[1], str(cpus[1]), "processors with final")
    process["execCPUAffinity"] = {"final": str(cpus[0])}
    same(box.exec_json(process).out.split()[1], str(cpus[0]), "processors with another final")
    process["execCPUAffinity"] = {}
    same(box.exec_json(process).out.split()[1], free, "processors when it is empty")
    box.process["execCPUAffinity"] = {"initial": "walnut"}
    other = box.another()
    other.config["process"] = box.process
    other.refused("an initial that is no list of processors")


@check("P17")
def user(box: Box) -> None:
    """uid, gid and the additional groups, no others."""
    box.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6]}
    found = status(box)
    same(found["Uid"].split(), ["1000"] * 4, "uids")
    same(found["Gid"].split(), ["1001"] * 4, "gids")
    holds(set(found["Groups"].split()) - {"1001"} == {"5", "6"}, f"groups are {found['Groups']}")


@check("P18")
def umask(box: Box) -> None:
    """The umask that was set; unset, the caller's."""
    box.process["user"]["umask"] = 0o077
    same(status(box)["Umask"], "0077", "set")
    del box.process["user"]["umask"]
    box.process["args"] = ["grep", "Umask", "/proc/self/status"]
    same(box.run(umask=0o027).out.split(), ["Umask:", "0027"], "unset, where the caller has 027")


@check("P19")
def hostname(box: Box) -> None:
    """The host name inside, and not outside."""
    before = os.uname().nodename
    box.config["hostname"] = "walnut"
    same(box.output("hostname"), "walnut\n", "inside")
    same(os.uname().nodename, before, "outside")


@check("P19")
def hostname_needs_uts(box: Box) -> None:
    """Without a uts namespace of its own it is an error."""
    before = os.uname().nodename
    box.config["hostname"] = before  # harmless if it is set after all
    box.no_namespace("uts")
    box.refused("a hostname without uts namespace")


@check("P20")
def domainname(box: Box) -> None:
    """The domain name inside, and not outside."""
    before = Path("/proc/sys/kernel/domainname").read_text()
    box.config["domainname"] = "example.org"
    same(box.output("cat", "/proc/sys/kernel/domainname"), "example.org\n", "inside")
    same(Path("/proc/sys/kernel/domainname").read_text(), before, "outside")


@check("P21")
def exec_inherits(box: Box) -> None:
    """Exec without a process.json has the config's user, cwd, environment, capabilities, limits and rest."""
    box.process.update(
        user={"uid": 1000, "gid": 1001, "additionalGids": [7]},
        cwd="/home/walnut",
        env=["PATH=/bin", "A=b"],
        capabilities={key: ["CAP_KILL"] for key in ("bounding", "effective", "permitted")},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 321, "hard": 321}],
        noNewPrivileges=True,
        oomScoreAdj=400,
        scheduler={"policy": "SCHED_BATCH", "nice": 3},
    )
    box.process["user"]["umask"] = 0o027
    box.up()
    found = status_of(box.exec("cat", "/proc/self/status").out)
    same(found["Uid"].split()[0], "1000", "uid")
    same((found["Gid"].split()[0], found["Umask"]), ("1001", "0027"), "gid and umask")
    holds("7" in found["Groups"].split(), f"groups are {found['Groups']}")
    same((found["CapBnd"], found["NoNewPrivs"]), (mask("CAP_KILL"), "1"), "bounding set and no_new_privs")
    same(box.exec("pwd").out, "/home/walnut\n", "cwd")
    has(box.exec("env").out, "A=b\n", "environment")
    has(" ".join(box.exec("cat", "/proc/self/limits").out.split()), "Max open files 321 321", "limits")
    same(box.exec("cat", "/proc/self/oom_score_adj").out, "400\n", "oom_score_adj")
    same(box.exec("probe", "sched").out.split()[:2], ["3", "3"], "scheduler")
    same(box.exec("sh", "-c", "readlink /proc/self/ns/pid; readlink /proc/1/ns/pid").out.split()[0],
         os.readlink(f"/proc/{box.pid}/ns/pid"), "pid namespace")  # fmt: skip
