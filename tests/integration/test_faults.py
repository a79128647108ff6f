"""Failures in the middle: a system call that fails, a runtime that is killed. L06 L21 SECURITY 19.

Whatever happens, one line of error, and after `delete --force` nothing is left.  The fixtures check
mounts, cgroups, processes and the state root after every test.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import TIMEOUT, Box, cgroups, children, fd_numbers, pyoci_only, until

if TYPE_CHECKING:
    from collections.abc import Callable

# (system call, which of its calls in each process): those that create, exec and the container's set-up make
CALLS = [
    ("unshare", 1),
    ("clone", 1),
    ("clone3", 2),
    ("setsid", 1),
    ("keyctl", 1),
    ("open_tree", 1),
    ("mount_setattr", 1),
    ("mount_setattr", 3),
    ("move_mount", 1),
    ("move_mount", 5),
    ("fsopen", 1),
    ("fsmount", 2),
    ("mount", 1),
    ("mount", 4),
    ("mknodat", 1),
    ("mknodat", 4),
    ("symlinkat", 2),
    ("mkdirat", 1),
    ("mkdir", 1),
    ("mkdir", 2),
    ("mkdir", 5),
    ("mknod", 1),
    ("openat2", 1),
    ("openat2", 9),
    ("sethostname", 1),
    ("pivot_root", 1),
    ("umount2", 1),
    ("fchdir", 1),
    ("chdir", 1),
    ("prlimit64", 2),
    ("setgroups", 1),
    ("setresuid", 1),
    ("setresgid", 1),
    ("setuid", 1),
    ("setgid", 1),
    ("capset", 1),
    ("prctl", 2),
    ("prctl", 8),
    ("memfd_create", 1),
    ("memfd_create", 2),
    ("socketpair", 1),
    ("sendmsg", 1),
    ("sendmsg", 2),
    ("recvmsg", 1),
    ("pidfd_open", 1),
    ("rename", 1),
    ("flock", 1),
    ("ftruncate", 1),
    ("fsync", 1),
    ("fcntl", 3),
    ("seccomp", 1),
    ("close_range", 1),
    ("execve", 2),
]


def strace(box: Box, inject: str, *args: str) -> subprocess.CompletedProcess[str]:
    """The runtime, with one system call made to fail in it or its nsexec."""
    command = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"inject={inject}", *box.argv(*args)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)


def known(call: str) -> bool:
    """strace and this architecture know the call."""
    shown = subprocess.run(["strace", "-o", "/dev/null", "-e", f"trace={call}", "true"], capture_output=True)
    return shown.returncode == 0


@pyoci_only("Go's own threads fail with it")
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(("call", "when"), CALLS, ids=str)
def test_a_system_call_fails(box: Box, call: str, when: int) -> None:
    """L06 L21: either there is another way and the container runs as it should, or one error and nothing stays."""
    if not known(call):
        pytest.skip(f"no system call {call}")
    box.args("probe", "fds")
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    box.write()
    done = strace(box, f"{call}:error=EIO:when={when}", "run", "--bundle", str(box.bundle), box.id)
    if done.returncode == 0:
        assert fd_numbers(done.stdout) == [0, 1, 2]
    else:
        assert done.returncode == 1, done.stderr
        errors = [line for line in done.stderr.splitlines() if "level=error" in line]
        assert len(errors) == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "input/output error" in done.stderr or done.stdout == ""
    assert not children()
    if "cannot be removed" not in done.stderr and 'msg="remove ' not in done.stderr:  # or that is what failed
        assert not box.entries()
        assert not cgroups(box.id)
    box.delete("--force")
    assert box.entries() == set()


def killed_after(box: Box, seconds: float, *args: str) -> int:
    """Start the runtime, SIGKILL it after a while; its exit code."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    runtime = box.popen(*args, **quiet)
    time.sleep(seconds)
    runtime.kill()
    return runtime.wait()


def clean(box: Box) -> None:
    """delete --force after a crash: quiet success, and nothing of the container is there."""
    children()  # the caller of a runtime reaps
    result = box.delete("--force")
    assert (result.code, result.out) == (0, "")
    assert box.entries() == set()
    until(lambda: not children(), "end of all processes")


def delays(steps: int, whole: float) -> list[float]:
    """steps moments over `whole` seconds, and a little later."""
    return [whole * 1.2 * step / steps for step in range(steps)]


def duration(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


@pyoci_only("1.1 leaves cgroups and a state directory it cannot read")
def test_killed_create(box: Box) -> None:
    """SECURITY 19: SIGKILL at twenty moments of create."""
    whole = duration(box.create)
    box.delete("--force")
    codes = []
    for delay in delays(20, whole):
        codes.append(killed_after(box, delay, "create", "--bundle", str(box.bundle), box.id))
        clean(box)
    assert -signal.SIGKILL in codes


@pyoci_only("1.1 leaves cgroups and a state directory it cannot read")
def test_killed_create_with_everything(box: Box) -> None:
    """The same with a user namespace, hooks, seccomp and limits."""
    box.userns()
    box.namespace("cgroup")
    box.linux["resources"].update({"memory": {"limit": 1 << 26}, "pids": {"limit": 50}})
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    box.hook("createRuntime", "/bin/sleep", "sleep", "0.01")
    box.hook("createContainer", "/bin/sleep", "sleep", "0.01")
    whole = duration(box.create)
    box.delete("--force")
    for delay in delays(15, whole):
        killed_after(box, delay, "create", "--bundle", str(box.bundle), box.id)
        clean(box)


@pyoci_only("1.1 leaves cgroups and a state directory it cannot read")
def test_killed_run(box: Box) -> None:
    """run killed anywhere: what it started can be deleted."""
    box.args("sleep", "100")
    box.write()
    for delay in delays(10, 0.15):
        killed_after(box, delay, "run", "--bundle", str(box.bundle), box.id)
        clean(box)


def test_killed_start_and_kill(box: Box) -> None:
    """start and kill killed anywhere: state answers, delete --force works."""
    box.args("sleep", "100")
    for delay in delays(6, 0.03):
        box.create()
        killed_after(box, delay, "start", box.id)
        assert box.status in ("created", "running")
        killed_after(box, delay, "kill", box.id, "KILL")
        assert box.status in ("created", "running", "stopped")
        clean(box)


def test_killed_delete(box: Box) -> None:
    """delete killed anywhere: the next one finishes the work."""
    for delay in delays(8, 0.06):
        box.create()
        killed_after(box, delay, "delete", "--force", box.id)
        clean(box)


def test_killed_exec(box: Box) -> None:
    """exec killed anywhere: the container is not harmed."""
    box.up()
    for delay in delays(10, 0.06):
        killed_after(box, delay, "exec", box.id, "true")
        assert box.status == "running"
    until(lambda: len(children()) == 1, "only init")
    assert box.exec("echo", "alive").out == "alive\n"


def test_killed_neighbours(boxes: Callable[[], Box]) -> None:
    """SECURITY 19: no other container is touched."""
    other, box = boxes(), boxes()
    other.up()
    before = other.state()
    box.write()
    for delay in (0.01, 0.03, 0.05):
        killed_after(box, delay, "create", "--bundle", str(box.bundle), box.id)
        box.delete("--force")
    assert other.state() == before
    assert other.exec("echo", "alive").out == "alive\n"
