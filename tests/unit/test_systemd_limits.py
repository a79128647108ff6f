"""What systemd is told of the values in cgroup files, and what it is known to write. C26."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import container_update, errors
from pyoci.host import cgroupfs, systemd
from pyoci.plan import cgroup, systemd_limits
from pyoci.plan.cgroup import Write

INFINITY = 2**64 - 1
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")
DIRS = {1: {name: f"/cg/{name}" for name in ("cpu", "cpuset", "memory", "pids", "blkio")}, 2: {"": "/cg"}}


def told(resources: dict[str, Any], version: int = 2) -> dict[str, Any]:
    record = {"version": version, "dirs": DIRS[version]}
    return systemd_limits.told(cgroup.settings(record, resources, CONTROLLERS), version)


def unified(**files: str) -> dict[str, Any]:
    return told({"unified": {name.replace("_", "."): text for name, text in files.items()}})


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 1 << 20}}, {"MemoryMax": 1 << 20}),
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        ({"memory": {"limit": 100, "swap": 150}}, {"MemoryMax": 100, "MemorySwapMax": 50}),
        ({"memory": {"limit": 100, "swap": 100}}, {"MemoryMax": 100, "MemorySwapMax": 0}),
        ({"memory": {"reservation": 5}}, {"MemoryLow": 5}),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": 0}),
        ({"cpu": {"shares": 1024, "idle": 0}}, {"CPUWeight": 100}),
        ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500000, "CPUQuotaPeriodUSec": 100000}),
        ({"cpu": {"quota": 33333, "period": 50000}}, {"CPUQuotaPerSecUSec": 670000, "CPUQuotaPeriodUSec": 50000}),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 100000}),
        ({"pids": {"limit": 5}}, {"TasksMax": 5}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"blockIO": {"weight": 500}}, {"IOWeight": 4950}),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}}, {}),
        ({"memory": {"limit": 5}, "unified": {"memory.max": "6\n"}}, {"MemoryMax": 6}),
    ],
)
def test_resources(resources: dict[str, Any], expected: dict[str, int]) -> None:
    assert told(resources) == {name: ("t", number) for name, number in expected.items()}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 9, "swap": 20}}, {"MemoryLimit": 9}),
        ({"memory": {"limit": -1}}, {"MemoryLimit": INFINITY}),
        ({"cpu": {"shares": 512, "cpus": "0", "idle": 1}}, {"CPUShares": 512}),
        ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500000}),
        ({"cpu": {"quota": 50000, "period": 50000}}, {"CPUQuotaPerSecUSec": 1000000, "CPUQuotaPeriodUSec": 50000}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"blockIO": {"weight": 500}}, {"BlockIOWeight": 500}),
    ],
)
def test_resources_of_version_1(resources: dict[str, Any], expected: dict[str, int]) -> None:
    assert told(resources, 1) == {name: ("t", number) for name, number in expected.items()}


def test_the_kernels_own_words() -> None:
    assert unified(
        cpu_max="20000 40000\n",
        cpu_weight="5",
        cpuset_cpus="0-2,9",
        cpuset_mems="0",
        io_weight="default 77",
        memory_high="0",
        memory_low="0",
        memory_max="1G",
        memory_min="16k",
        memory_swap_max="0",
        pids_max="max",
    ) == {
        "CPUQuotaPerSecUSec": ("t", 500000),
        "CPUQuotaPeriodUSec": ("t", 40000),
        "CPUWeight": ("t", 5),
        "AllowedCPUs": ("ay", b"\x07\x02"),
        "AllowedMemoryNodes": ("ay", b"\x01"),
        "IOWeight": ("t", 77),
        "MemoryHigh": ("t", 1),  # 0 is refused
        "MemoryLow": ("t", 0),
        "MemoryMax": ("t", 1 << 30),
        "MemoryMin": ("t", 16 << 10),
        "MemorySwapMax": ("t", 0),
        "TasksMax": ("t", INFINITY),
    }
    assert unified(cpu_max="max") == {"CPUQuotaPerSecUSec": ("t", INFINITY)}
    assert unified(cpu_idle="1") == unified(cpu_weight="7", cpu_idle="1") == {"CPUWeight": ("t", 0)}


@pytest.mark.parametrize(
    "text",
    ["", "x", "-2", "1.5", "0x10", "010", "1_0", "\u0663", "\u00b2", "1KB", "k", "16E", "9" * 30, "9" * 5000, "1 2 3"],
)
@pytest.mark.parametrize(
    "file", sorted({name for table in systemd_limits.NUMBERS.values() for name in table} | {"cpu.max"})
)
def test_what_is_no_value_is_not_told(file: str, text: str) -> None:
    """The kernel refuses it, or knows it in a way that this does not."""
    for version in (1, 2):
        made = systemd_limits.told([Write(f"/cg/{file}", text, "")], version)
        assert {name: value for name, value in made.items() if name != "CPUQuotaPeriodUSec"} in (
            {},
            {"CPUQuotaPerSecUSec": ("t", 500000)},
        )


@given(st.sets(st.integers(0, 300), min_size=1))
def test_mask_has_the_bits_of_the_list(numbers: set[int]) -> None:
    found = int.from_bytes(systemd_limits.mask(",".join(map(str, sorted(numbers))), ""), "little")
    assert {bit for bit in range(found.bit_length()) if found >> bit & 1} == numbers


@pytest.mark.parametrize("text", ["a", "3-1", "1-", "99999", "0-3:1/2", "-1", "9" * 5000, "1-\u00b2"])
def test_mask_refuses_what_it_does_not_know(text: str) -> None:
    with pytest.raises(errors.InvalidConfig) as caught:
        unified(cpuset_cpus=text)
    assert caught.value.where == "/linux/resources/unified/cpuset.cpus"
    assert len(caught.value.message) < 200


@given(st.integers(1, 1000))
def test_weight_of_bfq_is_what_systemd_makes_of_it(weight: int) -> None:
    """BFQ_WEIGHT in systemd's src/basic/cgroup-util.h."""
    (wide,) = [value for _, value in unified(io_bfq_weight=str(weight)).values()]
    assert weight == (1 + (wide - 1) * 99 // 99 if wide <= 100 else 100 + (wide - 100) * 900 // 9900)
    assert 1 <= wide <= 10000


@pytest.mark.parametrize("version", [1, 2])
def test_every_file_that_is_told_is_one_that_is_written(version: int) -> None:
    names = [file.rpartition("/")[2] for file in systemd_limits.written({"version": version, "dirs": DIRS[version]})]
    assert {*systemd_limits.NUMBERS[version]} <= {*names}


# -- update ---------------------------------------------------------------------------------------


class Manager:
    """systemd: notes what it is told, and writes every file that it knows as it likes."""

    def __init__(self, directory: Path, **files: str) -> None:
        self.directory = directory
        self.writes = {name.replace("_", "."): text for name, text in files.items()}
        self.told: dict[str, Any] = {}
        self.refuses = False

    def set_properties(self, record: dict[str, Any], properties: dict[str, Any]) -> None:
        assert record == {"unit": "x.scope", "user": False}
        if self.refuses:
            raise errors.SetupError("systemd refuses SetUnitProperties")
        self.told = {name: value for name, (_, value) in properties.items()}
        for name, text in self.writes.items():
            (self.directory / name).write_text(text)


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in directory.iterdir()}


