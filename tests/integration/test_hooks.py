"""Hooks (runtime.md, config.md): H01-H06, L09, L17-L20.

Every hook of these tests is `sh -c` with a script; host hooks write into a directory of the host,
those of the container into its /log, which is that same directory.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.integration.harness import Box, pyoci_only, wait_for

HOST = ("prestart", "createRuntime", "poststart", "poststop")
INSIDE = ("createContainer", "startContainer")
ORDER = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
NAMESPACES = ("mnt", "pid", "net", "uts")


class Log:
    """A box whose hooks note what they see in files of one directory."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.directory = box.bundle / "log"
        self.directory.mkdir()
        self.directory.chmod(0o777)
        box.bind("/log", self.directory)

    def path(self, kind: str) -> str:
        """The directory as that kind of hook sees it: only startContainer is after pivot_root."""
        return "/log" if kind == "startContainer" else str(self.directory)

    def hook(self, kind: str, script: str, **fields: Any) -> None:
        self.box.hook(kind, "/bin/sh", "sh", "-c", f"cd {self.path(kind)}; {script}", **fields)

    def note(self, *kinds: str) -> None:
        """Each kind appends its name to "order"."""
        for kind in kinds:
            self.hook(kind, f"echo {kind} >> order")

    def order(self) -> list[str]:
        return self.read("order").split()

    def read(self, name: str) -> str:
        file = self.directory / name
        return file.read_text() if file.exists() else ""


@pytest.fixture
def log(box: Box) -> Log:
    return Log(box)


# -- order and place ------------------------------------------------------------------------


def test_order_over_a_life(log: Log) -> None:
    """H01: each kind at its point, the lists in order, around the program."""
    box = log.box
    kinds = [kind for kind in ORDER if kind != "poststart"]
    for kind in kinds:
        log.hook(kind, f"echo {kind}-1 >> order")
        log.hook(kind, f"echo {kind}-2 >> order")
    box.script("echo program >> /log/order")
    pairs = [f"{kind}-{number}" for kind in kinds for number in (1, 2)]
    box.create()
    assert log.order() == pairs[:6]
    box.finish()
    assert log.order() == [*pairs[:8], "program"]
    box.delete()
    assert log.order() == [*pairs[:8], "program", *pairs[8:]]


@pyoci_only("1.1 runs them in create")
def test_poststart_is_after_the_program_started(log: Log) -> None:
    """H01 L09: after the program was started, before start returns."""
    box = log.box
    log.note("createRuntime", "poststart")
    box.script("echo program >> /log/order")
    box.create()
    assert log.order() == ["createRuntime"]
    box.finish()
    assert sorted(log.order()[1:]) == ["poststart", "program"]


def test_run_has_all_hooks(log: Log) -> None:
    """H01"""
    log.note(*ORDER)
    log.box.run()
    assert sorted(log.order()) == sorted(ORDER)
    assert log.order()[-1] == "poststop"


def test_poststart_is_over_when_start_returns(log: Log) -> None:
    """L09"""
    log.hook("poststart", "sleep 0.2; echo done > poststart")
    log.box.up()
    assert log.read("poststart") == "done\n"


