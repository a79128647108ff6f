"""Namespaces joined in every combination with maps of their own and of others: N02, N05, N07, N09."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, children, mounts, proc_status, pyoci_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid", "cgroup": "cgroup", "time": "time", "user": "user"}
OTHERS = ("network", "ipc", "uts", "pid", "cgroup")
pytestmark = pyoci_only("1.1 wants maps for joined user namespaces, and lacks time namespaces")


def inode(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{FILES[kind]}")


def join(box: Box, other: Box, *kinds: str) -> None:
    for kind in kinds:
        box.namespace(kind, f"/proc/{other.pid}/ns/{FILES[kind]}")
    if "uts" in kinds:
        box.config.pop("hostname", None)


def check(second: Box, first: Box, *kinds: str) -> None:
    """second is in these namespaces of first, in no other one, and so is what exec runs there."""
    for kind in (*OTHERS, "user"):
        ours = {entry["type"] for entry in second.linux["namespaces"]}
        if kind in kinds:
            assert inode(second.pid, kind) == inode(first.pid, kind), kind
        elif kind in ours:
            assert inode(second.pid, kind) not in (inode(first.pid, kind), inode("self", kind)), kind
        shown = second.exec("readlink", f"/proc/self/ns/{FILES[kind]}").out.strip()
        if kind != "pid":
            assert shown == inode(second.pid, kind)


@pytest.mark.parametrize("kinds", [(kind,) for kind in OTHERS] + [OTHERS, ("network", "ipc"), ("pid", "uts")])
@pytest.mark.parametrize("owner", [False, True], ids=["of-host", "of-user-namespace"])
def test_new_user_namespace_and_joined_others(boxes: Callable[[], Box], kinds: tuple[str, ...], owner: bool) -> None:
    """N09: a user namespace of its own with maps, other namespaces by path, whoever owns those."""
    first, second = boxes(), boxes()
    first.namespace("cgroup")
    if owner:
        first.userns(200000)
    first.up()
    second.userns(100000)
    join(second, first, *kinds)
    if "pid" in kinds:  # proc belongs to a pid namespace that this user namespace does not own
        second.config["mounts"] = [m for m in second.config["mounts"] if m["type"] != "proc"]
        second.bind("/proc", "/proc")
        second.config["mounts"][-1]["options"] = ["rbind"]
    if "network" in kinds:
        second.config["mounts"] = [m for m in second.config["mounts"] if m["type"] != "sysfs"]
    if "ipc" in kinds:
        second.config["mounts"] = [m for m in second.config["mounts"] if m["type"] != "mqueue"]
    second.up()
    for kind in kinds:
        assert inode(second.pid, kind) == inode(first.pid, kind)
    assert inode(second.pid, "user") not in (inode(first.pid, "user"), inode("self", "user"))
    assert proc_status(second.pid, "Uid").split() == ["100000"] * 4


@pytest.mark.parametrize("kinds", [(kind,) for kind in OTHERS] + [(), OTHERS, ("network", "pid"), ("ipc", "uts")])
@pytest.mark.parametrize("maps", [False, True], ids=["no-maps", "maps"])
def test_joined_user_namespace(boxes: Callable[[], Box], kinds: tuple[str, ...], maps: bool) -> None:
    """N09: the user namespace of another container with some of its namespaces, the rest new; the maps are those of
    the namespace, whether the config repeats them or not."""
    first, second = boxes(), boxes()
    first.namespace("cgroup")
    first.userns()
    first.up()
    if maps:
        second.userns()
    join(second, first, "user", *kinds)
    second.up()
    check(second, first, "user", *kinds)
    assert proc_status(second.pid, "Uid").split() == ["100000"] * 4


def test_joined_user_namespace_with_namespaces_of_the_host(boxes: Callable[[], Box]) -> None:
    """N09: by path, but owned by the host: joined as long as there are the rights for it."""
    first, second, third = boxes(), boxes(), boxes()
    first.userns()
    first.up()
    second.up()
    join(third, first, "user")
    join(third, second, "network", "ipc")
    third.config["mounts"] = [m for m in third.config["mounts"] if m["type"] not in ("sysfs", "mqueue")]
    third.up()
    assert inode(third.pid, "user") == inode(first.pid, "user")
    for kind in ("network", "ipc"):
        assert inode(third.pid, kind) == inode(second.pid, kind)


EVERY = (*OTHERS, "time")
SUBSETS = [*(kinds for count in (0, 1, 2) for kinds in itertools.combinations(EVERY, count)), EVERY]


@pytest.mark.parametrize("user", ["joined", "maps", "host"])
def test_every_pair(boxes: Callable[[], Box], user: str) -> None:
    """N02 N03 N09: any two namespaces of another container and all of them, the rest new; the user namespace is
    that of the other container, a new one with maps, or the host's."""
    first, second = boxes(), boxes()
    first.userns()
    for kind in EVERY:
        first.namespace(kind)
    first.up()
    theirs = {kind: inode(first.pid, kind) for kind in FILES}
    second.config["mounts"] = [m for m in second.config["mounts"] if m["destination"] == "/dev"]
    second.linux.update(maskedPaths=[], readonlyPaths=[])
    if user == "maps":
        second.userns(200000)
    del second.config["hostname"]
    for kinds in SUBSETS:
        for kind in EVERY:
            second.namespace(kind)
        join(second, first, *kinds, *(["user"] if user == "joined" else []))
        second.create()
        pid = second.pid
        found = {kind for kind in EVERY if inode(pid, kind) == theirs[kind]}
        assert found == set(kinds)
        assert not [kind for kind in EVERY if inode(pid, kind) == inode("self", kind)], kinds
        assert (inode(pid, "user") == theirs["user"], inode(pid, "user") == inode("self", "user")) == (
            user == "joined",
            user == "host",
        )
        assert proc_status(pid, "Uid").split() == [{"joined": "100000", "maps": "200000", "host": "0"}[user]] * 4
        second.delete("--force")
        children()


