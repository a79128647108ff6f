"""pyoci pause."""

from __future__ import annotations

from pyoci.cli import common, options

ARGS = ("CONTAINER-ID",)
OPTIONS = ()
HELP = """\
Every process of the container is stopped by the cgroup freezer, until `pyoci resume`.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Pause the container."""
    common.find(given, opts.args[0]).pause()
    return 0