@pytest.mark.parametrize("kind", ORDER)
def test_namespaces_of_a_hook(log: Log, kind: str) -> None:
    """H01: prestart, createRuntime, poststart and poststop in the runtime's, the others in the container's."""
    links = " ".join(f"/proc/self/ns/{name}" for name in NAMESPACES)
    log.hook(kind, f"for n in {links}; do readlink $n; done > seen")
    log.box.script("for n in " + links + "; do readlink $n; done")
    inside = log.box.run().out.split()
    host = [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    assert log.read("seen").split() == (inside if kind in INSIDE else host)


def test_create_container_is_before_pivot(log: Log) -> None:
    """H01: it sees the mounts of the container from the root of the host: path is the host's."""
    log.hook("createContainer", "test -e /bin/busybox && test ! -e /bin/probe && cat /proc/self/mountinfo > mounts")
    log.box.mount("/mine", "tmpfs", "tmpfs")
    log.box.run()
    assert f" {log.box.rootfs}/mine " in log.read("mounts")


def test_start_container_is_after_pivot(log: Log) -> None:
    """H01: path and everything else is the container's."""
    log.hook("startContainer", "test -e /bin/probe && cp /proc/self/mountinfo mounts")
    log.box.run()
    assert " / / " in log.read("mounts") or log.read("mounts").splitlines()[0].split()[4] == "/"


def test_host_hooks_of_create_see_the_finished_namespaces(log: Log) -> None:
    """ENGINE-CONTRACT 2.4: docker's prestart hook finds the network of the pid it is given."""
    log.hook("prestart", "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net > net")
    log.box.up()
    assert log.read("net").strip() == os.readlink(f"/proc/{log.box.pid}/ns/net")


# -- what a hook gets -----------------------------------------------------------------------

STATUS = {
    "prestart": ("creating", "created"),
    "createRuntime": ("creating", "created"),
    "createContainer": ("creating", "created"),
    "startContainer": ("created",),
    "poststart": ("running",),
    "poststop": ("stopped",),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pyoci_only("1.1 runs it in create") if kind == "poststart" else ()) for kind in ORDER],
)
def test_state_on_stdin(log: Log, kind: str) -> None:
    """H02 L17: one JSON object; pid as the hook's namespace sees it."""
    box = log.box
    log.hook(kind, "cat > state")
    box.config["annotations"] = {"a": "b"}
    box.up()
    pid = box.pid
    box.delete("--force")
    state = json.loads(log.read("state"))
    assert state["id"] == box.id
    assert state["ociVersion"].startswith("1.")
    assert state["bundle"] == str(box.bundle)
    assert state["annotations"] == {"a": "b"}
    assert state["status"] in STATUS[kind]
    if kind in INSIDE:
        assert state["pid"] == 1
    elif kind == "poststop":
        assert state.get("pid", 0) == 0
    else:
        assert state["pid"] == pid


