"""mydocker history."""

from __future__ import annotations

import click

from pyoci.mydocker import cli, images, options, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_WIDTH = 45


@options.command("history")
@click.argument("name", metavar="IMAGE")
@options.option("-q", "--quiet", is_flag=True, help="Only ids")
@options.option("--no-trunc", is_flag=True, help="The whole commands")
@options.option("-H", "--human/--no-human", default=True, help="Sizes and ages to be read")
@options.option("--format", "template", default="", help="json, or text with {{.ID}} {{.CreatedBy}} {{.Size}} ...")
def command(name: str, quiet: bool, no_trunc: bool, human: bool, template: str) -> None:
    """Show the steps an image was made by, the last one first."""
    store = images.Store(cli.paths())
    found = list(_rows(store, store.resolve(name), no_trunc, human))
    if quiet:
        for row in found:
            print(row["ID"])
        return
    created = "CreatedSince" if human else "CreatedAt"
    columns = {"IMAGE": "ID", "CREATED": created, "CREATED BY": "CreatedBy", "SIZE": "Size", "COMMENT": "Comment"}
    show.rows(found, columns, template)


def _rows(store: images.Store, image: images.Image, no_trunc: bool, human: bool) -> Iterator[dict[str, Any]]:
    sizes = [store.layers.size(diff_id) for diff_id in image.layers]
    identity = image.id if no_trunc else show.short(image.id)
    for step in reversed(image.history):
        size = 0 if step.get("empty_layer") else sizes.pop()
        created, text = str(step.get("created") or ""), str(step.get("created_by") or "")
        yield {
            "ID": identity,
            "CreatedSince": show.age(created),
            "CreatedAt": created,
            "CreatedBy": text if no_trunc or len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…",
            "Size": show.size(size) if human else size,
            "Comment": str(step.get("comment") or ""),
        }
        identity = "<missing>"
