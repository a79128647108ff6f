"""linux.resources as writes to cgroup v2 files, converted where the old units have a meaning there.  Pure."""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import cgroup
from pyoci.plan.cgroup import Write
from pyoci.plan.cgroup_v1 import check_burst, hugepages, rdma

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Setting = tuple[str, str, str]  # file, value, JSON pointer

# what v2 has nothing for: an error, unless it is off anyway
V1_ONLY = (
    ("memory", "kernel"),
    ("memory", "kernelTCP"),
    ("memory", "swappiness"),
    ("memory", "disableOOMKiller"),
    ("cpu", "realtimePeriod"),
    ("cpu", "realtimeRuntime"),
    ("blockIO", "leafWeight"),
    ("network", "classID"),
    ("network", "priorities"),
)
# the file may be missing (no swap accounting, an older kernel): then there is nothing to switch off.  No swap at all
# is asked for by every engine's --memory-swap equal to --memory: a host without accounting has none, as runc sees it.
NEEDLESS = (("memory.swap.max", "max"), ("memory.swap.max", "0"), ("cpu.max.burst", "0"), ("cpu.idle", "0"))
# files of every cgroup that do something to those who are in it -> what does it better
ACTS = {
    "cgroup.freeze": "`pyoci pause` freezes it, before `start` as well",
    "cgroup.kill": "`pyoci kill --all` ends all its processes",
    "cgroup.procs": "`pyoci exec` brings processes into it",
    "cgroup.threads": "`pyoci exec` brings processes into it",
}
THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def settings(directory: str, resources: dict[str, Any], controllers: tuple[str, ...], where: str) -> list[Write]:
    """See plan.cgroup.settings.  directory: the cgroup."""
    check_burst(resources, where)
    _refuse_v1(resources, where)
    result = []
    for part in (_memory, _cpu, _others):
        for file, value, pointer in part(resources, where):
            _need(file, controllers, pointer)
            needless, late = (file, value) in NEEDLESS, file == "pids.max"
            result.append(Write(f"{directory}/{file}", value, pointer, needless=needless, late=late))
    for write in _block_io(directory, resources.get("blockIO") or {}, f"{where}/blockIO"):
        _need("io", controllers, write.where)
        result.append(write)
    for size, limit, pointer in hugepages(resources, where):
        _need("hugetlb", controllers, pointer)
        result.append(Write(f"{directory}/hugetlb.{size}.rsvd.max", str(limit), pointer, needless=True))
        result.append(Write(f"{directory}/hugetlb.{size}.max", str(limit), pointer))
    # last: what is said in the kernel's own words wins
    return result + list(_unified(directory, resources, controllers, where))


def check_begin(resources: dict[str, Any], where: str) -> None:
    """Refuse of unified what is no limit, and what no container can begin with: frozen, it would never be made.

    Raises errors.InvalidConfig.
    """
    for file, value in (resources.get("unified") or {}).items():
        if file in ACTS and (file, value.strip()) != ("cgroup.freeze", "0"):
            problem = f"{file} is no limit, and no container can begin with it"
            raise errors.InvalidConfig(problem, where=f"{where}/unified/{file}", hint=ACTS[file])


def _need(file: str, controllers: tuple[str, ...], where: str) -> None:
    controller = file.partition(".")[0]
    if controller not in controllers and controller != "cgroup":
        raise cgroup.missing_controller(controller, where)


def _refuse_v1(resources: dict[str, Any], where: str) -> None:
    for section, name in V1_ONLY:
        value = (resources.get(section) or {}).get(name)
        if value or (name == "swappiness" and value is not None):
            raise cgroup.unsupported(f"{section} {name}", f"{where}/{section}/{name}")
    if (resources.get("memory") or {}).get("useHierarchy") is False:
        raise cgroup.unsupported("memory without hierarchy", f"{where}/memory/useHierarchy")


def _max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(resources: dict[str, Any], where: str) -> Iterator[Setting]:
    memory = resources.get("memory") or {}
    if memory.get("limit"):
        yield "memory.max", _max(memory["limit"]), f"{where}/memory/limit"
    swap = swap_max(memory.get("limit") or 0, memory.get("swap") or 0, f"{where}/memory/swap")
    if swap:
        yield "memory.swap.max", swap, f"{where}/memory/{'swap' if memory.get('swap') else 'limit'}"
    if memory.get("reservation"):
        yield "memory.low", _max(memory["reservation"]), f"{where}/memory/reservation"


