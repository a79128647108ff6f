"""SECURITY 23: in a user namespace CAP_SYS_ADMIN undoes nothing of what the host did to the mounts that a container is
given: neither what is read-only there, nor what covers a part of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from conformance.machine import MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY, MS_REMOUNT, mount, umount
from tests.integration.harness import Box, kernel_version, pyoci_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# what a container tries with each of its volumes: /v is read-only on the host, and /v/covered hides a file
ATTACK = """
mount -o remount,bind,rw /v
mount -o remount,bind,rw,suid,dev /v
touch /v/planted
umount /v/covered
umount -l /v/covered
mount --move /v/covered /tmp
mkdir /tmp/again
mount --bind /v /tmp/again
cat /v/covered/secret /tmp/again/covered/secret
unshare -m sh -c 'umount /v/covered; mount -o remount,bind,rw /v; touch /v/planted; cat /v/covered/secret'
echo done
"""


@pytest.fixture
def volume(box: Box) -> Iterator[Path]:
    """A directory of the host, read-only by its mount, a part of it covered; only root may come to it."""
    parent = box.bundle / "private"
    volume = parent / "volume"
    (volume / "covered").mkdir(parents=True)
    volume.chmod(0o777)
    (volume / "covered/secret").write_text("secret\n")
    (volume / "seen").write_text("seen\n")
    mount(volume, volume, flags=MS_BIND)
    mount("cover", volume / "covered", "tmpfs", data="mode=777")
    mount("none", volume, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    parent.chmod(0o700)
    yield volume
    umount(volume / "covered")
    umount(volume)
    assert not (volume / "planted").exists()


def prepare(box: Box) -> None:
    """A container of its own user namespace that may mount in there."""
    box.userns()
    box.caps("CAP_SYS_ADMIN")
    (box.rootfs / "v").mkdir()


def is_contained(shown: str) -> None:
    assert "seen" in shown
    assert "secret" not in shown
    assert shown.endswith("done\n")


@pytest.mark.parametrize("options", [["rbind"], ["rbind", "rslave"], ["rbind", "ridmap"]], ids=lambda o: o[-1])
def test_volumes(box: Box, volume: Path, options: list[str]) -> None:
    """Whoever opens the source: with host root's rights it must still come locked."""
    if "ridmap" in options and kernel_version() < (6, 3):
        pytest.skip("the ids of a tmpfs can be mapped since Linux 6.3")
    prepare(box)
    box.mount("/v", "bind", volume, *options)
    is_contained(box.sh("cat /v/seen;" + ATTACK))


def test_in_a_joined_user_namespace(boxes: Callable[[], Box], volume: Path) -> None:
    """Its mount namespace is a copy as well."""
    first, second = boxes(), boxes()
    first.userns()
    first.up()
    prepare(second)
    second.namespace("user", f"/proc/{first.pid}/ns/user")
    second.mount("/v", "bind", volume, "rbind")
    is_contained(second.sh("cat /v/seen;" + ATTACK))


@pyoci_only("has no such verb")
def test_volumes_of_later(box: Box, volume: Path) -> None:
    """mounts add: it joins the mount namespace, and nothing is copied by that."""
    prepare(box)
    box.up()
    file = box.bundle / "mounts.json"
    file.write_text(json.dumps([{"destination": "/v", "type": "bind", "source": str(volume), "options": ["rbind"]}]))
    box.rt("mounts", "add", box.id, str(file))
    is_contained(box.exec("sh", "-c", "cat /v/seen;" + ATTACK).out)


@pyoci_only("it sets them in the container's own mount namespace")
def test_what_the_config_makes_read_only(box: Box) -> None:
    """A volume with "ro" stays so."""
    source = box.bundle / "source"
    source.mkdir()
    source.chmod(0o777)
    prepare(box)
    box.bind("/v", source, "ro")
    assert box.sh("mount -o remount,bind,rw /v; touch /v/planted; echo done") == "done\n"
    assert not (source / "planted").exists()


def test_the_root_file_system(box: Box) -> None:
    """What covers a part of it on the host, and what is read-only in it."""
    covered, still = box.rootfs / "etc/covered", box.rootfs / "v"
    for directory in (covered, still):
        directory.mkdir()
        (directory / "secret").write_text("secret\n")
        mount("cover", directory, "tmpfs", data="mode=777")
    mount("none", still, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)
    box.userns()
    box.caps("CAP_SYS_ADMIN")
    try:
        attack = "mount -o remount,bind,rw /v; touch /v/x; umount /v; umount /etc/covered"
        shown = box.sh(f"{attack}; cat /v/* /etc/covered/*; echo done")
        assert not (still / "x").exists()
    finally:
        umount(covered)
        umount(still)
    assert shown == "done\n"


@pyoci_only("invalid argument")
def test_one_mount_of_a_tree(box: Box, volume: Path) -> None:
    """The counterpart: "bind" asks for what is covered, and gets it, in a user namespace too."""
    prepare(box)
    box.mount("/v", "bind", volume, "bind")
    assert box.sh("touch /v/planted; cat /v/covered/secret") == "secret\n"
