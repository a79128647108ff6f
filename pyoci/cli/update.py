"""pyoci update: other limits for a running container.  The options are those of runc and crun together."""

from __future__ import annotations

from pyoci import bundle, errors, json
from pyoci.cli import common, options
from pyoci.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ARGS = ("CONTAINER-ID",)
HELP = """\
What is not given stays as it is, and so does what is given as 0.  BYTES may end in k, m, g or t; -1 is no
limit.  FILE holds an object like linux.resources of config.json; then other options do not count.  When
one of the limits is refused, those before it are put back.
"""
UNITS = "bkmgt"


def whole(text: str, name: str) -> int:
    """A whole number, maybe negative.  Raises errors.UsageError."""
    number = json.decimal(text.removeprefix("-"))
    if number is None:
        raise errors.UsageError(f'invalid value "{errors.value(text)}" for flag -{name}: not a whole number')
    return -number if text.startswith("-") else number


def size(text: str, name: str) -> int:
    """A number of bytes: 1048576, 1m, 1.5GiB, -1.  Raises errors.UsageError."""
    number = text.lower().removesuffix("ib") if text.lower().endswith("ib") else text.lower()
    if len(number) > 1 and number[-1] == "b" and number[-2] in UNITS:
        number = number[:-1]
    power = UNITS.find(number[-1:]) if number[-1:] else -1
    digits = number[:-1] if power >= 0 else number
    if json.decimal(digits.removeprefix("-").replace(".", "", 1)) is None:
        problem = f'invalid value "{errors.value(text)}" for flag -{name}: not a number of bytes'
        raise errors.UsageError(problem, hint="512m, 1g, -1")
    return int((float(digits) if "." in digits else int(digits)) * 1024 ** max(power, 0))


def word(text: str, name: str) -> str:
    """Any text."""
    return text


# option -> where it goes in linux.resources, how it is read
FLAGS: dict[str, tuple[tuple[str, str], Callable[[str, str], Any]]] = {
    "blkio-weight": (("blockIO", "weight"), whole),
    "cpu-period": (("cpu", "period"), whole),
    "cpu-quota": (("cpu", "quota"), whole),
    "cpu-burst": (("cpu", "burst"), whole),
    "cpu-share": (("cpu", "shares"), whole),
    "cpu-rt-period": (("cpu", "realtimePeriod"), whole),
    "cpu-rt-runtime": (("cpu", "realtimeRuntime"), whole),
    "cpu-idle": (("cpu", "idle"), whole),
    "cpuset-cpus": (("cpu", "cpus"), word),
    "cpuset-mems": (("cpu", "mems"), word),
    "memory": (("memory", "limit"), size),
    "memory-reservation": (("memory", "reservation"), size),
    "memory-swap": (("memory", "swap"), size),
    "memory-high": (("unified", "memory.high"), size),
    "memory-low": (("unified", "memory.low"), size),
    "memory-min": (("unified", "memory.min"), size),
    "kernel-memory": (("memory", "kernel"), size),
    "kernel-memory-tcp": (("memory", "kernelTCP"), size),
    "pids-limit": (("pids", "limit"), whole),
}
RDT = {"l3-cache-schema": "l3CacheSchema", "mem-bw-schema": "memBwSchema"}
OPTIONS = (
    Option("resources", "file with the limits as JSON, - for stdin", "FILE", short="r"),
    Option("blkio-weight", "weight in block IO, 10 to 1000", "WEIGHT"),
    Option("cpu-period", "length of a period of CPU time, in microseconds", "USEC"),
    Option("cpu-quota", "CPU time in a period, in microseconds; -1 is no limit", "USEC"),
    Option("cpu-burst", "unused CPU time that may be saved up, in microseconds", "USEC"),
    Option("cpu-share", "weight in CPU time, 2 to 262144 (1024 is usual)", "SHARES"),
    Option("cpu-rt-period", "length of a period of realtime scheduling, in microseconds (v1)", "USEC"),
    Option("cpu-rt-runtime", "realtime CPU time in a period, in microseconds (v1)", "USEC"),
    Option("cpu-idle", "1: only when nobody else wants the CPU", "0|1"),
    Option("cpuset-cpus", "CPUs to run on: 0-3,7", "LIST"),
    Option("cpuset-mems", "memory nodes to use", "LIST"),
    Option("memory", "limit of memory", "BYTES"),
    Option("memory-reservation", "memory that is left to the container when it is scarce", "BYTES"),
    Option("memory-swap", "limit of memory and swap together", "BYTES"),
    Option("memory-high", "memory above which the container is slowed down (v2)", "BYTES"),
    Option("memory-low", "memory that is reclaimed only when there is no other (v2)", "BYTES"),
    Option("memory-min", "memory that is never reclaimed (v2)", "BYTES"),
    Option("kernel-memory", "limit of the kernel's memory (v1)", "BYTES"),
    Option("kernel-memory-tcp", "limit of memory for TCP buffers (v1)", "BYTES"),
    Option("pids-limit", "limit of the number of processes; -1 is none", "COUNT"),
    Option("l3-cache-schema", "schema of Intel RDT for the L3 cache", "TEXT"),
    Option("mem-bw-schema", "schema of Intel RDT for the memory bandwidth", "TEXT"),
)


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Change the limits."""
    container = common.find(given, opts.args[0])
    rdt = {key: opts.text(name) for name, key in RDT.items() if opts.text(name)}
    if opts.text("resources"):
        container.update(read(opts.text("resources")))
    else:
        container.update(flags(opts), rdt)
    return 0


def flags(opts: options.Parsed) -> dict[str, Any]:
    """linux.resources of the options.  Raises errors.UsageError."""
    resources: dict[str, Any] = {}
    for name, ((section, key), read_value) in FLAGS.items():
        if name in opts.values:
            value = read_value(opts.text(name), name)
            if section == "unified":
                value = "max" if value < 0 else str(value)
            resources.setdefault(section, {})[key] = value
    return resources


def read(path: str) -> dict[str, Any]:
    """linux.resources of a file, or of stdin.  Raises errors.InvalidConfig."""
    resources = json.loads(bundle.read(path), path)
    if not isinstance(resources, dict):
        raise errors.InvalidConfig(f"{path}: not an object")
    return resources
