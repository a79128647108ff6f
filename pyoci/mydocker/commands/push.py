"""mydocker push."""

from __future__ import annotations

import contextlib

import click

from pyoci.mydocker import cli, errors, images, options, progress, transfer
from pyoci.mydocker.reference import Reference


@options.command("push")
@click.argument("name")
@options.option("-q", "--quiet", is_flag=True, help="Only the name at the end")
def command(name: str, quiet: bool) -> None:
    """Send an image to the registry its name says; `mydocker tag` gives it such a name."""
    store = images.Store(cli.paths())
    reference = Reference.parse(name)
    image = store.resolve(name)
    if str(reference) not in (*image.tags, *image.digests):
        raise errors.NotFound(f"no image is called {reference}", hint=f"mydocker tag {name} {reference}")
    if not quiet:
        print(f"The push refers to repository [{reference.host}/{reference.path}]", flush=True)
    with progress.watcher(quiet) or contextlib.nullcontext() as shown:
        digest = transfer.push(store, image, reference, shown)
    size = store.blobs.size(digest)
    print(f"{reference.tag}: digest: {digest} size: {size}" if not quiet else reference.full())
