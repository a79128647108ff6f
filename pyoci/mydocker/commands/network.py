"""mydocker network create, ls, rm, inspect, connect, disconnect, prune."""

from __future__ import annotations

import json

import click

import pyoci
from pyoci.mydocker import cli, containers, errors, networks, options, runspec, show, templates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ALIASES = {"list": "ls", "remove": "rm"}


class _Group(click.Group):
    """Takes the book's `list` and `remove` as well."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None for what is no command."""
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


@click.group("network", cls=_Group, context_settings={"help_option_names": ["--help"]})
def command() -> None:
    """Networks of containers."""


def _nets() -> networks.Networks:
    return networks.Networks(cli.paths())


@command.command("create")
@options.option("-d", "--driver", hidden_names=("-driver",), default="bridge", help="bridge is the only one")
@options.option("--subnet", hidden_names=("-subnet",), help="Its addresses: 172.30.0.0/24 (a free range)")
@options.option("--gateway", help="The bridge's own address (the first)")
@options.option("--ip-range", help="Where containers get theirs from (the subnet)")
@options.option("--ipv6", is_flag=True, hidden=True, callback=options.no_ipv6)
@options.option("--internal", is_flag=True, help="Without a way out")
@options.option("--label", multiple=True, help="NAME=VALUE")
@click.argument("name")
def create(
    name: str,
    driver: str,
    subnet: str | None,
    gateway: str | None,
    ip_range: str | None,
    ipv6: bool,
    internal: bool,
    label: tuple[str, ...],
) -> None:
    """Make a network; the bridge comes with its first container."""
    if driver != "bridge":
        raise errors.UsageError(f"there is no network driver {driver!r}", hint="bridge is the only one", code=1)
    wanted = networks.Wanted()
    wanted.subnet, wanted.gateway, wanted.ip_range, wanted.internal = subnet, gateway, ip_range, internal
    wanted.labels = options.key_values(label, "label")
    made = _nets().create(name, wanted)
    click.echo(made["id"])


@command.command("ls")
@options.option("-q", "--quiet", is_flag=True, help="Only ids")
@options.option("--no-trunc", is_flag=True, help="Whole ids")
@options.option("-f", "--filter", "filters", multiple=True, metavar="NAME=VALUE", help="name, driver, id, label")
@options.option("--format", "template", default="", help="json, or text with {{.ID}} {{.Name}} {{.Driver}}")
def ls(quiet: bool, no_trunc: bool, filters: tuple[str, ...], template: str) -> None:
    """List networks."""
    wanted = show.filters(filters, ("name", "driver", "id", "label"))
    nets = _nets()
    rows = []
    for net in nets.list():
        fits = all(any(text in net[name] for text in wanted[name]) for name in wanted if name != "label")
        if fits and show.has_labels(net["labels"], wanted.get("label", [])):
            id = net["id"] if no_trunc else net["id"][:12]
            rows.append(
                {"ID": id, "Name": net["name"], "Driver": net["driver"], "Scope": "local", "Subnet": net["subnet"]}
            )
    for problem in nets.problems:
        cli.say(problem)
    if quiet:
        for row in rows:
            click.echo(row["ID"])
        return
    show.rows(rows, {"NETWORK ID": "ID", "NAME": "Name", "DRIVER": "Driver", "SCOPE": "Scope"}, template)


@command.command("rm")
@options.option("-f", "--force", is_flag=True, help="Also when it is not there")
@click.argument("names", nargs=-1, required=True)
def rm(names: tuple[str, ...], force: bool) -> int:
    """Remove networks that nobody uses."""
    status = 0
    for name in names:
        try:
            click.echo(_nets().remove(name))
        except errors.NotFound as error:
            cli.say(str(error))
            status = status if force else 1
        except pyoci.Error as error:
            cli.say(str(error))
            status = 1
    return status


