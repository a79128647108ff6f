"""Resources on pure cgroup v2: conversions, what v1 alone has, what the kernel refuses. C05 to C26."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Box, until
from tests.vm.inside.tools import CGROUPS, MIB, cgroup_of, read

if TYPE_CHECKING:
    from collections.abc import Iterator
DISK = "254:0"  # the root disk
MAJOR, MINOR = map(int, DISK.split(":"))


def values(box: Box, *names: str) -> dict[str, str]:
    directory = cgroup_of(box.pid)
    return {name: read(directory, name) for name in names}


def resources(box: Box, **more: Any) -> None:
    box.linux["resources"].update(more)


def test_disk_is_the_one_that_is_meant() -> None:
    assert f"{os.major(os.stat('/dev/vda').st_rdev)}:{os.minor(os.stat('/dev/vda').st_rdev)}" == DISK


def test_block_io(box: Box) -> None:
    """C14 C16: weights and throttles as io.* has them."""
    device = {"major": MAJOR, "minor": MINOR}
    resources(
        box,
        blockIO={
            "weight": 500,
            "throttleReadBpsDevice": [{**device, "rate": MIB}],
            "throttleWriteBpsDevice": [{**device, "rate": 2 * MIB}],
            "throttleReadIOPSDevice": [{**device, "rate": 100}],
            "throttleWriteIOPSDevice": [{**device, "rate": 200}],
        },
    )
    box.create()
    shown = values(box, "io.max", "io.weight")
    assert shown["io.max"] == f"{DISK} rbps={MIB} wbps={2 * MIB} riops=100 wiops=200"
    assert shown["io.weight"].splitlines()[0] == "default 4950"
    box.rt("update", "--blkio-weight", "10", box.id)
    assert values(box, "io.weight")["io.weight"].splitlines()[0] == "default 1"


@pytest.fixture
def bfq() -> Iterator[None]:
    """The scheduler that takes the old numbers, and numbers for one disk."""
    file = "/sys/block/vda/queue/scheduler"
    os.system("modprobe bfq")
    with open(file, "w", encoding="ascii") as scheduler:
        scheduler.write("bfq")
    yield
    with open(file, "w", encoding="ascii") as scheduler:
        scheduler.write("none")


@pytest.mark.usefixtures("bfq")
def test_weights_of_bfq(box: Box) -> None:
    """C14: io.bfq.weight takes blkio's numbers, for one disk too."""
    weight = {"major": MAJOR, "minor": MINOR, "weight": 30}
    resources(box, blockIO={"weight": 500, "weightDevice": [weight]})
    box.create()
    assert values(box, "io.bfq.weight")["io.bfq.weight"].splitlines() == ["default 500", f"{DISK} 30"]


@pytest.fixture
def iocost() -> Iterator[None]:
    """The controller behind io.weight, switched on for the disk."""
    file = CGROUPS / "io.cost.qos"
    file.write_text(f"{DISK} enable=1")
    yield
    file.write_text(f"{DISK} enable=0")


@pytest.mark.usefixtures("iocost")
def test_weight_of_one_disk(box: Box) -> None:
    """C14: for a disk that is not bfq's the kernel's own weights, converted."""
    resources(box, blockIO={"weightDevice": [{"major": MAJOR, "minor": MINOR, "weight": 500}]})
    box.create()
    assert f"{DISK} 4950" in values(box, "io.weight")["io.weight"].splitlines()


