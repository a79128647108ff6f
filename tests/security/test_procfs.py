"""SECURITY 4: what says it is procfs is procfs; nothing lies over it, and nothing is written to anything else."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import MS_BIND, Box, mount, mounts, umount, until, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.conftest import Outside

pytestmark = pytest.mark.usefixtures("lookup")


@pytest.fixture
def fake(box: Box) -> Path:
    """A volume that looks like procfs."""
    directory = box.bundle / "fake"
    for name in ("self/attr", "sys/kernel", "sys/net/ipv4", "self/fd", "fs"):
        (directory / name).mkdir(parents=True)
    for name in ("self/attr/exec", "self/oom_score_adj", "sys/kernel/shmmax", "sys/net/ipv4/ip_forward", "kcore"):
        (directory / name).write_text("fake\n")
    return directory


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["outside", "/tmp", "/nowhere"])
def test_proc_and_sys_are_directories(box: Box, outside: Outside, name: str, target: str) -> None:
    """CVE-2019-19921, CVE-2023-27561: a /proc or /sys that is a symlink is an error."""
    (box.rootfs / name).rmdir()
    os.symlink(outside.directory if target == "outside" else target, box.rootfs / name)
    result = box.create(check=False)
    assert result.code == 1
    assert "ordinary directory" in result.error
    assert box.entries() == set()


@pytest.mark.parametrize("destination", ["/proc", "/proc/", "/./proc", "/x/../proc", "/proc/self", "/proc/sys/kernel"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_no_volume_covers_proc(box: Box, fake: Path, destination: str, order: str) -> None:
    """CVE-2019-16884: over /proc or under it."""
    box.bind(destination, fake)
    if order == "first":
        box.config["mounts"].insert(0, box.config["mounts"].pop())
    result = box.create(check=False)
    assert result.code == 1
    assert "procfs" in result.error
    assert box.entries() == set()


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/proc/sys/kernel", "/proc/self/attr", "proc/fs"])
def test_no_volume_covers_proc_through_a_symlink(box: Box, fake: Path, target: str) -> None:
    """CVE-2019-19921: the path says nothing, where it comes to does."""
    os.symlink(target, box.rootfs / "link")
    box.bind("/link", fake)
    result = box.create(check=False)
    assert result.code == 1
    assert "lies on procfs" in result.error


def test_values_reach_the_kernel(box: Box, fake: Path) -> None:
    """CVE-2019-16884: sysctl and oom_score_adj are written to the kernel's files, whatever the image has there."""
    shutil.copytree(fake, box.rootfs / "proc", dirs_exist_ok=True)
    box.linux["sysctl"] = {"kernel.shmmax": "12345", "net.ipv4.ip_forward": "1"}
    box.process["oomScoreAdj"] = 77
    shown = box.sh("cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj")
    assert shown.split() == ["12345", "1", "77"]
    assert (box.rootfs / "proc/sys/kernel/shmmax").read_text() == "fake\n"
    assert (box.rootfs / "proc/self/oom_score_adj").read_text() == "fake\n"


def test_values_without_a_proc_of_the_container(box: Box, fake: Path) -> None:
    """The same when the config mounts no procfs at all: the files of the image are not written to."""
    shutil.copytree(fake, box.rootfs / "proc", dirs_exist_ok=True)
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/proc"]
    box.linux["maskedPaths"] = box.linux["readonlyPaths"] = []
    box.linux["sysctl"] = {"kernel.shmmax": "12345"}
    box.process["oomScoreAdj"] = 77
    box.args("cat", "/proc/sys/kernel/shmmax", "/proc/self/oom_score_adj")
    assert box.run().out == "fake\nfake\n"


def test_exec_writes_to_the_kernel(box: Box, fake: Path) -> None:
    """CVE-2019-16884 for exec: the container has covered its own /proc meanwhile."""
    box.caps("CAP_SYS_ADMIN")
    box.bind("/fake", fake)
    box.args("sh", "-c", "mount --bind /fake /proc && touch /tmp/covered && sleep 100")
    box.up()
    until((box.rootfs / "tmp/covered").exists, "the mount over /proc")
    process = {**box.process, "args": ["sleep", "50"], "oomScoreAdj": 88}
    box.exec_json(process, "--detach", "--pid-file", str(box.bundle / "pid"), stdout=None, stderr=None)
    exec_pid = (box.bundle / "pid").read_text()
    with open(f"/proc/{exec_pid}/oom_score_adj", encoding="ascii") as file:
        assert file.read() == "88\n"
    assert (fake / "self/oom_score_adj").read_text() == "fake\n"
    os.kill(int(exec_pid), 9)
    wait_for(int(exec_pid))


def test_nothing_is_mounted_on_the_host(box: Box, fake: Path) -> None:
    """A refused mount leaves none."""
    before = mounts()
    box.bind("/proc/self", fake)
    box.create(check=False)
    assert mounts() == before


def test_a_root_that_comes_with_a_procfs(box: Box) -> None:
    """That of a chroot in use, or "/" itself: the container's own covers it, and no part of it."""
    mount("/proc", box.rootfs / "proc", flags=MS_BIND)
    try:
        assert box.output("sh", "-c", "echo /proc/[0-9]*").split() == ["/proc/1"]
        (box.rootfs / "way").symlink_to("/proc/sys")
        box.config["mounts"].append({"destination": "/way/kernel", "type": "proc", "source": "proc"})
        result = box.run(check=False)
    finally:
        umount(box.rootfs / "proc")
    assert result.code == 1
    assert "lies on procfs" in result.error
