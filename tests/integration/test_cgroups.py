"""cgroups (config-linux.md): paths, limits that bite, membership. C01 C05 C09 C10 C12 C19 C24."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Box, cgroups, pyoci_only, remove_cgroups, status_field, until, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
v1_only = pytest.mark.skipif(UNIFIED, reason="this host has cgroup v2 only")
MIB = 1 << 20


def value(box: Box, controller: str, file_v1: str, file_v2: str) -> str:
    """A file of the container's cgroup: controller/file_v1 or file_v2."""
    if UNIFIED:
        return (Path("/sys/fs/cgroup", box.id) / file_v2).read_text().strip()
    own = next(
        line.split(":", 2)[2]
        for line in Path(f"/proc/{box.pid}/cgroup").read_text().splitlines()
        if controller in line.split(":")[1].split(",")
    )
    return Path(f"/sys/fs/cgroup/{controller}{own}", file_v1).read_text().strip()


def resources(box: Box, **values: Any) -> None:
    box.linux["resources"].update(values)


# -- paths ----------------------------------------------------------------------------------


def test_init_is_in_its_own_cgroup_everywhere(box: Box) -> None:
    """C01: of every hierarchy a directory named by cgroupsPath, and init in it when create returns."""
    box.create()
    pid = str(box.pid)
    made = cgroups(box.id)
    hierarchies = {name for name in os.listdir("/sys/fs/cgroup") if os.path.ismount(f"/sys/fs/cgroup/{name}")}
    expected = {""} if UNIFIED else hierarchies - {"unified"}
    assert len(made) >= len(expected)
    assert all(pid in Path(name, "cgroup.procs").read_text().split() for name in made)
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert all(line.endswith(f"/{box.id}") for line in lines if line.split(":")[1] in hierarchies)


@pyoci_only("1.1 waits for ever")
@v1_only
def test_frozen_parent(box: Box) -> None:
    """C02: init would not run, and not die either: that is said, in place of waiting for it."""
    parent = Path(f"/sys/fs/cgroup/freezer/{box.id}-parent")
    box.linux["cgroupsPath"] = f"/{parent.name}/inner"
    parent.mkdir()
    (parent / "freezer.state").write_text("FROZEN")
    try:
        result = box.create(check=False)
    finally:
        (parent / "freezer.state").write_text("THAWED")
    remove_cgroups(parent.name)
    assert result.code == 1
    assert "inner is below one that is frozen" in result.error
    assert "/linux/cgroupsPath" in result.error
    assert box.entries() == set()


def test_cgroups_path_is_relative_to_the_mount(box: Box) -> None:
    """C01: an absolute path starts at the root of the hierarchy, missing parents are made."""
    parent = f"{box.id}-parent"
    box.linux["cgroupsPath"] = f"/{parent}/a/b"
    box.create()
    assert any(line.endswith(f":/{parent}/a/b") for line in Path(f"/proc/{box.pid}/cgroup").read_text().splitlines())
    box.delete("--force")
    remove_cgroups(parent)


def test_relative_cgroups_path(box: Box) -> None:
    """C01: a relative one is the runtime's choice, and the same each time."""
    box.linux["cgroupsPath"] = f"{box.id}/rel"
    seen = set()
    for _ in range(2):
        box.create()
        lines = Path(f"/proc/{box.pid}/cgroup").read_text().splitlines()
        seen.add(next(line.split(":", 2)[2] for line in lines if "pids" in line or UNIFIED))
        box.delete("--force")
    assert len(seen) == 1
    assert seen.pop().endswith(f"{box.id}/rel")
    remove_cgroups(box.id)


def test_default_cgroups_path(box: Box) -> None:
    """C01: none given (buildah, rootless): named by the id."""
    del box.linux["cgroupsPath"]
    box.create()
    assert cgroups(box.id)
    box.delete("--force")
    assert not cgroups(box.id)


@pyoci_only('takes ".." for the root of the hierarchy')
@pytest.mark.parametrize("climb", ["/../{}", "../../../../{}", "/../../{}", "/a/../../../{}", "/{}/a/../b"])
def test_cgroups_path_cannot_climb(box: Box, climb: str) -> None:
    """C01 SECURITY 7: ".." is refused before anything is made, in or outside of a hierarchy."""
    box.linux["cgroupsPath"] = climb.format(box.id)
    result = box.create(check=False)
    assert (result.code, box.entries(), cgroups(box.id)) == (1, set(), set())
    assert "must not contain .." in result.error
    assert "/linux/cgroupsPath" in result.error


def test_two_containers_do_not_share(boxes: Callable[[], Box]) -> None:
    first, second = boxes(), boxes()
    first.up()
    second.up()
    assert cgroups(first.id).isdisjoint(cgroups(second.id))


@pyoci_only("1.1 warns and goes on")
def test_a_cgroup_in_use_is_refused(boxes: Callable[[], Box]) -> None:
    """C02: another container's cgroup: an error, and that container lives on."""
    first, second = boxes(), boxes()
    first.up()
    second.linux["cgroupsPath"] = first.linux["cgroupsPath"]
    result = second.create(check=False)
    assert result.code == 1
    assert second.entries() == {first.id}
    assert first.exec("echo", "alive").out == "alive\n"


def test_children_and_exec_are_in_the_cgroup(box: Box) -> None:
    """C24 P21"""
    box.script("sleep 100 & wait")
    box.up()
    file = box.bundle / "pid"
    box.rt("exec", "--detach", "--pid-file", str(file), box.id, "sleep", "99", stdout=None, stderr=None)
    directory = next(iter(cgroups(box.id)))
    until(lambda: len(Path(directory, "cgroup.procs").read_text().split()) == 3, "three processes")
    joined = int(file.read_text())
    assert all(str(joined) in Path(name, "cgroup.procs").read_text().split() for name in cgroups(box.id))
    os.kill(joined, 9)  # and reap it: init of the pid namespace ends after it only
    assert wait_for(joined) == -9