def test_huge_pages(box: Box) -> None:
    """C17: reservations and faults are both limited."""
    resources(box, hugepageLimits=[{"pageSize": "2MB", "limit": 2 * MIB}])
    box.create()
    assert set(values(box, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max").values()) == {str(2 * MIB)}


def test_cpu_burst_and_idle(box: Box) -> None:
    """C10 C13"""
    resources(box, cpu={"quota": 20000, "period": 40000, "burst": 10000, "idle": 1})
    box.create()
    shown = values(box, "cpu.max", "cpu.max.burst", "cpu.idle")
    assert shown == {"cpu.max": "20000 40000", "cpu.max.burst": "10000", "cpu.idle": "1"}
    box.rt("update", "--cpu-idle", "0", "--cpu-burst", "0", "--cpu-quota", "-1", box.id)
    shown = values(box, "cpu.max", "cpu.max.burst", "cpu.idle")
    assert shown == {"cpu.max": "max 40000", "cpu.max.burst": "0", "cpu.idle": "0"}


def test_pids(box: Box) -> None:
    """C19: 0 is a limit, -1 is none; init is in before either."""
    resources(box, pids={"limit": 0})
    box.up()
    assert values(box, "pids.max")["pids.max"] == "0"
    assert "a limit of processes is reached" in box.exec("true", check=False).error
    box.rt("update", "--pids-limit", "-1", box.id)
    assert values(box, "pids.max")["pids.max"] == "max"
    assert box.exec("true").code == 0


def test_rdma_of_no_device(box: Box) -> None:
    """C20: this kernel has the controller and no device for it: its refusal has words."""
    resources(box, rdma={"mlx5_1": {"hcaHandles": 3}})
    result = box.create(check=False)
    assert result.code == 1
    assert "rdma.max" in result.error
    assert "/linux/resources/rdma" in result.error
    assert not box.entries()


def test_unified(box: Box) -> None:
    """C21: any file, and its own words win over the converted ones."""
    resources(
        box,
        memory={"limit": 64 * MIB},
        unified={"memory.max": str(32 * MIB), "memory.oom.group": "1", "io.max": f"{DISK} riops=7\n{DISK} wiops=8"},
    )
    box.create()
    shown = values(box, "memory.max", "memory.oom.group", "io.max")
    assert shown == {
        "memory.max": str(32 * MIB),
        "memory.oom.group": "1",
        "io.max": f"{DISK} rbps=max wbps=max riops=7 wiops=8",
    }


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("perf_event.x", "controller perf_event is not available"),
        ("memory.no_such", "no such file"),
        ("cgroup.procs", ""),
    ],
)
def test_unified_that_cannot_be(box: Box, key: str, said: str) -> None:
    """C21"""
    resources(box, unified={key: "x"})
    result = box.create(check=False)
    assert result.code == 1
    assert said in result.error
    assert f"/linux/resources/unified/{key}" in result.error


@pytest.mark.parametrize(
    "bad",
    [
        {"memory": {"kernel": 9 * MIB}},
        {"memory": {"kernelTCP": 9 * MIB}},
        {"memory": {"swappiness": 60}},
        {"memory": {"disableOOMKiller": True}},
        {"memory": {"useHierarchy": False}},
        {"cpu": {"realtimeRuntime": 1000}},
        {"blockIO": {"leafWeight": 100}},
        {"network": {"classID": 1}},
        {"network": {"priorities": [{"name": "lo", "priority": 1}]}},
    ],
    ids=lambda bad: next(f"{section}.{key}" for section, keys in bad.items() for key in keys),
)
def test_what_v1_alone_has_is_an_error(box: Box, bad: dict[str, Any]) -> None:
    """C06 C07 C11 C15 C18 C22"""
    resources(box, **bad)
    box.write()
    result = box.rt("plan", str(box.bundle), check=False)
    ((section, keys),) = bad.items()
    assert result.code == 1
    assert "cannot be set on this cgroup version" in result.error
    assert f"/linux/resources/{section}/{next(iter(keys))}" in result.error


def test_swap_is_what_is_over_memory(box: Box) -> None:
    """C05: equal means none."""
    resources(box, memory={"limit": 32 * MIB, "swap": 32 * MIB})
    box.create()
    assert values(box, "memory.max", "memory.swap.max") == {"memory.max": str(32 * MIB), "memory.swap.max": "0"}
    box.rt("update", "--memory", str(64 * MIB), "--memory-swap", "-1", box.id)
    assert values(box, "memory.max", "memory.swap.max") == {"memory.max": str(64 * MIB), "memory.swap.max": "max"}


