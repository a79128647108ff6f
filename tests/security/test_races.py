"""SECURITY 6: another process exchanges a component of a path while containers are made with mounts, masks, a working
directory and devices under it (CVE-2021-30465, CVE-2024-45310, CVE-2025-52881)."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import TIMEOUT, Box, pyoci_only, wait_for
from tests.security.conftest import NUMBERS, inside, rounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.security.conftest import Outside


class Racer:
    """A process on another core that swaps two names until it is ended."""

    def __init__(self, attack: Path, one: Path, other: Path) -> None:
        self.process = subprocess.Popen([attack, "exchange", one, other])

    def end(self) -> None:
        assert self.process.poll() is None, "the racer ended early: nothing was raced"
        self.process.kill()
        self.process.wait()


@pytest.fixture
def racing(box: Box, attack: Path, outside: Outside) -> Iterator[Path]:
    """A volume in which `d` is now a directory, now a symlink to the host's."""
    volume = box.bundle / "volume"
    (volume / "d/sub").mkdir(parents=True)
    (volume / "d/dir").mkdir()
    os.symlink(outside.directory, volume / "l")
    (box.rootfs / str(outside.directory)[1:] / "dir").mkdir(parents=True)  # where that leads in the container
    racer = Racer(attack, volume / "d", volume / "l")
    yield volume
    racer.end()


def attempt(box: Box, outside: Outside) -> int:
    """One container.  Returns how many mounts it has, 0 when it was not made; either way it has nothing of the host."""
    if box.create(check=False).code:
        assert "level=error" in box.stderr.read_text()
        return 0
    mounts = len(Path(f"/proc/{box.pid}/mountinfo").read_bytes().splitlines())
    assert os.stat(f"/proc/{box.pid}/root/").st_ino == box.rootfs.stat().st_ino
    box.start()
    places = f"/v/d /v/d/dir /v/l/dir {outside.directory}/dir"
    look = f"ls {places} 2>/dev/null; readlink /proc/1/cwd"
    # not in the config's cwd: exec runs the same race for it, which is test_exchanged_cwd_of_exec
    shown = box.rt("exec", "--cwd", "/", box.id, "sh", "-c", look).out.split()
    assert "secret" not in shown
    assert "(unreachable)" not in "".join(shown)
    box.delete("--force")
    return mounts


def arrange(box: Box, kind: str, volume: Path) -> None:
    """The config of one kind of race; paths under /v/d."""
    box.bind("/v", volume)
    source = box.bundle / "source"
    source.mkdir(exist_ok=True)
    (source / "planted").write_text("planted\n")
    if kind == "mounts":
        box.bind("/v/d/dir", source)
        box.bind("/v/d/made", source)
        box.bind("/v/d/file", source / "planted")
        box.mount("/v/d/sub", "tmpfs", "tmpfs", "size=64k")
    elif kind == "masks":
        box.linux["maskedPaths"] += ["/v/d/dir", "/v/d/file", "/v/d/null"]
        box.linux["readonlyPaths"] += ["/v/d/dir", "/v/d"]
    elif kind == "cwd":
        box.process["cwd"] = "/v/d/dir"
    else:
        box.linux["devices"] = [{"path": "/v/d/node", "type": "c", "major": 1, "minor": 7},
                                {"path": "/v/d/null", "type": "c", "major": 1, "minor": 3}]  # fmt: skip


@pyoci_only("1.1 plants files")
@pytest.mark.parametrize("kind", ["mounts", "masks", "cwd", "devices"])
def test_exchanged_component(box: Box, racing: Path, outside: Outside, lookup: str, kind: str) -> None:
    """Whoever wins, nothing outside is mounted on, made or masked; the fixture looks at the host."""
    arrange(box, kind, racing)
    box.args("sleep", "100")
    made = {attempt(box, outside) for _ in range(rounds(20 if lookup == "openat2" else 5, 500))} - {0}
    assert made or kind != "masks"
    assert len(made) < 2 or kind != "mounts", "some of them are not in the container"
    assert outside.changes() == []


def test_exchanged_cwd_of_exec(box: Box, attack: Path, leaks: list[int]) -> None:
    """A component is now a directory, now a link to the descriptors of whoever enters (CVE-2024-21626), whom the
    procfs of the container shows because it has the host's pid namespace."""
    box.no_namespace("pid")
    volume = box.bundle / "volume"
    for number in NUMBERS:
        (volume / "d" / str(number)).mkdir(parents=True)
    os.symlink("/proc/self/fd", volume / "l")
    box.bind("/v", volume)
    box.up()
    pid_file = box.bundle / "pid"
    racer = Racer(attack, volume / "d", volume / "l")
    for number in [*NUMBERS] * rounds(1, 50):
        options = ("--detach", "--pid-file", str(pid_file), "--cwd", f"/v/d/{number}")
        result = box.rt("exec", *options, box.id, "sleep", "50", check=False, pass_fds=leaks, stdout=None, stderr=None)
        if result.code == 0:
            pid = int(pid_file.read_text())
            assert inside(pid), number
            os.kill(pid, signal.SIGKILL)
            wait_for(pid)
    racer.end()