# -- limits ---------------------------------------------------------------------------------


def test_memory_limit(box: Box) -> None:
    """C05: written, and effective: the process that takes more is killed."""
    resources(box, memory={"limit": 32 * MIB, "swap": 32 * MIB})
    box.up()
    assert int(value(box, "memory", "memory.limit_in_bytes", "memory.max")) == 32 * MIB
    assert box.exec("probe", "eat", "8").out == "eaten\n"
    assert box.exec("probe", "eat", "64", check=False).code == 137


@pyoci_only("runc reports the limit")
def test_memory_limit_that_init_itself_exceeds(box: Box) -> None:
    resources(box, memory={"limit": 4096})
    result = box.create(check=False)
    assert result.code == 1
    assert "out of memory" in result.err or "memory.limit_in_bytes" in result.err or "memory.max" in result.err
    assert "/linux/resources/memory/limit" in result.err
    assert box.entries() == set()


def test_memory_reservation(box: Box) -> None:
    """C05"""
    resources(box, memory={"limit": 64 * MIB, "reservation": 16 * MIB})
    box.up()
    assert int(value(box, "memory", "memory.soft_limit_in_bytes", "memory.low")) == 16 * MIB


@v1_only
def test_memory_swappiness_and_oom_killer(box: Box) -> None:
    """C07: v1 files."""
    resources(box, memory={"swappiness": 33, "disableOOMKiller": True})
    result = box.create(check=False)
    if "memory.swappiness" not in os.listdir("/sys/fs/cgroup/memory"):
        assert result.code == 1
        return
    assert value(box, "memory", "memory.swappiness", "") == "33"
    assert "oom_kill_disable 1" in value(box, "memory", "memory.oom_control", "")


def test_pids_limit(box: Box) -> None:
    """C19: effective."""
    resources(box, pids={"limit": 20})
    box.up()
    assert value(box, "pids", "pids.max", "pids.max") == "20"
    assert int(box.exec("probe", "forks", "50").out) < 20


@pytest.mark.parametrize(("limit", "written"), [(-1, "max"), (1000, "1000")])
def test_pids_limit_values(box: Box, limit: int, written: str) -> None:
    """C19"""
    resources(box, pids={"limit": limit})
    box.create()
    assert value(box, "pids", "pids.max", "pids.max") == written


@pyoci_only("takes 0 as unlimited")
def test_pids_limit_of_zero(box: Box) -> None:
    """C19: 0 is a limit: the program runs, and cannot fork."""
    resources(box, pids={"limit": 0})
    box.up()
    assert value(box, "pids", "pids.max", "pids.max") == "0"


def test_cpu(box: Box) -> None:
    """C09 C12: shares, quota, period, cpus."""
    resources(box, cpu={"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"})
    box.up()
    if UNIFIED:
        assert value(box, "cpu", "", "cpu.max") == "20000 50000"
    else:
        assert value(box, "cpu", "cpu.shares", "") == "512"
        assert value(box, "cpu", "cpu.cfs_quota_us", "") == "20000"
        assert value(box, "cpu", "cpu.cfs_period_us", "") == "50000"
    assert status_field(box.exec("cat", "/proc/self/status").out, "Cpus_allowed_list") == "0"


def test_cpu_quota_alone_and_period_alone(box: Box) -> None:
    """C09"""
    resources(box, cpu={"quota": 30000})
    box.create()
    assert value(box, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "30000"
    box.delete("--force")
    resources(box, cpu={"period": 70000})
    box.create()
    assert value(box, "cpu", "cpu.cfs_period_us", "cpu.max").split()[-1] == "70000"


@pytest.mark.parametrize(
    "bad",
    [
        {"cpu": {"cpus": "9999"}},
        {"cpu": {"period": 1}},
        {"cpu": {"quota": 5, "period": 1000000}},
        {"memory": {"limit": 4096, "swap": 1}},
    ],
)
def test_limits_that_cannot_be_applied(box: Box, bad: dict[str, Any]) -> None:
    """L06 L21: an error, and no cgroup stays."""
    resources(box, **bad)
    result = box.create(check=False)
    assert result.code == 1
    assert result.error
    assert box.entries() == set()
    assert not cgroups(box.id)


@v1_only
def test_what_v2_alone_has_is_an_error(box: Box) -> None:
    """C22 the other way round: tests/vm has what v1 alone has."""
    resources(box, unified={"memory.max": str(64 * MIB)})
    result = box.create(check=False)
    assert result.code == 1
    assert "unified" in result.error
    assert (box.entries(), cgroups(box.id)) == (set(), set())


@pytest.mark.parametrize(
    "bad",
    [
        {"memory": {"limit": "64m"}},
        {"pids": {"limit": "1"}},
        {"cpu": {"shares": -1}},
        {"cpu": []},
        pytest.param({"devices": [{"access": "rwm"}]}, marks=pyoci_only("takes it as false")),
        pytest.param({"devices": [{"allow": True, "access": "rwx"}]}, marks=pyoci_only("drops the x")),
    ],
)
def test_limits_of_the_wrong_type(box: Box, bad: dict[str, Any]) -> None:
    """L24"""
    resources(box, **bad)
    assert box.create(check=False).code == 1


def test_zero_means_leave_alone(box: Box) -> None:
    """ENGINE-CONTRACT 2.2: docker sends zeros."""
    resources(
        box,
        memory={"limit": 0, "reservation": 0},
        cpu={"shares": 0, "quota": 0, "period": 0},
        blockIO={"weight": 0},
    )
    assert box.output("echo", "fine") == "fine\n"
