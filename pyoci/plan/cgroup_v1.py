"""linux.resources as writes to cgroup v1 files: mostly a table.  Pure.

0 leaves a limit alone where the kernel has no use for 0 (engines send 0 for "not set"); where 0 says
something (pids.limit, swappiness, burst, idle) it is written.
"""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import cgroup
from pyoci.plan.cgroup import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SET, ALWAYS, TRUE, LIMIT = range(4)  # written: if not 0 or "", if given, as 1 if true, as max below 0

# section, property, controller, file, when; the order matters: period before quota before burst, limit before memsw
TABLE = (
    ("memory", "limit", "memory", "memory.limit_in_bytes", SET),
    ("memory", "swap", "memory", "memory.memsw.limit_in_bytes", SET),
    ("memory", "kernel", "memory", "memory.kmem.limit_in_bytes", SET),  # no effect since Linux 5.16
    ("memory", "kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes", SET),
    ("memory", "reservation", "memory", "memory.soft_limit_in_bytes", SET),
    ("memory", "swappiness", "memory", "memory.swappiness", ALWAYS),
    ("memory", "useHierarchy", "memory", "memory.use_hierarchy", TRUE),
    ("memory", "disableOOMKiller", "memory", "memory.oom_control", TRUE),
    ("cpu", "shares", "cpu", "cpu.shares", SET),
    ("cpu", "realtimePeriod", "cpu", "cpu.rt_period_us", SET),
    ("cpu", "realtimeRuntime", "cpu", "cpu.rt_runtime_us", SET),
    ("cpu", "period", "cpu", "cpu.cfs_period_us", SET),
    ("cpu", "quota", "cpu", "cpu.cfs_quota_us", SET),
    ("cpu", "burst", "cpu", "cpu.cfs_burst_us", ALWAYS),
    ("cpu", "idle", "cpu", "cpu.idle", ALWAYS),
    ("cpu", "cpus", "cpuset", "cpuset.cpus", SET),
    ("cpu", "mems", "cpuset", "cpuset.mems", SET),
    ("pids", "limit", "pids", "pids.max", LIMIT),
    ("blockIO", "leafWeight", "blkio", "blkio.leaf_weight", SET),
    ("network", "classID", "net_cls", "net_cls.classid", SET),
)
THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)
NO_SUCH_THING = ("0", "-1", "max")  # a missing file does that already


def settings(dirs: dict[str, str], resources: dict[str, Any], where: str) -> list[Write]:
    """See plan.cgroup.settings.  dirs: controller -> directory."""
    check_burst(resources, where)
    if resources.get("unified"):
        raise cgroup.unsupported(" ".join(resources["unified"]), f"{where}/unified")
    result = []
    for section, name, controller, file, when in TABLE:
        value = _text((resources.get(section) or {}).get(name), when)
        if value:
            pointer = f"{where}/{section}/{name}"
            result.append(_write(dirs, controller, file, value, pointer, needless=value in NO_SUCH_THING))
    memory = resources.get("memory") or {}
    if (memory.get("limit") or 0) < 0 and not memory.get("swap"):
        # memsw may not be below limit: without this an earlier swap limit would refuse "unlimited"
        file = "memory.memsw.limit_in_bytes"
        result.append(_write(dirs, "memory", file, "-1", f"{where}/memory/limit", needless=True))
    result += _block_io(dirs, resources.get("blockIO") or {}, f"{where}/blockIO")
    result += _hugepages(dirs, resources, where)
    for index, entry in enumerate((resources.get("network") or {}).get("priorities") or ()):
        pointer = f"{where}/network/priorities/{index}"
        result.append(_write(dirs, "net_prio", "net_prio.ifpriomap", f"{entry['name']} {entry['priority']}", pointer))
    for name, value, pointer in rdma(resources, where):
        result.append(_write(dirs, "rdma", "rdma.max", f"{name} {value}", pointer))
    return result


def _text(value: Any, when: int) -> str:
    if value is None or (when != ALWAYS and when != LIMIT and not value):
        return ""
    if when == TRUE:
        return "1"
    return "max" if when == LIMIT and value < 0 else str(value)


