"""Namespaces, id maps and clocks: N01-N09, hostname and sysctl: P19 P20 Z01."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, proc_status, pyoci_only, status_field, umount, until, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = {"mount": "mnt", "network": "net", "pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "user": "user"}


def inode(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{FILES.get(kind, kind)}")


# -- making and joining ---------------------------------------------------------------------


def test_listed_namespaces_are_new_and_others_inherited(box: Box) -> None:
    """N01 N03"""
    box.up()
    pid = box.pid
    new = {kind for kind in FILES if inode(pid, kind) != inode("self", kind)}
    assert new == {"mount", "network", "pid", "ipc", "uts"}


def test_all_of_runc(box: Box) -> None:
    """N01: also cgroup and user."""
    box.userns()
    box.namespace("cgroup")
    box.up()
    pid = box.pid
    assert {kind for kind in FILES if inode(pid, kind) != inode("self", kind)} == set(FILES)


def test_only_a_mount_namespace(box: Box) -> None:
    """N03: everything else is the host's."""
    box.linux["namespaces"] = [{"type": "mount"}]
    del box.config["mounts"][1:]
    del box.config["hostname"]
    box.linux["maskedPaths"] = box.linux["readonlyPaths"] = []
    box.up()
    pid = box.pid
    assert {kind for kind in FILES if inode(pid, kind) != inode("self", kind)} == {"mount"}


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid", "cgroup"])
def test_join_by_path(boxes: Callable[[], Box], kind: str) -> None:
    """N02: the namespace of another container."""
    first, second = boxes(), boxes()
    first.namespace(kind)
    first.up()
    second.namespace(kind, f"/proc/{first.pid}/ns/{FILES[kind]}")
    if kind == "uts":
        del second.config["hostname"]
    second.up()
    assert inode(second.pid, kind) == inode(first.pid, kind)
    others = {"mount", "network", "pid", "ipc", "uts"} - {kind}
    assert all(inode(second.pid, other) != inode(first.pid, other) for other in others)


def test_joined_pid_namespace(boxes: Callable[[], Box]) -> None:
    """N02: the container is not init there, and sees its neighbours."""
    first, second = boxes(), boxes()
    first.up()
    second.namespace("pid", f"/proc/{first.pid}/ns/pid")
    second.args("ps", "-o", "pid,args")
    assert "sleep 100" in second.run().out
    second.args("sleep", "50")
    second.up()
    pid = second.pid
    assert int(proc_status(pid, "NSpid").split()[1]) > 1
    second.delete("--force")
    assert wait_for(pid) == -9
    assert first.status == "running"


@pytest.fixture
def bound(box: Box) -> Iterator[Path]:
    """A network namespace kept by a bind mount, as `ip netns add` makes them."""
    path = box.bundle / "netns"
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "ip", "link", "set", "lo", "up"], check=True)
    yield path
    umount(path)


def test_join_a_bound_namespace(box: Box, bound: Path) -> None:
    """N02 L12: joined, and left alone by delete."""
    before = bound.stat().st_ino
    box.namespace("network", str(bound))
    box.up()
    assert os.stat(f"/proc/{box.pid}/ns/net").st_ino == before
    box.delete("--force")
    assert bound.stat().st_ino == before


@pytest.mark.parametrize("path", ["/proc/self/ns/uts", "/etc/passwd", "/no/such/namespace"])
def test_join_of_the_wrong_kind(box: Box, path: str) -> None:
    """N02 L06: a path that is no network namespace."""
    box.namespace("network", path)
    result = box.create(check=False)
    assert result.code == 1
    assert result.error
    assert box.entries() == set()


@pyoci_only("resolves it against its own directory")
def test_join_wants_an_absolute_path(box: Box) -> None:
    """N02"""
    box.namespace("network", "proc/self/ns/net")
    assert box.create(check=False, cwd="/").code == 1


def test_duplicate_namespace(box: Box) -> None:
    """N04"""
    box.linux["namespaces"].append({"type": "uts"})
    result = box.create(check=False)
    assert result.code == 1
    assert box.entries() == set()


def test_unknown_namespace(box: Box) -> None:
    """N01 L24"""
    box.namespace("frob")
    assert box.create(check=False).code == 1


def test_network_namespace_has_a_working_loopback(box: Box) -> None:
    """As every runtime does: lo is up in a new network namespace."""
    box.process["capabilities"] = {}
    assert "UP" in box.sh("ip addr show lo")
    assert "127.0.0.1" in box.sh("ip addr show lo")


