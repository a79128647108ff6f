"""mydocker tag."""

from __future__ import annotations

import click

from pyoci.mydocker import cli, images, options


@options.command("tag")
@click.argument("image")
@click.argument("name")
def command(image: str, name: str) -> None:
    """Give an image one more name."""
    images.Store(cli.paths()).tag(image, name)
