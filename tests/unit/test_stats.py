"""events on cgroup v2 and with Intel RDT, from files as the kernel documents them; and the times of --interval."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from pyoci import container_events, errors
from pyoci.cli import events
from pyoci.host import rdt_stats, stats
from pyoci.host.process import Process, start_time
from tests.integration import harness

V2 = {
    "cpu.stat": "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
    "memory.stat": "anon 11\nfile 12\nkernel 5\n",
    "memory.current": "100\n",
    "memory.peak": "150\n",
    "memory.max": "1000\n",
    "memory.swap.current": "20\n",
    "memory.swap.max": "500\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=9\n",
    "io.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
}


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    for name, text in V2.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def read(directory: Path) -> dict[str, object]:
    return stats.read({"version": 2, "dirs": {"": str(directory)}}, 1)


def test_v2_cpu(v2: Path) -> None:
    assert read(v2)["cpu"] == {
        "usage": {"total": 7000, "kernel": 3000, "user": 4000},
        "throttling": {"periods": 9, "throttledPeriods": 2, "throttledTime": 5000},
        "psi": {
            "some": {"avg10": 1.5, "avg60": 0, "avg300": 0.25, "total": 77},
            "full": {"avg10": 0, "avg60": 0, "avg300": 0, "total": 3},
        },
    }


def test_v2_memory(v2: Path) -> None:
    """Swap is counted as v1 does: with memory."""
    assert read(v2)["memory"] == {
        "cache": 12,
        "usage": {"limit": 1000, "usage": 100, "max": 150, "failcnt": 0},
        "swap": {"limit": 1500, "usage": 120, "failcnt": 0},
        "kernel": {"limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": {"anon": 11, "file": 12, "kernel": 5},
    }
    (v2 / "memory.max").write_text("max\n")
    memory = read(v2)["memory"]
    assert isinstance(memory, dict)
    assert memory["usage"]["limit"] == memory["swap"]["limit"] == 18446744073709551615


def test_v2_others(v2: Path) -> None:
    found = read(v2)
    assert found["pids"] == {"current": 3}
    none = {"avg10": 0, "avg60": 0, "avg300": 0, "total": 0}
    assert found["blkio"] == {
        "ioServiceBytesRecursive": [
            {"major": 8, "op": "Read", "value": 1},
            {"major": 8, "op": "Write", "value": 2},
            {"major": 8, "minor": 16, "op": "Read", "value": 9},
        ],
        "ioServicedRecursive": [
            {"major": 8, "op": "Read", "value": 3},
            {"major": 8, "op": "Write", "value": 4},
        ],
        "psi": {"some": none, "full": none},
    }
    assert found["intel_rdt"] == {}


def test_v2_hugetlb(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "page_sizes", lambda: ["2MB", "1GB"])
    (v2 / "hugetlb.2MB.current").write_text("1\n")
    (v2 / "hugetlb.2MB.rsvd.current").write_text("2097152\n")
    (v2 / "hugetlb.2MB.events").write_text("max 4\n")
    assert read(v2)["hugetlb"] == {"2MB": {"usage": 2097152, "failcnt": 4}}


def test_nothing_there(tmp_path: Path) -> None:
    """A cgroup that was removed meanwhile: zeros."""
    found = read(tmp_path)
    assert found["pids"] == {}
    assert found["hugetlb"] == {}
    for version in (1, 2):
        stats.read({"version": version, "dirs": {}}, 1)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("blkio.bfq.", "_recursive"),
        ("blkio.", "_recursive"),
        ("blkio.throttle.", "_recursive"),
        ("blkio.throttle.", ""),
    ],
)
def test_v1_block_io(tmp_path: Path, prefix: str, end: str) -> None:
    (tmp_path / f"{prefix}io_serviced{end}").write_text("8:0 Read 3\n8:0 Total 4\nTotal 4\n")
    (tmp_path / f"{prefix}time{end}").write_text("8:16 5\n")
    found = stats.read({"version": 1, "dirs": {"blkio": str(tmp_path)}}, 1)["blkio"]
    assert found["ioServicedRecursive"] == [
        {"major": 8, "op": "Read", "value": 3},
        {"major": 8, "op": "Total", "value": 4},
    ]
    assert found["ioTimeRecursive"] == [{"major": 8, "minor": 16, "value": 5}]


def test_v1_hugetlb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "page_sizes", lambda: ["2MB"])
    for name, value in (("usage_in_bytes", 5), ("max_usage_in_bytes", 6), ("failcnt", 7)):
        (tmp_path / f"hugetlb.2MB.{name}").write_text(f"{value}\n")
    found = stats.read({"version": 1, "dirs": {"hugetlb": str(tmp_path)}}, 1)["hugetlb"]
    assert found == {"2MB": {"usage": 5, "max": 6, "failcnt": 7}}


def test_page_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "HUGEPAGES", str(tmp_path))
    for size in (64, 2048, 1048576):
        (tmp_path / f"hugepages-{size}kB").mkdir()
    assert sorted(stats.page_sizes()) == ["1GB", "2MB", "64KB"]


@pytest.mark.parametrize(("text", "numbers"), [("", []), ("3", [3]), ("0-2,7", [0, 1, 2, 7])])
def test_ranges(text: str, numbers: list[int]) -> None:
    assert stats.expand(text) == numbers


def test_rdt(tmp_path: Path) -> None:
    assert rdt_stats.read(5, str(tmp_path)) == {}
    files = {
        "schemata": "    L3:0=fff\n    MB:0=100\n",
        "box/schemata": "    L3:0=f\n    MB:0=50\n",
        "box/tasks": "5\n",
        "box/mon_data/mon_L3_00/llc_occupancy": "77\n",
        "box/mon_data/mon_L3_00/mbm_total_bytes": "88\n",
        "box/mon_data/mon_L3_00/mbm_local_bytes": "0\n",
        "info/L3/cbm_mask": "fff\n",
        "info/L3/min_cbm_bits": "1\n",
        "info/L3/num_closids": "16\n",
        "info/MB/bandwidth_gran": "10\n",
        "info/MB/delay_linear": "1\n",
        "info/MB/min_bandwidth": "10\n",
        "info/MB/num_closids": "8\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert rdt_stats.read(5, str(tmp_path)) == {
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fff",
        "l3_cache_schema": "L3:0=f",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100",
        "mem_bw_schema": "MB:0=50",
        "mbm_stats": [{"mbm_total_bytes": 88}],
        "cmt_stats": [{"llc_occupancy": 77}],
    }
    assert rdt_stats.read(6, str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("1us", 1e-6)]
)
def test_durations(text: str, seconds: float) -> None:
    assert events.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "-5s", "0s", "0", "5d", "1..5s", "٣s", "5s\n", "9" * 5000 + "h", "600h"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(errors.UsageError, match="interval"):
        events.duration(text)


# -- out of memory ----------------------------------------------------------------------------


def test_an_end_that_is_seen_before_its_reason(tmp_path: Path) -> None:
    """v2 wakes the readers of memory.events every 10 ms at the most, and the end of init does not wait for that."""
    file = tmp_path / "memory.events"
    file.write_text("oom_kill 0\n")
    record = {"cgroup": {"version": 2, "dirs": {"": str(tmp_path)}}, "pid": 0}
    with subprocess.Popen(["sleep", "100"]) as child, Process(child.pid, start_time(child.pid)) as init:

        def kill() -> None:
            harness.until(lambda: str(file) in harness.descriptors().values(), "the watch")
            file.write_text("oom_kill 1\n")  # of which poll(2) on such a file says nothing
            child.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        assert list(container_events.follow(record, "c", init, 100)) == [{"type": "oom", "id": "c"}]
        thread.join()