def swap_max(limit: int, swap: int, where: str) -> str:
    """v1 counts memory and swap together, v2 swap alone: the value of memory.swap.max, "" for none.

    Raises errors.InvalidConfig when the sum says nothing about swap.
    """
    if not swap:
        return "max" if limit < 0 else ""
    if swap < 0:
        return "max"
    if limit <= 0 or swap < limit:
        problem = "needs a memory limit" if limit <= 0 else f"is below the memory limit {limit}"
        raise errors.InvalidConfig(f"memory and swap limit {swap} {problem}", where=where)
    return str(swap - limit)


def _cpu(resources: dict[str, Any], where: str) -> Iterator[Setting]:
    cpu = resources.get("cpu") or {}
    if cpu.get("shares"):
        yield "cpu.weight", str(cpu_weight(cpu["shares"])), f"{where}/cpu/shares"
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if quota or period:
        limit = str(quota) if quota > 0 else "max"
        yield "cpu.max", f"{limit} {period or 100000}", f"{where}/cpu/{'quota' if quota else 'period'}"
    if cpu.get("burst") is not None:
        yield "cpu.max.burst", str(cpu["burst"]), f"{where}/cpu/burst"
    if cpu.get("idle") is not None:
        yield "cpu.idle", str(cpu["idle"]), f"{where}/cpu/idle"
    for name in ("cpus", "mems"):
        if cpu.get(name):
            yield f"cpuset.{name}", cpu[name], f"{where}/cpu/{name}"


def cpu_weight(shares: int) -> int:
    """shares (2..262144, 1024 is the default) -> weight (1..10000, 100 is the default).

    runc's and crun's curve of 2025: unlike the straight line before, it maps the default to the default.
    """
    from math import ceil, log2  # only v2 hosts with shares need it

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _others(resources: dict[str, Any], where: str) -> Iterator[Setting]:
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        yield "pids.max", _max(limit), f"{where}/pids/limit"
    for device, value, pointer in rdma(resources, where):
        yield "rdma.max", f"{device} {value}", pointer


def _block_io(directory: str, block: dict[str, Any], where: str) -> Iterator[Write]:
    if block.get("weight"):
        yield _weight(directory, "", block["weight"], f"{where}/weight")
    for index, entry in enumerate(block.get("weightDevice") or ()):
        pointer = f"{where}/weightDevice/{index}"
        if entry.get("leafWeight"):
            raise cgroup.unsupported("blockIO leafWeight", f"{pointer}/leafWeight")
        if entry.get("weight"):
            yield _weight(directory, f"{entry['major']}:{entry['minor']} ", entry["weight"], pointer)
    for name, key in THROTTLES:
        for index, entry in enumerate(block.get(name) or ()):
            value = f"{entry['major']}:{entry['minor']} {key}={entry['rate'] or 'max'}"
            yield Write(f"{directory}/io.max", value, f"{where}/{name}/{index}")


def _weight(directory: str, device: str, weight: int, where: str) -> Write:
    # BFQ's file takes the old numbers; io.weight has another range: 10..1000 -> 1..10000
    wide = 1 + (weight - 10) * 9999 // 990
    other = Write(f"{directory}/io.weight", f"{device or 'default '}{wide}", where)
    return Write(f"{directory}/io.bfq.weight", f"{device}{weight}", where, other)


def _unified(directory: str, resources: dict[str, Any], controllers: tuple[str, ...], where: str) -> Iterator[Write]:
    for file, value in (resources.get("unified") or {}).items():
        pointer = f"{where}/unified/{file.replace('~', '~0').replace('/', '~1')}"
        if "/" in file or "." not in file.strip("."):
            raise errors.InvalidConfig(f"unified key {file!r} is not CONTROLLER.PARAMETER", where=pointer)
        _need(file, controllers, pointer)
        for line in value.splitlines() or [""]:
            yield Write(f"{directory}/{file}", line, pointer)
