"""SECURITY 19: the runtime is killed at a system call of each verb: `delete --force` cleans, others are intact.

strace kills it: at each call that changes something or waits, in the order in which the verb makes them.
(tests/integration/test_create_steps.py does the steps of create in process.)
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import PROJECT, TIMEOUT, Box, cgroups, children, mounts, pyoci_only, until
from tests.security.conftest import LONG, rounds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pyoci_only("the state of others is not as they left it"),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
]

# what changes something outside the process, or lets somebody else go on
CALLS = """mkdir mkdirat rename renameat unlink unlinkat rmdir symlink mknod mknodat write sendmsg recvmsg
    pidfd_send_signal pidfd_open flock clone clone3 vfork wait4 waitid poll fsync fdatasync ftruncate memfd_create
    sendfile socketpair connect
    execve kill fchmod chmod bpf openat""".split()
SAMPLE = 7  # points of each verb in `make test`


# what only nsexec calls: on its way into the namespaces, to the root, and to the rights of the container
OF_NSEXEC = {
    "run": """unshare setsid open_tree move_mount mount_setattr pivot_root sethostname keyctl setgroups setresuid capset
        seccomp""".split(),
    "exec": "setns setsid keyctl setgroups capset seccomp".split(),
}


def trace(box: Box, *options: str, words: list[str], file: Path) -> int:
    """A verb under strace, this process only.  Returns its exit status (-9 when it was killed)."""
    command = ["strace", "-qqq", "-o", str(file), *options, *box.argv(*words)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT
    )
    return done.returncode


def points(box: Box, words: list[str]) -> list[tuple[str, int]]:
    """The moments of a verb: (system call, which of its calls), in order.

    Those before the interpreter has read its modules change nothing: of openat only what makes a file counts.
    """
    file = box.bundle / "trace"
    assert trace(box, "-e", f"trace={','.join(CALLS)}", words=words, file=file) == 0
    seen: dict[str, int] = {}
    found = []
    for line in file.read_text().splitlines():
        match = re.match(r"(\w+)\(", line)
        if not match:
            continue
        call = match[1]
        seen[call] = seen.get(call, 0) + 1
        if call != "openat" or "O_CREAT" in line:
            found.append((call, seen[call]))
    assert len(found) > 1
    return found


def chosen(found: list[tuple[str, int]]) -> list[tuple[str, int]]:
    if LONG or len(found) <= SAMPLE:
        return found
    return [found[index * len(found) // SAMPLE] for index in range(SAMPLE)]


VERBS: dict[str, tuple[str, list[str]]] = {
    # verb: the state it starts from, and its words
    "create": ("", ["create", "--bundle", "{bundle}", "{id}"]),
    "run": ("", ["run", "--detach", "--bundle", "{bundle}", "{id}"]),
    "start": ("created", ["start", "{id}"]),
    "start --debug": ("created", ["--debug", "start", "{id}"]),
    "exec": ("running", ["exec", "{id}", "true"]),
    "kill": ("running", ["kill", "{id}", "KILL"]),
    "kill --debug": ("running", ["--debug", "kill", "{id}", "KILL"]),
    "delete": ("running", ["delete", "--force", "{id}"]),
    "delete --debug": ("running", ["--debug", "delete", "--force", "{id}"]),
    "pause": ("running", ["pause", "{id}"]),
    "resume": ("paused", ["resume", "{id}"]),
    "update": ("running", ["update", "--memory", "64m", "--pids-limit", "50", "{id}"]),
    "mounts add": ("running", ["mounts", "add", "{id}", "{bundle}/mounts.json"]),
    "mounts remove": ("mounted", ["mounts", "remove", "{id}", "{bundle}/mounts.json"]),
}
CRIU = ["--criu", str(PROJECT / "tests/integration/fake_criu.py")]
VERBS |= {
    "checkpoint": ("running", [*CRIU, "checkpoint", "--image-path", "{bundle}/images", "{id}"]),
    "restore": (
        "written down",
        [*CRIU, "restore", "--bundle", "{bundle}", "--image-path", "{bundle}/images", "--detach", "{id}"],
    ),
}
ENDS_IT = ("kill", "kill --debug", "delete", "delete --debug", "checkpoint")
ENTERS_IT = ("exec", "mounts add", "mounts remove")


def reach(box: Box, state: str) -> None:
    if state:
        box.create()
    if state == "written down":
        box.start()
        box.rt(*(word.format(bundle=box.bundle, id=box.id) for word in VERBS["checkpoint"][1]))
    if state in ("running", "paused", "mounted"):
        box.start()
    if state == "paused":
        box.rt("pause", box.id)
    if state == "mounted":
        box.rt("mounts", "add", box.id, str(box.bundle / "mounts.json"))


def clean(box: Box, others: set[int]) -> None:
    """Whatever was there, and nothing but the others' processes is."""
    children()
    box.delete("--force")
    until(lambda: set(children()) <= others, "end of every process of the runtime and of the container", 20)
    assert box.entries() <= {other for other in box.entries() if other != box.id}
    assert not cgroups(box.id)


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_a_system_call(boxes: Callable[[], Box], verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every point of the verb (in `make test` a sample of them)."""
    monkeypatch.setenv("FAKE_CRIU", os.devnull)
    other, box = boxes(), boxes()
    other.up()
    before = other.state()
    box.args("sleep", "100")
    box.hook("createRuntime", "/bin/true")
    box.write()
    mount = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}
    (box.bundle / "mounts.json").write_text(json.dumps([mount]))
    state, template = VERBS[verb]
    words = [word.format(bundle=box.bundle, id=box.id) for word in template]
    reach(box, state)
    found = points(box, words)
    clean(box, {other.pid})
    killed = 0
    for call, when in chosen(found):
        reach(box, state)
        inject = f"inject={call}:signal=KILL:when={when}"
        killed += trace(box, "-e", inject, words=words, file=box.bundle / "trace") in (-9, 137)
        if state in ("running", "paused", "mounted") and verb not in ENDS_IT:
            assert box.status in ("running", "paused")
        if verb in ENTERS_IT:  # what it had begun is our child now: init cannot end before we have reaped it
            inits = {box.pid, other.pid}
            until(lambda inits=inits: not set(children()) - inits, "end of what exec had begun", 20)
        clean(box, {other.pid})
        assert other.state() == before
    assert killed
    assert other.exec("echo", "alive").out == "alive\n"


@pytest.mark.parametrize("verb", OF_NSEXEC)
def test_nsexec_is_killed(box: Box, verb: str) -> None:
    """Who makes init, or init half made, is killed (out of memory): one error, and nothing to delete."""
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    box.write()
    words = ["run", "--bundle", str(box.bundle), box.id]
    if verb == "exec":
        box.up()
        words = ["exec", box.id, "true"]
    before, entries, processes, groups = mounts(), box.entries(), children(), cgroups(box.id)
    for call, when in itertools.product(OF_NSEXEC[verb], range(1, rounds(1, 12) + 1)):
        inject = f"inject={call}:signal=KILL:when={when}"
        command = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", inject, *box.argv(*words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode or when > 1, call  # not all of them are made so often
        # after the gate, or the last fork of exec, there is no telling whether it was the program already
        if done.returncode and call != "seccomp" and (verb, call) != ("exec", "setsid"):
            (line,) = done.stderr.splitlines()
            assert "killed by signal 9" in line, call
        until(lambda: children() == processes, f"end of all processes, {call}", 20)
        assert (mounts(), box.entries(), cgroups(box.id)) == (before, entries, groups), call
    if verb == "exec":
        assert box.status == "running"
