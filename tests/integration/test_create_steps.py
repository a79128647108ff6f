"""create that fails, or is killed, at each of its steps: nothing stays that was not there, or that `delete --force`
does not remove (L21, SECURITY 19)."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import container_create, container_shared, errors
from pyoci.container import Container
from pyoci.host import hooks, nsexec
from tests.integration.harness import PROJECT, Box, cgroups, until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.pyoci_only("the steps are those of pyoci's create")

STEPS = (
    "directory",
    "state",
    "descriptors",
    "spawn",
    "cgroup",
    "plan",
    "maps",
    "forked",
    "console",
    "hooks",
    "ready",
    "pid file",
    "publish",
    "verbs",
    "done",
)
OPTIONAL = {"attach"}  # only where nsexec does not enter the cgroups by itself


class Broken(Exception):
    """What a test puts into create."""


@pytest.fixture(scope="module", autouse=True)
def copy_of_nsexec() -> None:
    """A process makes it once and keeps it: no leak."""
    nsexec.binary()


def full(box: Box) -> dict[str, Any]:
    """A bundle in which every step has something to do; returns the arguments of create."""
    box.userns()
    for path in [box.rootfs, *box.rootfs.rglob("*")]:
        os.chown(path, 100000, 100000, follow_symlinks=False)
    box.process["terminal"] = True
    for kind in ("prestart", "createRuntime", "poststop"):
        box.hook(kind, "/bin/sh", "sh", "-c", f"echo {kind} >> {box.bundle}/hooks")
    box.write()
    return {"bundle": str(box.bundle), "root": str(box.root), "pid_file": str(box.bundle / "pid"), "console": os.close}


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Look at, or break, the steps of create."""

    def patch(hook: Callable[[str], None]) -> None:
        monkeypatch.setattr(container_create, "after_step", hook)

    return patch


def breaker(step: str, error: BaseException) -> Callable[[str], None]:
    def hook(name: str) -> None:
        if name == step:
            raise error

    return hook


def test_steps_are_all_there(box: Box, at: Callable[[Callable[[str], None]], None]) -> None:
    """The list above is what create does with such a bundle."""
    seen: list[str] = []
    at(seen.append)
    with Container.create(box.id, **full(box)) as container:
        assert container.status == "created"
    assert [step for step in seen if step not in OPTIONAL] == list(STEPS)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", [Broken, errors.SetupError, KeyboardInterrupt])
def test_failure_at_each_step(
    box: Box, at: Callable[[Callable[[str], None]], None], step: str, kind: type[BaseException]
) -> None:
    """L21: no state, cgroup, process, mount or descriptor stays (the host fixture looks), and the error is the one."""
    asked = full(box)
    at(breaker(step, kind("on purpose")))
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(kind, match="on purpose"):
        Container.create(box.id, **asked)
    assert box.entries() == set()
    assert not cgroups(box.id)
    assert not (box.bundle / "pid").exists()
    assert sorted(os.listdir("/proc/self/fd")) == before
    at(lambda name: None)
    with Container.create(box.id, **asked) as container:  # and the id can be used again
        assert container.status == "created"


@pytest.mark.parametrize("step", ["hooks", "ready"])
def test_failure_runs_poststop_hooks(box: Box, at: Callable[[Callable[[str], None]], None], step: str) -> None:
    """L18"""
    asked = full(box)
    at(breaker(step, Broken("on purpose")))
    with pytest.raises(Broken):
        Container.create(box.id, **asked)
    assert (box.bundle / "hooks").read_text().split() == ["prestart", "createRuntime", "poststop"]


UNDOING = [
    (nsexec.Runner, "abort"),
    (container_shared, "remove_pid_file"),
    (container_create, "remove"),
    (hooks, "run_all"),
]


