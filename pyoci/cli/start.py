"""pyoci start."""

from __future__ import annotations

from pyoci.cli import common, options

ARGS = ("CONTAINER-ID",)
OPTIONS = ()
HELP = """\
With NOTIFY_SOCKET set, here and at `create`, it returns when the program has said READY=1.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Start the container."""
    container = common.find(given, opts.args[0])
    common.start(container)
    common.report(container)
    return 0
