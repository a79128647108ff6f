"""Every system call that the making of a container takes fails once, with EPERM, ENOMEM and ENOSPC: one error in
words, nothing left, no hang (SECURITY 22).  tests/integration/test_faults.py chooses some by hand, with EIO."""

from __future__ import annotations

import collections
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import TIMEOUT, Box, fd_numbers, pyoci_only
from tests.security.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pyoci_only("Go's own threads fail with it"),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
]

ERRORS = ("EPERM", "ENOMEM", "ENOSPC")
# what cannot fail, or what a failing of which is the end of any program
IGNORED = {"exit", "exit_group", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "set_tid_address", "rseq", "execve",
           "set_robust_list",
           "getpid", "geteuid", "getuid", "gettid", "rt_sigreturn", "restart_syscall", "futex"}  # fmt: skip
EVERY = 15  # in `make test` each so manieth of the points


def rich(box: Box) -> None:
    """A config that makes nsexec do everything it can here."""
    volume = box.bundle / "volume"
    volume.mkdir()
    box.bind("/v", volume, "ro")
    box.mount("/t", "tmpfs", "tmpfs", "tmpcopyup")
    box.namespace("cgroup")
    box.linux["sysctl"] = {"kernel.shmmax": "12345"}
    box.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
    }
    box.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
    box.process["cwd"] = "/var/made"
    box.process["oomScoreAdj"] = 10
    box.hook("createContainer", "/bin/true")
    box.args("probe", "fds")
    box.write()


def command(box: Box, *options: str) -> list[str]:
    return ["strace", "-f", "-qqq", *options, *box.argv("run", "--bundle", str(box.bundle), box.id)]


def points(box: Box) -> Iterator[tuple[str, int]]:
    """(call, ordinal): as often as one of nsexec's processes makes it."""
    file = box.bundle / "trace"
    subprocess.run(
        command(box, "-o", str(file)), stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True
    )
    nsexec: set[str] = set()
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in file.read_text().splitlines():
        pid, _, rest = line.partition(" ")
        if '["nsexec", "plan"' in rest:
            nsexec.add(pid)
        match = re.match(r"\s*(\w+)\(", rest)
        if match:
            counts[match[1]][pid] += 1
        forked = re.search(r"clone3?\(.*\) = (\d+)", rest)
        if forked and pid in nsexec:
            nsexec.add(forked[1])
    for call, of in sorted(counts.items()):
        most = max((of[pid] for pid in nsexec), default=0)
        if call not in IGNORED:
            yield from ((call, when) for when in range(1, min(most, 12) + 1))


def test_each_call_fails_once(box: Box) -> None:
    """As it should be, or one error; never a traceback, a hang or a remainder."""
    rich(box)
    found = list(points(box))
    assert len(found) > 60
    box.delete("--force")
    if not LONG:
        found = found[::EVERY]
    for index, (call, when) in enumerate(found):
        for error in ERRORS if LONG else [ERRORS[index % 3]]:
            inject = f"inject={call}:error={error}:when={when}"
            done = subprocess.run(
                command(box, "-o", "/dev/null", "-e", inject), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=TIMEOUT,
            )  # fmt: skip
            check(box, done, f"{call} {when} {error}")


INTERPRETER = ("error while loading shared libraries", "Fatal Python error", "failed to map", "init_import_site")


def check(box: Box, done: subprocess.CompletedProcess[str], what: str) -> None:
    if any(text in done.stderr for text in INTERPRETER):
        assert box.entries() == set(), what  # it failed before it was pyoci
        return
    assert "Traceback" not in done.stderr, (what, done.stderr)
    if done.returncode == 0:
        assert set(fd_numbers(done.stdout)) <= {0, 1, 2}, what  # the call may have been one of the probe's
    else:
        lines = [line for line in done.stderr.splitlines() if "level=error" in line]
        assert len(lines) == 1 or "probe" in done.stderr or done.stderr == "", (what, done.returncode, done.stderr)
    box.delete("--force")
    assert box.entries() == set(), what
