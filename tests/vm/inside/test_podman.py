"""podman of ordinary users with pyoci as its runtime: limits through the delegated slice, one id or many.

What comes out is compared with crun where the choice is the runtime's.
"""

from __future__ import annotations

import pwd
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import until
from tests.vm.inside.tools import MIB, as_user, cgroup_of, fetched, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.harness import Box, Template

RUNTIMES = ("/pyoci/build/pyoci", "/usr/bin/crun")
CONF = "/pyoci/share/containers.conf.d/pyoci.conf"
LIMIT = 240  # seconds one command may take: podman is a large program, and the machine slow


class Podman:
    """A user's podman, with the image `box` in a storage that goes with the machine."""

    def __init__(self, user: str, archive: Path, runtime: str = RUNTIMES[0]) -> None:
        self.user = user
        self.runtime = runtime
        self.environment: list[str] = []
        self.home = pwd.getpwnam(user).pw_dir
        if self("image", "exists", "box", check=False).returncode:
            self("import", str(archive), "box")

    def __call__(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # files of others become the user's where he has one id only
        options = [f"--runtime={self.runtime}", "--storage-driver=vfs", "--storage-opt=vfs.ignore_chown_errors=true"]
        done = subprocess.run(
            [
                *as_user(self.user),
                f"HOME={self.home}",
                *self.environment,
                "podman",
                "--events-backend=file",
                *options,
                *args,
            ],
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
def podman(limit: None, archive: Path, box: Box) -> Iterator[Callable[..., Podman]]:
    """A maker of podmans; every container is removed afterwards."""
    import signal

    signal.alarm(4 * LIMIT)
    made: list[Podman] = []

    def make(user: str, *runtime: str) -> Podman:
        made.append(Podman(user, archive, *runtime))
        return made[-1]

    yield make
    for one in made:
        one("rm", "--all", "--force", "--time=0")
        one("system", "migrate")  # ends the process that keeps the user namespace


LIMITS = ("--memory=64m", "--memory-swap=64m", "--pids-limit=50", "--cpus=0.5", "--cpu-shares=2048")
FILES = " ".join(f"/sys/fs/cgroup/{name}" for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max"))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("user", ["tester", "root"])
def test_limits_of_the_delegated_slice(podman: Callable[..., Podman], user: str, runtime: str) -> None:
    """By the user's systemd, podman's default where there is a session; by the system's for root."""
    lines = podman(user, runtime).run(*LIMITS, f"cat /proc/self/cgroup {FILES}; id -u")
    assert lines == ["0::/", str(64 * MIB), "0", "50", "50000 100000", "0"]


def test_no_cgroup(podman: Callable[..., Podman]) -> None:
    """--cgroups=disabled: it stays where podman is, as with crun; limits are not there to be had."""
    seen = []
    for runtime in RUNTIMES:
        mine = podman("tester", runtime)
        mine.environment.append(f"CONTAINERS_CONF={CONF}")  # podman asks only runtimes that it knows to be able to
        lines = mine.run("--cgroups=disabled", "--memory=64m", f"cat /proc/self/cgroup {FILES}")
        seen.append(re.sub("[0-9]+", "N", "\n".join(lines)))
    assert seen[0] == seen[1]
    assert "max" in seen[0].split()[1]


def test_cgroup_without_systemd(podman: Callable[..., Podman]) -> None:
    """--cgroup-manager=cgroupfs: limits hold in what is his; crun makes no cgroup then (docs/DIFFERENCES.md)."""
    seen = []
    for runtime in RUNTIMES:
        options = ("--cgroup-manager=cgroupfs", "run", "--rm", "--net=none", "--memory=64m")
        seen.append(podman("tester", runtime)(*options, "box", "cat", "/sys/fs/cgroup/memory.max").stdout)
    assert seen == [f"{64 * MIB}\n", "max\n"]


def test_a_users_ids(podman: Callable[..., Podman]) -> None:
    """keep-id: his own number inside; the subordinate ranges make the others."""
    mine = podman("tester")
    assert mine.run("--userns=keep-id", "id -u; touch /tmp/x && stat -c %u /tmp/x") == ["1000", "1000"]
    assert mine.run("--user=7:8", "id -u; id -g; grep -c . /proc/self/uid_map") == ["7", "8", "2"]


def test_life(podman: Callable[..., Podman]) -> None:
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


def test_user_without_ranges(podman: Callable[..., Podman]) -> None:
    """One id, his own; of the controllers what Debian delegates."""
    mine = podman("plain")
    lines = mine.run("--memory=32m", "id -u; cat /proc/self/uid_map /sys/fs/cgroup/memory.max")
    assert [line.split() for line in lines] == [["0"], ["0", "1001", "1"], [str(32 * MIB)]]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_exit_codes(podman: Callable[..., Podman], runtime: str) -> None:
    """125 is podman's own, 126 and 127 are taken from the runtime's words."""
    mine = podman("tester", runtime)
    codes = [mine("run", "--rm", "--net=none", "box", *words, check=False).returncode for words in (["/etc"], ["/no"])]
    assert codes == [126, 127]


def test_network(podman: Callable[..., Podman]) -> None:
    """By slirp4netns: the container has an address, and its port is the host's."""
    mine = podman("tester")
    mine("run", "-d", "--name=one", "-p", "127.0.0.1:8091:80", "box", "httpd", "-f", "-p", "80", "-h", "/etc")
    assert "10.0.2.100" in mine("exec", "one", "ip", "-4", "addr", "show", "dev", "tap0").stdout
    until(lambda: "root" in fetched("http://127.0.0.1:8091/passwd"), "an answer", LIMIT)


def test_pod(podman: Callable[..., Podman]) -> None:
    """Containers of a pod share its network, ipc and uts namespaces and its slice; the pod publishes the port."""
    mine = podman("tester")
    mine("pod", "create", "--name=shell", "--hostname=nutshell", "-p", "127.0.0.1:8092:80", "--share=net,uts,ipc")
    try:
        mine("run", "-d", "--pod=shell", "--name=one", "box", "httpd", "-f", "-p", "80", "-h", "/etc")
        until(lambda: "root" in fetched("http://127.0.0.1:8092/passwd"), "an answer", LIMIT)
        words = "hostname; cat /proc/net/tcp* | grep -c ':0050 [0-9A-F:]* 0A '; readlink /proc/self/ns/net"
        shown = [mine("run", "--rm", "--pod=shell", "box", "sh", "-c", words).stdout.splitlines() for _ in range(2)]
        assert shown[0] == shown[1]
        assert shown[0][:2] == ["nutshell", "1"]
        pid = mine("inspect", "--format={{.State.Pid}}", "one").stdout.strip()
        directory = cgroup_of(pid)
        assert directory.parent.name.startswith("user-libpod_pod_")
        mine("pod", "pause", "shell")
        assert "frozen 1" in read(directory, "cgroup.events")
        mine("pod", "unpause", "shell")
        mine("pod", "stop", "--time=0", "shell")
        mine("pod", "start", "shell")
        assert cgroup_of(mine("inspect", "--format={{.State.Pid}}", "one").stdout.strip()).parent == directory.parent
    finally:
        mine("pod", "rm", "--force", "--time=0", "shell")
    until(lambda: not directory.parent.exists(), "the end of its slice", LIMIT)
