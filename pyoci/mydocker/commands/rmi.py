"""mydocker rmi."""

from __future__ import annotations

import click

import pyoci
from pyoci.mydocker import cli, images, options, users_of


@options.command("rmi")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@options.option("-f", "--force", is_flag=True, help="Also when containers use it: its names go")
def command(names: tuple[str, ...], force: bool) -> int:
    """Remove images: the name, and with the last name the image."""
    paths = cli.paths()
    store = images.Store(paths)
    status = 0
    for name in names:
        try:
            for line in store.remove(name, force=force, in_use=users_of.images(paths)):
                print(line)
        except pyoci.Error as error:
            cli.say(str(error))
            status = 1
    return status