@pytest.mark.parametrize(("kind", "name"), [("createRuntime", "my name"), ("startContainer", "sh")])
def test_argv_and_environment(log: Log, kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """H05: args is the whole argv, argv[0] free; env is exact."""
    monkeypatch.setenv("LEAK", "1")
    box = log.box
    box.process["env"].append("FROM_THE_CONTAINER=1")
    script = f"cat /proc/$$/environ > {log.path(kind)}/environ; cat /proc/$$/cmdline > {log.path(kind)}/argv; :"
    argv = [name, "-c", script, "", "b c"]
    box.hook(kind, "/bin/sh", *argv, env=["A=1", "PATH=/bin:/usr/bin"])
    box.run()
    assert sorted(log.read("environ").split("\0")[:-1]) == ["A=1", "PATH=/bin:/usr/bin"]
    assert log.read("argv").split("\0")[:-1] == argv


@pyoci_only("gives a hook without env the runtime's environment")
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_no_env_is_empty(log: Log, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """H05 SECURITY 16: nothing of the container's environment reaches a hook."""
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")
    log.box.process["env"].append("LD_PRELOAD=/evil.so")
    log.hook(kind, "cat /proc/$$/environ > environ; :")
    log.box.run()
    assert "LD_PRELOAD" not in log.read("environ")


@pytest.mark.parametrize("kind", ORDER)
def test_hook_has_no_foreign_descriptors(log: Log, kind: str) -> None:
    """SECURITY 9: stdio only."""
    log.hook(kind, "ls /proc/$$/fd > fds; :")
    log.box.run()
    assert {int(fd) for fd in log.read("fds").split()} <= {0, 1, 2, 10, 255}


def test_hook_runs_as_root_of_the_host(log: Log) -> None:
    """Whoever the container's user is."""
    log.box.process["user"] = {"uid": 1000, "gid": 1000}
    log.hook("createRuntime", "id -u > uid")
    log.box.run()
    assert log.read("uid") == "0\n"


# -- what may go wrong ----------------------------------------------------------------------


def poststop_noted(log: Log) -> bool:
    return log.order()[-1:] == ["poststop"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_in_create(log: Log, kind: str) -> None:
    """L18 H06: error, stop, destroy, poststop; the error says which hook, how it ended, what it said."""
    box = log.box
    log.note("poststop")
    log.hook(kind, "echo the reason >&2; exit 7")
    log.hook(kind, "echo never >> order")
    box.script("echo program >> /log/order")
    result = box.create(check=False)
    assert result.code == 1
    assert "hook" in result.error
    assert "7" in result.error
    assert "the reason" in result.error
    assert box.entries() == set()
    assert "never" not in log.order()
    assert "program" not in log.order()


@pyoci_only("1.1 runs no poststop hooks then")
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_in_create_runs_poststop(log: Log, kind: str) -> None:
    """L18"""
    log.note("poststop")
    log.hook(kind, "exit 7")
    assert log.box.create(check=False).code == 1
    assert poststop_noted(log)


@pyoci_only("1.1: start succeeds, the container prints the error")
def test_failure_of_start_container(log: Log) -> None:
    """L18: start fails, the program never runs, the container is gone, poststop ran."""
    box = log.box
    log.note("poststop")
    log.hook("startContainer", "echo the reason >&2; exit 7")
    box.script("echo program >> /log/order")
    box.create()
    pid = box.pid
    result = box.start(check=False)
    assert result.code == 1
    assert "hook" in result.error
    assert "7" in result.error
    wait_for(pid)
    assert box.entries() == set()
    assert log.order() == ["poststop"]


@pyoci_only("1.1 leaves the container running when poststart fails")
def test_failure_of_poststart(log: Log) -> None:
    """L19: error, stop, destroy, poststop."""
    box = log.box
    log.note("poststop")
    log.hook("poststart", "exit 7")
    box.args("sleep", "100")
    box.create()
    pid = box.pid
    result = box.start(check=False)
    assert result.code == 1
    assert "hook" in result.error
    assert wait_for(pid) == -9
    assert box.entries() == set()
    assert poststop_noted(log)


@pyoci_only("1.1 skips the hooks after it")
def test_failure_of_poststop(log: Log) -> None:
    """L20: a warning; the remaining hooks and delete go on."""
    box = log.box
    log.hook("poststop", "exit 7")
    log.note("poststop")
    box.create()
    box.finish()
    result = box.delete()
    assert "hook" in result.err
    assert box.entries() == set()
    assert log.order() == ["poststop"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_hook_that_is_not_there(log: Log, kind: str) -> None:
    """L18 L06"""
    log.box.hook(kind, "/no/such/hook")
    result = log.box.create(check=False)
    assert result.code == 1
    assert "/no/such/hook" in result.error
    assert "no such file or directory" in result.error
    assert log.box.entries() == set()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_timeout(log: Log, kind: str) -> None:
    """H04: the hook is killed after its seconds, and counts as failed."""
    log.hook(kind, "exec sleep 100", timeout=1)
    result = log.box.create(check=False)
    assert result.code == 1
    assert log.box.entries() == set()
    assert result.error


@pyoci_only("1.1 kills the hook but not its children")
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_timeout_kills_the_children_too(log: Log, kind: str) -> None:
    """H04 SECURITY 16: the whole group; the leftovers check finds what would stay."""
    log.hook(kind, "sleep 100 & sleep 100", timeout=1)
    result = log.box.create(check=False)
    assert result.code == 1
    assert "time" in result.error


@pyoci_only("1.1 takes them")
@pytest.mark.parametrize("hook", [{"path": "bin/true"}, {"path": "/bin/true", "timeout": 0}, {"args": ["x"]}])
def test_bad_hook(box: Box, hook: dict[str, Any]) -> None:
    """H03 H04: a relative path, a timeout of 0, no path."""
    box.config["hooks"] = {"poststop": [hook]}
    assert box.create(check=False).code == 1
    assert box.entries() == set()


def test_hook_that_reads_nothing(log: Log) -> None:
    """H02: a state that nobody reads is no error."""
    log.box.config["annotations"] = {"big": "x" * 200000}
    for kind in ORDER:
        log.box.hook(kind, "/bin/true", "true")
    log.box.run()


def test_output_of_a_good_hook_does_not_disturb(log: Log) -> None:
    """ENGINE-CONTRACT 2.2: nothing of it on the stdout of create."""
    log.hook("createRuntime", "seq 1 100000")
    log.box.args("sleep", "100")
    assert log.box.create().out == ""
