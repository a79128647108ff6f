"""mydocker logs."""

from __future__ import annotations

import sys

import click

from pyoci.mydocker import cli, containers, errors, logs, monitor, numbers, options


@options.command("logs")
@options.option("-f", "--follow", is_flag=True, help="Go on with what comes")
@options.option("-n", "--tail", default="all", help="Only the last N lines")
@options.option("--since", help="Only what is newer: a time, or how long ago (10m)")
@options.option("--until", help="Only what is older")
@options.option("-t", "--timestamps", is_flag=True, help="With the time of each line")
@click.argument("name", metavar="CONTAINER")
def command(name: str, follow: bool, tail: str, since: str | None, until: str | None, timestamps: bool) -> None:
    """Show what a container has written to stdout and stderr."""
    container = containers.find(cli.paths(), name)
    if container.host.get("log_driver") == "none":
        raise errors.Error("configured logging driver does not support reading")
    count = numbers.decimal(tail)  # -1 is all as well
    if count is None and tail != "all" and numbers.decimal(tail.removeprefix("-")) is None:
        raise errors.UsageError(f"--tail: {tail!r} is no number", code=1)
    first = logs.when(since) if since else float("-inf")
    last = logs.when(until) if until else float("inf")
    log = logs.Log(monitor.log_directory(container))
    if not container.state().alive:
        log.drained(logs.DRAIN)
    for entry in log.entries(count):
        if first <= entry.seconds <= last:
            _show(entry, timestamps)
    if not follow:
        return
    sys.stdout.flush()
    for entry in log.follow(container.goes_on):
        if entry.seconds > last:
            return
        if entry.seconds >= first:
            _show(entry, timestamps)
            sys.stdout.flush()


def _show(entry: logs.Entry, timestamps: bool) -> None:
    target = sys.stderr if entry.stream == "stderr" else sys.stdout
    target.write(f"{entry.time} {entry.text}" if timestamps else entry.text)
