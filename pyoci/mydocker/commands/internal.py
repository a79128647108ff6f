"""What mydocker calls itself: after a container has ended, before it is started again, after a boot."""

from __future__ import annotations

import click

import pyoci
from pyoci.mydocker import cli, containers, lifecycle, networks, options, restart


@options.command("_exited", hidden=True)
@click.argument("id")
@click.argument("run")
def command__exited(id: str, run: str) -> None:
    """conmon's exit command."""
    lifecycle.exited(containers.load(cli.paths(), id), run)


@options.command("_restart", hidden=True)
@click.argument("id")
@click.argument("seconds", type=float)
def command__restart(id: str, seconds: float) -> None:
    """Wait, then start."""
    restart.now(containers.load(cli.paths(), id), seconds)


@options.command("_boot", hidden=True)
def command__boot() -> int:
    """Start what is to run after a boot."""
    paths = cli.paths()
    networks.Networks(paths).settle()
    status = 0
    for container in reversed(containers.list(paths)):
        try:
            if restart.at_boot(container):
                lifecycle.start(container)
        except pyoci.Error as error:
            cli.say(str(error))
            status = 1
    return status
