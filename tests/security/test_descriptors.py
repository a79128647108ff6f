"""SECURITY 9: no descriptor of the caller, or of the runtime, gets into a container, and no way out by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.harness import Box, fd_numbers, pyoci_only

NUMBERS = range(3, 24)


@pytest.fixture
def leaks() -> list[int]:
    """Directories of the host, at low and high numbers."""
    fds = [os.open(place, os.O_RDONLY | os.O_DIRECTORY) for place in ("/", "/etc", "/proc", "/sys/fs/cgroup")]
    high = 1001
    os.dup2(fds[0], high)
    yield [*fds, high]
    for fd in (*fds, high):
        os.close(fd)


def inside(box: Box, pid: int) -> bool:
    """Whether the working directory of a process lies in its own root, by the kernel's word."""
    cwd = os.open(f"/proc/{pid}/cwd", os.O_PATH)
    root = os.stat(f"/proc/{pid}/root/")
    try:
        for _ in range(100):
            here = os.fstat(cwd)
            if (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino):
                return True
            up = os.open("..", os.O_PATH, dir_fd=cwd)
            os.close(cwd)
            cwd = up
            above = os.fstat(cwd)
            if (above.st_dev, above.st_ino) == (here.st_dev, here.st_ino):
                return False
    finally:
        os.close(cwd)
    return False


@pytest.mark.parametrize("how", ["create", "exec"])
def test_only_stdio(box: Box, leaks: list[int], how: str) -> None:
    """L25: for init and for exec."""
    if how == "create":
        box.args("probe", "fds")
        assert fd_numbers(box.run(pass_fds=leaks).out) == [0, 1, 2]
    else:
        box.up()
        assert fd_numbers(box.exec("probe", "fds", pass_fds=leaks).out) == [0, 1, 2]


@pytest.mark.parametrize(
    "base",
    [
        "/proc/self/fd/{}",
        "/proc/self/fd/{}/..",
        *(pytest.param(other, marks=pytest.mark.long) for other in ("/dev/fd/{}", "/proc/1/fd/{}")),
    ],
)
def test_cwd_of_create(box: Box, leaks: list[int], base: str) -> None:
    """CVE-2024-21626: whichever number the runtime's own descriptors have."""
    box.args("sleep", "100")
    for number in NUMBERS:
        box.process["cwd"] = base.format(number)
        if box.create(check=False, pass_fds=leaks).code == 0:
            assert inside(box, box.pid), base.format(number)
            box.delete("--force")
    assert box.entries() == set()


@pytest.mark.parametrize("base", ["/proc/self/fd/{}", "/proc/self/fd/{}/.."])
def test_cwd_of_exec(box: Box, leaks: list[int], base: str) -> None:
    """CVE-2024-21626: `exec --cwd`."""
    box.up()
    pid_file = box.bundle / "pid"
    for number in NUMBERS:
        options = ("--detach", "--pid-file", str(pid_file), "--cwd", base.format(number))
        result = box.rt("exec", *options, box.id, "sleep", "50", check=False, pass_fds=leaks, stdout=None, stderr=None)
        if result.code == 0:
            assert inside(box, int(pid_file.read_text())), base.format(number)


@pyoci_only("runc's init keeps pipes and its log")
def test_waiting_init_has_nothing_of_the_host(box: Box, leaks: list[int]) -> None:
    """A created container, before start: stdio, the fifo, and what stands for procfs and the root of its own."""
    box.args("sleep", "100")
    box.create(pass_fds=leaks)
    pid = box.pid
    host = {(s.st_dev, s.st_ino) for s in map(os.stat, ("/", "/etc", "/sys/fs/cgroup"))}
    for name in os.listdir(f"/proc/{pid}/fd"):
        status = os.stat(f"/proc/{pid}/fd/{name}")
        assert (status.st_dev, status.st_ino) not in host, os.readlink(f"/proc/{pid}/fd/{name}")


def test_environment_of_the_runtime(box: Box) -> None:
    """What the engine has in its environment is not the container's."""
    box.args("env")
    shown = box.run(env={**os.environ, "TOKEN_OF_THE_ENGINE": "secret", "LD_PRELOAD": ""}).out
    assert "secret" not in shown
    box.args("sleep", "100")
    box.up()
    assert "secret" not in box.exec("env", env={**os.environ, "TOKEN_OF_THE_ENGINE": "secret"}).out
    assert "secret" not in Path(f"/proc/{box.pid}/environ").read_text()