def test_out_of_memory_is_told(box: Box) -> None:
    """The kernel's count; limits and pressure (PSI) as `events --stats` has them."""
    resources(box, memory={"limit": 16 * MIB, "swap": 16 * MIB})
    box.script("head -c 100m /dev/zero | tail >/dev/null; sleep 1000")
    box.create()
    box.start()
    directory = cgroup_of(box.pid)
    until(lambda: "oom_kill 1" in read(directory, "memory.events"), "an oom kill", timeout=30)
    stats = json.loads(box.rt("events", "--stats", box.id).out)["data"]
    assert stats["memory"]["usage"]["limit"] == 16 * MIB
    assert set(stats["memory"]["psi"]) == {"some", "full"}


# -- devices --------------------------------------------------------------------------------------


def test_devices_by_program(box: Box) -> None:
    """C23: the last rule that matches decides; update replaces the whole list at once."""
    node = {"path": "/dev/disk", "type": "b", "major": MAJOR, "minor": MINOR, "fileMode": 0o666}
    box.linux["devices"] = [node]
    allow = {"allow": True, "type": "b", "major": MAJOR, "minor": MINOR, "access": "r"}
    deny = {"allow": False, "access": "rwm"}
    resources(box, devices=[deny, allow])
    box.up()
    readable, writable = ["head", "-c1", "/dev/disk"], ["sh", "-c", ": >>/dev/disk"]
    assert box.exec(*readable).code == 0
    assert box.exec(*writable, check=False).code != 0
    file = box.bundle / "resources.json"
    for rules, expected in (([deny], False), ([{"allow": True, "access": "rwm"}], True), ([deny, allow], True)):
        file.write_text(str({"devices": rules}).replace("'", '"').replace("True", "true").replace("False", "false"))
        box.rt("update", "--resources", str(file), box.id)
        assert (box.exec(*readable, check=False).code == 0) is expected
        assert box.exec("sh", "-c", "echo >/dev/null").code == 0


# -- the tree (no internal processes, threads, delegation) ----------------------------------------


@pytest.fixture
def parent(box: Box) -> Iterator[Path]:
    """A cgroup of the test's own at the top, in which the box is to be."""
    directory = CGROUPS / f"{box.id}-parent"
    directory.mkdir()
    box.linux["cgroupsPath"] = f"/{directory.name}/inner"
    yield directory
    box.destroy()
    for file in directory.glob("*/cgroup.procs"):
        file.parent.rmdir()
    directory.rmdir()


def test_parent_with_processes_hands_out_no_controllers(box: Box, parent: Path) -> None:
    """A setting that needs one is an error; without settings there is no need for any."""
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "1000"])
    try:
        (parent / "cgroup.procs").write_text(str(pid))
        resources(box, memory={"limit": 32 * MIB})
        result = box.create(check=False)
        assert result.code == 1
        assert "set memory.max" in result.error
        assert "/linux/resources/memory/limit" in result.error
        del box.linux["resources"]["memory"]
        box.create()
        assert cgroup_of(box.pid) == parent / "inner"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_threaded_parent(box: Box, parent: Path) -> None:
    """Below a threaded cgroup there are no domains: that is said, and nothing stays."""
    (parent / "cgroup.type").write_text("threaded")
    result = box.create(check=False)
    assert result.code == 1
    assert "operation not supported" in result.error.lower()
    assert not (parent / "inner").exists()


def test_frozen_parent(box: Box, parent: Path) -> None:
    """C02: nothing can be done in there; that is said, in place of waiting for ever."""
    (parent / "cgroup.freeze").write_text("1")
    result = box.create(check=False)
    assert result.code == 1
    assert "frozen" in result.error
    assert "/linux/cgroupsPath" in result.error
    assert not (parent / "inner").exists()


