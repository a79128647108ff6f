"""What a container uses, in the form of `runc events`: names, nesting, units, and what is left out when it is zero.

The form was taken from the output of runc 1.1 (v1, field by field: tests/integration/test_events.py) and of its
types as documented for containerd.  Sources of the numbers: the kernel's cgroup-v1 documents and cgroup-v2.rst.
"""

from __future__ import annotations

import os

from pyoci import kernel
from pyoci.host import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Fields = dict[str, Any]

UNLIMITED = (1 << 64) - 1
HUGEPAGES = "/sys/kernel/mm/hugepages"
TICK = 10**9 // 100  # nanoseconds of a clock tick as /proc and cpuacct.stat count them (USER_HZ)
CPUSET = (
    "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab memory_pressure "
    "sched_load_balance sched_relax_domain_level"
).split()
# the names of runc for the tables of block IO, and the ends of the file names
BLOCK_IO = {
    "ioServiceBytesRecursive": "io_service_bytes",
    "ioServicedRecursive": "io_serviced",
    "ioQueueRecursive": "io_queued",
    "ioServiceTimeRecursive": "io_service_time",
    "ioWaitTimeRecursive": "io_wait_time",
    "ioMergedRecursive": "io_merged",
    "ioTimeRecursive": "time",
    "sectorsRecursive": "sectors",
}
# which files there are depends on the IO scheduler: the first kind that says anything is the one
BLOCK_IO_KINDS = (("blkio.bfq.", "_recursive"), ("blkio.", "_recursive"), ("blkio.throttle.", "_recursive"))
V2_BLOCK_IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}


def read(record: Fields, pid: int) -> Fields:
    """The `data` of a stats event.  record: of the container's cgroup.  pid: its init."""
    from pyoci.host import rdt_stats

    parts = _v2(record["dirs"].get("", "")) if record.get("version") == 2 else _v1(record.get("dirs", {}))
    parts["intel_rdt"] = rdt_stats.read(pid)
    parts["network_interfaces"] = network(pid)
    return parts


def some(fields: Fields) -> Fields:
    """Without those that are zero or empty, as Go's omitempty has it; a nested object always stays."""
    return {name: value for name, value in fields.items() if value or isinstance(value, dict)}


def text(file: str) -> str:
    """A file's content, "" when it is not there."""
    try:
        return cgroupfs.read(file).decode("utf-8", "backslashreplace").strip()
    except OSError:
        return ""


def number(file: str) -> int:
    """A file's number; 0 for "max", and when it is not there."""
    value = text(file)
    return int(value) if value.removeprefix("-").isdecimal() else 0


