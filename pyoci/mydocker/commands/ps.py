"""mydocker ps."""

from __future__ import annotations

from pyoci.mydocker import cli, containers, errors, images, inspection, numbers, options, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container
    from pyoci.mydocker.observed import State

_FILTERS = ("id", "name", "status", "exited", "label", "ancestor", "network", "volume")
_STATES = ("created", "running", "paused", "restarting", "exited", "dead")
_COLUMNS = {
    "CONTAINER ID": "ID",
    "IMAGE": "Image",
    "COMMAND": "Command",
    "CREATED": "RunningFor",
    "STATUS": "Status",
    "PORTS": "Ports",
    "NAMES": "Names",
}


@options.command("ps")
@options.option("-a", "--all", "all_", is_flag=True, help="Also those that do not run")
@options.option("-q", "--quiet", is_flag=True, help="Only ids")
@options.option("-s", "--size", "sizes", is_flag=True, help="And what they have written")
@options.option("-n", "--last", type=int, help="The last N that were made")
@options.option("-l", "--latest", is_flag=True, help="The one that was made last")
@options.option("--no-trunc", is_flag=True, help="Whole ids and commands")
@options.option("-f", "--filter", "filters", multiple=True, metavar="NAME=VALUE", help=", ".join(_FILTERS))
@options.option("--format", "template", default="", help="json, or text with {{.ID}} {{.Names}} {{.Status}} ...")
def command(
    all_: bool,
    quiet: bool,
    sizes: bool,
    last: int | None,
    latest: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    template: str,
) -> None:
    """List containers."""
    wanted = show.filters(filters, _FILTERS)
    for text in wanted.get("status", []):
        if text not in _STATES:
            raise errors.UsageError(f"invalid filter status={text}", hint=f"there are {', '.join(_STATES)}")
    found = [(container, container.state()) for container in containers.list(cli.paths())]
    for container, _ in found:
        if container.problem:
            cli.say(container.problem)
    limit = 1 if latest else last
    if limit is not None:
        found = found[:limit]
    elif not (all_ or "status" in wanted or "exited" in wanted):
        found = [pair for pair in found if pair[1].alive or pair[1].status == "restarting"]
    found = [pair for pair in found if _fits(*pair, wanted)]
    if quiet and not template:
        for container, _ in found:
            print(container.id if no_trunc else container.id[:12])
        return
    rows = [inspection.row(container, state, not no_trunc) for container, state in found]
    if sizes:
        store = images.Store(cli.paths())
        for row, (container, _) in zip(rows, found, strict=True):
            row["Size"] = show.size(store.rootfs_size(container.id))
    show.rows(rows, {**_COLUMNS, **({"SIZE": "Size"} if sizes else {})}, template)


def _fits(container: Container, state: State, wanted: dict[str, list[str]]) -> bool:
    """Different filters must all hold, of several values of one any."""
    record = container.record
    config = container.config
    for code in wanted.get("exited", []):
        if numbers.decimal(code) is None:
            raise errors.UsageError(f"invalid filter exited={code}")
    tests: dict[str, Any] = {
        "id": container.id.startswith,
        "name": lambda text: text.strip("^$/") in container.name,
        "status": lambda text: state.status == text,
        "exited": lambda text: state.status == "exited" and state.exit_code == int(text),
        "ancestor": lambda text: (
            text in (record.get("image"), container.image_id, record.get("image", "").split(":")[0])
        ),
        "network": lambda text: text in (record.get("networks") or [container.host.get("network")]),
        "volume": lambda text: any(text in (m["name"], m["destination"]) for m in record.get("mounts") or ()),
    }
    if not show.has_labels(config.get("Labels") or {}, wanted.get("label", [])):
        return False
    return all(any(map(tests[name], values)) for name, values in wanted.items() if name != "label")
