"""G2: the process (config.md)."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from conformance import machine
from conformance.box import Box, ConsoleSocket, Skip, has, holds, read_all, same, status_of
from conformance.runner import check


def status(box: Box) -> dict[str, str]:
    """/proc/self/status of the program."""
    return status_of(box.output("cat", "/proc/self/status"))


def in_terminal(box: Box, script: str) -> str:
    """What a script prints on its terminal."""
    box.process["terminal"] = True
    box.script(script)
    with ConsoleSocket(box.dir / "c") as console:
        box.create("--console-socket", str(box.dir / "c"))
        master = console.receive()
    try:
        box.start()
        return read_all(master).replace("\r", "")
    finally:
        os.close(master)


@check("P01")
def terminal(box: Box) -> None:
    """A pty on stdin, stdout and stderr, and /dev/console."""
    out = in_terminal(box, "for n in 0 1 2; do test -t $n && echo tty $n; done; test -c /dev/console && echo console")
    same(out.split("\n")[:4], ["tty 0", "tty 1", "tty 2", "console"], "seen on the terminal")


@check("P01")
def no_terminal(box: Box) -> None:
    """Without terminal there is none."""
    same(box.sh("test -t 1 && echo tty; test -e /dev/console && echo console; echo end"), "end\n", "output")


@check("P02")
def console_size(box: Box) -> None:
    """The terminal has the size that was asked for."""
    box.process["consoleSize"] = {"height": 25, "width": 81}
    same(in_terminal(box, "stty size").strip(), "25 81", "rows and columns")


@check("P02")
def size_ignored(box: Box) -> None:
    """Without a terminal consoleSize is ignored."""
    box.process["consoleSize"] = {"height": 25, "width": 81}
    same(box.output("echo", "x"), "x\n", "output")


@check("P03")
def cwd(box: Box) -> None:
    """The working directory; missing or relative is an error."""
    box.process["cwd"] = "/home/walnut"
    same(box.output("pwd"), "/home/walnut\n", "cwd")
    box.alone(lambda b: b.process.pop("cwd"), "no cwd")
    box.alone(lambda b: b.process.update(cwd="tmp"), "a relative cwd")


@check("P03")
def cwd_of_user(box: Box) -> None:
    """A directory that only the user of the container may enter."""
    home = box.rootfs / "home/walnut"
    os.chown(home, 1000, 1000)
    home.chmod(0o700)
    box.process.update(cwd="/home/walnut", user={"uid": 1000, "gid": 1000}, capabilities={})
    same(box.output("pwd"), "/home/walnut\n", "cwd")


@check("P04")
def environment(box: Box) -> None:
    """The environment is what env says, nothing of the caller's."""
    box.process["env"] = ["PATH=/bin", "A=b=c", "EMPTY=", "HOME=/x", "TWO=l1\nl2"]
    box.process["args"] = ["cat", "/proc/self/environ"]
    out = box.run(env={**os.environ, "CALLER_SECRET": "1"}).out.split("\0")[:-1]
    same(sorted(out), sorted(box.process["env"]), "environment")


@check("P05")
def arguments(box: Box) -> None:
    """Args are passed as they are; none, or a program that is not there, is an error."""
    same(box.output("printf", "[%s]", "a b", "", "c\nd"), "[a b][][c\nd]", "arguments")
    box.alone(lambda b: b.process.update(args=[]), "no args")
    box.alone(lambda b: b.process.update(args=["nosuchprogram"]), "a program that is not there")


@check("P05")
def search_path(box: Box) -> None:
    """A name without slash is searched in the PATH of the container, one with a slash is not."""
    (box.rootfs / "opt").mkdir()
    program = box.rootfs / "opt/walnut"
    program.write_text("#!/bin/sh\necho walnut\n")
    program.chmod(0o755)
    box.process["env"] = ["PATH=/nosuch:/opt"]
    same(box.output("walnut"), "walnut\n", "found in PATH")
    box.process.update(cwd="/opt", env=["PATH=/bin"])
    same(box.output("./walnut"), "walnut\n", "found by a relative path")


LIMITS = {  # type: (line of /proc/PID/limits, soft, hard)
    "RLIMIT_AS": ("Max address space", 2**40, 2**41),
    "RLIMIT_CORE": ("Max core file size", 0, 0),
    "RLIMIT_CPU": ("Max cpu time", 1000, 2000),
    "RLIMIT_DATA": ("Max data size", 2**40, 2**41),
    "RLIMIT_FSIZE": ("Max file size", 2**30, 2**31),
    "RLIMIT_LOCKS": ("Max file locks", 50, 60),
    "RLIMIT_MEMLOCK": ("Max locked memory", 4096, 65536),
    "RLIMIT_MSGQUEUE": ("Max msgqueue size", 4096, 65536),
    "RLIMIT_NICE": ("Max nice priority", 0, 0),
    "RLIMIT_NOFILE": ("Max open files", 500, 600),
    "RLIMIT_NPROC": ("Max processes", 700, 800),
    "RLIMIT_RSS": ("Max resident set", 2**30, 2**31),
    "RLIMIT_RTPRIO": ("Max realtime priority", 0, 0),
    "RLIMIT_RTTIME": ("Max realtime timeout", 1000, 2000),
    "RLIMIT_SIGPENDING": ("Max pending signals", 100, 200),
    "RLIMIT_STACK": ("Max stack size", 2**22, 2**23),
}


@check("P06")
def rlimits(box: Box) -> None:
    """Every type of limit, soft and hard; an unknown type is an error."""
    box.process["rlimits"] = [{"type": name, "soft": s, "hard": h} for name, (_, s, h) in LIMITS.items()]
    out = box.output("cat", "/proc/self/limits")
    lines = {line[:26].strip(): line[26:].split()[:2] for line in out.splitlines()}
    for name, (label, soft, hard) in LIMITS.items():
        same(lines.get(label), [str(soft), str(hard)], name)
    box.process["rlimits"] = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
    box.refused("an unknown type")


