"""mydocker load."""

from __future__ import annotations

import os
import sys

from pyoci.mydocker import archives, cli, errors, images, options


@options.command("load")
@options.option(
    "-i", "--input", "source", metavar="FILE", help="A file, or the directory of an OCI layout; stdin without"
)
@options.option("-q", "--quiet", is_flag=True, help="Only errors")
def command(source: str | None, quiet: bool) -> None:
    """Take images from a docker archive or an OCI layout, compressed or not."""
    store = images.Store(cli.paths())
    for image in _load(store, source):
        if not quiet:
            for name in image.tags or ():
                print(f"Loaded image: {name}")
            if not image.tags:
                print(f"Loaded image ID: {image.id}")
    for warning in store.warnings:
        cli.say(f"warning: {warning}")


def _load(store: images.Store, source: str | None) -> list[images.Image]:
    if source and os.path.isdir(source):
        return archives.load_directory(store, source)
    if source:
        with open(source, "rb") as file:
            return archives.load(store, file)
    if sys.stdin.isatty():
        raise errors.UsageError("load reads an archive from stdin, and that is a terminal", hint="-i FILE")
    with open(0, "rb", closefd=False) as file:
        return archives.load(store, file)
