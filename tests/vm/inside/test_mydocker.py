"""mydocker of ordinary users who have a systemd session: limits by its controllers, the network by slirp4netns."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Result, until, wait_for
from tests.vm.inside.tools import CGROUPS, MIB, as_user, cgroup_of, fetched, read, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 240  # seconds one command may take
ROOMY = ("--memory=64m", "--memory-swap=64m", "--pids-limit=50", "--cpus=0.5", "--cpuset-cpus=1")


class Docker:
    """A user's mydocker, in his home."""

    def __init__(self, user: str) -> None:
        self.entry = pwd.getpwnam(user)
        self.manager = CGROUPS / f"user.slice/user-{self.entry.pw_uid}.slice/user@{self.entry.pw_uid}.service"

    def __call__(self, *args: str, environment: tuple[str, ...] = ()) -> Result:
        words = [*as_user(self.entry.pw_name), f"HOME={self.entry.pw_dir}", *environment, "/pyoci/build/mydocker"]
        done = subprocess.run(
            [*words, *args], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def good(self, *args: str) -> str:
        done = self(*args)
        assert done.code == 0, f"{args}: {done.err}"
        return done.out

    def up(self, *options: str) -> Result:
        """A container `one` that sleeps."""
        done = self("run", "-d", "--name=one", "--network=none", *options, "busybox", "sleep", "1000")
        assert done.code == 0, done.err
        return done

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.good("inspect", "one"))[0]
        return found

    def cgroup(self) -> Any:
        return cgroup_of(self.inspect()["State"]["Pid"])


@pytest.fixture
def docker(limit: None) -> Iterator[Callable[[str], Docker]]:
    """A maker of mydockers; every container is removed afterwards."""
    signal.alarm(4 * LIMIT)
    made: list[Docker] = []

    def make(user: str) -> Docker:
        made.append(Docker(user))
        return made[-1]

    yield make
    for one in made:
        ids = one.good("ps", "-aq").split()
        if ids:
            one.good("rm", "-f", *ids)
    for record in Path("/").glob(
        "*/*/*/mydocker/rootless.json"
    ):  # what holds a user's namespaces outlives its containers
        pid = json.loads(record.read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(pid)
        record.unlink()


def test_limits_of_the_users_systemd(docker: Callable[[str], Docker]) -> None:
    """All of them, in a scope that goes with the container."""
    mine = docker("tester")
    assert mine.up(*ROOMY).err == ""
    directory = mine.cgroup()
    id = mine.inspect()["Id"]
    assert directory == mine.manager / "user.slice" / f"mydocker-{id}.scope"
    files = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpuset.cpus")
    assert [read(directory, name) for name in files] == [str(64 * MIB), "0", "50", "50000 100000", "1"]
    assert shown(directory.name, "TasksMax", user="tester") == {"TasksMax": "50"}
    mine.good("pause", "one")
    assert "frozen 1" in read(directory, "cgroup.events")
    mine.good("unpause", "one")
    mine.good("update", "--memory=32m", "--memory-swap=32m", "--pids-limit=9", "one")
    assert [read(directory, name) for name in files[:3]] == [str(32 * MIB), "0", "9"]
    # wherever exec puts it in there, the limits hold for it
    assert mine.good("exec", "one", "cat", "/proc/self/cgroup").strip() in ("0::/", f"0::{str(directory)[14:]}")
    mine.good("rm", "-f", "one")
    until(lambda: not directory.exists(), "the end of its scope", LIMIT)


def test_limits_after_a_restart(docker: Callable[[str], Docker]) -> None:
    """Each start makes the scope anew."""
    mine = docker("tester")
    mine.up("--memory=64m")
    first = mine.cgroup()
    mine.good("stop", "-t", "0", "one")
    until(lambda: not first.exists(), "the end of its scope", LIMIT)
    mine.good("start", "one")
    assert mine.cgroup() == first
    assert read(first, "memory.max") == str(64 * MIB)


def test_out_of_memory(docker: Callable[[str], Docker]) -> None:
    """Killed by the kernel in the limit that the user's systemd has set, and `inspect` says so."""
    mine = docker("tester")
    script = "x=x; while :; do x=$x$x; done"
    limits = ("--memory=16m", "--memory-swap=16m")

    def seen() -> bool:  # by conmon: a slow machine may have removed the cgroup before it looks, see docs/MYDOCKER.md
        mine("rm", "--force", "one")
        done = mine("run", "--name=one", "--network=none", *limits, "busybox", "sh", "-c", script)
        assert done.code == 137, done.err
        return bool(mine.inspect()["State"]["OOMKilled"])

    assert any(seen() for _ in range(4))


def test_what_is_not_delegated(docker: Callable[[str], Docker]) -> None:
    """plain has what Debian hands out, and no cpuset: the rest is applied, and what is missing said in one line."""
    theirs = docker("plain")
    done = theirs.up(*ROOMY)
    (line,) = [line for line in done.err.splitlines() if "not applied" in line]
    assert "cpuset" in line
    assert "Delegate=yes" in line
    assert read(theirs.cgroup(), "memory.max") == str(64 * MIB)
    assert read(theirs.cgroup(), "pids.max") == "50"


def test_without_a_session(docker: Callable[[str], Docker]) -> None:
    """The container runs, and what its limits would have taken is said."""
    mine = docker("tester")
    elsewhere = ("XDG_RUNTIME_DIR=/home/tester/run", "DBUS_SESSION_BUS_ADDRESS=")
    done = mine("run", "--rm", "--network=none", "-m", "64m", "busybox", "echo", "ran", environment=elsewhere)
    assert (done.code, done.out) == (0, "ran\n"), done.err
    assert "loginctl enable-linger" in done.err


def test_published_port(docker: Callable[[str], Docker]) -> None:
    """The network by slirp4netns, the port on the host's loopback, and the limits with it."""
    mine = docker("tester")
    script = "mkdir -p /www; echo rootless > /www/index.html; exec httpd -f -p 80 -h /www"
    mine.good("run", "-d", "--name=one", "-m", "64m", "-p", "127.0.0.1:8090:80", "busybox", "sh", "-c", script)
    assert read(mine.cgroup(), "memory.max") == str(64 * MIB)
    until(lambda: fetched("http://127.0.0.1:8090/") == "rootless\n", "an answer", LIMIT)
    assert "10.0.2.100" in mine.good("exec", "one", "ip", "-4", "addr", "show", "dev", "tap0")