def write(file: str, text: str) -> None:
    if not Path(file).exists():
        raise FileNotFoundError(errno.ENOENT, "", file)
    Path(file).write_text(text)


def scope(directory: Path, **contents: str) -> dict[str, Any]:
    for name, text in contents.items():
        (directory / name.replace("_", ".")).write_text(text)
    return {"version": 2, "dirs": {"": str(directory)}, "systemd": {"unit": "x.scope", "user": False}}


def update(
    record: dict[str, Any], resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch, manager: Manager
) -> None:
    class Machine:
        cgroup_controllers = CONTROLLERS

    monkeypatch.setattr(systemd, "set_properties", manager.set_properties)
    monkeypatch.setattr(container_update.facts, "read", Machine)
    monkeypatch.setattr(cgroupfs, "write", write)
    container_update._update(record, resources)


def test_update_gives_back_what_systemd_overwrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = scope(
        tmp_path, cpu_idle="1", cpu_weight="0", cpu_max="33333 100000", io_weight="default 50", memory_max="7"
    )
    manager = Manager(tmp_path, cpu_idle="0", cpu_weight="100", cpu_max="max 100000", io_weight="100", memory_max="5")
    update(record, {"memory": {"limit": 5}}, monkeypatch, manager)
    assert manager.told == {"MemoryMax": 5}
    found = files(tmp_path)
    assert found.pop("cpu.weight") == "100"  # the kernel's doing: 0 cannot be written
    assert found == {"cpu.idle": "1", "cpu.max": "33333 100000", "io.weight": "50", "memory.max": "5"}


