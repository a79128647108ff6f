"""What nsexec reports, in words: the sentence of the operation, the errno, where it was asked for, a hint.

Some texts are runc's to the letter: engines read them (docker and podman make exit codes 126 and 127 of them).
"""

from __future__ import annotations

import errno

from pyoci import errors, kernel, linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.plan.ops import Op

_START = "unable to start container process: "

_LOCKED = "in a user namespace ro, nosuid, nodev, noexec and the access time of the host's mounts stay as they are"

# (operation or detail, errno) -> what the user can do; errno 0: whatever the errno
_HINTS = {
    ("unshare", errno.EPERM): "not allowed to make these namespaces: as an ordinary user a user namespace is needed",
    ("unshare", errno.ENOSPC): "a limit of namespaces is reached: see /proc/sys/user",
    ("unshare", errno.EINVAL): "the kernel may lack one of these namespaces: see /proc/self/ns",
    ("mount", errno.ENODEV): "the kernel does not know this type of file system",
    ("mount", errno.EPERM): "in a user namespace proc, sysfs and mqueue need their own pid, network, ipc namespace",
    ("map the ids", errno.EINVAL): "the ids of this file system cannot be mapped, or they are mapped already",
    ("map the ids", errno.EPERM): "the ids of a mount can be mapped only by root of the file system's user namespace",
    ("bind", errno.EPERM): _LOCKED,
    ("remount", errno.EPERM): _LOCKED,
    ("pivot", errno.EINVAL): "the root file system may be the initramfs, which cannot be left: --no-pivot",
    (
        "propagation",
        errno.EINVAL,
    ): "/ is no mount here, as in a chroot: unshare --mount, then pivot_root(2) instead of it",
    ("rlimit", errno.EPERM): "raising a hard limit takes CAP_SYS_RESOURCE",
    ("oom_score_adj", errno.EACCES): "lowering it takes CAP_SYS_RESOURCE",
    ("sysctl", errno.ENOENT): "the kernel has no such sysctl",
    ("setids", errno.EINVAL): "the ids have to be mapped in the user namespace",
    ("fork", errno.EINVAL): "a real-time policy takes linux.resources.cpu.realtimeRuntime on cgroup v1",
    ("scheduler", errno.EPERM): "it takes CAP_SYS_NICE, and on cgroup v1 the cgroup's cpu.realtimeRuntime",
    ("scheduler", errno.EINVAL): "the kernel knows no such policy, or not with these values: sched_setattr(2)",
    ("io_priority", errno.EPERM): "the class RT takes CAP_SYS_NICE",
    ("affinity", errno.EINVAL): "none of these CPUs can be used",
    ("mempolicy", errno.EINVAL): "the nodes have to exist and be in the cgroup's cpuset.mems",
    ("label", errno.EINVAL): "the security module does not know it, or does not allow the change",
    ("label", errno.ENOENT): "the security module has no such profile",
    ("fork", errno.EAGAIN): "a limit of processes is reached",
}

# errno of a system call that is not there -> what is said of it, and the hint
_REFUSED = {
    errno.ENOSYS: (
        "the kernel lacks {}, which pyoci needs: Linux 5.12 or later",
        "`pyoci doctor` tells what else it lacks",
    ),
    errno.EPERM: (
        "{} is refused: operation not permitted",
        "a seccomp filter around pyoci, or a missing CAP_SYS_ADMIN",
    ),
}


def failure(plan: Sequence[Op], index: int, number: int, text: str) -> errors.SetupError:
    """The error of operation index.  number: errno, 0 when text alone says it.  text: detail, may be ""."""
    if index >= len(plan):  # before the first operation: it read the plan, or set itself up
        return errors.SetupError(join("start nsexec", text, _reason(number)), errno=number)
    op = plan[index]
    if (
        text.endswith("(2)") and number in _REFUSED
    ):  # a call that this kernel, or a filter around us, does not let us make
        words, hint = _REFUSED[number]
        return errors.SetupError(join(op.describe(), words.format(text)), errno=number, where=op.where, hint=hint)
    special = _SPECIAL.get(op.name)
    message = special(op, number, text) if special else join(op.describe(), text, _reason(number))
    hint = _HINTS.get((text, number)) or _HINTS.get((op.name, number), "")
    return errors.SetupError(message, errno=number, where=op.where, hint=hint)


def warning(plan: Sequence[Op], index: int, number: int, text: str) -> str:
    """What operation index did not do as asked, though that is no error.  number: errno; of caps, a mask."""
    if index < len(plan) and plan[index].name == "caps":
        names = [name for bit, name in enumerate(linux.CAPABILITIES) if number >> bit & 1]
        return f"pyoci has not got, and cannot give, {', '.join(names)} (config.json {plan[index].where})"
    return str(failure(plan, index, number, text))


def hook_failure(plan: Sequence[Op], index: int, status: int, output: str) -> errors.HookError:
    """The error of an in-container hook.  status: wait status, or -ETIMEDOUT.  output: its last line."""
    if index >= len(plan):
        return errors.HookError(join("hook", hook_fate(status), output))
    return errors.HookError(join(plan[index].describe(), hook_fate(status), output), where=plan[index].where)


def hook_fate(status: int) -> str:
    """A wait status, or -ETIMEDOUT, in words."""
    if status < 0:
        return "timed out" if status == -errno.ETIMEDOUT else _reason(-status)
    code = kernel.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"killed by signal {-code}"


def _reason(number: int) -> str:
    return errors.errno_text(number) if number else ""


def join(*parts: str) -> str:
    """The parts that say something, with colons."""
    return ": ".join(part for part in parts if part)


def _text(op: Op, name: str) -> str:
    return op.string(name).decode("utf-8", "backslashreplace")


def _lookup(op: Op, number: int, text: str) -> str:
    file = _text(op, "file")
    if number == errno.ENOENT and "/" not in file:
        return f'{_START}exec: "{file}": executable file not found in $PATH'
    if number in (errno.EACCES, errno.EISDIR):  # the program itself, not the way to it, for runc and here
        return f'{_START}exec: "{file}": permission denied'
    return f'{_START}exec: "{file}": ' + (text or f"stat {file}: {_reason(number)}")


def _cwd(op: Op, number: int, text: str) -> str:
    why = join(text, _reason(number))
    return f'{_START}chdir to cwd ("{_text(op, "path")}") set in config.json failed: {why}'


def _rlimit(op: Op, number: int, text: str) -> str:
    return f"{_START}error setting rlimit type {op.num('resource')}: {_reason(number)}"


def _exec(op: Op, number: int, text: str) -> str:
    start = len(op.definition.strs) - 1
    file = text or op.strs[start].decode("utf-8", "backslashreplace")
    return f"{_START}exec {file}: {_reason(number)}"


_SPECIAL = {"lookup": _lookup, "cwd": _cwd, "rlimit": _rlimit, "exec": _exec}
