"""mydocker commit."""

from __future__ import annotations

import contextlib

import click

import pyoci
from pyoci.mydocker import cli, containers, images, instructions, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@options.command("commit")
@click.argument("name", metavar="CONTAINER")
@click.argument("reference", required=False, default="")
@options.option("-a", "--author", default="", help="Who made it")
@options.option("-m", "--message", default="", help="Comment for the history")
@options.option(
    "-c", "--change", multiple=True, metavar="INSTRUCTION", help="Dockerfile instruction to apply: CMD, ENV ..."
)
@options.option("-p", "--pause/--no-pause", default=True, help="Pause the container meanwhile")
def command(name: str, reference: str, author: str, message: str, change: tuple[str, ...], pause: bool) -> None:
    """Make an image of a container's image and what the container changed; volumes are not part of it."""
    paths = cli.paths()
    container = containers.find(paths, name)
    config = instructions.apply(container.config, change)
    store = images.Store(paths)
    with _paused(container) if pause else contextlib.nullcontext():
        image = store.commit(container.id, config, ref=reference, author=author, message=message)
    for warning in store.warnings:
        cli.say(f"warning: {warning}")
    print(image.id)


@contextlib.contextmanager
def _paused(container: containers.Container) -> Iterator[None]:
    """Nothing changes while it is read.  Without a freezer, or on one that has just ended, it is read as it is."""
    if container.status != "running":
        yield
        return
    try:
        container.pause()
    except pyoci.Error as error:
        cli.say(f"warning: not paused: {error}")
        yield
        return
    try:
        yield
    finally:
        container.unpause()