def test_cgroup_namespace(box: Box) -> None:
    """N01: made when init is in its cgroup, so that is / inside."""
    box.namespace("cgroup")
    lines = box.output("cat", "/proc/self/cgroup").splitlines()
    assert {line.split(":")[2] for line in lines if box.id not in line} == {"/"}
    assert not any(box.id in line for line in lines)


# -- user namespaces ------------------------------------------------------------------------


def test_user_namespace(box: Box) -> None:
    """N05: root inside is the mapped id outside."""
    box.userns(100000, 65536)
    box.up()
    assert proc_status(box.pid, "Uid").split() == ["100000"] * 4
    assert proc_status(box.pid, "Gid").split() == ["100000"] * 4
    assert box.exec("id", "-u").out == "0\n"


def test_user_namespace_maps_as_given(box: Box) -> None:
    """N05: several entries, users and groups apart."""
    box.userns()
    box.linux["uidMappings"] = [
        {"containerID": 0, "hostID": 200000, "size": 10},
        {"containerID": 1000, "hostID": 300000, "size": 2},
    ]
    box.linux["gidMappings"] = [{"containerID": 0, "hostID": 400000, "size": 3000}]
    box.process["user"] = {"uid": 1001, "gid": 2000, "additionalGids": [7]}
    status = box.output("cat", "/proc/self/status", "/proc/self/uid_map", "/proc/self/gid_map")
    assert status_field(status, "Uid").split() == ["1001"] * 4
    assert status_field(status, "Gid").split() == ["2000"] * 4
    assert status_field(status, "Groups").split() == ["7"]
    maps = [line.split() for line in status.splitlines()[-3:]]
    assert maps == [["0", "200000", "10"], ["1000", "300000", "2"], ["0", "400000", "3000"]]


def test_user_namespace_does_not_chown_the_rootfs(box: Box) -> None:
    """N06"""
    box.userns()
    before = (box.rootfs / "etc/passwd").stat().st_uid
    assert box.sh("stat -c %u /etc/passwd") == "65534\n"
    assert (box.rootfs / "etc/passwd").stat().st_uid == before


def test_user_namespace_devices_are_bound(box: Box) -> None:
    """D04: mknod is not allowed there; the host's devices are bound instead."""
    box.userns()
    shown = box.sh("stat -c '%t:%T %n' /dev/null /dev/zero /dev/tty; echo x > /dev/null && head -c 2 /dev/zero | wc -c")
    assert shown == "1:3 /dev/null\n1:5 /dev/zero\n5:0 /dev/tty\n2\n"


def test_user_namespace_has_capabilities_only_inside(box: Box) -> None:
    """N05: CAP_SYS_ADMIN of the new namespace mounts there."""
    box.userns()
    box.caps("CAP_SYS_ADMIN")
    assert box.sh("mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted") == "mounted\n"


def test_user_outside_of_the_maps(box: Box) -> None:
    """N05 L06"""
    box.userns(size=10)
    box.process["user"] = {"uid": 1000, "gid": 0}
    result = box.create(check=False)
    assert result.code == 1
    assert box.entries() == set()


def test_user_namespace_without_maps(box: Box) -> None:
    """N05 L06"""
    box.namespace("user")
    result = box.create(check=False)
    assert result.code == 1
    assert "mapping" in result.error.lower()
    assert box.entries() == set()


def test_join_a_user_namespace(boxes: Callable[[], Box]) -> None:
    """N09: user and network of another container by path."""
    first, second = boxes(), boxes()
    first.userns()
    first.up()
    second.userns()
    for kind in ("user", "network"):
        second.namespace(kind, f"/proc/{first.pid}/ns/{FILES[kind]}")
    second.up()
    assert inode(second.pid, "user") == inode(first.pid, "user")
    assert proc_status(second.pid, "Uid").split() == ["100000"] * 4


@pyoci_only("wants the mappings of the joined namespace again")
def test_join_a_user_namespace_without_maps(boxes: Callable[[], Box]) -> None:
    """N09: the maps of the joined namespace hold."""
    first, second = boxes(), boxes()
    first.userns()
    first.up()
    second.namespace("user", f"/proc/{first.pid}/ns/user")
    second.up()
    assert inode(second.pid, "user") == inode(first.pid, "user")
    assert proc_status(second.pid, "Uid").split() == ["100000"] * 4