@pyoci_only("1.1 has no tmpcopyup of its own")
@pytest.mark.parametrize("kind", ["file", "link"])
def test_exchanged_files_copyup(box: Box, attack: Path, kind: str) -> None:
    """tmpcopyup: what another user has written does not become root's, set-user-ID and all."""
    volume = box.rootfs / "v"
    volume.mkdir()
    files = [volume / "one", volume / "two"]
    for path, owner in zip(files, ("root", "other"), strict=True):
        if kind == "link":
            os.symlink(owner, path)
        else:
            path.write_text(owner)
    os.chown(files[1], 1000, 1000, follow_symlinks=False)
    if kind == "file":
        files[0].chmod(0o4755)
    box.mount("/v", "tmpfs", "tmpfs", "size=1m", "tmpcopyup")
    box.script("cd /v; for i in *; do echo $(stat -c %u:%a $i) $(readlink $i || cat $i); done")
    racer = Racer(attack, *files)
    shown = {line for _ in range(rounds(20, 500)) for line in box.run(check=False).out.splitlines()}
    racer.end()
    modes = ("777", "777") if kind == "link" else ("4755", "644")
    assert shown == {f"0:{modes[0]} root", f"1000:{modes[1]} other"}


COUNT = 100  # mounts of a container: each is a race


@pytest.fixture
def switching(box: Box, attack: Path) -> Iterator[Path]:
    """A directory of the root file system, with one for each mount, that is a symlink to /etc/other at times."""
    for name in ("d", "etc/other"):
        for i in range(COUNT):
            (box.rootfs / name / str(i)).mkdir(parents=True)
    os.symlink("/etc/other", box.rootfs / "l")
    racer = Racer(attack, box.rootfs / "d", box.rootfs / "l")
    yield box.rootfs / "etc/other"
    racer.end()


@pyoci_only("1.1 knows no such option")
def test_exchanged_owner(box: Box, switching: Path) -> None:
    """X-mount.owner and mode are for what was mounted, not for what its path leads to by then."""
    for i in range(COUNT):
        box.mount(f"/d/{i}", "tmpfs", "tmpfs", "X-mount.owner=1000", "X-mount.mode=0707")
    for _ in range(rounds(2, 50)):
        box.run(check=False)
        status = [(directory.stat().st_uid, directory.stat().st_mode & 0o777) for directory in switching.iterdir()]
        assert set(status) == {(0, 0o755)}


def test_exchanged_read_only(box: Box, switching: Path) -> None:
    """A tmpfs that is read-only only when all is made in it: it, and not what its path leads to by then."""
    for i in range(COUNT):
        box.mount(f"/etc/other/{i}", "tmpfs", "other")
        box.mount(f"/d/{i}", "tmpfs", "late", "ro")
    box.script("cat /proc/self/mountinfo")
    lines = [line for _ in range(rounds(5, 50)) for line in box.run(check=False).out.splitlines()]
    assert {line.split()[5].split(",")[0] for line in lines if " tmpfs late " in line} == {"ro"}


@pyoci_only("1.1 opens what is there")
def test_exchanged_proc(box: Box, attack: Path, outside: Outside) -> None:
    """/proc of the rootfs is now a directory, now a symlink."""
    os.symlink(outside.directory, box.rootfs / "link")
    racer = Racer(attack, box.rootfs / "proc", box.rootfs / "link")
    for _ in range(rounds(10, 300)):
        if box.create(check=False).code == 0:
            lines = Path(f"/proc/{box.pid}/mountinfo").read_text().splitlines()
            points = [line.split()[4] for line in lines if " - proc " in line]
            assert not [point for point in points if not point.startswith(("/proc", "/link"))], points
            box.delete("--force")
    racer.end()


@pyoci_only("1.1 has no tmpcopyup of its own")
def test_exchanged_copyup(box: Box, racing: Path, outside: Outside) -> None:
    """tmpcopyup reads what it covers: only what is under the root."""
    box.bind("/v", racing)
    box.mount("/v/d", "tmpfs", "tmpfs", "size=1m", "tmpcopyup")
    box.args("sleep", "100")
    for _ in range(rounds(10, 300)):
        if box.create(check=False).code == 0:
            box.start()
            assert "secret" not in box.exec("sh", "-c", "ls /v/d/dir /v/l/dir 2>/dev/null; true").out
            box.delete("--force")


def special(box: Box) -> Path:
    """A directory that tmpcopyup copies, with a file in it and a block device, a loop device without a file, which
    would become an empty file, as a disk of the host would become its content; devices and empty files are shown."""
    covered = box.rootfs / "d"
    covered.mkdir()
    (covered / "file").write_text("of the image\n")
    os.mknod(covered / "other", stat.S_IFBLK | 0o666, os.makedev(7, 7))
    box.linux["resources"]["devices"].append({"allow": True, "type": "b", "major": 7, "access": "rwm"})
    box.mount("/d", "tmpfs", "tmpfs", "size=1m", "tmpcopyup")
    box.script("find /d -type f -size 0c -o -type b -o -type c")
    return covered


@pyoci_only("1.1 has no tmpcopyup of its own")
def test_copyup_reads_no_device(box: Box) -> None:
    """tmpcopyup reads nothing but regular files."""
    os.mknod(special(box) / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert box.run().out == ""


@pyoci_only("1.1 has no tmpcopyup of its own")
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, which holds the race open")
def test_exchanged_file_of_copyup(box: Box, attack: Path) -> None:
    """A file is exchanged with a device between the look at it and its opening."""
    covered = special(box)
    box.write()
    slowly = "strace -f -qqq -o /dev/null -P file -P other -e inject=openat:delay_enter=20000".split()
    command = [*slowly, *box.argv("run", "--bundle", str(box.bundle), box.id)]
    racer = Racer(attack, covered / "file", covered / "other")
    for _ in range(rounds(8, 200)):
        assert subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=TIMEOUT).stdout == b""
    racer.end()
