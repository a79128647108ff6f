"""start, stop, restart, kill, pause, unpause, rm, wait, rename, update: what changes a container's state."""

from __future__ import annotations

import click

import pyoci
from pyoci.mydocker import cli, config, console, containers, errors, foreground, lifecycle, options, records, restart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyoci.mydocker.containers import Container


def each(names: Sequence[str], action: Callable[[Container], object], echo: bool = True) -> int:
    """Do it to every one, say what failed and go on; 1 when something did."""
    paths = cli.paths()
    status = 0
    for name in names:
        try:
            action(containers.find(paths, name))
            if echo:
                click.echo(name)
        except pyoci.Error as error:
            cli.say(str(error))
            status = 1
    return status


_names = click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")


@options.command("start")
@_names
@options.option("-a", "--attach", is_flag=True, help="Stay, with its output")
@options.option("-i", "--interactive", is_flag=True, help="And with our stdin")
@options.option("--detach-keys", default=console.DEFAULT_KEYS, help="Keys that leave it running")
def command_start(names: tuple[str, ...], attach: bool, interactive: bool, detach_keys: str) -> int:
    """Start containers that do not run."""
    if not (attach or interactive):
        return each(names, lifecycle.start)
    if len(names) > 1:
        raise errors.UsageError("you cannot start and attach multiple containers at once", code=1)
    container = containers.find(cli.paths(), names[0])
    foreground.check_terminal(container.config["Tty"], interactive)
    return foreground.start(container, stdin=interactive and container.config["OpenStdin"], keys=detach_keys)


@options.command("stop")
@_names
@options.option("-t", "--time", "--timeout", "seconds", type=int, help="Until KILL is sent (10)")
@options.option("-s", "--signal", "name", help="In place of its stop signal")
def command_stop(names: tuple[str, ...], seconds: int | None, name: str | None) -> int:
    """Ask containers to end, and see that they do."""
    return each(names, lambda container: lifecycle.stop(container, seconds, name))


@options.command("restart")
@_names
@options.option("-t", "--time", "--timeout", "seconds", type=int, help="Until KILL is sent (10)")
@options.option("-s", "--signal", "name", help="In place of its stop signal")
def command_restart(names: tuple[str, ...], seconds: int | None, name: str | None) -> int:
    """Stop containers and start them again."""

    def again(container: Container) -> None:
        with records.Lock(container.restarting):
            lifecycle.stop(container, seconds, name)
            lifecycle.start(container)

    return each(names, again)


@options.command("kill")
@_names
@options.option("-s", "--signal", "name", default="KILL", help="Which (KILL)")
def command_kill(names: tuple[str, ...], name: str) -> int:
    """Send containers a signal."""
    return each(names, lambda container: lifecycle.kill(container, name))


@options.command("pause")
@_names
def command_pause(names: tuple[str, ...]) -> int:
    """Stop every process of containers for a while."""
    return each(names, lambda container: container.pause())


@options.command("unpause")
@_names
def command_unpause(names: tuple[str, ...]) -> int:
    """Let paused containers go on."""
    return each(names, lambda container: container.unpause())


@options.command("rm")
@_names
@options.option("-f", "--force", is_flag=True, help="Also one that runs: it is killed")
@options.option("-v", "--volumes", is_flag=True, help="And the volumes that were made for it")
def command_rm(names: tuple[str, ...], force: bool, volumes: bool) -> int:
    """Remove containers and what they changed."""
    if not force:
        return each(names, lambda container: lifecycle.remove(container, volumes=volumes))

    def gone(container: Container) -> None:
        lifecycle.remove(container, force=True, volumes=volumes)

    return each(names, gone)


@options.command("wait")
@_names
def command_wait(names: tuple[str, ...]) -> int:
    """Wait until containers have ended, and print their exit codes."""

    def await_end(container: Container) -> None:
        with container.awaited():
            click.echo(lifecycle.wait(container))

    return each(names, await_end, echo=False)


@options.command("rename")
@click.argument("name", metavar="CONTAINER")
@click.argument("new_name")
def command_rename(name: str, new_name: str) -> None:
    """Give a container another name."""
    containers.find(cli.paths(), name).rename(new_name)


@options.command("update")
@_names
@options.option("--restart", "policy", help="Restart policy")
@options.option("-m", "--memory", help="Limit of memory")
@options.option("--memory-swap", help="Limit of memory and swap together")
@options.option("--memory-reservation", help="Memory it keeps when memory is short")
@options.option("--cpus", type=float, help="How many CPUs' time")
@options.option("-c", "--cpu-shares", type=int, help="Weight of its CPU time")
@options.option("--cpuset-cpus", help="Which CPUs")
@options.option("--cpuset-mems", help="Which memory nodes")
@options.option("--pids-limit", type=int, help="How many processes")
def command_update(names: tuple[str, ...], policy: str | None, **given: Any) -> int:
    """Change the limits and the restart policy of containers, running or not."""
    for name in ("memory", "memory_reservation"):
        given[name] = options.size(given[name]) if given[name] else None
    if given["memory_swap"]:
        given["memory_swap"] = -1 if given["memory_swap"] == "-1" else options.size(given["memory_swap"])
    changes = {name: value for name, value in given.items() if value is not None}
    if policy is not None:
        changes["restart"] = restart.parse(policy)

    def change(container: Container) -> None:
        with container.lock():
            container.record["host"] = {**container.host, **changes}
            swap = bool(container.host["memory_swap"])
            limits = config.limits({**dict.fromkeys(container.host, 0), **changes}, swap)
            if limits and container.state().alive:
                container.runtime.update(limits)
            container.save()

    return each(names, change)