def _write(
    dirs: dict[str, str], controller: str, file: str, value: str, where: str, *, needless: bool = False
) -> Write:
    if controller not in dirs:
        raise cgroup.missing_controller(controller, where)
    return Write(f"{dirs[controller]}/{file}", value, where, needless=needless)


def _block_io(dirs: dict[str, str], block: dict[str, Any], where: str) -> Iterator[Write]:
    if block.get("weight"):
        yield _bfq(dirs, "weight", str(block["weight"]), f"{where}/weight")
    for index, entry in enumerate(block.get("weightDevice") or ()):
        device, pointer = f"{entry['major']}:{entry['minor']}", f"{where}/weightDevice/{index}"
        if entry.get("weight"):
            yield _bfq(dirs, "weight_device", f"{device} {entry['weight']}", pointer)
        if entry.get("leafWeight"):
            yield _write(dirs, "blkio", "blkio.leaf_weight_device", f"{device} {entry['leafWeight']}", pointer)
    for name, file in THROTTLES:
        for index, entry in enumerate(block.get(name) or ()):
            value = f"{entry['major']}:{entry['minor']} {entry['rate']}"
            yield _write(dirs, "blkio", file, value, f"{where}/{name}/{index}")


def _bfq(dirs: dict[str, str], file: str, value: str, where: str) -> Write:
    # CFQ had blkio.weight; it went with Linux 5.0, and the BFQ scheduler has its own names for the same
    result = _write(dirs, "blkio", f"blkio.{file}", value, where)
    result.other = _write(dirs, "blkio", f"blkio.bfq.{file}", value, where)
    return result


def _hugepages(dirs: dict[str, str], resources: dict[str, Any], where: str) -> Iterator[Write]:
    for size, limit, pointer in hugepages(resources, where):
        # The reservation limit first, as the spec asks; kernels before 5.7 have only the fault limit.
        yield _write(dirs, "hugetlb", f"hugetlb.{size}.rsvd.limit_in_bytes", str(limit), pointer, needless=True)
        yield _write(dirs, "hugetlb", f"hugetlb.{size}.limit_in_bytes", str(limit), pointer)


# -- the parts that are the same on both versions ---------------------------------------------


def check_burst(resources: dict[str, Any], where: str) -> None:
    """cpu.burst must not be above a positive quota (config-linux.md).  Raises errors.InvalidConfig."""
    cpu = resources.get("cpu") or {}
    burst, quota = cpu.get("burst") or 0, cpu.get("quota") or 0
    if 0 < quota < burst:
        raise errors.InvalidConfig(f"cpu burst {burst} is above the quota {quota}", where=f"{where}/cpu/burst")


def hugepages(resources: dict[str, Any], where: str) -> Iterator[tuple[str, int, str]]:
    """(page size as in file names, limit, JSON pointer) of every hugepageLimits entry."""
    for index, entry in enumerate(resources.get("hugepageLimits") or ()):
        size, pointer = entry["pageSize"], f"{where}/hugepageLimits/{index}"
        # it becomes part of a file name: nothing but 64KB, 2MB, 1GB may pass
        if size[-2:] not in ("KB", "MB", "GB") or not (size[:-2].isascii() and size[:-2].isdigit()):
            raise errors.InvalidConfig(f"huge page size {size!r} is not like 2MB", where=f"{pointer}/pageSize")
        yield size, entry["limit"], pointer


def rdma(resources: dict[str, Any], where: str) -> Iterator[tuple[str, str, str]]:
    """(device, limits, JSON pointer) of every rdma entry."""
    for device, entry in (resources.get("rdma") or {}).items():
        pairs = (("hca_handle", entry.get("hcaHandles")), ("hca_object", entry.get("hcaObjects")))
        value = " ".join(f"{name}={number}" for name, number in pairs if number is not None)
        if not value:
            raise errors.InvalidConfig("rdma entry has neither hcaHandles nor hcaObjects", where=f"{where}/rdma")
        yield device, value, f"{where}/rdma/{device.replace('~', '~0').replace('/', '~1')}"