def test_update_tells_what_the_kernel_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight comes back with the end of idle; half of a quota is of no use."""
    record = scope(tmp_path, cpu_idle="1", cpu_weight="300", cpu_max="9000 10000")
    manager = Manager(tmp_path)
    update(record, {"cpu": {"idle": 0}, "unified": {"cpu.max": "5000 20000"}}, monkeypatch, manager)
    assert manager.told == {"CPUWeight": 300, "CPUQuotaPerSecUSec": 250000, "CPUQuotaPeriodUSec": 20000}


def test_update_that_fails_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = scope(tmp_path, memory_max="7")
    manager = Manager(tmp_path)
    with pytest.raises(errors.SetupError, match=r"set pids\.max"):
        update(record, {"memory": {"limit": 5}, "pids": {"limit": 5}}, monkeypatch, manager)
    assert not manager.told
    assert files(tmp_path) == {"memory.max": "7"}


def test_update_that_systemd_refuses_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = scope(tmp_path, memory_max="7")
    manager = Manager(tmp_path)
    manager.refuses = True
    with pytest.raises(errors.SetupError, match="refuses"):
        update(record, {"memory": {"limit": 5}}, monkeypatch, manager)
    assert files(tmp_path) == {"memory.max": "7"}


@pytest.mark.parametrize("lost", ["memory.max", "cpu.weight", "pids.max"])
def test_an_update_is_undone_as_far_as_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """First, in the middle or last: what takes its old value no longer keeps no other from it."""
    values = {"memory.max": "7", "cpu.weight": "8", "pids.max": "9"}
    record = scope(tmp_path, **{name.replace(".", "_"): text for name, text in values.items()})

    class Vandal(Manager):
        def set_properties(self, record: dict[str, Any], properties: dict[str, Any]) -> None:
            (tmp_path / lost).unlink()
            super().set_properties(record, properties)

    manager = Vandal(tmp_path)
    manager.refuses = True
    with pytest.raises(errors.SetupError, match=rf"refuses.*; and what was before could not be restored: .*{lost}"):
        update(
            record, {"memory": {"limit": 5}, "unified": {"cpu.weight": "5"}, "pids": {"limit": 5}}, monkeypatch, manager
        )
    assert files(tmp_path) == {name: text for name, text in values.items() if name != lost}


# -- versions -------------------------------------------------------------------------------------


class Bus:
    def __init__(self, version: str) -> None:
        self.version = version

    def fact(self, name: str) -> str:
        assert name == "Version"
        return self.version


@pytest.mark.parametrize(
    ("version", "knows"),
    [
        ("252.39-1~deb12u1", True),
        ("v257~rc1", True),
        ("251.4", False),
        ("systemd 239 (239-82.el8)", False),
        ("", False),
    ],
)
def test_idle_is_told_to_a_systemd_that_knows_it(version: str, knows: bool) -> None:
    idle = {"CPUWeight": systemd_limits.IDLE, "TasksMax": ("t", 5)}
    made = systemd._known(Bus(version), idle)  # type: ignore[arg-type]
    assert ("CPUWeight" in made) is knows
    assert made["TasksMax"] == ("t", 5)
