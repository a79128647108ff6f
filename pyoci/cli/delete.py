"""pyoci delete."""

from __future__ import annotations

from pyoci import errors
from pyoci.cli import common, options
from pyoci.cli.options import Option

ARGS = ("CONTAINER-ID",)
OPTIONS = (Option("force", "kill it first if it runs; no error when there is no such container", short="f"),)
HELP = """\
The container has to be stopped: its cgroup and its state are removed, and poststop hooks run.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Delete the container."""
    force = opts.flag("force")
    try:
        container = common.find(given, opts.args[0])
        container.delete(force=force)
        common.report(container)
    except errors.NotFound:
        if not force:
            raise
    return 0