@command.command("inspect")
@options.option("-f", "--format", "template", default="", help="Text with {{.Name}} ...")
@click.argument("names", nargs=-1, required=True)
def inspect(names: tuple[str, ...], template: str) -> int:
    """Show all that is known of networks."""
    found, status = [], 0
    for name in names:
        try:
            found.append(document(_nets().find(name)))
        except pyoci.Error as error:
            cli.say(str(error))
            status = 1
    if template:
        for entry in found:
            click.echo(templates.render(template, entry))
    else:
        click.echo(json.dumps(found, indent=4))
    return status


def document(net: dict[str, Any]) -> dict[str, Any]:
    """docker network inspect's document."""
    members = {
        id: {"Name": end["name"], "MacAddress": end["mac"], "IPv4Address": f"{end['ip']}/{end['prefix']}"}
        for id, end in net["endpoints"].items()
    }
    for id, member in members.items():
        try:
            member["Name"] = containers.load(cli.paths(), id).name
        except errors.NotFound:
            continue
    addresses = [{"Subnet": net["subnet"], "Gateway": net["gateway"]}] if net["subnet"] else []
    return {
        "Name": net["name"],
        "Id": net["id"],
        "Created": net["created"],
        "Scope": "local",
        "Driver": net["driver"],
        "IPAM": {"Driver": "default", "Config": addresses},
        "Internal": net["internal"],
        "Containers": members,
        "Options": {"com.docker.network.bridge.name": net["device"]} if net["device"] else {},
        "Labels": net["labels"],
    }


@command.command("connect")
@options.option("--ip", help="Its address there")
@options.option("--alias", "aliases", multiple=True, help="One more name there")
@click.argument("network")
@click.argument("name", metavar="CONTAINER")
def connect(network: str, name: str, ip: str | None, aliases: tuple[str, ...]) -> None:
    """Give a container one more network."""
    nets = _nets()
    names = runspec.check_aliases(aliases)
    net = nets.find(network)["name"]
    if net in networks.SPECIAL:
        raise errors.Conflict(f"container cannot be connected to {net} network")
    container = containers.find(cli.paths(), name)
    if not container.record["networks"] and container.host["network"] != "none":
        raise errors.Conflict(f"container {container.name} has no network of its own")
    with container.lock():
        state = container.state()
        if net in container.record["networks"]:
            raise errors.Conflict(f"container {container.name} is already connected to network {net}")
        if state.alive:
            nets.connect(container, state.pid, net, ip=ip, aliases=names)
        container.record["networks"][net] = {"ip": ip, "aliases": names}
        if container.host["network"] == "none":
            container.host["network"] = net
        container.save()


@command.command("disconnect")
@options.option("-f", "--force", is_flag=True, hidden=True, help="There is nothing that it would force")
@click.argument("network")
@click.argument("name", metavar="CONTAINER")
def disconnect(network: str, name: str, force: bool) -> None:
    """Take a network from a container."""
    nets = _nets()
    net = nets.find(network)["name"]
    container = containers.find(cli.paths(), name)
    with container.lock():
        if net not in container.record["networks"]:
            raise errors.Conflict(f"container {container.name} is not connected to network {net}")
        nets.disconnect(container.id, net)
        del container.record["networks"][net]
        if not container.record["networks"]:
            container.host["network"] = "none"
        container.save()


@command.command("prune")
@options.option("-f", "--force", is_flag=True, help="Do not ask")
def prune(force: bool) -> None:
    """Remove every network that no container has."""
    if not force:
        click.confirm("This will remove all custom networks not used by at least one container. Go on?", abort=True)
    for name in unused():
        click.echo(_nets().remove(name))


def unused() -> list[str]:
    """Names of networks of the user's that no container has."""
    used = {name for container in containers.list(cli.paths()) for name in container.record.get("networks") or ()}
    return [net["name"] for net in _nets().list() if net["device"] and net["name"] not in {*used, networks.DEFAULT}]
