"""What systemd is told of the values in a scope's cgroup files, and which files it writes.  Pure.

It writes all that it has a property for, asked to or not, whenever it likes (daemon-reload, SetUnitProperties): what
it was not told of is its default afterwards.  So it is told whatever it can be told, in its own measure.
Sources: systemd.resource-control(5), org.freedesktop.systemd1(5), cgroup-v2.rst.
"""

from __future__ import annotations

from pyoci import errors, json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyoci.plan.cgroup import Write
    from pyoci.plan.gvariant import Value
    from pyoci.plan.systemd import Properties

INFINITY = 2**64 - 1
ROUND_QUOTA = 10000  # microseconds per second: systemd takes whole percents
DEFAULT_PERIOD = 100000
SUFFIXES = "kmgtpe"
IDLE = ("t", 0)  # the CPUWeight that stands for cpu.idle, since systemd 252
# version -> the files that systemd writes.  cpu.weight before cpu.idle: undone in the other order.
WRITTEN = {
    1: (
        *("blkio.weight", "blkio.bfq.weight", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
        *("memory.limit_in_bytes", "pids.max"),
    ),
    2: (
        *("cpu.weight", "cpu.idle", "cpu.max", "cpuset.cpus", "cpuset.mems", "io.weight", "io.bfq.weight"),
        *("memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max", "memory.oom.group"),
        *("memory.zswap.max", "memory.zswap.writeback", "pids.max"),
    ),
}
# what else has to be known to tell systemd of a file: both of a quota; the weight that there is when idle ends
COMPANIONS = {
    "cpu.cfs_quota_us": "cpu.cfs_period_us",
    "cpu.cfs_period_us": "cpu.cfs_quota_us",
    "cpu.idle": "cpu.weight",
}
SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def told(writes: list[Write], version: int) -> Properties:
    """The properties that say the same as these values; of two for one file the last.

    What is no value is for the kernel to refuse.  Raises errors.InvalidConfig for a list of CPUs or memory nodes that
    systemd cannot be told.
    """
    properties: Properties = {}
    quota: dict[str, str] = {}
    for write in writes:
        while write.other:  # the newer name, in systemd's own measure
            write = write.other  # noqa: PLW2901
        name, text = write.file.rpartition("/")[2], write.value.strip()
        if name in NUMBERS[version]:
            known_as, convert = NUMBERS[version][name]
            number = convert(text)
            if number is not None:
                properties[known_as] = ("t", number)
        elif name in SETS and version == 2 and text:
            properties[SETS[name]] = ("ay", mask(text, write.where))
        elif name == "cpu.max":
            quota.update(zip(("quota", "period"), text.split(), strict=False))
        elif name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"):
            quota[name[8:-3]] = text
    properties.update(_quota(**quota))
    return properties


def written(record: dict[str, Any]) -> list[str]:
    """The files of a scope that systemd writes.  record: that of the cgroup."""
    version, dirs = record["version"], record["dirs"]
    named = [(dirs.get("" if version == 2 else name.partition(".")[0]), name) for name in WRITTEN[version]]
    return [f"{directory}/{name}" for directory, name in named if directory]


def companions(files: list[str]) -> list[str]:
    """The files of which something has to be known as well, to tell systemd of these."""
    pairs = [file.rpartition("/") for file in files]
    return [f"{directory}/{COMPANIONS[name]}" for directory, _, name in pairs if name in COMPANIONS]


def _quota(quota: str = "", period: str = "") -> Iterator[tuple[str, Value]]:
    length = _plain(period)
    if length:
        yield "CPUQuotaPeriodUSec", ("t", length)
    if quota in ("max", "-1"):
        yield "CPUQuotaPerSecUSec", ("t", INFINITY)
    elif number := _plain(quota):
        per_second = -(-number * 1000000 // (length or DEFAULT_PERIOD))
        yield "CPUQuotaPerSecUSec", ("t", -(-per_second // ROUND_QUOTA) * ROUND_QUOTA)


def mask(text: str, where: str) -> bytes:
    """A list as in cpuset.cpus ("0-2,7") as a bit mask, the lowest byte first.  Raises errors.InvalidConfig."""
    bits = 0
    for part in text.replace("\n", ",").split(","):
        first, dash, last = part.strip().partition("-")
        low, high = json.decimal(first), json.decimal(last if dash else first)
        if low is None or high is None:
            problem = f"systemd cannot be told {errors.value(text)!r}: a list like 0-2,7 is needed"
            raise errors.InvalidConfig(problem, where=where)
        if not low <= high < 8192:
            raise errors.InvalidConfig(f"{errors.value(text)!r} is out of range", where=where)
        bits |= (1 << (high + 1)) - (1 << low)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


# -- numbers: what a file's text is as a property, None when it is nothing that systemd takes ---------------------


def _plain(text: str) -> int | None:
    # no octal numbers, as the kernel would read those with a 0 in front
    number = json.decimal(text) if text == "0" or text[:1] != "0" else None
    return number if number is not None and number < INFINITY else None


def _bytes(text: str) -> int | None:
    if text in ("max", "-1"):
        return INFINITY
    unit = SUFFIXES.find(text[-1:].lower()) + 1 if text else 0
    number = _plain(text[:-1] if unit else text)
    return number << 10 * unit if number is not None and number << 10 * unit < INFINITY else None


def _some_bytes(text: str) -> int | None:
    # 0 is refused here; 1 is no page either, and so 0 to the kernel
    number = _bytes(text)
    return number if number is None else max(number, 1)


def _tasks(text: str) -> int | None:
    # 0 is refused here, too; with init inside nothing can be forked under 1 either
    number = INFINITY if text == "max" else _plain(text)
    return number if number is None else max(number, 1)


def _within(low: int, high: int) -> Callable[[str], int | None]:
    def convert(text: str) -> int | None:
        number = _plain(text)
        return number if number is not None and low <= number <= high else None

    return convert


def _idle(text: str) -> int | None:
    return IDLE[1] if text == "1" else None


def _io_weight(text: str) -> int | None:
    return _within(1, 10000)(_default(text))


def _bfq_weight(text: str) -> int | None:
    # systemd makes 1..100 of the first hundredth of its own range and 100..1000 of the rest
    weight = _within(1, 1000)(_default(text))
    return weight if weight is None or weight <= 100 else 100 + (weight - 100) * 11


def _default(text: str) -> str:
    # as it is written, or the first line of what is read: the others are for single devices
    return text.partition("\n")[0].removeprefix("default ")


NUMBERS: dict[int, dict[str, tuple[str, Callable[[str], int | None]]]] = {
    1: {
        "blkio.bfq.weight": ("BlockIOWeight", _within(10, 1000)),
        "blkio.weight": ("BlockIOWeight", _within(10, 1000)),
        "cpu.shares": ("CPUShares", _within(2, 262144)),
        "memory.limit_in_bytes": ("MemoryLimit", _some_bytes),
        "pids.max": ("TasksMax", _tasks),
    },
    2: {
        "cpu.idle": ("CPUWeight", _idle),
        "cpu.weight": ("CPUWeight", _within(1, 10000)),
        "io.bfq.weight": ("IOWeight", _bfq_weight),
        "io.weight": ("IOWeight", _io_weight),
        "memory.high": ("MemoryHigh", _some_bytes),
        "memory.low": ("MemoryLow", _bytes),
        "memory.max": ("MemoryMax", _some_bytes),
        "memory.min": ("MemoryMin", _bytes),
        "memory.swap.max": ("MemorySwapMax", _bytes),
        "pids.max": ("TasksMax", _tasks),
    },
}
