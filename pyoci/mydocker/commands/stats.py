"""mydocker stats."""

from __future__ import annotations

import sys
import time

import click

import pyoci
from pyoci.mydocker import cli, containers, options, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container

_INTERVAL = 1.0  # seconds, between the two looks that make a percentage
_COLUMNS = {
    "CONTAINER ID": "ID",
    "NAME": "Name",
    "CPU %": "CPUPerc",
    "MEM USAGE / LIMIT": "MemUsage",
    "MEM %": "MemPerc",
    "NET I/O": "NetIO",
    "BLOCK I/O": "BlockIO",
    "PIDS": "PIDs",
}


@options.command("stats")
@options.option("--no-stream", is_flag=True, help="Once, and not again and again")
@options.option("-a", "--all", "all_", is_flag=True, hidden=True, help="What does not run uses nothing")
@options.option("--format", "template", default="", help="json, or text with {{.Name}} {{.CPUPerc}} {{.MemUsage}} ...")
@click.argument("names", nargs=-1, metavar="[CONTAINER...]")
def command(names: tuple[str, ...], no_stream: bool, all_: bool, template: str) -> None:
    """Show what running containers use."""
    paths = cli.paths()
    before: dict[str, tuple[float, float]] = {}
    first = True
    while True:
        found = [containers.find(paths, name) for name in names] or containers.list(paths)
        if first:
            for container in found:
                _read(container, before)
            first = False
        time.sleep(_INTERVAL)
        rows = [row for container in found if (row := _read(container, before))]
        if not no_stream and sys.stdout.isatty():
            click.clear()
        show.rows(rows, _COLUMNS, template)
        sys.stdout.flush()
        if no_stream:
            return


def _read(container: Container, before: dict[str, tuple[float, float]]) -> dict[str, Any] | None:
    """One line; `before` has the CPU time and the moment of the last look.  None when it does not run."""
    try:
        data = container.runtime.stats()["data"]
        pid = container.state().pid
    except pyoci.Error:
        return None
    spent = data.get("cpu", {}).get("usage", {}).get("total", 0) / 1e9
    now = time.monotonic()
    old_spent, old_now = before.get(container.id, (spent, now - 1))
    before[container.id] = spent, now
    memory = data.get("memory", {})
    used, limit = _memory(memory)
    received, sent = _network(pid)
    read, written = _blocks(data.get("blkio", {}))
    return {
        "ID": container.id[:12],
        "Name": container.name,
        "CPUPerc": f"{100 * (spent - old_spent) / (now - old_now):.2f}%",
        "MemUsage": f"{_binary(used)} / {_binary(limit)}",
        "MemPerc": f"{100 * used / limit if limit else 0:.2f}%",
        "NetIO": f"{show.size(received)} / {show.size(sent)}",
        "BlockIO": f"{show.size(read)} / {show.size(written)}",
        "PIDs": data.get("pids", {}).get("current", 0),
    }


def _memory(memory: dict[str, Any]) -> tuple[int, int]:
    """Used without what the kernel would give back at once, and the limit or what the machine has."""
    usage = memory.get("usage", {})
    raw = memory.get("raw", {})
    cache = raw.get("total_inactive_file", raw.get("inactive_file", 0))
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) << 10
    limit = usage.get("limit") or total
    return max(0, usage.get("usage", 0) - cache), min(limit, total)


def _binary(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.4g}{unit}"


def _network(pid: int) -> tuple[int, int]:
    """Bytes received and sent by all interfaces but lo."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            for line in file.readlines()[2:]:
                name, _, numbers = line.partition(":")
                if name.strip() != "lo":
                    received += int(numbers.split()[0])
                    sent += int(numbers.split()[8])
    except (OSError, ValueError):
        return 0, 0
    return received, sent


def _blocks(blkio: dict[str, Any]) -> tuple[int, int]:
    totals = {"read": 0, "write": 0}
    for entry in blkio.get("ioServiceBytesRecursive") or ():
        kind = str(entry.get("op", "")).lower()
        if kind in totals:
            totals[kind] += entry.get("value", 0)
    return totals["read"], totals["write"]