@pytest.fixture
def holder() -> Iterator[Callable[..., int]]:
    """Processes that hold new namespaces, given as options of unshare(1), and see the files of the host."""
    started: list[subprocess.Popen[str]] = []

    def hold(*options: str) -> int:
        argv = ["unshare", *options, "sh", "-c", "echo ready; exec sleep 1000"]
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1].pid

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_joined_mount_namespace(box: Box, holder: Callable[..., int]) -> None:
    """N02: the root and the mounts are made in there, as with runc and crun: who holds the namespace has them then."""
    pid = holder("--mount")
    before = mounts()
    box.namespace("mount", f"/proc/{pid}/ns/mnt")
    out = box.sh("readlink /proc/self/ns/mnt; cat /etc/notexec; test -d /proc/1 && echo proc")
    assert out.splitlines() == [os.readlink(f"/proc/{pid}/ns/mnt"), "not a program", "proc"]
    assert mounts() == before
    assert (Path(f"/proc/{pid}/root/etc/notexec")).read_text() == "not a program\n"


def test_joined_mount_and_user_namespace(box: Box, holder: Callable[..., int]) -> None:
    """N02 N09: both of one process, which has the rights to mount there."""
    pid = holder("--user", "--map-root-user", "--mount")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["type"] != "devpts"]  # group 5 is not mapped
    box.namespace("mount", f"/proc/{pid}/ns/mnt")
    box.namespace("user", f"/proc/{pid}/ns/user")
    out = box.sh("readlink /proc/self/ns/mnt; readlink /proc/self/ns/user; cat /etc/notexec")
    assert out.splitlines() == [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "user")] + ["not a program"]


def test_joined_mount_namespace_of_a_container(boxes: Callable[[], Box]) -> None:
    """N02 L06 L21: a container's shows none of the bundle's files, so there is no root to be had in it."""
    first, second = boxes(), boxes()
    first.up()
    second.namespace("mount", f"/proc/{first.pid}/ns/mnt")
    result = second.create(check=False)
    assert result.code == 1
    assert "/root/path" in result.error
    assert first.exec("cat", "/etc/notexec").out == "not a program\n"


def test_joined_time_namespace(boxes: Callable[[], Box]) -> None:
    """N02 N07: the clocks are those of the other container."""
    first, second = boxes(), boxes()
    first.namespace("time")
    first.linux["timeOffsets"] = {"boottime": {"secs": 500000}}
    first.up()
    join(second, first, "time")
    shown = second.output("cat", "/proc/uptime")
    with open("/proc/uptime", encoding="ascii") as file:
        assert abs(float(shown.split()[0]) - float(file.read().split()[0]) - 500000) < 10


@pytest.mark.parametrize("seconds", [-100, 0, 100])
def test_time_offsets(box: Box, seconds: int) -> None:
    """N07: forward, backward, in a user namespace."""
    box.userns()
    box.namespace("time")
    box.linux["timeOffsets"] = {"monotonic": {"secs": seconds, "nanosecs": 7}}
    assert box.output("cat", "/proc/self/timens_offsets").split()[:3] == ["monotonic", str(seconds), "7"]


def test_time_offsets_that_lead_before_the_boot(box: Box) -> None:
    """N07 L06"""
    box.namespace("time")
    box.linux["timeOffsets"] = {"monotonic": {"secs": -(1 << 40)}}
    result = box.create(check=False)
    assert result.code == 1
    assert "/linux/timeOffsets" in result.error
    assert box.entries() == set()
