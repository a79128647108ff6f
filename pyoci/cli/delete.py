"""pyoci delete."""

from __future__ import annotations

from pyoci import cli, container_list, errors
from pyoci.cli import common, options
from pyoci.cli.options import Option

ARGS = ("[CONTAINER-ID...]",)
OPTIONS = (
    Option("force", "kill it first if it runs; no error when there is no such container", short="f"),
    options.REGEX,
    Option("all-stopped", "every container that has stopped"),
)
HELP = """\
The container has to be stopped: its cgroup and its state are removed, and poststop hooks run.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Delete the containers."""
    force = opts.flag("force")
    if not opts.args and not opts.flag("all-stopped"):
        raise cli.missing("delete", ARGS, ARGS[0])

    def delete(id: str) -> None:
        try:
            found = common.find(given, id)
            found.delete(force=force)
            common.report(found)
        except errors.NotFound:
            if not force:
                raise

    ids = common.named(given, opts, opts.args)
    if opts.flag("all-stopped"):
        ids = [*dict.fromkeys([*ids, *stopped(given)])]
    common.each(ids, delete)
    return 0


def stopped(given: options.Parsed) -> list[str]:
    """The ids of the containers that have stopped."""
    return [state["id"] for state in container_list.list(given.text("root") or None) if state["status"] == "stopped"]
