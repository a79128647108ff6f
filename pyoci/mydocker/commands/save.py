"""mydocker save."""

from __future__ import annotations

import click

from pyoci.mydocker import archives, cli, images, options, output
from pyoci.mydocker.reference import InvalidReference, Reference


@options.command("save")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@options.option("-o", "--output", "target", metavar="FILE", help="Write there and not to stdout")
def command(names: tuple[str, ...], target: str | None) -> None:
    """Write images as an archive that is a docker archive and an OCI layout at once."""
    store = images.Store(cli.paths())
    chosen: dict[str, tuple[images.Image, list[str]]] = {}
    for name in names:
        image = store.resolve(name)
        _, kept = chosen.setdefault(image.id, (image, []))
        kept += [tag for tag in _tags(image, name) if tag not in kept]
    with output.binary(target) as file:
        archives.save(store, list(chosen.values()), file)


def _tags(image: images.Image, name: str) -> list[str]:
    """By a name: that name; by an id: none, as docker does."""
    try:
        text = str(Reference.parse(name))
    except InvalidReference:
        return []
    return [text] if text in image.tags else [] if name in image.id else list(image.tags)
