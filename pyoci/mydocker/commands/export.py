"""mydocker export."""

from __future__ import annotations

import contextlib

import click

from pyoci.mydocker import cli, containers, idmap, images, options, output


@options.command("export")
@click.argument("name", metavar="CONTAINER")
@options.option("-o", "--output", "target", metavar="FILE", help="Write there and not to stdout")
def command(name: str, target: str | None) -> None:
    """Write a container's file system as a tar; volumes are not part of it."""
    paths = cli.paths()
    container = containers.find(paths, name)
    store = images.Store(paths)
    # one that is started meanwhile would lose the mount that was made here
    lock = contextlib.nullcontext() if container.state().alive else container.lock()
    with lock, output.binary(target) as file:
        store.export(container.id, file, idmap.of(container.host))
