"""Devices: D01-D06, the links of L27, and the device cgroup from inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Box, pyoci_only

DEFAULTS = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1000, "gid": 2000}


def stat_of(box: Box, path: str) -> str:
    """Type, mode, owner and number of a file inside, as one line."""
    return box.sh(f"stat -c '%F|%a|%u:%g|%t:%T' {path}").strip()


def allow(box: Box, **rule: Any) -> None:
    box.linux["resources"]["devices"].append({"allow": True, "access": "rwm", **rule})


# -- default devices and links --------------------------------------------------------------


def test_default_devices(box: Box) -> None:
    """D04: nothing needs to be asked for."""
    shown = box.sh("stat -c '%n %F %a %u:%g %t:%T' " + " ".join(f"/dev/{name}" for name in DEFAULTS))
    expected = [f"/dev/{name} character special file 666 0:0 {number}" for name, number in DEFAULTS.items()]
    assert shown.splitlines() == expected


def test_default_devices_work(box: Box) -> None:
    """D04 D06: they may be used though every other device is denied."""
    shown = box.sh(
        "echo x > /dev/null; for d in zero full random urandom; do head -c 3 /dev/$d | wc -c; done; "
        "echo x 2>&1 > /dev/full; test -w /dev/tty && echo tty"
    )
    assert shown == "3\n3\n3\n3\ntty\n" or shown.splitlines()[:4] == ["3"] * 4


def test_ptmx(box: Box) -> None:
    """D04: /dev/ptmx is the multiplexer of the container's own devpts."""
    assert box.sh("readlink /dev/ptmx; stat -c %t:%T /dev/pts/ptmx; : <> /dev/ptmx && echo opened") == (
        "pts/ptmx\n5:2\nopened\n"
    )


def test_links(box: Box) -> None:
    """L27"""
    shown = box.sh("for name in fd stdin stdout stderr; do readlink /dev/$name; done; echo via > /dev/stdout")
    assert shown == "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\nvia\n"


def test_no_console_without_terminal(box: Box) -> None:
    """P01: /dev/console comes with a terminal only."""
    assert box.sh("ls /dev | sort").split() == sorted(
        ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty"]
        + ["urandom", "zero"]
        + (["core"] if box.sh("ls /dev").count("core") else [])
    )


# -- linux.devices --------------------------------------------------------------------------


def test_listed_device(box: Box) -> None:
    """D01: type, number, mode and owner; the umask has no say."""
    box.linux["devices"] = [FUSE]
    assert stat_of(box, "/dev/fuse") == "character special file|600|1000:2000|a:e5"


@pytest.mark.parametrize(
    ("kind", "shown"), [("c", "character special file"), ("u", "character special file"), ("b", "block special file")]
)
def test_kinds_of_devices(box: Box, kind: str, shown: str) -> None:
    """D01"""
    box.linux["devices"] = [{"path": "/dev/it", "type": kind, "major": 1, "minor": 11, "fileMode": 0o666}]
    assert stat_of(box, "/dev/it") == f"{shown}|666|0:0|1:b"


def test_fifo(box: Box) -> None:
    """D01: type p needs no number."""
    box.linux["devices"] = [{"path": "/dev/pipe", "type": "p", "fileMode": 0o640}]
    assert stat_of(box, "/dev/pipe") == "fifo|640|0:0|0:0"