# -- time -----------------------------------------------------------------------------------


def uptime(text: str) -> float:
    return float(text.split(maxsplit=1)[0])


@pyoci_only("1.1 has no time namespaces")
def test_time_namespace(box: Box) -> None:
    """N01 N07: offsets of boottime and monotonic, in the program and in exec."""
    box.namespace("time")
    box.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 5}, "monotonic": {"secs": 500}}
    box.script("cat /proc/uptime /proc/self/timens_offsets; sleep 100")
    box.up()
    inside = uptime(box.exec("cat", "/proc/uptime").out)
    outside = uptime(Path("/proc/uptime").read_text())
    assert abs(inside - outside - 1000000) < 5
    until(lambda: len(box.logs().splitlines()) == 3, "three lines of the program")
    lines = [line.split() for line in box.logs().splitlines()[1:]]
    assert lines == [["monotonic", "500", "0"], ["boottime", "1000000", "5"]]
    assert inode(box.pid, "time") != inode("self", "time")


@pyoci_only("1.1 has no time namespaces")
def test_time_offsets_want_a_time_namespace(box: Box) -> None:
    """N07 L24"""
    box.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    assert box.create(check=False).code == 1


# -- hostname, domainname, sysctl -----------------------------------------------------------


def test_hostname(box: Box) -> None:
    """P19"""
    before = os.uname().nodename
    box.config["hostname"] = "walnut-7"
    assert box.output("hostname") == "walnut-7\n"
    assert os.uname().nodename == before


def test_hostname_wants_a_uts_namespace(box: Box) -> None:
    """P19 L24: the host's name is not touched."""
    before = os.uname().nodename
    box.no_namespace("uts")
    result = box.create(check=False)
    assert result.code == 1
    assert os.uname().nodename == before
    assert box.entries() == set()


@pyoci_only("1.1 does not know domainname")
def test_domainname(box: Box) -> None:
    """P20"""
    box.config["domainname"] = "example.org"
    assert box.output("cat", "/proc/sys/kernel/domainname") == "example.org\n"


def test_sysctl(box: Box) -> None:
    """Z01: of the network and ipc namespaces the container owns, though /proc/sys is read-only."""
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "9000"}
    shown = box.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax")
    assert shown == "1\n1\n9000\n"


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "net/../../vm/swappiness", "kernel.hostname"])
def test_sysctl_that_is_not_the_containers(box: Box, name: str) -> None:
    """Z01 L06 SECURITY 7"""
    box.linux["sysctl"] = {name: "1"}
    result = box.create(check=False)
    assert result.code == 1
    assert box.entries() == set()


def test_sysctl_without_the_namespace(box: Box) -> None:
    """Z01: net.* needs a network namespace of its own."""
    box.no_namespace("network")
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert box.create(check=False).code == 1


@pyoci_only("asks only for the network namespace")
@pytest.mark.parametrize(("kind", "name"), [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.msgmax")])
def test_sysctl_of_a_joined_namespace(boxes: Callable[[], Box], kind: str, name: str) -> None:
    """Z01: of another container's namespace, by path, but never the host's."""
    first, second = boxes(), boxes()
    first.up()
    second.linux["sysctl"] = {name: "1"}
    second.namespace(kind, f"/proc/self/ns/{FILES[kind]}")
    result = second.create(check=False)
    assert result.code == 1
    assert f"/linux/sysctl/{name}" in result.error
    assert second.entries() == {first.id}
    second.namespace(kind, f"/proc/{first.pid}/ns/{FILES[kind]}")
    second.up()
    assert first.exec("cat", "/proc/sys/" + name.replace(".", "/")).out == "1\n"


@pyoci_only("refuses user.*")
def test_sysctl_of_the_user_namespace(box: Box) -> None:
    """Z01"""
    box.userns()
    box.linux["sysctl"] = {"user.max_net_namespaces": "17"}
    assert box.output("cat", "/proc/sys/user/max_net_namespaces") == "17\n"


def test_sysctl_that_does_not_exist(box: Box) -> None:
    """Z01 L06"""
    box.linux["sysctl"] = {"net.ipv4.frobnicate": "1"}
    result = box.create(check=False)
    assert result.code == 1
    assert "frobnicate" in result.error
    assert box.entries() == set()
