"""mydocker import."""

from __future__ import annotations

import click

from pyoci.mydocker import archives, cli, images, instructions, options


@options.command("import")
@click.argument("source", metavar="FILE|-")
@click.argument("name", required=False, default="")
@options.option(
    "-c", "--change", multiple=True, metavar="INSTRUCTION", help="Dockerfile instruction to apply: CMD, ENV ..."
)
@options.option("-m", "--message", default="", help="Comment for the history")
def command(source: str, name: str, change: tuple[str, ...], message: str) -> None:
    """Make an image of a tar of a root file system, compressed or not."""
    store = images.Store(cli.paths())
    config = instructions.apply({}, change)
    with open(0 if source == "-" else source, "rb", closefd=source != "-") as file:
        image = archives.take_rootfs(store, file, name, config, message or f"Imported from {source}")
    for warning in store.warnings:
        cli.say(f"warning: {warning}")
    print(image.id)
