"""mydocker inspect."""

from __future__ import annotations

import json

import click

import pyoci
from pyoci.mydocker import cli, containers, errors, images, inspection, networks, options, templates
from pyoci.mydocker.commands import network, volume
from pyoci.mydocker.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyoci.mydocker.paths import Paths


@options.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options.option("-f", "--format", "template", default="", help="Text with {{.Id}}, {{json .Config}} and so on; or json")
@options.option("-s", "--size", is_flag=True, help="Containers: how much they have written")
@options.option("--type", "kind", type=click.Choice(["container", "image", "volume", "network"]), help="Only these")
def command(names: tuple[str, ...], template: str, size: bool, kind: str | None) -> int:
    """Show all that is known: of containers first, then images, volumes, networks of that name."""
    paths = cli.paths()
    found, status = [], 0
    for name in names:
        try:
            found.append(_find(paths, name, kind, size))
        except pyoci.Error as error:
            cli.say(str(error))
            status = 1
    if not template:
        print(json.dumps(found, indent=4))
    elif template == "json":
        print(json.dumps(found))
    else:
        for entry in found:
            print(templates.render(template, entry))
    return status


def _find(paths: Paths, name: str, kind: str | None, size: bool) -> dict[str, Any]:
    looks: dict[str, Callable[[], dict[str, Any]]] = {
        "container": lambda: _container(paths, name, size),
        "image": lambda: document(images.Store(paths), name),
        "volume": lambda: volume.document(Volumes(paths).inspect(name)),
        "network": lambda: network.document(networks.Networks(paths).find(name)),
    }
    for look in [looks[kind]] if kind else looks.values():
        try:
            return look()
        except (errors.NotFound, errors.UsageError):
            continue
    raise errors.NotFound(f"no such {kind or 'object'}: {name}")


def _container(paths: Paths, name: str, size: bool) -> dict[str, Any]:
    container = containers.find(paths, name)
    found = inspection.document(container)
    if size:
        found["SizeRw"] = images.Store(paths).rootfs_size(container.id)
    return found


def document(store: images.Store, name: str) -> dict[str, Any]:
    """docker image inspect's."""
    image = store.resolve(name)
    return {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Comment": next((str(step["comment"]) for step in reversed(image.history) if step.get("comment")), ""),
        "Created": image.created,
        "Author": image.author,
        "Config": image.config.get("config") or {},
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": {"Name": "overlay", "Data": {"Layers": [store.layers.path(entry) for entry in image.layers]}},
        "RootFS": {"Type": "layers", "Layers": list(image.layers)},
        "Descriptor": {"digest": image.digest, "size": store.blobs.size(image.digest)},
    }
