"""SECURITY 19: the runtime is killed at a system call of each verb: `delete --force` cleans, others are intact.

strace kills it: at each call that changes something or waits, in the order in which the verb makes them.
(tests/integration/test_create_steps.py does the steps of create in process.)
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import TIMEOUT, Box, cgroups, children, pyoci_only, until
from tests.security.conftest import LONG

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
}


def reach(box: Box, state: str) -> None:
    if state:
        box.create()
    if state == "running":
        box.start()


def clean(box: Box) -> None:
    """Whatever was there."""
    children()
    box.delete("--force")
    until(lambda: not [name for name in children().values() if "pyoci" in name], "end of the runtime's processes")
    assert box.entries() <= {other for other in box.entries() if other != box.id}
    assert not cgroups(box.id)


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_a_system_call(boxes: Callable[[], Box], verb: str) -> None:
    """Every point of the verb (in `make test` a sample of them)."""
    other, box = boxes(), boxes()
    other.up()
    before = other.state()
    box.args("sleep", "100")
    box.hook("createRuntime", "/bin/true")
    box.write()
    state, template = VERBS[verb]
    words = [word.format(bundle=box.bundle, id=box.id) for word in template]
    reach(box, state)
    found = points(box, words)
    clean(box)
    killed = 0
    for call, when in chosen(found):
        reach(box, state)
        inject = f"inject={call}:signal=KILL:when={when}"
        killed += trace(box, "-e", inject, words=words, file=box.bundle / "trace") in (-9, 137)
        if state == "running" and verb not in ("kill", "kill --debug", "delete", "delete --debug"):
            assert box.status in ("running", "paused")
        if verb == "exec":  # what it had begun is our child now: init cannot end before we have reaped it
            inits = {box.pid, other.pid}
            until(lambda inits=inits: not set(children()) - inits, "end of what exec had begun", 20)
        clean(box)
        assert other.state() == before
    assert killed
    assert other.exec("echo", "alive").out == "alive\n"
