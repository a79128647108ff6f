"""diff, port, top: what is seen of one container."""

from __future__ import annotations

import os

import click

from pyoci.mydocker import cli, containers, errors, images, inspection, options, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# mount points that the runtime makes where the image has none
_MADE = frozenset("/etc/hosts /etc/hostname /etc/resolv.conf /dev /dev/console /proc /sys /sbin/docker-init".split())


@options.command("diff")
@click.argument("name", metavar="CONTAINER")
def command_diff(name: str) -> None:
    """Show what a container added (A), changed (C) and deleted (D)."""
    container = containers.find(cli.paths(), name)
    changed = [(kind, path) for kind, path in images.Store(container.paths).diff(container.id) if path not in _MADE]
    if not any(path.startswith("/etc/") for _, path in changed):
        changed = [(kind, path) for kind, path in changed if path != "/etc"]  # changed by our files only
    for kind, path in changed:
        click.echo(f"{kind} {path}")


@options.command("port")
@click.argument("name", metavar="CONTAINER")
@click.argument("port", required=False)
def command_port(name: str, port: str | None) -> None:
    """Show where the ports of a container are published."""
    container = containers.find(cli.paths(), name)
    found = inspection.published(container) if container.state().alive else []
    for entry in found:
        inside = f"{entry['container_port']}/{entry['proto']}"
        outside = f"{entry['host_ip'] or '0.0.0.0'}:{entry['host_port']}"
        if port is None:
            click.echo(f"{inside} -> {outside}")
        elif port in (inside, inside.removesuffix("/tcp")):
            click.echo(outside)
    if port is not None and not any(port.partition("/")[0] == str(entry["container_port"]) for entry in found):
        raise errors.NotFound(f"no public port '{port}' published for {name}")


@options.command("top")
@click.argument("name", metavar="CONTAINER")
@click.argument("columns", nargs=-1)
def command_top(name: str, columns: tuple[str, ...]) -> None:
    """Show the processes of a container, as the host numbers them; COLUMNS as for `ps -o`."""
    container = containers.find(cli.paths(), name)
    if not container.state().alive:
        raise errors.Conflict(f"container {container.id} is not running")
    chosen = [column for text in columns if text != "-o" for column in text.split(",")]
    wanted = [column.lower() for column in chosen] or ["uid", "pid", "ppid", "time", "cmd"]
    unknown = [column for column in wanted if column not in _COLUMNS]
    if unknown:
        raise errors.UsageError(f"no column {unknown[0]!r}", hint=f"there are {', '.join(_COLUMNS)}", code=1)
    rows = [[facts[column] for column in wanted] for facts in _processes(container.runtime.pids())]
    show.table([column.upper() for column in wanted], rows)


_COLUMNS = ("uid", "pid", "ppid", "stat", "time", "rss", "comm", "cmd", "args")


def _processes(pids: list[int]) -> Iterator[dict[str, str]]:
    tick = os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                head, _, tail = file.read().rpartition(")")
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                line = file.read().replace("\0", " ").strip()
            uid = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            continue  # it has ended
        fields = tail.split()
        comm = head.partition("(")[2]
        spent = (int(fields[11]) + int(fields[12])) // tick
        line = line or f"[{comm}]"
        yield {
            "uid": str(uid),
            "pid": str(pid),
            "ppid": fields[1],
            "stat": fields[0],
            "time": f"{spent // 3600:02}:{spent // 60 % 60:02}:{spent % 60:02}",
            "rss": str(int(fields[21]) * page // 1024),
            "comm": comm,
            "cmd": line,
            "args": line,
        }
