"""mydocker volume create, ls, rm, inspect, prune."""

from __future__ import annotations

import json

import click

import pyoci
from pyoci.mydocker import cli, errors, options, show, templates, users_of
from pyoci.mydocker.volumes import Volume, Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FILTERS = ("dangling", "name", "label")


@click.group("volume", context_settings={"help_option_names": ["--help"]})
def command() -> None:
    """Named volumes: directories that outlive containers."""


@command.command("create")
@click.argument("name", required=False, default="")
@options.option("--name", "old_name", default="", hidden=True)
@options.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label")
@options.option("-d", "--driver", default="local", help="local is the only one")
def create(name: str, old_name: str, labels: tuple[str, ...], driver: str) -> None:
    """Make a volume; one of that name that is there already stays as it is."""
    if driver != "local":
        raise errors.UsageError(f"there is no volume driver {driver}", hint="local")
    print(Volumes(cli.paths()).create(name or old_name, options.key_values(labels, "the label")))


@command.command("ls")
@options.option("-q", "--quiet", is_flag=True, help="Only names")
@options.option("-f", "--filter", "filters", multiple=True, metavar="NAME=VALUE", help="dangling, name, label")
@options.option("--format", "template", default="", help="json, or text with {{.Name}} {{.Mountpoint}} {{.Labels}}")
def ls(quiet: bool, filters: tuple[str, ...], template: str) -> None:
    """List volumes."""
    paths = cli.paths()
    volumes = Volumes(paths)
    wanted = show.filters(filters, _FILTERS)
    used = users_of.volumes(paths) if "dangling" in wanted else {}
    found = [volume for volume in volumes.list() if _matches(volume, wanted, used)]
    for problem in volumes.problems:
        cli.say(problem)
    if quiet:
        for volume in found:
            print(volume.name)
        return
    show.rows([_row(volume) for volume in found], {"DRIVER": "Driver", "VOLUME NAME": "Name"}, template)


def _matches(volume: Volume, wanted: dict[str, list[str]], used: dict[str, list[str]]) -> bool:
    if any((volume.name not in used) != (text in ("true", "1")) for text in wanted.get("dangling", [])):
        return False
    if not all(text in volume.name for text in wanted.get("name", [])):
        return False
    return show.has_labels(volume.labels, wanted.get("label", []))


def _row(volume: Volume) -> dict[str, Any]:
    labels = ",".join(f"{key}={value}" for key, value in volume.labels.items())
    return {"Driver": "local", "Name": volume.name, "Mountpoint": volume.path, "Labels": labels, "Scope": "local"}


@command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME...")
@options.option("-f", "--force", is_flag=True, help="No error for one that is not there")
def rm(names: tuple[str, ...], force: bool) -> int:
    """Remove volumes and all that is in them."""
    paths = cli.paths()
    status = 0
    for name in names:
        try:
            Volumes(paths).remove(name, force=force, in_use=users_of.volumes(paths).get(name, ()))
            print(name)
        except pyoci.Error as error:
            cli.say(str(error))
            status = 1
    return status


def document(volume: Volume) -> dict[str, Any]:
    """docker volume inspect's."""
    return {
        "CreatedAt": volume.created,
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": {},
        "Scope": "local",
    }


@command.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME...")
@options.option("-f", "--format", "template", default="", help="Text with {{.Mountpoint}} and so on")
def inspect(names: tuple[str, ...], template: str) -> None:
    """Show all that is known of volumes."""
    volumes = Volumes(cli.paths())
    found = [document(volumes.inspect(name)) for name in names]
    if not template:
        print(json.dumps(found, indent=4))
        return
    for entry in found:
        print(templates.render(template, entry))


@command.command("prune")
@options.option("-a", "--all", "all_", is_flag=True, help="Named volumes too, not only those made for one container")
@options.option("-f", "--force", is_flag=True, help="Do not ask")
def prune_command(all_: bool, force: bool) -> None:
    """Remove volumes that no container uses."""
    if not force:
        click.confirm("This will remove volumes that no container uses. Are you sure?", abort=True)
    for name in prune(cli.paths(), all_):
        print(name)


def prune(paths: Any, all_: bool) -> list[str]:
    """Remove volumes without a container; gives their names.  None, while there is a container nobody can read."""
    if users_of.unknown(paths):
        cli.say("volumes stay: there are containers whose records cannot be read")
        return []
    volumes = Volumes(paths)
    used = users_of.volumes(paths)
    done = []
    for volume in volumes.list():
        if volume.name not in used and (all_ or volume.anonymous):
            volumes.remove(volume.name)
            done.append(volume.name)
    return done