def test_manager_disabled(box: Box) -> None:
    """C03: it stays in the cgroup of who called."""
    own = Path("/proc/self/cgroup").read_text().strip()
    box.args("cat", "/proc/self/cgroup")
    box.write()
    argv = ("--cgroup-manager", "disabled", "run", "--bundle", str(box.bundle), box.id)
    assert box.rt(*argv).out.strip() == own


def test_exec_goes_where_init_went(box: Box) -> None:
    """C24: a container that hands controllers to its own cgroups has no processes at its top any more."""
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    script = "cd /sys/fs/cgroup; mkdir init; echo 1 >init/cgroup.procs; echo +memory >cgroup.subtree_control"
    box.script(f"{script}; exec sleep 1000")
    box.up()
    directory = CGROUPS / box.id
    until(lambda: read(directory, "cgroup.subtree_control") == "memory", "the container's own cgroups")
    assert box.exec("cat", "/proc/self/cgroup").out == "0::/init\n"
    assert box.rt("exec", "--cgroup", "/init", box.id, "cat", "/proc/self/cgroup").out == "0::/init\n"


def test_kill_all_takes_the_tree(box: Box) -> None:
    """C24: cgroup.kill, in the host's pid namespace too."""
    box.no_namespace("pid")
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    box.script("mkdir /sys/fs/cgroup/sub; sleep 1000 & echo $! >/sys/fs/cgroup/sub/cgroup.procs; wait")
    box.up()
    directory = CGROUPS / box.id / "sub"
    until(lambda: (directory / "cgroup.procs").exists() and read(directory, "cgroup.procs"), "a process below")
    box.rt("kill", "--all", box.id, "KILL")
    until(lambda: read(directory, "cgroup.procs") == "", "an empty cgroup")
    box.delete()
    assert not directory.parent.exists()


# -- the mount ------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["ro", "rw"])
def test_cgroup_mount(box: Box, option: str) -> None:
    """M17: in a cgroup namespace the container's cgroup is the root of what it sees; rw is writable."""
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", option)
    script = "head -n1 /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; true"
    lines = box.sh(f"{script}; grep ' /sys/fs/cgroup ' /proc/self/mountinfo").splitlines()
    assert lines[0] == "1"
    assert ("made" in lines) is (option == "rw")
    assert option in lines[-1].split()[5].split(",")
    assert " - cgroup2 " in lines[-1]


def test_cgroup_mount_of_the_host(box: Box) -> None:
    """M17: without a namespace it is the host's tree; the options of the host's mount stay as they are."""

    def options() -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return next(line for line in lines if f" {CGROUPS} " in line).split()[-1].split(",")

    # as systemd mounts it, whatever others (criu) have made of it since
    subprocess.run(["mount", "-o", "remount,nsdelegate,memory_recursiveprot", CGROUPS], check=True)
    assert "nsdelegate" in options()
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    assert "system.slice" in box.sh("ls /sys/fs/cgroup; ! mkdir /sys/fs/cgroup/x 2>/dev/null").split()
    assert "nsdelegate" in options()


def test_ownership_is_delegated(box: Box) -> None:
    """C04: with a cgroup namespace and a writable mount, its root user owns the directory and what the kernel lists."""
    box.userns(host=100000)
    for path in [box.rootfs, *box.rootfs.rglob("*")]:
        os.chown(path, 100000, 100000, follow_symlinks=False)
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    box.create()
    directory = cgroup_of(box.pid)
    with open("/sys/kernel/cgroup/delegate", encoding="ascii") as file:
        listed = set(file.read().split())
    owners = {path.name: path.stat().st_uid for path in directory.iterdir()}
    assert directory.stat().st_uid == 100000
    for name, owner in owners.items():
        assert owner == (100000 if name in listed else 0), name


def test_ownership_stays_without_a_writable_mount(box: Box) -> None:
    """C04"""
    box.userns(host=100000)
    for path in [box.rootfs, *box.rootfs.rglob("*")]:
        os.chown(path, 100000, 100000, follow_symlinks=False)
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    box.create()
    assert cgroup_of(box.pid).stat().st_uid == 0
