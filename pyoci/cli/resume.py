"""pyoci resume."""

from __future__ import annotations

from pyoci.cli import common, options

ARGS = ("CONTAINER-ID",)
OPTIONS = ()
HELP = """\
The processes of a paused container go on.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Resume the container."""
    common.find(given, opts.args[0]).resume()
    return 0
