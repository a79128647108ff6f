"""G8: seccomp.  The filters here are about system calls that no program needs."""

from __future__ import annotations

import fcntl
import json
import platform
import select
import signal
import socket
import struct
import threading
from typing import Any

from conformance import machine
from conformance.box import Box, Skip, has, holds, same, status_of
from conformance.machine import TIMEOUT
from conformance.runner import check

# names -> numbers on x86-64, none of which a shell uses
RARE = {
    "acct": 163,
    "swapon": 167,
    "swapoff": 168,
    "iopl": 172,
    "delete_module": 176,
    "quotactl": 179,
    "vmsplice": 278,
    "kexec_load": 246,
    "lookup_dcookie": 212,
    "sysfs": 139,
    "ustat": 136,
    "vhangup": 153,
}
ARCHITECTURES = (
    "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC "
    "PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
).split()
FLAGS = ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")


def profile(box: Box, *rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> None:
    """Give the container a profile."""
    if not machine.X86:
        raise Skip("the numbers of these checks are those of x86-64")
    box.linux["seccomp"] = {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules)}
    box.linux["seccomp"].update(more)


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    """One entry of syscalls."""
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def verdict(box: Box, name: str, *args: int) -> str:
    """What the program sees of one call: "E1", "ok 0", or "signal 31"."""
    words = " ".join(map(str, args))
    out = box.sh(f"probe syscall {RARE[name]} {words}; c=$?; test $c -gt 128 && echo signal $((c-128)); true")
    return out.strip()


@check("S01")
def default_required(box: Box) -> None:
    """defaultAction is required and known."""
    box.linux["seccomp"] = {"architectures": ["SCMP_ARCH_X86_64"]}
    box.refused("no defaultAction")
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_NOSUCH"}
    box.refused("an unknown action")


@check("S01")
def actions(box: Box) -> None:
    """What each action does to a call: KILL, KILL_THREAD, KILL_PROCESS, TRAP, ERRNO, TRACE, ALLOW, LOG."""
    kills = {"acct": "KILL", "swapon": "KILL_THREAD", "swapoff": "KILL_PROCESS", "iopl": "TRAP"}
    others = {"delete_module": "ERRNO", "quotactl": "TRACE", "vmsplice": "ALLOW", "kexec_load": "LOG"}
    profile(box, *(rule(action, name) for name, action in (kills | others).items()))
    for name, action in kills.items():
        has(verdict(box, name), f"signal {signal.SIGSYS.value}", action)
    same(verdict(box, "delete_module"), "E1", "ERRNO without errnoRet")
    same(verdict(box, "quotactl"), "E38", "TRACE without a tracer")
    holds(verdict(box, "vmsplice", 1000) == "E9", "ALLOW does not allow")
    holds("signal" not in verdict(box, "kexec_load"), "LOG does not allow")


@check("S02")
def errno_values(box: Box) -> None:
    """errnoRet and defaultErrnoRet are what the program sees."""
    profile(box, rule("ERRNO", "acct", errnoRet=77), rule("ERRNO", "swapon", errnoRet=78))
    same((verdict(box, "acct"), verdict(box, "swapon")), ("E77", "E78"), "errno of acct and swapon")


@check("S02")
def errno_without_errno(box: Box) -> None:
    """With an action that returns no errno they are an error."""
    profile(box, rule("ALLOW", "acct", errnoRet=77))
    box.refused("errnoRet with SCMP_ACT_ALLOW")
    profile(box, defaultErrnoRet=5)
    box.refused("defaultErrnoRet with SCMP_ACT_ALLOW")


@check("S03")
def architectures(box: Box) -> None:
    """Every architecture of the spec is known; others are errors."""
    profile(box, rule("ERRNO", "acct", errnoRet=77), architectures=[f"SCMP_ARCH_{name}" for name in ARCHITECTURES])
    same(verdict(box, "acct"), "E77", "acct with all architectures")
    profile(box, rule("ERRNO", "acct"), architectures=["SCMP_ARCH_NOSUCH"])
    box.refused("an unknown architecture")