def keyed(file: str) -> dict[str, int]:
    """A file with lines "name number"."""
    pairs = [line.split() for line in text(file).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


# -- cgroup v1 --------------------------------------------------------------------------------


def _v1(dirs: dict[str, str]) -> Fields:
    def directory(controller: str) -> str:
        return dirs.get(controller, "/nowhere")

    throttling = keyed(f"{directory('cpu')}/cpu.stat")
    return {
        "cpu": {"usage": _v1_cpu(directory("cpuacct")), "throttling": _throttling(throttling, "throttled_time", 1)},
        "cpuset": _v1_cpuset(directory("cpuset")),
        "memory": _v1_memory(directory("memory")),
        "pids": _pids(directory("pids")),
        "blkio": _v1_block_io(directory("blkio")),
        "hugetlb": dict(sorted(_v1_hugetlb(directory("hugetlb")))),
    }


def _v1_cpu(directory: str) -> Fields:
    ticks = keyed(f"{directory}/cpuacct.stat")
    lines = [line.split() for line in text(f"{directory}/cpuacct.usage_all").splitlines()[1:]]
    usage = some(
        {
            "total": number(f"{directory}/cpuacct.usage"),
            "percpu": [int(word) for word in text(f"{directory}/cpuacct.usage_percpu").split()],
            "percpu_kernel": [int(line[2]) for line in lines],
            "percpu_user": [int(line[1]) for line in lines],
        }
    )
    return {**usage, "kernel": ticks.get("system", 0) * TICK, "user": ticks.get("user", 0) * TICK}


def _throttling(found: dict[str, int], time_name: str, unit: int) -> Fields:
    return some(
        {
            "periods": found.get("nr_periods", 0),
            "throttledPeriods": found.get("nr_throttled", 0),
            "throttledTime": found.get(time_name, 0) * unit,
        }
    )


def _v1_cpuset(directory: str) -> Fields:
    numbers = {name: number(f"{directory}/cpuset.{name}") for name in CPUSET}
    return _cpuset(expand(text(f"{directory}/cpuset.cpus")), expand(text(f"{directory}/cpuset.mems")), numbers)


def _cpuset(cpus: list[int], mems: list[int], numbers: dict[str, int]) -> Fields:
    fields: Fields = {"cpus": cpus} if cpus else {}
    fields["cpu_exclusive"] = numbers.get("cpu_exclusive", 0)
    if mems:
        fields["mems"] = mems
    return {**fields, **{name: numbers.get(name, 0) for name in CPUSET}}


def expand(ranges: str) -> list[int]:
    """ "0-2,7" -> [0, 1, 2, 7]."""
    found: list[int] = []
    for part in ranges.split(",") if ranges else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _v1_memory(directory: str) -> Fields:
    raw = keyed(f"{directory}/memory.stat")
    fields = {"usage": "", "swap": "memsw.", "kernel": "kmem.", "kernelTCP": "kmem.tcp."}
    entries = {name: _v1_memory_entry(f"{directory}/memory.{prefix}") for name, prefix in fields.items()}
    return some({"cache": raw.get("cache", 0), **entries, "raw": dict(sorted(raw.items())) or None})


def _v1_memory_entry(prefix: str) -> Fields:
    usage, most = number(f"{prefix}usage_in_bytes"), number(f"{prefix}max_usage_in_bytes")
    return _entry(number(f"{prefix}limit_in_bytes"), usage, most, number(f"{prefix}failcnt"))


def _entry(limit: int, usage: int, most: int, failures: int) -> Fields:
    return {"limit": limit, **some({"usage": usage, "max": most}), "failcnt": failures}


def _pids(directory: str) -> Fields:
    return some({"current": number(f"{directory}/pids.current"), "limit": number(f"{directory}/pids.max")})


def _v1_block_io(directory: str) -> Fields:
    for prefix, end in (*BLOCK_IO_KINDS, ("blkio.throttle.", "")):
        tables = {name: list(_blocks(f"{directory}/{prefix}{file}{end}")) for name, file in BLOCK_IO.items()}
        if any(tables.values()):
            return some(tables)
    return {}


def _blocks(file: str) -> Iterator[Fields]:
    """Lines "8:0 Read 4096" or "8:0 4096"; the last line, without a device, is the sum."""
    for line in text(file).splitlines():
        device, *words = line.replace(":", " ", 1).split()
        if device.isdecimal() and len(words) in (2, 3):
            op = words[1] if len(words) == 3 else ""
            yield some({"major": int(device), "minor": int(words[0]), "op": op, "value": int(words[-1])})


def page_sizes() -> list[str]:
    """The sizes of huge pages as cgroup files have them: 2MB, 1GB."""
    try:
        sizes = [int(name.removeprefix("hugepages-").removesuffix("kB")) for name in os.listdir(HUGEPAGES)]
    except OSError:
        return []
    return [
        f"{size >> 20}GB" if size >= 1 << 20 else f"{size >> 10}MB" if size >= 1 << 10 else f"{size}KB"
        for size in sizes
    ]


def _v1_hugetlb(directory: str) -> Iterator[tuple[str, Fields]]:
    for size in page_sizes():
        prefix = f"{directory}/hugetlb.{size}"
        if kernel.exists(f"{prefix}.usage_in_bytes"):
            reserved = f"{prefix}.rsvd" if kernel.exists(f"{prefix}.rsvd.usage_in_bytes") else prefix
            used = {"usage": number(f"{reserved}.usage_in_bytes"), "max": number(f"{reserved}.max_usage_in_bytes")}
            yield size, {**some(used), "failcnt": number(f"{reserved}.failcnt")}


# -- cgroup v2 --------------------------------------------------------------------------------


def _v2(directory: str) -> Fields:
    cpu = keyed(f"{directory}/cpu.stat")
    usage = {
        **some({"total": cpu.get("usage_usec", 0) * 1000}),
        "kernel": cpu.get("system_usec", 0) * 1000,
        "user": cpu.get("user_usec", 0) * 1000,
    }
    tables = _v2_block_io(directory)
    return {
        "cpu": {
            "usage": usage,
            "throttling": _throttling(cpu, "throttled_usec", 1000),
            **pressure(f"{directory}/cpu.pressure"),
        },
        "cpuset": _cpuset([], [], {}),
        "memory": {**_v2_memory(directory), **pressure(f"{directory}/memory.pressure")},
        "pids": _pids(directory),
        "blkio": {**some(tables), **pressure(f"{directory}/io.pressure")},
        "hugetlb": dict(sorted(_v2_hugetlb(directory))),
    }


def _limit(file: str) -> int:
    return UNLIMITED if text(file) == "max" else number(file)


def _v2_memory(directory: str) -> Fields:
    raw = keyed(f"{directory}/memory.stat")
    limit, usage = _limit(f"{directory}/memory.max"), number(f"{directory}/memory.current")
    swap, swap_limit = number(f"{directory}/memory.swap.current"), _limit(f"{directory}/memory.swap.max")
    # as v1 counts: memory and swap together
    both = UNLIMITED if UNLIMITED in (limit, swap_limit) else limit + swap_limit
    entries = {
        "usage": _entry(limit, usage, number(f"{directory}/memory.peak"), 0),
        "swap": _entry(both, usage + swap, 0, 0),
        "kernel": _entry(0, 0, 0, 0),
        "kernelTCP": _entry(0, 0, 0, 0),
    }
    return some({"cache": raw.get("file", 0), **entries, "raw": dict(sorted(raw.items())) or None})


def _v2_block_io(directory: str) -> dict[str, list[Fields]]:
    tables: dict[str, list[Fields]] = {}
    for line in text(f"{directory}/io.stat").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            name, _, value = pair.partition("=")
            if name in V2_BLOCK_IO and minor.isdecimal():
                table, op = V2_BLOCK_IO[name]
                entry = some({"major": int(major), "minor": int(minor), "op": op, "value": int(value)})
                tables.setdefault(table, []).append(entry)
    return tables


def _v2_hugetlb(directory: str) -> Iterator[tuple[str, Fields]]:
    for size in page_sizes():
        prefix = f"{directory}/hugetlb.{size}"
        if kernel.exists(f"{prefix}.current"):
            reserved = f"{prefix}.rsvd" if kernel.exists(f"{prefix}.rsvd.current") else prefix
            failures = keyed(f"{prefix}.events").get("max", 0)
            yield size, {**some({"usage": number(f"{reserved}.current")}), "failcnt": failures}


def pressure(file: str) -> Fields:
    """{"psi": ...} of a file of pressure stall information, {} when there is none."""
    found: Fields = {}
    for line in text(file).splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        averages = {name: _decimal(values.get(name, "0")) for name in ("avg10", "avg60", "avg300")}
        found[kind] = {**averages, "total": int(values.get("total", "0"))}
    none = {"avg10": 0, "avg60": 0, "avg300": 0, "total": 0}
    return {"psi": {"some": none, "full": none, **found}} if found else {}


def _decimal(value: str) -> float:
    result = float(value)
    return int(result) if result.is_integer() else result


# -- network ----------------------------------------------------------------------------------


def network(pid: int) -> list[Fields] | None:
    """The interfaces of the process's own network namespace, without the loopback; None when there are none."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return None
    except OSError:
        return None
    found = []
    for line in text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, counts = line.partition(":")
        values = [int(word) for word in counts.split()]
        if name.strip() != "lo" and len(values) >= 12:
            found.append(
                {
                    "Name": name.strip(),
                    **dict(zip(("RxBytes", "RxPackets", "RxErrors", "RxDropped"), values, strict=False)),
                    **dict(zip(("TxBytes", "TxPackets", "TxErrors", "TxDropped"), values[8:], strict=False)),
                }
            )
    return found or None
