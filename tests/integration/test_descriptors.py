"""Descriptors: L25 L26, and whose stdio it is (SECURITY 9, ENGINE-CONTRACT 2.2)."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.harness import Box, descriptors_at, fd_numbers, pyoci_only, until


def shown(box: Box) -> dict[int, str]:
    """What `probe fds` wrote to the log of a created container."""
    return {int(line.split()[0]): line.split(" ", 1)[1] for line in box.logs().splitlines()}


def test_only_stdio_is_open(box: Box) -> None:
    """L25"""
    assert fd_numbers(box.output("probe", "fds")) == [0, 1, 2]


def test_leaked_descriptors_are_closed(box: Box) -> None:
    """L25: an engine's sockets and directories, however many and however high."""
    leaks = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(15)]
    high = 900
    os.dup2(leaks[0], high)
    left, right = socket.socketpair()
    box.args("probe", "fds")
    result = box.run(pass_fds=[*leaks, high, left.fileno(), right.fileno()])
    assert fd_numbers(result.out) == [0, 1, 2]
    for fd in (*leaks, high):
        os.close(fd)
    left.close()
    right.close()


def test_waiting_init_holds_no_host_directory(box: Box) -> None:
    """CVE-2024-21626: nothing of the host can be reached through the descriptors of a created container."""
    leak = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    box.create(pass_fds=[leak])
    os.close(leak)
    pid = box.pid
    root = os.stat("/")
    for name in os.listdir(f"/proc/{pid}/fd"):
        status = os.stat(f"/proc/{pid}/fd/{name}")
        assert (status.st_dev, status.st_ino) != (root.st_dev, root.st_ino)


@pytest.mark.parametrize("cwd", ["/proc/self/fd/{}", "/proc/self/fd/{}/../..", "/proc/1/fd/{}"])
def test_cwd_through_a_descriptor_of_the_runtime(box: Box, cwd: str) -> None:
    """CVE-2024-21626: the working directory is inside, or there is no container."""
    leak = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    for number in range(3, 12):
        box.process["cwd"] = cwd.format(number)
        box.args(
            "sh", "-c", "ls -d ../../../../../../bin/probe ./bin/probe 2>/dev/null | head -n 1; ls -id /proc/self/cwd/"
        )
        box.run(check=False, pass_fds=[leak])
        box.args("sh", "-c", f"test ! -e {box.bundle}/config.json && test ! -e ../{box.bundle}/config.json")
        result = box.run(check=False, pass_fds=[leak])
        assert result.code in (0, 1)
    os.close(leak)


def test_preserve_fds(box: Box) -> None:
    """L26: descriptors 3..N+2 pass, the next do not."""
    files = [box.bundle / f"file{n}" for n in range(3, 7)]
    for number, file in enumerate(files, start=3):
        file.write_text(f"fd {number}\n")
    box.script("probe fds; cat <&3; cat <&4")
    with descriptors_at(3, *files) as numbers:
        lines = box.run("--preserve-fds", "2", pass_fds=numbers).out.splitlines()
    assert fd_numbers("\n".join(lines[:-2])) == [0, 1, 2, 3, 4]
    assert lines[-2:] == ["fd 3", "fd 4"]


@pyoci_only("1.1 passes what happens to be open there")
def test_preserve_fds_that_are_not_open(box: Box) -> None:
    """L26 L06: an error that says which."""
    box.args("true")
    result = box.run("--preserve-fds", "200", check=False)
    assert result.code == 1
    assert box.entries() == set()


def test_listen_fds(box: Box) -> None:
    """L26: socket activation: the descriptors of LISTEN_FDS pass, when LISTEN_PID says they are the runtime's."""
    box.script("echo $LISTEN_FDS $LISTEN_PID; probe fds")
    box.write()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    activate = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh"]
    with descriptors_at(3, listener.fileno()) as numbers:
        done = subprocess.run(
            [*activate, *box.argv("run", "--bundle", str(box.bundle), box.id)],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
        )
    listener.close()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["1", "1"]  # the process is pid 1 inside
    assert fd_numbers("\n".join(lines[1:])) == [0, 1, 2, 3]


def test_stdio_is_the_callers(box: Box) -> None:
    """ENGINE-CONTRACT 2.2: exactly the descriptors that create was given."""
    box.args("probe", "fds")
    read, write = os.pipe()
    box.create(stdin=read)
    os.close(read)
    os.close(write)
    assert box.finish() == 0
    stdio = shown(box)
    assert stdio[0].startswith("pipe:")
    assert set(stdio) == {0, 1, 2}


def test_stdio_belongs_to_the_user(box: Box) -> None:
    """As runc: pipes are given to the container's user, so that it may open /dev/stdout again."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.script("echo again > /dev/stdout")
    assert box.run().out == "again\n"


def test_stdio_that_is_not_the_users_stays(box: Box) -> None:
    """Only the pipes: /dev/null of the host keeps its owner."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.run()
    assert Path("/dev/null").stat().st_uid == 0


def test_closed_stdio(box: Box) -> None:
    """An engine that closed stdin: the container has no descriptor of the runtime's in its place."""
    box.args("probe", "fds")
    box.write()
    box.rt("run", "--bundle", str(box.bundle), box.id, stdin=None, preexec_fn=lambda: os.close(0))
    assert box.entries() == set()


def test_runtime_of_a_detached_container_keeps_nothing_open(box: Box) -> None:
    """ENGINE-CONTRACT 2.2: when create has returned only init holds the write end of its output."""
    read, write = os.pipe()
    box.args("sleep", "100")
    box.create(stdout=write, stderr=write)
    os.close(write)
    holders = set()
    target = os.readlink(f"/proc/self/fd/{read}")
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            links = [os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")]
        except OSError:
            continue
        if target in links:
            holders.add(int(name))
    assert holders == {box.pid}
    os.close(read)


def test_binary_is_out_of_reach(box: Box) -> None:
    """SECURITY 10, CVE-2019-5736: /proc/self/exe of the joining process is no file of the host that can be written."""
    box.caps("CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE")
    box.script(
        "for n in $(seq 300); do for p in /proc/[0-9]*; do"
        " (: >> $p/exe) 2>/dev/null && readlink $p/exe >> /tmp/written; done; done; echo done; sleep 100"
    )
    box.up()
    for _ in range(5):
        box.exec("true")
    until(lambda: "done" in box.logs(), "the watcher", timeout=30)
    written = (box.rootfs / "tmp/written").read_text().split() if (box.rootfs / "tmp/written").exists() else []
    assert not [path for path in written if "busybox" not in path and "probe" not in path]