@check("S03")
def second_architecture(box: Box) -> None:
    """A rule holds for the 32-bit calls too when their architecture is listed."""
    profile(box, rule("ERRNO", "acct", errnoRet=77), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    free = box.another()
    if platform.machine() != "x86_64" or "E" not in free.output("probe", "int80", "51"):
        raise Skip("this kernel makes no 32-bit calls")
    same(box.output("probe", "int80", "51").strip(), "E77", "acct by int 0x80")


@check("S04")
def flags(box: Box) -> None:
    """Each flag is known; others are errors."""
    for flag in FLAGS:
        profile(box, rule("ERRNO", "acct", errnoRet=77), flags=[f"SECCOMP_FILTER_FLAG_{flag}"])
        same(verdict(box, "acct"), "E77", f"acct with {flag}")
    profile(box, rule("ERRNO", "acct"), flags=["SECCOMP_FILTER_FLAG_NOSUCH"])
    box.refused("an unknown flag")


OPERATORS = {  # operator: (value, valueTwo, a call that matches, one that does not)
    "NE": (5, 0, 4, 5),
    "LT": (5, 0, 4, 5),
    "LE": (5, 0, 5, 6),
    "EQ": (2**40 + 5, 0, 2**40 + 5, 5),
    "GE": (5, 0, 5, 4),
    "GT": (2**40, 0, 2**40 + 1, 2**40),
    "MASKED_EQ": (0xF0, 0x20, 0xA20 + 0x5, 0x30),
}


@check("S05")
def operators(box: Box) -> None:
    """The seven operators, on 64-bit arguments."""
    rules = []
    for (op, (value, two, _, _)), name in zip(OPERATORS.items(), RARE, strict=False):
        arg = {"index": 1, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}
        rules.append(rule("ERRNO", name, errnoRet=77, args=[arg]))
    profile(box, *rules)
    for (op, (_, _, match, other)), name in zip(OPERATORS.items(), RARE, strict=False):
        same(verdict(box, name, 0, match), "E77", f"{op} with {match}")
        holds(verdict(box, name, 0, other) != "E77", f"{op} matches {other}")


@check("S05")
def no_names(box: Box) -> None:
    """A rule without names, or with an operator nobody knows, is an error."""
    profile(box, rule("ERRNO"))
    box.refused("a rule without names")
    profile(box, rule("ERRNO", "acct", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_NOSUCH"}]))
    box.refused("an unknown operator")


class Agent(threading.Thread):
    """A seccomp agent: takes one state and one descriptor, answers every call with 42."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(5)
        self.listener.settimeout(TIMEOUT)
        self.states: list[bytes] = []
        self.fds: list[int] = []
        self.closed = False

    def run(self) -> None:
        try:
            connection, _ = self.listener.accept()
            data, self.fds, _, _ = socket.recv_fds(connection, 65536, 8)
            self.states.append(data)
        except OSError:
            return
        with connection:
            while self.fds and self.asked(self.fds[0]) and self.answer(self.fds[0]):
                pass
            self.closed = not connection.recv(1)

    def asked(self, fd: int) -> bool:
        """Wait for a call; False when the last process is gone (Linux 6.1 would wait for a call all the same)."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(TIMEOUT * 1000))

    def answer(self, fd: int) -> bool:
        """SECCOMP_IOCTL_NOTIF_RECV and _SEND; False when the process that called is gone."""
        request = bytearray(80)
        try:
            fcntl.ioctl(fd, 0xC0502100, request)
            (ident,) = struct.unpack_from("Q", request)
            fcntl.ioctl(fd, 0xC0182101, bytearray(struct.pack("QqiI", ident, 42, 0, 0)))
        except OSError:
            return False
        return True


@check("S06")
def notify(box: Box) -> None:
    """The agent at listenerPath gets the state and the descriptor, and answers for the kernel."""
    path = box.dir / "agent"
    agent = Agent(str(path))
    agent.start()
    profile(box, rule("NOTIFY", "acct"), listenerPath=str(path), listenerMetadata="walnut")
    box.config["annotations"] = {"x": "y"}
    box.process["args"] = ["probe", "syscall", str(RARE["acct"])]
    box.create()
    same(box.finish(), 0, "exit code")
    same(box.logs(), "ok 42\n", "acct, which the agent answers")
    agent.join(TIMEOUT)
    state = json.loads(agent.states[0])
    same(len(agent.fds), 1, "descriptors")
    same((state["fds"], state["metadata"]), (["seccompFd"], "walnut"), "fds and metadata")
    same((state["state"]["id"], state["state"]["status"]), (box.id, "creating"), "id and status of the state")
    holds(state["pid"] == state["state"]["pid"] > 1, f"pid is {state['pid']}, state.pid {state['state']['pid']}")
    holds(agent.closed, "the connection was not closed")


@check("S06")
def no_agent(box: Box) -> None:
    """An agent that is not there is an error."""
    profile(box, rule("NOTIFY", "acct"), listenerPath=str(box.dir / "nosuch"))
    box.write()
    first = box.try_create()
    holds(first.code != 0 or box.rt("start", box.id).code != 0, "a container without its agent runs")


@check("S07")
def metadata_alone(box: Box) -> None:
    """listenerMetadata without listenerPath is an error."""
    profile(box, rule("ERRNO", "acct"), listenerMetadata="walnut")
    box.refused("listenerMetadata without listenerPath")


@check("S08")
def deadlocks(box: Box) -> None:
    """NOTIFY as the default action, or for write, is an error."""
    path = box.dir / "agent"
    Agent(str(path)).start()
    for what, change in (
        ("as the default action", {"default": "SCMP_ACT_NOTIFY"}),
        ("for write", {"syscalls": [rule("NOTIFY", "write")]}),
    ):
        profile(box, **change, listenerPath=str(path))
        box.write()
        box.refuses(f"NOTIFY {what}", box.try_create(timeout=5))


# what busybox and probe need, and openat2, which says how new the profile is
NEEDED = (
    "access arch_prctl brk capget capset chdir clone close dup dup2 dup3 execve exit exit_group faccessat fchdir "
    "fchown fcntl fork fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getgroups getpgrp getpid "
    "getppid getrandom getuid ioctl keyctl lseek lstat madvise mmap mprotect munmap nanosleep newfstatat open "
    "openat openat2 pipe pipe2 poll prctl pread64 prlimit64 read readlink readlinkat rseq rt_sigaction "
    "rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield seccomp set_robust_list set_tid_address setgid "
    "setgroups setpgid setsid setuid sigaltstack stat statfs statx sysinfo tgkill time umask uname vfork wait4 "
    "write writev gettid clock_gettime getrlimit epoll_create1 epoll_ctl epoll_pwait eventfd2 mremap fchmod "
    "pwrite64 kill tkill setresuid setresgid setfsuid setfsgid getsockname socket connect sendto recvfrom unlink"
).split()


@check("S09")
def newer_syscalls(box: Box) -> None:
    """Calls newer than the profile get ENOSYS, older ones that are not in it what it says."""
    profile(box, rule("ALLOW", *NEEDED), default="SCMP_ACT_ERRNO", defaultErrnoRet=77)
    out = box.sh("probe syscall 163; probe syscall 5000; probe syscall 462")
    same(out.split(), ["E77", "E38", "E38"], "acct, a call of tomorrow, and mseal")


@check("S10")
def for_exec(box: Box) -> None:
    """The filter holds for exec too."""
    profile(box, rule("ERRNO", "acct", errnoRet=77))
    box.up()
    same(box.exec("probe", "syscall", str(RARE["acct"])).out.strip(), "E77", "acct in exec")
    same(status_of(box.exec("cat", "/proc/self/status").out)["Seccomp"], "2", "mode in exec")


@check("S11")
def same_again(box: Box) -> None:
    """The same profile twice, then another of the same shape: each time its own verdict (a cache may not mix them)."""
    for wanted in (77, 77, 78):
        profile(box, rule("ERRNO", "acct", errnoRet=wanted))
        same(verdict(box, "acct"), f"E{wanted}", f"acct with errnoRet {wanted}")
