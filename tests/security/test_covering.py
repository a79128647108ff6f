"""SECURITY 2: the image's symlinks lead one line of the config to the place of another: a volume to /dev, to / or to
where a device goes.  The volume is a directory of the host."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from conformance.machine import mount, umount
from tests.integration.harness import Box, ConsoleSocket
from tests.security.conftest import tree
from tests.security.test_paths import use

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.security.conftest import Outside

COVERED = "another mount of the config covers that place"
PLANTED = {"type": "c", "major": 1, "minor": 5, "fileMode": 0o666}


def writable_for_all(outside: Outside) -> None:
    """Also the root of a user namespace could make files in it."""
    for path in (outside.directory, outside.directory / "dir"):
        path.chmod(0o777)
    outside.before = tree(outside.directory)


@pytest.mark.parametrize("who", ["user", "user namespace", "terminal"])
@pytest.mark.parametrize("mounted", [True, False], ids=["tmpfs", "no mount"])
def test_a_volume_over_dev(
    box: Box, outside: Outside, console: ConsoleSocket, without_dev: Callable[[], None], mounted: bool, who: str
) -> None:
    """CVE-2026-41579: /data of the image is a link to /dev: what the volume has stays, nothing is made."""
    os.symlink("/dev", box.rootfs / "data")
    if not mounted:
        without_dev()
    box.bind("/data", outside.directory)
    options = []
    if who == "user":
        box.process["user"] = {"uid": 1000, "gid": 1000}
        box.process["capabilities"] = {}
    elif who == "user namespace":
        box.userns()
        writable_for_all(outside)
    else:
        box.process["terminal"] = True
        options = ["--console-socket", str(console.path)]
    made = box.create(*options, check=False)
    assert made.code == 1
    assert COVERED in made.err


@pytest.mark.parametrize("way", ["link", "covered", "deep"])
def test_a_device_in_a_volume(box: Box, outside: Outside, way: str) -> None:
    """A device outside /dev: a directory on its way is a link to the volume, or the volume was led there."""
    if way == "link":
        os.symlink("v", box.rootfs / "opt")
        box.bind("/v", outside.directory)
    else:
        os.symlink("opt", box.rootfs / "data")
        box.bind("/data", outside.directory)
    box.linux["devices"] = [{"path": "/opt/deep/zero" if way == "deep" else "/opt/zero", **PLANTED}]
    made = box.create(check=False)
    assert made.code == 1
    assert ("a symlink" if way == "link" else COVERED) in made.err


def test_a_device_in_a_volume_of_a_user_namespace(box: Box, outside: Outside) -> None:
    """The same where the node of the host is bound: what it is bound on would be a new file of the volume."""
    box.userns()
    writable_for_all(outside)
    node = box.bundle / "nodes/zero"
    node.parent.mkdir()
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    link = box.rootfs / str(node.parent)[1:]
    link.parent.mkdir(parents=True)
    os.symlink("/v", link)
    (box.rootfs / "v").mkdir()
    box.bind("/v", outside.directory)
    box.linux["devices"] = [{"path": str(node), **PLANTED}]
    made = box.create(check=False)
    assert made.code == 1
    assert "a symlink" in made.err


@pytest.mark.parametrize("place", ["bind", "tmpfs", "mask", "readonly"])
@pytest.mark.parametrize("target", ["/", "../..", "link"])
def test_a_mount_over_the_root(box: Box, outside: Outside, place: str, target: str) -> None:
    """/data of the image is a link to the root: init would keep the image, and every exec would get what is above."""
    os.symlink(target, box.rootfs / "data")
    os.symlink(".", box.rootfs / "link")
    use(box, place, "/data", outside.directory)
    made = box.create(check=False)
    assert made.code == 1
    assert "the destination is the root itself" in made.err


@pytest.mark.parametrize("how", ["root", "volume", "covered"])
def test_a_remount_of_another_file_system(box: Box, how: str) -> None:
    """A remount without bind changes the file system: of the host, where a link of the image leads to it."""
    host = box.bundle / "host"
    host.mkdir()
    mount("tmpfs", host, "tmpfs")
    try:
        aim(box, host, how)
        made = box.create(check=False)
        assert made.code == 1, made.out
        (host / "file").touch()
    finally:
        umount(host)


def aim(box: Box, host: Path, how: str) -> None:
    """Let the config remount /data, and the image have something of the host there."""
    if how == "root":
        shutil.copytree(box.rootfs, host / "rootfs", symlinks=True)
        box.config["root"]["path"] = str(host / "rootfs")
        os.symlink("/", host / "rootfs/data")
    elif how == "volume":
        box.bind("/v", host)
        os.symlink("/v", box.rootfs / "data")
    else:
        os.symlink("/data", box.rootfs / "v")
        box.mount("/data", "tmpfs", "tmpfs")
        box.bind("/v", host)
    box.mount("/data", "tmpfs", "tmpfs", "remount", "ro")


def test_devices_where_the_config_wants_them(box: Box) -> None:
    """The counterpart: on mounts of their own, also one over another; and what is there already is not made."""
    volume = box.bundle / "volume"
    volume.mkdir()
    os.mknod(volume / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    box.mount("/opt/inner", "tmpfs", "tmpfs")
    box.mount("/opt", "tmpfs", "tmpfs")
    box.bind("/opt/volume", volume)
    places = ["/opt/zero", "/opt/inner/zero", "/opt/volume/zero", "/dev/shm/zero", "/var/deep/zero"]
    box.linux["devices"] = [{"path": path, **PLANTED} for path in places]
    assert box.sh(f"stat -c %t:%T {' '.join(places)}") == "1:5\n" * len(places)


def test_a_root_that_brings_its_dev(box: Box, without_dev: Callable[[], None]) -> None:
    """The counterpart: something is mounted on /dev of the root file system before there is a container."""
    without_dev()
    mount("tmpfs", box.rootfs / "dev", "tmpfs")
    try:
        assert box.sh("stat -c %t:%T /dev/null") == "1:3\n"
    finally:
        umount(box.rootfs / "dev")
