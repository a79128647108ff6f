"""podman of ordinary users with pyoci as its runtime: limits through the delegated slice, one id or many."""

from __future__ import annotations

import pwd
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import until
from tests.vm.inside.tools import MIB, as_user, cgroup_of, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.harness import Box, Template

LIMIT = 240  # seconds one command may take: podman is a large program, and the machine slow


class Podman:
    """A user's podman, with the image `box` in a storage that goes with the machine."""

    def __init__(self, user: str, archive: Path) -> None:
        self.user = user
        self.home = pwd.getpwnam(user).pw_dir
        if self("image", "exists", "box", check=False).returncode:
            self("import", str(archive), "box")

    def __call__(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # files of others become the user's where he has one id only
        options = ["--runtime=/pyoci/build/pyoci", "--storage-driver=vfs", "--storage-opt=vfs.ignore_chown_errors=true"]
        done = subprocess.run(
            [*as_user(self.user), f"HOME={self.home}", "podman", "--events-backend=file", *options, *args],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert not check or done.returncode == 0, f"{args}: {done.stderr}"
        return done

    def run(self, *args: str) -> list[str]:
        """What `run --rm` of a shell script prints; the last word is the script."""
        *options, script = args
        return self("run", "--rm", "--net=none", *options, "box", "sh", "-c", script).stdout.splitlines()


@pytest.fixture(scope="module")
def archive(workshop: Path, template: Template) -> Path:
    """The box's root file system, all of it root's."""
    made = workshop / "box.tar"
    template.copy_to(workshop / "box")
    subprocess.run(["tar", "-C", str(workshop / "box"), "--owner=0", "--group=0", "-cf", str(made), "."], check=True)
    made.chmod(0o644)
    return made


@pytest.fixture
def podman(limit: None, archive: Path, box: Box) -> Iterator[Callable[[str], Podman]]:
    """A maker of podmans; every container is removed afterwards."""
    import signal

    signal.alarm(4 * LIMIT)
    made: list[Podman] = []

    def make(user: str) -> Podman:
        made.append(Podman(user, archive))
        return made[-1]

    yield make
    for one in made:
        one("rm", "--all", "--force", "--time=0")
        one("system", "migrate")  # ends the process that keeps the user namespace


def test_limits_of_the_delegated_slice(podman: Callable[[str], Podman]) -> None:
    """By the user's systemd: podman's default where there is a session."""
    limits = ("--memory=64m", "--memory-swap=64m", "--pids-limit=50", "--cpus=0.5", "--cpu-shares=2048")
    files = " ".join(f"/sys/fs/cgroup/{name}" for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max"))
    lines = podman("tester").run(*limits, f"cat /proc/self/cgroup {files}; id -u")
    assert lines == ["0::/", str(64 * MIB), "0", "50", "50000 100000", "0"]


def test_a_users_ids(podman: Callable[[str], Podman]) -> None:
    """keep-id: his own number inside; the subordinate ranges make the others."""
    mine = podman("tester")
    assert mine.run("--userns=keep-id", "id -u; touch /tmp/x && stat -c %u /tmp/x") == ["1000", "1000"]
    assert mine.run("--user=7:8", "id -u; id -g; grep -c . /proc/self/uid_map") == ["7", "8", "2"]


def test_life(podman: Callable[[str], Podman]) -> None:
    """run -d, exec, update, pause, stop; its scope is one of the user's systemd, and goes with it."""
    mine = podman("tester")
    script = "trap 'echo bye; exit 5' TERM; echo begun; while :; do sleep 0.2; done"
    mine("run", "-d", "--net=none", "--name=one", "--memory=64m", "box", "sh", "-c", script)
    pid = mine("inspect", "--format={{.State.Pid}}", "one").stdout.strip()
    directory = cgroup_of(pid)
    assert "/user@1000.service/user.slice/libpod-" in str(directory)
    assert read(directory, "memory.max") == str(64 * MIB)
    done = mine("exec", "one", "sh", "-c", "cat /proc/self/cgroup; exit 9", check=False)
    assert (done.returncode, done.stdout) == (9, "0::/\n")
    mine("pause", "one")
    assert "frozen 1" in read(directory, "cgroup.events")
    mine("unpause", "one")
    until(lambda: "begun" in mine("logs", "one").stdout, "its first words", LIMIT)
    mine("stop", "--time=100", "one")
    assert mine("inspect", "--format={{.State.ExitCode}}", "one").stdout == "5\n"
    assert mine("logs", "one").stdout == "begun\nbye\n"
    until(lambda: not directory.exists(), "the end of its scope", LIMIT)


def test_user_without_ranges(podman: Callable[[str], Podman]) -> None:
    """One id, his own; of the controllers what Debian delegates."""
    mine = podman("plain")
    lines = mine.run("--memory=32m", "id -u; cat /proc/self/uid_map /sys/fs/cgroup/memory.max")
    assert [line.split() for line in lines] == [["0"], ["0", "1001", "1"], [str(32 * MIB)]]


def test_exit_codes(podman: Callable[[str], Podman]) -> None:
    """125 is podman's own, 126 and 127 are taken from the runtime's words."""
    mine = podman("tester")
    codes = [mine("run", "--rm", "--net=none", "box", *words, check=False).returncode for words in (["/etc"], ["/no"])]
    assert codes == [126, 127]