@pytest.mark.parametrize(("owner", "name"), UNDOING, ids=[name for _, name in UNDOING])
def test_failure_of_a_step_of_the_undoing(
    box: Box, at: Callable[[Callable[[str], None]], None], monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """L21: what cannot be undone is noted on the error, which stays the one; all else is undone, and the hooks run."""
    asked = full(box)
    at(breaker("pid file", Broken("on purpose")))
    step = getattr(owner, name)

    def fail(*args: Any) -> None:
        step(*args)
        raise OSError(errno.EIO, "the undoing")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(Broken, match="on purpose") as caught:
            Container.create(box.id, **asked)
    assert caught.value.__notes__ == [f"while cleaning up: [Errno {errno.EIO}] the undoing"]
    assert box.entries() == set()
    assert not cgroups(box.id)
    assert not (box.bundle / "pid").exists()
    assert (box.bundle / "hooks").read_text().split() == ["prestart", "createRuntime", "poststop"]


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pyoci import container_create, container
def kill(name):
    if name == sys.argv[5]:
        os.kill(os.getpid(), 9)
container_create.after_step = kill
container.Container.create(sys.argv[4], bundle=sys.argv[3], root=sys.argv[2], console=os.close)
"""


@pytest.mark.parametrize("step", [step for step in STEPS if step != "pid file"])
def test_sigkill_at_each_step(box: Box, step: str) -> None:
    """SECURITY 19: after kill -9 of the runtime `delete --force` removes what there is."""
    full(box)
    argv = [sys.executable, "-I", "-S", "-c", KILLED, str(PROJECT), str(box.root), str(box.bundle), box.id, step]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert box.entries() == {box.id}
    expected = "created" if step == "done" else "stopped"
    until(lambda: box.status == expected, expected)  # init ends when it sees that the runtime has
    result = box.delete("--force")
    assert (result.out, result.err) == ("", "")
    assert box.entries() == set()
    assert not cgroups(box.id)


def test_delete_does_not_wait_for_a_hook_that_hangs(box: Box) -> None:
    """delete --force during create: init and the hook end, and create says why it failed."""
    box.hook("createRuntime", "/bin/sh", "sh", "-c", f"touch {box.bundle}/there; sleep 100")
    box.write()
    with box.popen(
        "create", "--bundle", str(box.bundle), box.id, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as it:
        until((box.bundle / "there").exists, "the hook")
        assert box.status == "creating"
        box.delete("--force", check=True)
        assert it.stderr
        assert "createRuntime hook 0: /bin/sh: ended with its container" in it.stderr.read()
        assert it.wait(5) == 1
    assert box.entries() == set()


def test_damaged_state(box: Box) -> None:
    """A state.json that is cut short: said in words by every verb, removed by `delete --force`, listed meanwhile."""
    box.create()
    pid = box.pid
    file = box.root / box.id / "state.json"
    (box.root / box.id / "verbs.plan").unlink(missing_ok=True)
    file.write_bytes(file.read_bytes()[:50])
    for verb in ("state", "start", "kill", "delete"):
        result = box.rt(verb, box.id, check=False)
        assert result.code == 1
        assert "damaged" in result.error
        assert "delete --force" in result.error
    assert box.rt("list", "-q").out == f"{box.id}\n"
    assert [(state["id"], state["status"]) for state in json.loads(box.rt("list", "-f", "json").out)] == [
        (box.id, "damaged")
    ]
    assert "damaged" in box.rt("list").out
    os.kill(pid, signal.SIGKILL)  # nobody knows it any more
    os.waitpid(pid, 0)
    box.delete("--force")
    assert box.entries() == set()
    for directory in cgroups(box.id):
        Path(directory).rmdir()


def test_reused_pid_is_not_signalled(box: Box) -> None:
    """SECURITY 19: a process with init's number and another start time is not init."""
    box.up()
    file = box.root / box.id / "state.json"
    (box.root / box.id / "verbs.plan").unlink(missing_ok=True)
    text = file.read_text()
    start = Path(f"/proc/{box.pid}/stat").read_text().rpartition(")")[2].split()[19]
    file.write_text(text.replace(start, str(int(start) - 1)))
    assert box.status == "stopped"
    assert "container not running" in box.kill("KILL", check=False).error
    file.write_text(text)
    assert box.status == "running"
