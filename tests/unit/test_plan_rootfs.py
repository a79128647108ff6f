"""The root on paper: rows M02, M18 to M20, D01 to D04, L27."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from pyoci import linux
from pyoci.plan import ops
from tests import golden
from tests.unit.planning import config, find, index, make, names, namespaces, on, one, refused, user_namespace

RSLAVE = linux.MS_SLAVE | linux.MS_REC
RPRIVATE = linux.MS_PRIVATE | linux.MS_REC


@pytest.mark.parametrize(
    ("word", "host", "after"),
    [
        (None, RSLAVE, 0),
        ("slave", RSLAVE, 0),
        ("rslave", RSLAVE, 0),
        ("private", RPRIVATE, 0),
        ("rprivate", RPRIVATE, 0),
        ("shared", linux.MS_SHARED, linux.MS_SHARED),
        ("rshared", linux.MS_SHARED, linux.MS_SHARED | linux.MS_REC),
        ("unbindable", RPRIVATE, linux.MS_UNBINDABLE),
        ("runbindable", RPRIVATE, linux.MS_UNBINDABLE | linux.MS_REC),
    ],
)
def test_m18_rootfs_propagation(word: str | None, host: int, after: int) -> None:
    """What is taken over from the host first, the root itself after the pivot, which refuses a shared one."""
    made = make(linux={"rootfsPropagation": word} if word else {})
    assert one(made, "propagation").num("propagation") == host
    assert one(made, "rootfs").num("private") == (host == linux.MS_SHARED)
    found = on(made, "/")
    assert [op.num("propagation") for op in found] == ([after] if after else [])
    assert all(made.ops.index(op) > index(made, "pivot") for op in found)


def test_m18_unknown_propagation() -> None:
    refused(config(linux={"rootfsPropagation": "some"}), "/linux/rootfsPropagation")


def test_m02_read_only_root() -> None:
    made = make(root={"path": "/r", "readonly": True}, process={"cwd": "/new"})
    (op,) = on(made, "/")
    assert op.num("attr_set") == linux.MOUNT_ATTR_RDONLY
    assert index(made, "mkdir") < made.ops.index(op) < index(made, "pivot")


@pytest.mark.parametrize(
    ("options", "more", "mode"),
    [({}, {}, ops.PIVOT_ROOT), ({"no_pivot": True}, {}, ops.PIVOT_MOVE), ({}, {"without": "mount"}, ops.PIVOT_CHROOT)],
)
def test_pivot_mode(options: dict[str, Any], more: dict[str, Any], mode: int) -> None:
    made = make(linux={"namespaces": namespaces(**more)}, options=golden.options(**options))
    assert one(made, "pivot").num("mode") == mode


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"mounts": [{"destination": "/m", "type": "tmpfs"}]}, "/mounts"),
        ({"root": {"path": "/r", "readonly": True}}, "/root/readonly"),
        ({"linux": {"maskedPaths": ["/a"]}}, "/linux/maskedPaths"),
        ({"linux": {"readonlyPaths": ["/a"]}}, "/linux/readonlyPaths"),
        ({"linux": {"rootfsPropagation": "shared"}}, "/linux/rootfsPropagation"),
    ],
)
def test_l12_no_mounts_in_the_hosts_namespace(changes: dict[str, Any], where: str) -> None:
    """They would outlive the container."""
    given = config(**changes)
    given["linux"]["namespaces"] = namespaces(without="mount")
    assert "mount" in refused(given, where).hint


def test_n03_without_a_mount_namespace_nothing_is_mounted() -> None:
    made = make(linux={"namespaces": namespaces(without="mount")})
    assert not {"propagation", "mount", "bind", "remount"} & set(names(made))
    assert one(made, "rootfs").num("bind") == 0


def test_m19_m20_masked_and_readonly_paths() -> None:
    made = make(linux={"maskedPaths": ["/proc/keys", "/sys/firmware"], "readonlyPaths": ["/proc/sys"]})
    assert [op.string("path") for op in find(made, "mask")] == [b"/proc/keys", b"/sys/firmware"]
    assert [op.where for op in find(made, "mask")] == ["/linux/maskedPaths/0", "/linux/maskedPaths/1"]
    assert one(made, "readonly").where == "/linux/readonlyPaths/0"
    assert index(made, "readonly") < index(made, "mask") < index(made, "pivot")


def test_d04_default_devices() -> None:
    made = make()
    nodes = {op.string("path").decode(): op for op in find(made, "mknod")}
    numbers = {path: (op.num("major"), op.num("minor")) for path, op in nodes.items()}
    assert numbers == {
        "/dev/null": (1, 3),
        "/dev/zero": (1, 5),
        "/dev/full": (1, 7),
        "/dev/random": (1, 8),
        "/dev/urandom": (1, 9),
        "/dev/tty": (5, 0),
    }
    assert {op.num("mode") for op in nodes.values()} == {stat.S_IFCHR | 0o666}
    assert {op.num("flags") for op in nodes.values()} == {ops.REPLACE | ops.OWN_WAY}


def test_l27_d04_links() -> None:
    links = {op.string("path").decode(): op.string("target").decode() for op in find(make(), "symlink")}
    assert links == {
        "/dev/fd": "/proc/self/fd",
        "/dev/stdin": "/proc/self/fd/0",
        "/dev/stdout": "/proc/self/fd/1",
        "/dev/stderr": "/proc/self/fd/2",
        "/dev/core": "/proc/kcore",
        "/dev/ptmx": "pts/ptmx",
    }


def test_d01_d03_listed_devices() -> None:
    devices = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 3, "gid": 4},
        {"path": "opt/disk", "type": "b", "major": 8, "minor": 0, "fileMode": 0},
        {"path": "/x/pipe", "type": "p"},
        {"path": "/dev/u", "type": "u", "major": 1, "minor": 2},
    ]
    made = make(linux={"devices": devices})
    found = [op for op in find(made, "mknod") if op.where]
    assert [op.where for op in found] == [f"/linux/devices/{i}" for i in range(4)]
    assert [op.string("path") for op in found] == [b"/dev/fuse", b"/opt/disk", b"/x/pipe", b"/dev/u"]
    modes = [stat.S_IFCHR | 0o600, stat.S_IFBLK, stat.S_IFIFO | 0o666, stat.S_IFCHR | 0o666]
    assert [op.num("mode") for op in found] == modes
    assert [found[0].num(name) for name in ("major", "minor", "uid", "gid")] == [10, 229, 3, 4]


def test_d02_a_listed_device_replaces_nothing() -> None:
    made = make(linux={"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]})
    assert [op.num("flags") for op in find(made, "mknod") if op.where] == [ops.OWN_WAY]


def test_d04_a_listed_device_stands_in_for_the_default() -> None:
    made = make(linux={"devices": [{"path": "/dev//null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o400}]})
    (op,) = [op for op in find(made, "mknod") if op.string("path") == b"/dev/null"]
    assert op.num("mode") == stat.S_IFCHR | 0o400


def test_d04_a_bound_dev_is_not_touched() -> None:
    devices = [{"path": f"{d}/x", "type": "c", "major": 1, "minor": 3} for d in ("/dev", "/opt")]
    mounts = [{"destination": "/dev/", "source": "/dev", "options": ["rbind"]}]
    made = make(mounts=mounts, linux={"devices": devices})
    assert [op.string("path") for op in find(made, "mknod")] == [b"/opt/x"]
    assert not find(made, "symlink")


@pytest.mark.parametrize("linux_part", [{}, user_namespace()])
@pytest.mark.parametrize(
    ("mounts", "made_there"),
    [
        ([("/dev/random", "bind")], False),
        ([("/dev//random/", "tmpfs")], False),
        ([("/dev", "tmpfs"), ("/dev/random", "bind"), ("/dev/random", "remount"), ("/dev", "remount")], False),
        ([("/dev/random", "bind"), ("/dev", "tmpfs")], True),
        ([("/dev/rand", "bind"), ("/dev/random2", "bind")], True),
        ([("/dev", "tmpfs"), ("/dev/random", "remount")], True),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_d04_a_mount_on_the_path_of_a_device_is_kept(
    linux_part: dict[str, Any], mounts: list[tuple[str, str]], made_there: bool, listed: bool
) -> None:
    """Unless a later one hides it."""
    given = [
        {"destination": path, "source": "/s", "type": kind, "options": [kind] if kind != "tmpfs" else []}
        for path, kind in mounts
    ]
    devices = [{"path": "/dev/random", "type": "c", "major": 1, "minor": 8}] if listed else []
    made = make(mounts=given, linux=linux_part | {"devices": devices})
    paths = [op.string("path") for op in find(made, "mknod")]
    paths += [op.string("dest") for op in find(made, "bind") if op.string("source") != b"/s"]
    assert paths.count(b"/dev/random") == made_there
    assert b"/dev/urandom" in paths


@pytest.mark.parametrize(
    ("linux_part", "facts", "slots"),
    [
        (user_namespace(), {}, True),
        ({}, {"userns": True}, False),
        (user_namespace(), {"euid": 1000}, False),
        ({"namespaces": namespaces(user="/proc/1/ns/user")}, {}, True),
    ],
)
def test_n08_devices_are_bound_in_a_user_namespace(
    linux_part: dict[str, Any], facts: dict[str, Any], slots: bool
) -> None:
    devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, {"path": "/dev/p", "type": "p"}]
    made = make(linux=linux_part | {"devices": devices}, facts=golden.facts(**facts))
    assert [op.string("path") for op in find(made, "mknod")] == [b"/dev/p"]
    bound = find(made, "bind")
    assert [op.string("dest") for op in bound][-1] == b"/dev/fuse"
    assert len(bound) == 7
    assert all(op.string("dest") == op.string("source") for op in bound)
    assert all(op.num("flags") == ops.BIND_OWN_WAY for op in bound)
    assert all((op.num("slot") >= 0) == slots for op in bound)
