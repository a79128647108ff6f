"""Every system call that the making of a container, or of one more process in it, takes fails once, with EPERM, ENOMEM
and ENOSPC: one error in words and nothing left, before anybody has deleted anything, or a process that is what it would
have been (SECURITY 22).  tests/integration/test_faults.py chooses some by hand, with EIO."""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.integration.harness import TIMEOUT, Box, cgroups, pyoci_only, until
from tests.security.conftest import LONG, left

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
# what makes the process the container's: there is no other way, so a failure is an error
IDENTITY = {"capset", "keyctl", "prctl", "seccomp", "setgroups", "setresgid", "setresuid", "setsid"}
MOST, EVERY = 12, 24  # in `make test` each so manieth of the points, and of one call no more than the first ones
KINDS = ("run", "run in a user namespace", "exec")


def rich(box: Box, kind: str) -> list[str]:
    """A config that makes nsexec do everything it can here; the words of the verb, whose program tells what it is."""
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
    if "user" in kind:
        box.userns()
        for directory in (box.rootfs, box.rootfs / "var"):
            os.chown(directory, 100000, 100000)
    if kind == "exec":
        box.up()
        return ["exec", box.id, "probe", "self"]
    box.args("probe", "self")
    box.write()
    return ["run", "--bundle", str(box.bundle), box.id]


class Done(NamedTuple):
    """A run under strace.  trace: what it wrote, a line for each call, the process in front."""

    code: int
    out: str
    err: str
    trace: list[str]


def traced(box: Box, words: list[str], *options: str) -> Done:
    file = box.bundle / "trace"
    command = ["strace", "-f", "-qqq", "-o", str(file), *options, *box.argv(*words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
    return Done(done.returncode, done.stdout, done.stderr, file.read_text(errors="replace").splitlines())


def points(trace: list[str]) -> Iterator[tuple[str, int, int]]:
    """(call, ordinal, ordinal of the last): as often as one of nsexec's processes makes it."""
    nsexec: set[str] = set()
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in trace:
        pid, _, rest = line.partition(" ")
        if '["nsexec", "plan"' in rest:
            nsexec.add(pid)
        match = re.match(r"\s*(\w+)\(", rest)
        if match:
            counts[match[1]][pid] += 1
        forked = re.search(r"clone3?(?:\(| resumed>).*\)\s+= (\d+)", rest)
        if forked and pid in nsexec:
            nsexec.add(forked[1])
    for call, of in sorted(counts.items()):
        most = max((of[pid] for pid in nsexec), default=0)
        if call not in IGNORED:
            # close(2) gives the descriptor back whatever it says, strace's does not
            whole = call in IDENTITY or (LONG and call != "close")
            yield from ((call, when, most) for when in range(1, (most if whole else min(most, MOST)) + 1))


def chosen(found: list[tuple[str, int, int]]) -> list[tuple[str, int, str]]:
    """(call, ordinal, error).  In `make test` the first and last of what makes the identity, and some others."""
    if LONG:
        return [(call, when, error) for call, when, _ in found for error in ERRORS]
    identity = [(call, when, "EPERM") for call, when, most in found if call in IDENTITY and when in (1, most)]
    others = [(call, when) for call, when, _ in found if call not in IDENTITY][::EVERY]
    return identity + [(call, when, ERRORS[index % 3]) for index, (call, when) in enumerate(others)]


def given(out: str) -> dict[str, list[str]]:
    """What `probe self` says, without what is another each time."""
    parts: dict[str, list[str]] = {}
    for line in out.splitlines():
        if line.startswith("-- "):
            lines = parts.setdefault(line, [])
        else:
            lines.append(line)
    named = "Umask Uid Gid Groups SigBlk SigIgn CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp".split()
    parts["-- status"] = [line for line in parts["-- status"] if line.split(":")[0] in named]
    parts["-- mountinfo"] = [re.sub(r"^\S+ \S+ \S+ ", "", line) for line in parts["-- mountinfo"]]
    parts["-- keyring"] = [line.partition(" ")[2] for line in parts["-- keyring"]]
    parts["-- fds"] = [line.split()[0] for line in parts["-- fds"]]
    return parts


@pytest.mark.parametrize("kind", KINDS)
def test_each_call_fails_once(box: Box, kind: str) -> None:
    """As it should be, or one error; never a traceback, a hang or a remainder."""
    words = rich(box, kind)
    before = left(box)
    clean = traced(box, words)
    found = list(points(clean.trace))
    assert clean.code == 0, (clean.err, clean.out, clean.trace[-400:])
    assert len(found) > 60
    assert left(box) == before
    for call, when, error in chosen(found):
        inject = f"inject={call}:error={error}:when={when}"
        done = traced(box, words, "-e", f"trace={call},execve", "-e", inject)
        check(box, call, done, clean, before, f"{kind}: {call} {when} {error}: {done.err}")
        if kind != "exec":
            box.delete("--force")
        assert left(box) == before


INTERPRETER = ("error while loading shared libraries", "Fatal Python error", "failed to map", "init_import_site",
               "Failed checking if argv[0]", "python3: can't open file", "Can't reopen .pyc",
               "Bad magic number in .pyc")  # fmt: skip


# the runtime's own clean-up failed as well: what it says then
CLEANING = re.compile('while cleaning up|cannot be removed|"remove ')


def struck(trace: list[str]) -> tuple[list[str], list[str]]:
    """The calls that failed: of those who make the process, and of its program."""
    programs: set[str] = set()
    makers: list[str] = []
    program: list[str] = []
    for line in trace:
        pid = line.split()[0]
        if 'execve("/bin/probe"' in line:
            programs.add(pid)
        if "(INJECTED)" in line:
            (program if pid in programs else makers).append(line)
    return makers, program


def check(box: Box, call: str, done: Done, clean: Done, before: list[str], what: str) -> None:
    """One run, with nothing deleted yet."""
    if not CLEANING.search(done.err):
        until(lambda: left(box) == before, f"{what}: nothing left: {left(box)}")
    elif cgroups(box.id):
        assert box.entries(), f"{what}: nobody knows {cgroups(box.id)} any more"
    if any(text in done.err for text in INTERPRETER):
        return  # it failed before it was pyoci
    assert "Traceback" not in done.err, what
    assert "AssertionError" not in done.err, what
    makers, program = struck(done.trace)
    if call in IDENTITY and makers and not any("PR_CAPBSET_DROP" in line for line in makers):  # it may be gone already
        assert done.code, what
    if program or any(" write(2, " in line for line in makers):  # or the error itself could not be written
        return
    if done.code == 0:
        assert given(done.out) == given(clean.out), what
    else:
        assert len([line for line in done.err.splitlines() if "level=error" in line]) == 1, (what, done.code)
