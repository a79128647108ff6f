"""Resources on pure cgroup v2: conversions, what v1 alone has, what the kernel refuses. C05 to C26."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pyoci
from pyoci.host import cgroup_options
from tests.integration.harness import TIMEOUT, Box, cgroups, until
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
        ("cgroup.procs", "no container can begin with it"),
        ("cgroup.freeze", "no container can begin with it"),
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
    ("where", "value"),
    [
        ("memory/kernel", 9 * MIB),
        ("memory/kernelTCP", 9 * MIB),
        ("memory/swappiness", 60),
        ("memory/disableOOMKiller", True),
        ("memory/useHierarchy", False),
        ("cpu/realtimeRuntime", 1000),
        ("cpu/realtimePeriod", 1000),
        ("blockIO/leafWeight", 100),
        ("blockIO/weightDevice/0/leafWeight", [{"major": MAJOR, "minor": MINOR, "leafWeight": 100}]),
        ("network/classID", 1),
        ("network/priorities", [{"name": "lo", "priority": 1}]),
    ],
)
def test_what_v1_alone_has_is_an_error(box: Box, where: str, value: Any) -> None:
    """C06 C07 C11 C15 C18 C22: said by create, before anything is made."""
    section, key = where.split("/")[:2]
    resources(box, **{section: {key: value}})
    result = box.create(check=False)
    assert result.code == 1
    assert "cannot be set on this cgroup version" in result.error
    assert f"/linux/resources/{where}" in result.error
    assert not box.entries()
    assert not cgroups(box.id)


def test_swap_is_what_is_over_memory(box: Box) -> None:
    """C05: equal means none."""
    resources(box, memory={"limit": 32 * MIB, "swap": 32 * MIB})
    box.create()
    assert values(box, "memory.max", "memory.swap.max") == {"memory.max": str(32 * MIB), "memory.swap.max": "0"}
    box.rt("update", "--memory", str(64 * MIB), "--memory-swap", "-1", box.id)
    assert values(box, "memory.max", "memory.swap.max") == {"memory.max": str(64 * MIB), "memory.swap.max": "max"}


def test_out_of_memory_is_told(box: Box) -> None:
    """The kernel's count; the limit as `events --stats` has it."""
    resources(box, memory={"limit": 16 * MIB, "swap": 16 * MIB})
    box.script("head -c 100m /dev/zero | tail >/dev/null; sleep 1000")
    box.create()
    box.start()
    directory = cgroup_of(box.pid)
    until(lambda: "oom_kill 1" in read(directory, "memory.events"), "an oom kill", timeout=30)
    stats = json.loads(box.rt("events", "--stats", box.id).out)["data"]
    assert stats["memory"]["usage"]["limit"] == 16 * MIB


@pytest.mark.parametrize("driver", ["box", "scoped"])
@pytest.mark.parametrize("group", ["0", "1"])
def test_an_oom_that_ends_the_container(request: pytest.FixtureRequest, driver: str, group: str) -> None:
    """`events` tells of it also when it is init that is killed, alone or with all the others, and then ends."""
    box: Box = request.getfixturevalue(driver)
    resources(box, memory={"limit": 16 * MIB, "swap": 16 * MIB}, unified={"memory.oom.group": group})
    box.script("sleep 1000 & while [ ! -e /go ]; do sleep 0.1; done; exec tail /dev/zero")
    box.up()
    with subprocess.Popen(box.argv("events", box.id), stdout=subprocess.PIPE, text=True) as stream:
        until(lambda: watched(stream.pid), "the watching")
        (box.rootfs / "go").touch()
        kinds = [json.loads(line)["type"] for line in stream.communicate(timeout=TIMEOUT)[0].splitlines()]
    assert stream.returncode == 0
    assert set(kinds) - {"stats"} == {"oom"}
    box.delete()


