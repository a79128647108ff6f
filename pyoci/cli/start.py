"""pyoci start."""

from __future__ import annotations

from pyoci.cli import common, options

ARGS = ("CONTAINER-ID",)
OPTIONS = ()
HELP = ""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Start the container."""
    container = common.find(given, opts.args[0])
    container.start()
    common.report(container)
    return 0
