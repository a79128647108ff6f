"""G2, first part: terminal, program, limits, rights (config.md)."""

from __future__ import annotations

import os
import shutil
import subprocess

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