def watched(pid: int) -> bool:
    """Whether a process has memory.events open."""
    links = [os.path.realpath(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return any(link.endswith("/memory.events") for link in links)


def pressure(directory: Path) -> dict[str, dict[str, dict[str, float]]]:
    """What the kernel's files say, by the names that `events` has for them."""
    files = {"cpu": "cpu.pressure", "memory": "memory.pressure", "blkio": "io.pressure"}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, file in files.items():
        lines = [line.split() for line in read(directory, file).splitlines()]
        found[name] = {kind: {k: float(v) for k, v in (p.split("=") for p in pairs)} for kind, *pairs in lines}
    return found


def test_pressure(box: Box) -> None:
    """PSI as `events --stats` has it is what the files of all three controllers say, after there was some."""
    resources(box, memory={"limit": 16 * MIB, "swap": 16 * MIB}, cpu={"quota": 60000, "period": 100000})
    copy = "dd if=/dev/zero of=/file bs=64k count=320 conv=fsync 2>/dev/null; cat /file >/dev/null"
    box.script(f"while :; do :; done & while :; do {copy}; done")
    box.up()
    directory = cgroup_of(box.pid)

    def felt() -> bool:
        some = [kinds["some"] for kinds in pressure(directory).values()]
        return all(one["total"] > 0 for one in some) and any(one["avg10"] > 0 for one in some)

    until(felt, "pressure on processors, memory and disk", timeout=60)
    box.rt("pause", box.id)  # the totals stay; averages change every two seconds
    said: dict[str, Any] = {}

    def steady() -> bool:
        before = pressure(directory)
        stats = json.loads(box.rt("events", "--stats", box.id).out)["data"]
        said.update({name: stats[name]["psi"] for name in before})
        return said == before == pressure(directory)

    until(steady, "the kernel's own numbers", timeout=60)


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


@pytest.mark.parametrize("driver", ["box", "scoped"])
def test_devices_stay_shut_while_others_change(request: pytest.FixtureRequest, driver: str) -> None:
    """C23: by either driver: who tries all the time is not let in between two lists of rules."""
    box: Box = request.getfixturevalue(driver)
    box.linux["devices"] = [{"path": "/dev/disk", "type": "b", "major": MAJOR, "minor": MINOR, "fileMode": 0o666}]
    box.script("while ! { true </dev/disk; } 2>/dev/null; do :; done")
    box.up()
    container = pyoci.Container.open(box.id, root=str(box.root))
    for minor in range(30):
        rule = {"allow": True, "type": "c", "major": 7, "minor": minor, "access": "r"}
        container.update({"devices": [rule], "pids": {"limit": 100 + minor}})
    assert box.status == "running"
    with contextlib.suppress(pyoci.Error):  # it ends, and its cgroup goes, while the other values are looked after
        container.update({"devices": [{"allow": True, "access": "rwm"}]})
    until(lambda: box.status == "stopped", "the end of its attempts")


# -- the tree (no internal processes, threads) ----------------------------------------------------


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
    """A setting that needs one is an error that names the parent; without settings there is no need for any."""
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "1000"])
    try:
        (parent / "cgroup.procs").write_text(str(pid))
        resources(box, memory={"limit": 32 * MIB})
        result = box.create(check=False)
        assert result.code == 1
        assert f"set memory.max to {32 * MIB} in {parent}/inner: cgroup {parent} has 1 processes" in result.error
        assert "/linux/resources/memory/limit" in result.error
        assert not (parent / "inner").exists()
        del box.linux["resources"]["memory"]
        box.create()
        assert cgroup_of(box.pid) == parent / "inner"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("kind", ["threaded", "domain threaded"])
def test_threaded_parent(box: Box, parent: Path, kind: str) -> None:
    """C02: below threads the container is threaded as well, with the controllers of threads: it lives as any other."""
    threads = parent / "threads" if kind == "domain threaded" else parent
    threads.mkdir(exist_ok=True)
    (threads / "cgroup.type").write_text("threaded")
    assert read(parent, "cgroup.type") == kind
    resources(box, pids={"limit": 50}, cpu={"quota": 50000, "cpus": "0"})
    box.up()
    assert cgroup_of(box.pid) == parent / "inner"
    shown = values(box, "cgroup.type", "pids.max", "cpu.max", "cpuset.cpus")
    assert list(shown.values()) == ["threaded", "50", "50000 100000", "0"]
    assert box.exec("cat", "/proc/self/cgroup").out == f"0::/{parent.name}/inner\n"
    assert json.loads(box.rt("ps", "--format", "json", box.id).out) == [box.pid]
    assert json.loads(box.rt("events", "--stats", box.id).out)["data"]["pids"]["limit"] == 50
    box.rt("pause", box.id)
    assert "frozen 1" in values(box, "cgroup.events")["cgroup.events"]
    box.delete("--force")
    assert not (parent / "inner").exists()


def test_threaded_parent_and_what_threads_cannot_have(box: Box, parent: Path) -> None:
    """C02: that is said, and nothing stays."""
    (parent / "cgroup.type").write_text("threaded")
    resources(box, memory={"limit": 32 * MIB})
    result = box.create(check=False)
    assert result.code == 1
    assert f"set memory.max to {32 * MIB} in {parent}/inner: cgroup {parent} is of type 'threaded'" in result.error
    assert "/linux/resources/memory/limit" in result.error
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
    assert "nsdelegate" in cgroup_options.current()
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    assert "system.slice" in box.sh("ls /sys/fs/cgroup; ! mkdir /sys/fs/cgroup/x 2>/dev/null").split()
    assert "nsdelegate" in cgroup_options.current()


def test_cgroup_mount_in_the_hosts_namespace(box: Box) -> None:
    """M17 N02: the same in a namespace that is joined by path, as of a container that has the host's."""
    before = cgroup_options.current()
    assert "nsdelegate" in before
    box.namespace("cgroup", "/proc/self/ns/cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    assert "system.slice" in box.sh("ls /sys/fs/cgroup").split()
    assert cgroup_options.current() == before
