"""update: its flags, what it fills in, and what undoes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyoci import container_update, errors
from pyoci.cli import options, update
from pyoci.host import cgroup_make, cgroup_values, schemata
from pyoci.plan.cgroup import Write


def flags(*argv: str) -> dict[str, object]:
    return update.flags(options.parse([*argv, "id"], update.OPTIONS))


def test_every_flag_is_an_option() -> None:
    names = {option.name for option in update.OPTIONS}
    assert names == {"resources", *update.FLAGS, *update.RDT}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-1", -1),
        ("1048576", 1 << 20),
        ("512b", 512),
        ("64k", 64 << 10),
        ("64K", 64 << 10),
        ("3m", 3 << 20),
        ("3MB", 3 << 20),
        ("3MiB", 3 << 20),
        ("1.5g", 3 << 29),
        ("2T", 2 << 40),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert update.size(text, "memory") == number


@pytest.mark.parametrize("text", ["", "m", "x", "1x", "1.2.3", "--1", "1 m", "٣", "1e3", "0x10", "ib", "1_0",
                                  "9" * 5000, "9" * 4300 + "t", "9" * 400 + ".0", "\u00b2"])  # fmt: skip
def test_no_sizes(text: str) -> None:
    with pytest.raises(errors.UsageError, match="for flag -memory"):
        update.size(text, "memory")


@pytest.mark.parametrize("text", ["", "x", "1.5", "1_0", "٣", "0x1", "9" * 5000, "\u00b2"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(errors.UsageError, match="for flag -cpu-quota"):
        flags("--cpu-quota", text)


def test_flags() -> None:
    assert flags(
        "--memory=1g", "--memory-swap", "-1", "--cpu-quota", "-1", "--cpuset-cpus", "0-1", "--pids-limit=5"
    ) == {
        "memory": {"limit": 1 << 30, "swap": -1},
        "cpu": {"quota": -1, "cpus": "0-1"},
        "pids": {"limit": 5},
    }
    assert flags("--memory-high", "1m", "--memory-low=-1") == {
        "unified": {"memory.high": "1048576", "memory.low": "max"}
    }
    assert flags() == {}


def test_zeros_of_docker_change_nothing() -> None:
    assert container_update.without_zeros({"pids": {"limit": 0}, "cpu": {}}) == {"pids": {}, "cpu": {}}
    assert container_update.without_zeros({"pids": {"limit": 5}}) == {"pids": {"limit": 5}}


def v2(tmp_path: Path, **files: str) -> dict[str, object]:
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content + "\n")
    return {"version": 2, "dirs": {"": str(tmp_path)}}


@pytest.mark.parametrize(
    ("given", "quota", "period"),
    [({"quota": 5000}, 5000, 200000), ({"period": 9000}, 70000, 9000), ({"quota": -1}, -1, 200000)],
)
def test_v2_quota_and_period_stay_together(tmp_path: Path, given: dict[str, int], quota: int, period: int) -> None:
    record = v2(tmp_path, cpu_max="70000 200000")
    assert container_update.complete(record, {"cpu": given})["cpu"] == {"quota": quota, "period": period}


def test_v2_swap_is_counted_from_the_limit_there_is(tmp_path: Path) -> None:
    record = v2(tmp_path, memory_max="1000")
    assert container_update.complete(record, {"memory": {"swap": 3000}})["memory"] == {"swap": 3000, "limit": 1000}
    record = v2(tmp_path, memory_max="max")
    assert container_update.complete(record, {"memory": {"swap": 3000}})["memory"]["limit"] == 0
    assert "limit" not in container_update.complete(record, {"memory": {"swap": -1}})["memory"]


@pytest.mark.parametrize(
    ("name", "content", "value", "undo"),
    [
        ("memory.max", "max", "1000", "max"),
        ("cpu.max", "max 100000", "5000 100000", "max 100000"),
        ("cpuset.cpus", "", "0", "\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0", "1", "0"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max", "8:0 wbps=9", "8:0 rbps=5 wbps=max riops=max wiops=max"),
        ("io.max", "", "8:0 wbps=9", "8:0 rbps=max wbps=max riops=max wiops=max"),
        ("io.max", "8:16 rbps=5", "8:1 wbps=9", "8:1 rbps=max wbps=max riops=max wiops=max"),
        ("io.weight", "default 100\n8:0 50", "default 200", "default 100"),
        ("io.weight", "default 100\n8:0 50", "8:0 70", "8:0 50"),
        ("io.weight", "default 100", "8:0 70", "8:0 default"),
        ("io.bfq.weight", "default 100", "300", "100"),
        ("blkio.throttle.read_bps_device", "", "8:0 9", "8:0 0"),
        ("rdma.max", "mlx hca_handle=1 hca_object=2", "mlx hca_handle=3", "mlx hca_handle=1 hca_object=2"),
        ("net_prio.ifpriomap", "lo 0\neth0 3", "eth0 5", "eth0 3"),
    ],
)
def test_old_values(name: str, content: str, value: str, undo: str) -> None:
    assert cgroup_values.old(name, content, value) == undo


def test_before_is_in_reverse_and_knows_which_file_there_is(tmp_path: Path) -> None:
    for name, content in (("memory.max", "5\n"), ("io.weight", "default 100\n")):
        (tmp_path / name).write_text(content)
    other = Write(f"{tmp_path}/io.weight", "default 7", "")
    writes = [
        Write(f"{tmp_path}/memory.max", "9", ""),
        Write(f"{tmp_path}/io.bfq.weight", "7", "", other),
        Write(f"{tmp_path}/no.such", "1", "", needless=True),
    ]
    undo = cgroup_values.before(writes)
    assert [(write.file.rpartition("/")[2], write.value) for write in undo] == [
        ("io.weight", "default 100"),
        ("memory.max", "5"),
    ]


def test_schemata(tmp_path: Path) -> None:
    with pytest.raises(errors.SetupError, match="not available"):
        schemata.write(5, ["L3:0=f"], str(tmp_path))
    (tmp_path / "schemata").touch()
    for group, tasks in (("a", "3\n4\n"), ("b", "5\n6\n")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "tasks").write_text(tasks)
        (tmp_path / group / "schemata").touch()
    schemata.write(5, ["L3:0=f"], str(tmp_path))
    assert (tmp_path / "b" / "schemata").read_text() == "L3:0=f\n"
    assert (tmp_path / "a" / "schemata").read_text() == ""
    with pytest.raises(errors.SetupError, match="no RDT control group"):
        schemata.write(7, ["L3:0=f"], str(tmp_path))


def test_a_controller_that_is_not_delegated(tmp_path: Path) -> None:
    """It is named; podman takes a missing file to be the program, and exits with 127."""
    (tmp_path / "cgroup.controllers").write_text("memory pids\n")
    with pytest.raises(errors.SetupError) as caught:
        cgroup_make.apply([Write(f"{tmp_path}/cpuset.cpus", "0", "/cpu/cpus")])
    assert "the controller cpuset is not enabled there" in str(caught.value)
    assert "no such file" not in str(caught.value)
    assert caught.value.where == "/cpu/cpus"
    with pytest.raises(errors.SetupError, match="no such file"):
        cgroup_make.apply([Write(f"{tmp_path}/memory.no_such", "0", "/")])
    with pytest.raises(errors.SetupError, match="no such file"):
        cgroup_make.apply([Write(f"{tmp_path}/cgroup.no_such", "0", "/")])
