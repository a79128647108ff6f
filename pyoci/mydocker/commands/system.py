"""mydocker system df, prune."""

from __future__ import annotations

import os

import click

import pyoci
from pyoci.mydocker import cli, containers, images, lifecycle, networks, options, restart, show, tree, users_of
from pyoci.mydocker.commands import volume
from pyoci.mydocker.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyoci.mydocker.paths import Paths


@click.group("system", context_settings={"help_option_names": ["--help"]})
def command() -> None:
    """What is kept on disk, and removing what is not used."""


@command.command("df")
def df() -> None:
    """Show what is kept on disk."""
    paths = cli.paths()
    store = images.Store(paths)
    all_images, used = store.images(), users_of.images(paths)
    layers = {diff_id: store.layers.size(diff_id) for image in all_images for diff_id in image.layers}
    kept = {diff_id for image in all_images if image.id in used for diff_id in image.layers}
    found = containers.list(paths)
    written = {container.id: _written(store, container.id) for container in found}
    alive = {container.id for container in found if container.state().alive}
    volumes, in_use = Volumes(paths).list(), users_of.volumes(paths)
    sizes = {entry.name: tree.size(entry.path) for entry in volumes}
    rows = [
        _row("Images", len(all_images), sum(image.id in used for image in all_images), layers, kept),
        _row("Containers", len(found), len(alive), written, alive),
        _row("Local Volumes", len(volumes), sum(name in in_use for name in sizes), sizes, set(in_use)),
    ]
    columns = ("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")
    show.table(columns, rows)
    for problem in store.problems:
        cli.say(problem)


def _written(store: images.Store, container: str) -> int:
    try:
        return store.rootfs_size(container)
    except FileNotFoundError:
        return 0


def _row(what: str, total: int, active: int, sizes: dict[str, int], kept: set[str]) -> list[str]:
    free = sum(size for name, size in sizes.items() if name not in kept)
    whole = sum(sizes.values())
    return [what, str(total), str(active), show.size(whole), f"{show.size(free)} ({100 * free // (whole or 1)}%)"]


@command.command("unit")
def unit() -> None:
    """Print a systemd unit that starts, at boot, what restart policies want to run."""
    print(restart.unit(cli.paths()), end="")


@command.command("prune")
@options.option("-a", "--all", "all_", is_flag=True, help="Every image that no container uses, not only nameless ones")
@options.option("--volumes", is_flag=True, help="Volumes too that were made for one container")
@options.option("-f", "--force", is_flag=True, help="Do not ask")
def prune(all_: bool, volumes: bool, force: bool) -> None:
    """Remove ended containers, networks without containers, images that nothing uses, and what broke off."""
    if not force:
        what = "all ended containers, unused networks" + (", unused volumes" if volumes else "")
        what += f" and all {'unused' if all_ else 'nameless'} images"
        click.confirm(f"This will remove {what}. Are you sure?", abort=True)
    paths = cli.paths()
    store = images.Store(paths)
    before = _free(paths)
    _told("Containers", _containers(paths))
    if volumes:
        _told("Volumes", iter(volume.prune(paths, all_=False)))
    _told("Networks", _networks(paths))
    _told("Images", _images(store, all_))
    _leftovers(store)
    store.sweep()
    store.blobs.sweep_partial()
    for problem in store.problems:
        cli.say(problem)
    print(f"Total reclaimed space: {show.size(max(0, _free(paths) - before))}")


def _free(paths: Paths) -> int:
    found = os.statvfs(paths.root)
    return found.f_bfree * found.f_frsize


def _told(what: str, names: Iterator[str]) -> None:
    """Print a heading when there is something below it; an error is told and hides nothing."""
    heading = f"Deleted {what}:\n"
    for name in names:
        print(f"{heading}{name}")
        heading = ""
    if not heading:
        print()


def _containers(paths: Paths) -> Iterator[str]:
    for container in containers.list(paths):
        if container.status in ("exited", "created") and _done(lambda found=container: lifecycle.remove(found)):  # type: ignore[misc]
            yield container.id


def _networks(paths: Paths) -> Iterator[str]:
    known = networks.Networks(paths)
    wanted = {name for container in containers.list(paths) for name in container.record.get("networks") or ()}
    for network in known.list():
        name = network["name"]
        if name in networks.SPECIAL or name == networks.DEFAULT or name in wanted or network["endpoints"]:
            continue
        if _done(lambda found=name: known.remove(found)):  # type: ignore[misc]
            yield name


def _images(store: images.Store, all_: bool) -> Iterator[str]:
    if users_of.unknown(store.paths):
        cli.say("images stay: there are containers whose records cannot be read")
        return
    used = users_of.images(store.paths)
    for image in store.images():
        if image.id not in used and (all_ or not image.tags):
            done: list[str] = []
            if _done(lambda found=image, lines=done: lines.extend(store.remove(found.id, force=True))):  # type: ignore[misc]
                yield from done


def _leftovers(store: images.Store) -> None:
    """Root file systems of containers that are gone: a command was killed in between."""
    for identity in store.overlays.containers():
        if not os.path.isdir(f"{store.paths.containers}/{identity}"):
            _done(lambda found=identity: store.remove_rootfs(found))  # type: ignore[misc]


def _done(action: Callable[[], object]) -> bool:
    try:
        action()
    except (pyoci.Error, OSError) as error:
        cli.say(str(error))
        return False
    return True