def test_device_anywhere(box: Box) -> None:
    """D03: also outside of /dev; missing directories are made."""
    box.linux["devices"] = [{"path": "/srv/a/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    assert box.sh("echo x > /srv/a/null; stat -c %t:%T /srv/a/null") == "1:3\n"
    os.unlink(box.rootfs / "srv/a/null")


def test_device_that_exists_already(box: Box) -> None:
    """D02: the same device in the rootfs is kept."""
    (box.rootfs / "srv").mkdir()
    node(box.rootfs / "srv/null", 1, 3)
    box.linux["devices"] = [{"path": "/srv/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    assert stat_of(box, "/srv/null") == "character special file|666|0:0|1:3"


@pyoci_only("keeps whatever is there")
@pytest.mark.parametrize("kind", ["file", "other"])
def test_device_that_is_something_else(box: Box, kind: str) -> None:
    """D02: a file, or another device, of that name is an error."""
    (box.rootfs / "srv").mkdir()
    if kind == "file":
        (box.rootfs / "srv/null").touch()
    else:
        node(box.rootfs / "srv/null", 1, 5)
    box.linux["devices"] = [{"path": "/srv/null", "type": "c", "major": 1, "minor": 3}]
    result = box.create(check=False)
    assert result.code == 1
    assert "/srv/null" in result.error
    assert box.entries() == set()


@pytest.mark.parametrize(
    "device",
    [
        {"path": "/dev/x", "type": "z", "major": 1, "minor": 3},
        {"path": "/dev/x", "major": 1, "minor": 3},
        pytest.param({"type": "c", "major": 1, "minor": 3}, marks=pyoci_only("makes it nowhere and goes on")),
    ],
)
def test_bad_device(box: Box, device: dict[str, Any]) -> None:
    """D01 L24"""
    box.linux["devices"] = [device]
    assert box.create(check=False).code == 1
    assert box.entries() == set()


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("source", "shown"),
    [("file", "regular file"), ("/dev/urandom", "character special file"), ("dir", "directory")],
)
@pytest.mark.parametrize("userns", [False, pytest.param(True, marks=pyoci_only("covers it with the host's device"))])
def test_a_mount_on_the_path_of_a_device(box: Box, source: str, shown: str, listed: bool, userns: bool) -> None:
    """D01 D04: the container has what was mounted, and no device over it."""
    (box.bundle / "file").write_text("text")
    (box.bundle / "dir").mkdir()
    source = source if source.startswith("/") else str(box.bundle / source)
    box.mount("/dev/random", "bind", source, "rbind")
    if listed:
        box.linux["devices"] = [{"path": "/dev/random", "type": "c", "major": 1, "minor": 8, "fileMode": 0o666}]
    if userns:
        box.userns(host=0)
    seen = box.sh("stat -c %F /dev/random; grep -c ' /dev/random ' /proc/self/mountinfo")
    assert seen.splitlines() == [shown, "1"]


@pyoci_only("masks with what the container has at /dev/null")
def test_a_mount_on_dev_null(box: Box) -> None:
    """SECURITY 5: what masks is the host's null device, whatever is there."""
    (box.bundle / "file").write_text("not null\n")
    (box.rootfs / "etc/token").write_text("token\n")
    box.mount("/dev/null", "bind", str(box.bundle / "file"), "bind", "ro")
    box.linux["maskedPaths"].append("/etc/token")
    assert box.sh("cat /dev/null; cat /etc/token; stat -c %t:%T /etc/token") == "not null\n1:3\n"


def test_dev_of_the_rootfs_is_a_symlink(box: Box) -> None:
    """SECURITY 2: nothing of the host's /dev is touched."""
    (box.rootfs / "dev").rmdir()
    os.symlink("/tmp", box.rootfs / "dev")
    before = sorted(os.listdir("/dev"))
    box.linux["devices"] = [FUSE | {"path": "/dev/planted"}]
    box.create(check=False)
    assert sorted(os.listdir("/dev")) == before
    assert not os.path.lexists("/tmp/planted")


# -- the device cgroup ----------------------------------------------------------------------

OPEN = "(: < /tmp/fuse) 2>/dev/null && echo opened; true"


def node(path: Path, major: int = 10, minor: int = 229) -> None:
    """A device in the rootfs that everybody may open as far as modes go; by default /dev/fuse."""
    os.mknod(path, 0o020666, os.makedev(major, minor))
    path.chmod(0o666)


def test_other_devices_are_denied(box: Box) -> None:
    """D06: a device that is not allowed cannot be opened whatever its modes say."""
    node(box.rootfs / "tmp/fuse")
    assert box.sh(OPEN) == ""


def test_tun_is_allowed(box: Box) -> None:
    """D06: as runc and crun do; what it does is up to the network namespace and CAP_NET_ADMIN."""
    node(box.rootfs / "tmp/tun", minor=200)
    try:
        os.close(os.open(box.rootfs / "tmp/tun", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"the host itself cannot open a tun device: {error.strerror}")
    assert box.sh(": <> /tmp/tun && echo opened") == "opened\n"


@pytest.mark.parametrize(
    ("rule", "opened"),
    [
        ({"type": "c", "major": 10, "minor": 229}, True),
        ({"type": "c", "major": 10}, True),
        ({"type": "c"}, True),
        ({"type": "a"}, True),
        ({}, True),
        ({"type": "c", "major": 10, "minor": 229, "access": "r"}, True),
        ({"type": "c", "major": 10, "minor": 229, "access": "wm"}, False),
        ({"type": "b", "major": 10, "minor": 229}, False),
        ({"type": "c", "major": 10, "minor": 230}, False),
    ],
)
def test_device_rules(box: Box, rule: dict[str, Any], opened: bool) -> None:
    """D05: unset type, major or minor mean all."""
    node(box.rootfs / "tmp/fuse")
    allow(box, **rule)
    assert box.sh(OPEN) == ("opened\n" if opened else "")


def test_device_rules_in_order(box: Box) -> None:
    """D05: the last that matches decides."""
    node(box.rootfs / "tmp/fuse")
    allow(box, type="c", major=10, minor=229)
    box.linux["resources"]["devices"].append({"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"})
    assert box.sh(OPEN) == ""


def test_allowed_devices_may_be_made(box: Box) -> None:
    """D05: m is mknod."""
    box.caps("CAP_MKNOD")
    allow(box, type="c", major=10, minor=229, access="m")
    assert box.sh("mknod /tmp/fuse c 10 229 && echo made; (: < /tmp/fuse) 2>/dev/null && echo opened; true") == "made\n"


def test_mknod_of_anything_is_allowed_by_default(box: Box) -> None:
    """As runc: nodes may be made (docker images do), opening them is what the rules forbid."""
    box.caps("CAP_MKNOD")
    assert box.sh("mknod /tmp/mem c 1 1 && (: < /tmp/mem) 2>/dev/null && echo opened; true") == ""


def test_device_rules_hold_in_exec(box: Box) -> None:
    """P21 D06"""
    node(box.rootfs / "tmp/fuse")
    box.up()
    assert box.exec("sh", "-c", ": < /tmp/fuse", check=False).code != 0