@check("P07")
def duplicate_rlimits(box: Box) -> None:
    """A type that is there twice is an error."""
    # downwards: the other way round the kernel refuses it to a root without CAP_SYS_RESOURCE
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": n, "hard": n} for n in (200, 100)]
    box.refused("RLIMIT_NOFILE twice")


def apparmor_profile(box: Box, name: str, *options: str) -> None:
    """Load a profile under which all but writing to /tmp/denied is allowed, or remove it (options).  Raises Skip."""
    if not shutil.which("apparmor_parser"):
        raise Skip("there is no apparmor_parser to load a profile with")
    rules = "file, capability, network, mount, umount, signal, ptrace, unix, deny /tmp/denied w,"
    text = f"profile {name} flags=(attach_disconnected) {{ {rules} }}\n"
    subprocess.run(["apparmor_parser", *options, "--skip-cache"], input=text, text=True, check=True)


@check("P08")
def apparmor(box: Box) -> None:
    """The program runs under the profile, and so does exec; one that is not loaded is an error."""
    name = box.process["apparmorProfile"] = box.id
    if not machine.lsm("apparmor"):
        box.skip_or_plan("this kernel has no AppArmor", f"set label exec {name} in", assume="apparmor")
    apparmor_profile(box, name, "--replace")
    try:
        box.script("cat /proc/self/attr/current; (: >/tmp/denied) 2>/dev/null || echo denied; exec sleep 100")
        box.up()
        holds(machine.until(lambda: "denied" in box.logs()), f"what the program says: {box.logs()!r}")
        has(box.logs(), f"{name} (enforce)", "the profile of the program")
        has(box.exec("cat", "/proc/self/attr/current").out, f"{name} (enforce)", "the profile of exec")
        box.rt("delete", "--force", box.id)
        box.process["apparmorProfile"] = f"{name}-nosuch"
        box.refused("a profile that is not loaded")
    finally:
        apparmor_profile(box, name, "--remove")


SETS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "inheritable": "CapInh",
    "permitted": "CapPrm",
    "ambient": "CapAmb",
}
BITS = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_RAW": 13}


def mask(*names: str) -> str:
    """Names as /proc/PID/status prints their set."""
    return f"{sum(1 << BITS[name] for name in names):016x}"


@check("P09")
def capabilities(box: Box) -> None:
    """Each of the five sets."""
    wanted = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "ambient": ["CAP_NET_RAW"],
        "effective": ["CAP_NET_RAW"],
    }
    box.process.update(capabilities=wanted, user={"uid": 1000, "gid": 1000})
    found = status(box)
    shown = {key: found[name] for key, name in SETS.items()}
    # execve(2) of a user who is not root leaves the ambient capabilities, and bounding and inheritable sets as set
    same(shown["bounding"], mask(*wanted["bounding"]), "bounding set")
    same(shown["inheritable"], mask(*wanted["inheritable"]), "inheritable set")
    same(
        (shown["ambient"], shown["permitted"], shown["effective"]),
        (mask("CAP_NET_RAW"),) * 3,
        "ambient, permitted, effective",
    )


@check("P09")
def capabilities_of_root(box: Box) -> None:
    """Root has the bounding set, and with empty sets nothing."""
    for names in (["CAP_CHOWN", "CAP_KILL"], []):
        box.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
        found = status(box)
        same([found[key] for key in ("CapBnd", "CapPrm", "CapEff")], [mask(*names)] * 3, f"sets of {names}")


@check("P10")
def unknown_capability(box: Box) -> None:
    """A capability nobody knows is a warning, and the others are granted."""
    box.process["capabilities"] = {k: ["CAP_KILL", "CAP_NO_SUCH"] for k in ("bounding", "effective", "permitted")}
    box.process["args"] = ["cat", "/proc/self/status"]
    done = box.run()
    same(status_of(done.out)["CapEff"], mask("CAP_KILL"), "effective set")
    has(done.err, "CAP_NO_SUCH", "warnings")


@check("P10")
def ungrantable_capability(box: Box) -> None:
    """So is one that the caller does not have."""
    if not shutil.which("setpriv"):
        raise Skip("there is no setpriv (util-linux) to be without a capability")
    names = ["CAP_KILL", "CAP_SYS_PACCT"]
    box.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    box.process["args"] = ["cat", "/proc/self/status"]
    done = box.run(prefix=("setpriv", "--bounding-set", "-sys_pacct", "--inh-caps", "-all"))
    same(status_of(done.out)["CapEff"], mask("CAP_KILL"), "effective set")
    has(done.err, "CAP_SYS_PACCT", "warnings")


@check("P11")
def no_new_privileges(box: Box) -> None:
    """noNewPrivileges is set when asked for, and only then."""
    for value in (True, False):
        box.process["noNewPrivileges"] = value
        same(status(box)["NoNewPrivs"], str(int(value)), f"with {value}")


@check("P12")
def oom_score(box: Box) -> None:
    """oomScoreAdj is written; unset the caller's stays."""
    box.process["oomScoreAdj"] = 500
    same(box.output("cat", "/proc/self/oom_score_adj"), "500\n", "set")
    box.process.pop("oomScoreAdj")
    prefix = ("sh", "-c", 'echo 321 >/proc/self/oom_score_adj; exec "$@"', "sh")
    same(box.output("cat", "/proc/self/oom_score_adj", prefix=prefix), "321\n", "unset, where the caller has 321")


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
