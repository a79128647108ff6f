"""SECURITY 1, 3, 4, 17: fifos, sockets, devices and endless files where the runtime expects a file or a directory.

Nothing waits for the other end of a fifo, nothing reads a device or more than it has use for, and nothing of the
host is touched: the container runs, or there is one error.  harness.TIMEOUT is what says that nothing hangs.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, ConsoleSocket, pyoci_only, until, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.security.conftest import Outside

pytestmark = pyoci_only("1.1 waits for some of them")

KINDS = ["fifo", "device", "loop", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("socket", "huge"))]


def put(path: Path, kind: str) -> None:
    """A file of a kind in the place of what is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path, 0o777)
    elif kind == "socket":
        end = socket.socket(socket.AF_UNIX)
        here = os.open(path.parent, os.O_PATH)
        end.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
        end.close()
    elif kind == "device":  # reading it never ends; as in an image of a registry, which may hold any node
        os.mknod(path, stat.S_IFCHR | 0o777, os.makedev(1, 5))
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
        path.chmod(0o777)
    else:
        path.symlink_to(path.name)


def one_error(box: Box, err: str) -> None:
    assert "Traceback" not in err
    assert "internal error" not in err
    assert len([line for line in err.splitlines() if "level=error" in line]) <= 1
    assert box.entries() == set()


def test_in_the_place_of_the_pid_file(box: Box) -> None:
    """Its directory is somebody else's, who has a fifo for each name that it is first written under."""
    directory = box.bundle / "pids"
    directory.mkdir()
    last = int(Path("/proc/sys/kernel/ns_last_pid").read_text())
    names = [f".pid.{number}" for number in range(last, last + 2000)]
    for name in ("pid", *names):
        put(directory / name, "fifo")
    box.create("--pid-file", str(directory / "pid"))
    assert int((directory / "pid").read_text()) == box.pid
    assert len(names) - 1 == sum(name in names for name in os.listdir(directory))
    box.delete("--force")


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_place_of_a_directory(boxes: Callable[[], Box], outside: Outside, kind: str) -> None:
    """Kernel file systems, other mounts, and the working directory are not put on them."""
    for name in ("proc", "sys", "dev", "tmp", "home", "var"):
        box = boxes()
        put(box.rootfs / name, kind)
        box.mount("/tmp", "tmpfs", "tmpfs")
        box.bind("/home", outside.directory / "dir")
        box.process["cwd"] = "/var"
        result = box.run(check=False)
        assert result.code == 1, name
        one_error(box, result.err)


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_place_of_a_file(boxes: Callable[[], Box], outside: Outside, kind: str) -> None:
    """HOME from /etc/passwd, masked and read-only paths, a bound file, a device, the program."""
    for name in ("etc/passwd", "etc/masked", "etc/readonly", "etc/bound", "etc/device", "bin/busybox"):
        box = boxes()
        put(box.rootfs / name, kind)
        box.linux["maskedPaths"].append("/etc/masked")
        box.linux["readonlyPaths"].append("/etc/readonly")
        box.linux["devices"] = [{"path": "/etc/device", "type": "c", "major": 1, "minor": 7}]
        box.bind("/etc/bound", outside.directory / "file")
        box.args("/bin/busybox", "sh", "-c", "echo $HOME")
        result = box.run(check=False)
        one_error(box, result.err)
        if kind != "loop" and name not in ("bin/busybox", "etc/device"):
            assert (result.code, result.out) == (0, "/\n" if name == "etc/passwd" else "/root\n"), name


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_users(box: Box, kind: str) -> None:
    """exec --user NAME reads two files of the container from outside."""
    box.up()
    for name in ("etc/passwd", "etc/group"):
        put(box.rootfs / name, kind)
        result = box.rt("exec", "--user", "walnut:walnut", box.id, "true", check=False)
        assert result.code == 255
        assert "of the container" in result.error
        assert "Traceback" not in result.err
        box.delete("--force")
        box.create()
        box.start()


def kernel_values() -> list[str]:
    """What a container would have changed through a /proc that is not one."""
    return [Path("/proc", name).read_text() for name in ("self/oom_score_adj", "sys/kernel/hostname")]


def hostile_inside(box: Box, script: str) -> None:
    """A container that has changed itself, as its root with CAP_SYS_ADMIN can."""
    box.caps("CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYS_CHROOT")
    box.linux["maskedPaths"] = box.linux["readonlyPaths"] = []
    box.linux["resources"] = {}
    box.script(f"{script}; echo ready; sleep 100")
    box.up()
    until(lambda: "ready" in box.logs(), "the script", 20)


CHANGES = {
    "proc": "mount -t tmpfs x /proc; mkdir -p /proc/self/attr /proc/self/fd /proc/sys; touch /proc/self/oom_score_adj",
    "bound": "mount -o bind /proc/1 /proc/self/task; mount -o bind /proc/sys/kernel/hostname /proc/1/oom_score_adj",
    "pts": "mount -t tmpfs x /dev/pts; ln -s /etc/passwd /dev/pts/ptmx; rm /dev/ptmx; mkfifo /dev/ptmx",
    "pts fifo": "mount -t tmpfs x /dev/pts; mkfifo /dev/pts/ptmx; rm /dev/ptmx; mknod /dev/ptmx c 1 5",
    "dev": "mount -t tmpfs x /dev; mkfifo /dev/null /dev/tty /dev/console",
    "etc": "rm /etc/passwd; mkfifo /etc/passwd; mkfifo /etc/ld.so.preload /etc/nsswitch.conf",
    "lib": "mkdir -p /lib /lib64; mkfifo /lib/libc.so.6 /lib64/ld-linux-x86-64.so.2",
    "root": "mount -t tmpfs x /root; mount -t tmpfs x /",
    "cwd": "rm -rf /home/walnut; mkfifo /home/walnut",
}


@pytest.mark.parametrize("change", CHANGES)
def test_exec_into_what_changed_itself(box: Box, console: ConsoleSocket, outside: Outside, change: str) -> None:
    """exec with all that it writes, with and without a terminal: it works or is one error; the host is as it was."""
    before = kernel_values()
    hostile_inside(box, CHANGES[change])
    process = {**box.process, "args": ["/bin/busybox", "echo", "ran"], "cwd": "/home/walnut", "oomScoreAdj": 300}
    process["env"] = ["PATH=/bin"]
    plain = box.exec_json(process, check=False)
    assert plain.code == 0 or plain.out == ""
    assert (plain.code == 0) == (change not in ("cwd", "root")), plain.err
    pids = box.bundle / "pid"
    terminal = box.exec_json(
        {**process, "terminal": True}, "--detach", "--pid-file", str(pids), "--console-socket", str(console.path),
        check=False,
    )  # fmt: skip
    assert (terminal.code == 0) == (change not in ("pts", "pts fifo", "dev", "cwd", "root")), terminal.err
    for result in (plain, terminal):
        assert "Traceback" not in result.err
    if terminal.code == 0:
        os.close(console.receive())
        wait_for(int(pids.read_text()))
    assert kernel_values() == before
